"""Img Open (AIGCImgOpenServ): Stable Diffusion, which is polled, and image tools, some of which call back.

Sources: the provider's pages on submitting, on its three query calls and on callbacks. They contradict
each other and leave much open; what is assumed is a setting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from handlers._base import Callbacks, Handler, Operation, Option
from handlers._http import THROTTLED, Answer, ProviderSession, json_body, not_understood
from handlers._img_open_operations import WORKS, Family, Work, more_tools
from handlers._img_open_results import data_of, result_fields, sd_images, status_rules, task_update, tool_outputs
from handlers._options import boolean, one_of, seconds, visible
from handlers._reading import json_object, text_of
from handlers._records import (
    LONGEST_PAUSE,
    ErrorCode,
    HandlerError,
    JsonObject,
    Malformed,
    Notice,
    NotSupported,
    OutcomeUnknown,
    Output,
    OutputKind,
    Receipt,
    Rejected,
    RemoteStatus,
    RemoteTask,
    Reply,
    Submission,
    TaskError,
    TaskUpdate,
    Unavailable,
)

ROOT = "/AIGCImgOpenServ/saas"
CALL_TIMEOUT = 9.0
"""Seconds for one call: a repeated submit makes up to five, within its claim (lease and grace, by default 60 s)."""
OK, FAILURE, NO_SUCH_TASK = "200", "400", "402"  # the provider's table of codes; the rest is assumed

_V2_RULES = "0=queued,1=running,2=success_if_usable,3=running"
_V1_RULES = "0=running,1=success,2=success_if_usable"
_TOOL_RULES = "0=running,1=success,2=failed"
_RESULTS = "outputImageUrl=image,caption=text"
_REFUSALS = {"401": ErrorCode.AUTHENTICATION, "403": ErrorCode.PERMISSION, NO_SUCH_TASK: ErrorCode.NOT_FOUND}


class ImgOpen(Handler):
    """Stable Diffusion and image tools. Our task id is the provider's: a lost answer is looked up by it."""

    title = "Img Open"
    docs = "https://4v5l1y8wvl.apifox.cn/"
    base_url = "https://api.zhiqite.com"
    options = (
        Option("access_key_id", "access key id", parse=visible, credential=True),
        Option("access_key_secret", "access key secret; it travels with every call", parse=visible, secret=True,
               credential=True),
        Option("tools", "more operations, like background_remove=tool/removeBg,image_enlarge=tool/enlarge:callback",
               {}, more_tools),
        Option("v2_status_rules", f"status numbers of the SD query V2.0 (assumed: {_V2_RULES})",
               status_rules(_V2_RULES), status_rules),
        Option("v1_status_rules", f"status numbers of the SD query V1.0 (assumed: {_V1_RULES})",
               status_rules(_V1_RULES), status_rules),
        Option("tool_status_rules", f"status numbers of the tools (assumed: {_TOOL_RULES})",
               status_rules(_TOOL_RULES), status_rules),
        Option("tool_results", f"fields in which tools give their results (default {_RESULTS})",
               result_fields(_RESULTS), result_fields),
        Option("not_found_grace", "seconds after the submit for which 'no such task' is not believed (assumed: 30)",
               30.0, seconds(LONGEST_PAUSE)),
        Option("resubmit_lost", "send a task again when the answer to its submission was lost and the provider does not"
               " know our id of it (assumed: it knows tasks by that id, and refuses a second one under it)",
               True, boolean),
        Option("training_case", "spelling of a training's fields: camel or snake; the page has both (assumed: camel)",
               "camel", one_of("camel", "snake")),
        Option("training_callback_field", "field of a training's callback address (assumed: callbackUrl)",
               "callbackUrl"),
        Option("training_status_rules", f"status numbers of trainings (assumed: {_TOOL_RULES})",
               status_rules(_TOOL_RULES), status_rules),
        Option("training_query_path", "path below the service's root that tells a training's state by its taskId,"
               " once the provider has named one", ""),
        Option("models_path", "path of the list of models", "sd/v2/queryModelList"),
        Option("loras_path", "path of the list of LoRAs (assumed)", "sd/v2/queryLoraList"),
        Option("vaes_path", "path of the list of VAEs (assumed)", "sd/v2/queryVaeList"),
        Option("embeddings_path", "path of the list of embeddings (assumed)", "sd/v2/queryEmbeddingList"),
    )  # fmt: skip
    operations: Mapping[str, Operation] = {name: work.operation for name, work in WORKS.items()}
    resources: ClassVar[Mapping[str, str]] = {
        "models": "Stable Diffusion models",
        "loras": "LoRA models",
        "vaes": "VAE models",
        "embeddings": "Embeddings",
    }
    callbacks = Callbacks.UNSIGNED
    submit_is_safe_to_repeat = True
    poll_schedule = (3.0, 5.0, 10.0, 15.0)
    task_deadline = 900.0
    submit_rate = 2.0  # no limits are published: assumed
    query_rate = 5.0

    def __init__(self, settings: Mapping[str, Any], clock: Callable[[], float]) -> None:
        """See Handler. ``operations`` of the instance include those of the setting ``tools``."""
        super().__init__(settings, clock)
        # Whether HTTP 429 started nothing is not published: the task is looked up, which costs little.
        self.http = ProviderSession(
            settings["base_url"], self.title, CALL_TIMEOUT, secrets=self.secrets, refusal_is_certain=False
        )
        self.repeat_after = settings["not_found_grace"]
        self._works: Mapping[str, Work] = {**WORKS, **settings["tools"]}
        self.operations = {name: work.operation for name, work in self._works.items()}

    def submit(self, submission: Submission) -> Receipt:
        """Start a task under our own id; one that an earlier call started is found, not started again.

        Raises Rejected, Unavailable or OutcomeUnknown; of a repeated submission never Unavailable,
        since the earlier call may have arrived.
        """
        work = self._work(submission.operation)
        if work.family is Family.TRAINING:
            self._check_training(submission)
        if not submission.repeated:
            return self._start(work, submission)
        try:
            found = self._found(work, submission)
            if found is None and not self.settings["resubmit_lost"]:
                raise OutcomeUnknown("the provider does not know the task; not sent again (IMG_OPEN_RESUBMIT_LOST)")
            return found or self._start(work, submission)
        except Unavailable as error:
            sentence = f"whether an earlier call started the task is not known: {error}"
            raise OutcomeUnknown(sentence, error.retry_after) from None

    def query(self, tasks: Sequence[RemoteTask]) -> Mapping[str, TaskUpdate]:
        """Ask for a task, also by our own id. 'No such task' is believed after a grace."""
        updates: dict[str, TaskUpdate] = {}
        for task in tasks:
            asked = task.provider_task_id or task.task_id
            update, raw = self._ask(self._work(task.operation), asked, task.task_id)
            if update is None and raw and task.provider_task_id and task.age >= self.settings["not_found_grace"]:
                error = TaskError(ErrorCode.NOT_FOUND, "the provider knows no such task", provider_code=NO_SUCH_TASK)
                update = TaskUpdate(RemoteStatus.FAILED, raw, provider_task_id=asked, error=error)
            if update is not None:
                updates[task.task_id] = update
        return updates

    def read(self, notice: Notice) -> TaskUpdate:
        """Understand a notice: the envelope of an answer, or its bare ``data``. Raises Malformed."""
        body = json_object(notice.body)
        work = self._works.get(notice.task.operation) if notice.task else None
        if body is None or work is None or notice.task is None or not work.operation.callbacks:
            raise Malformed("not a notice of a task that calls back")
        data = data_of(body) or body
        given = text_of(data.get("businessTaskId"))
        if given is None and work.family is Family.TRAINING:
            given = text_of(data.get("taskId")) or text_of(data.get("task_id"))
        if given is None or given not in (notice.task.provider_task_id, notice.task.task_id):
            raise Malformed("the notice is not about the task of this address")
        update = self._update(work, data, given, notice.body.decode())
        refuted = update.status is RemoteStatus.SUCCEEDED and text_of(body.get("code")) not in (None, OK)
        if refuted or _is_empty(update):  # what a notice holds is assumed: a query tells whether there is nothing
            return TaskUpdate(RemoteStatus.RUNNING, update.raw, given)
        return update

    def reply(self, notice: Notice) -> Reply:  # noqa: ARG002 - the same for every notice
        """The JSON code 200, without which the provider calls again for over an hour."""
        return Reply(b'{"code":"200"}')

    def fetch(self, resource: str, params: Mapping[str, str]) -> Any:
        """A page of a list: ``page_size`` (20), ``page_num`` (1), other parameters as filters.

        The provider's own ``pageSize`` and ``pageNum`` mean the same. Gives the answer's ``data``:
        ``rows``, ``total``, ``pageSize``, ``pageNum``.
        """
        if resource not in self.resources:
            raise NotSupported(f"{self.title} has no resource {resource!r}")
        body: dict[str, Any] = {n: v for n, v in params.items() if n not in ("page_size", "page_num")}
        for name, field, default in (("page_size", "pageSize", "20"), ("page_num", "pageNum", "1")):
            text = params.get(name, params.get(field, default))
            if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0):
                raise Rejected(TaskError(ErrorCode.INVALID_INPUT, f"{name} must be a whole number of at least 1"))
            body[field] = int(text)
        code, data, answer = self._call(self.settings[f"{resource}_path"], body, starts_work=False)
        if code != OK:
            raise self._failure(code, answer, starts_work=False)
        return data

    # -- submitting --------------------------------------------------------------------------------

    def _start(self, work: Work, submission: Submission) -> Receipt:
        code, data, answer = self._call(work.path, self._body(work, submission), starts_work=True)
        if code == FAILURE and submission.repeated:  # assumed: the answer to an id that is taken
            found = self._found(work, submission)
            if found is not None:
                return found
        if code != OK:
            raise self._failure(code, answer, starts_work=True)
        given = submission.task_id
        if work.family is Family.SD:  # elsewhere the caller's own id is the handle, whatever the answer names
            given = text_of(data.get("task_id")) or text_of(data.get("id_task")) or given
        update = self._update(work, data, given, answer.text)
        # No page says what this answer holds, so only a result that is documented is taken; the query tells the rest.
        ours = text_of(data.get("businessTaskId")) in (None, submission.task_id)
        made = ours and update.status is RemoteStatus.SUCCEEDED and not work.anything
        return Receipt(given, answer.text, update=update if made else None)

    def _found(self, work: Work, submission: Submission) -> Receipt | None:
        """The receipt of a task that an earlier call started, or None when the provider knows none."""
        if work.family is Family.TRAINING and not self.settings["training_query_path"]:
            raise OutcomeUnknown("a training cannot be looked up, and is not bought twice")
        try:
            update, raw = self._ask(work, submission.task_id, submission.task_id)
        except (Rejected, Unavailable) as error:  # of the look-up: it says nothing of the task
            pause = error.retry_after if isinstance(error, Unavailable) else None
            raise OutcomeUnknown(f"an earlier call cannot be looked up: {error}", pause) from None
        return Receipt(submission.task_id, raw, update=update) if update else None

    def _body(self, work: Work, submission: Submission) -> dict[str, Any]:
        """The input with our id, and our address where the operation takes one."""
        body = dict(submission.input)
        for name in ("seed", "fidelityWeight", "learningRate"):
            # Texts by the provider's pages; its tools take seed as it comes.
            if name in body and (name != "seed" or work.family is Family.SD):
                body[name] = _plain(body[name])
        callback = {"callbackUrl": submission.callback_url}
        match work.family:
            case Family.SD:
                body["alwayson_scripts"] = {**body.get("alwayson_scripts", {}), "id_task": submission.task_id}
            case Family.TOOL:
                body["businessTaskId"] = submission.task_id
            case Family.TRAINING:
                body["taskId"] = submission.task_id
                if self.settings["training_case"] == "snake":
                    body = {_snake(name): value for name, value in body.items()}
                callback = {self.settings["training_callback_field"]: submission.callback_url}
        return body | callback if work.operation.callbacks and submission.callback_url else body

    def _check_training(self, submission: Submission) -> None:
        """Refuse a training whose end nobody would hear of, before it costs anything."""
        if self.settings["training_query_path"]:
            return
        if self.settings["confirm_notices"] or not submission.callback_url:
            raise Rejected(TaskError(
                ErrorCode.PERMISSION,
                "the provider has no query for trainings, so the end of one can only be believed from its"
                " callback: set IMG_OPEN_CONFIRM_NOTICES=false, or IMG_OPEN_TRAINING_QUERY_PATH if you know one",
            ))  # fmt: skip

    # -- asking ------------------------------------------------------------------------------------

    def _ask(self, work: Work, task_id: str, ours: str) -> tuple[TaskUpdate | None, str]:
        """What the provider knows of an id, and its answer; (None, answer) when it knows nothing.

        V2.0 forgets a Stable Diffusion task when the month ends: V1.0, the archive, is asked next.
        An empty answer: there is nobody to ask. ``ours``: our own id of the task, which may be named as well.
        """
        match work.family:
            case Family.SD:
                paths = [("sd/v2/queryTaskInfo", "v2_status_rules"), ("sd/queryTaskInfo", "v1_status_rules")]
            case Family.TOOL:
                paths = [(f"{work.path}/queryTask", "tool_status_rules")]
            case Family.TRAINING:
                paths = [(self.settings["training_query_path"], "training_status_rules")]
        field = "taskId" if work.family is Family.TRAINING else "businessTaskId"
        raw = ""
        for path, rules in paths:
            if not path:
                continue
            code, data, answer = self._call(path, {field: task_id}, starts_work=False)
            raw = answer.text
            if code == OK:
                if not data:
                    raise Unavailable(f"{self.title} answered a query without a task")
                # V2.0 and the tools repeat the id that is asked for.
                if (text_of(data.get("businessTaskId")) or text_of(data.get("id_task"))) not in (None, task_id, ours):
                    raise Unavailable(f"{self.title} answered a query about another task")
                return self._update(work, data, task_id, raw, rules), raw
            if code != NO_SUCH_TASK:
                raise self._failure(code, answer, starts_work=False)
        return None, raw

    def _update(self, work: Work, data: JsonObject, task_id: str, raw: str, rules: str | None = None) -> TaskUpdate:
        """The state in an answer's ``data``, by the rules of this kind of task."""
        if work.family is Family.SD:
            return task_update(data, self.settings[rules or "v2_status_rules"], sd_images(data), task_id, raw)
        outputs = tool_outputs(data, self.settings["tool_results"], anything=work.anything)
        update = task_update(data, self.settings[f"{work.family}_status_rules"], outputs, task_id, raw)
        if work.family is Family.TRAINING and _is_empty(update):  # the model stays there, under the id (assumed)
            model = Output(OutputKind.DATA, data={"taskId": task_id}, name="taskId")
            return replace(update, status=RemoteStatus.SUCCEEDED, outputs=(model,), error=None)
        return update

    # -- calling -----------------------------------------------------------------------------------

    def _work(self, operation: str) -> Work:
        try:
            return self._works[operation]
        except KeyError:
            message = f"{operation} is no longer an operation of {self.title}; was IMG_OPEN_TOOLS changed?"
            raise Rejected(TaskError(ErrorCode.INTERNAL, message)) from None

    def _call(self, path: str, body: JsonObject, *, starts_work: bool) -> tuple[str, JsonObject, Answer]:
        """One call; gives the envelope's code, its ``data`` (empty if there is none) and the answer."""
        headers = {
            "Content-Type": "application/json",
            "X-Request-req-accessKeyId": self.settings["access_key_id"],
            "X-Request-req-accessKeySecret": self.settings["access_key_secret"],
        }
        answer = self.http.post(
            f"{ROOT}/{path.strip('/')}", starts_work=starts_work, body=json_body(body), headers=headers
        )
        envelope = answer.json_object() or {}
        code = text_of(envelope.get("code"))
        if code is None or answer.status >= 500:
            raise not_understood(answer, self.title, starts_work=starts_work)
        return code, data_of(envelope) or {}, answer

    def _failure(self, code: str, answer: Answer, *, starts_work: bool) -> HandlerError:
        """What an envelope with another code than 200 means; codes that are not published may mean anything."""
        said = text_of((answer.json_object() or {}).get("msg"))
        message = f"{self.title}: {said or 'no reason given'} (code {code})"
        if code == FAILURE or code in _REFUSALS:
            meaning = _REFUSALS.get(code, ErrorCode.PROVIDER_ERROR)
            return Rejected(TaskError(meaning, message, provider_code=code, provider_message=said), answer.text)
        if not starts_work:
            return Unavailable(message)
        return OutcomeUnknown(message, THROTTLED if code == "429" else None)


def _is_empty(update: TaskUpdate) -> bool:
    """Whether it is a success without a result."""
    return update.error is not None and update.error.code is ErrorCode.EMPTY_RESULT


def _plain(value: Any) -> str:
    """A number as plain digits, since ``1e-05`` may not be understood; a text as it is."""
    return f"{value:.12f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
