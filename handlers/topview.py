"""TopView.ai: avatar and product videos, image and video models, voices. It calls back, unsigned.

Sources: the provider's pages (envelope, codes, operations, notification) and its own command-line
client. What they leave open is marked "assumed", and is a setting where an operator could know better.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from handlers._base import Callbacks, Handler, Operation, Option
from handlers._http import Answer, ProviderSession, contradicted, json_body, not_understood
from handlers._options import boolean, seconds, visible
from handlers._reading import json_object, notice_object, objects, text_of, unpacked, url_of
from handlers._records import (
    LONGEST_PAUSE,
    BadSignature,
    ErrorCode,
    JsonObject,
    Malformed,
    Notice,
    NotSupported,
    OutcomeUnknown,
    OutputStatus,
    Receipt,
    Rejected,
    RemoteStatus,
    RemoteTask,
    Reply,
    Submission,
    TaskError,
    TaskUpdate,
    Unavailable,
    Upload,
    UploadTicket,
)
from handlers._signatures import same
from handlers._topview_answers import CODES, STATUSES, failed, meaning_of, outputs_of, status_of, succeeded
from handlers._topview_fields import as_sent
from handlers._topview_table import FLOWS, RESOURCES, UPLOAD_CHECK, UPLOAD_CREDENTIAL, known_paths, path_overrides

NOT_FOUND = "4004"
FORMATS = {
    "audio/mpeg": "mp3",
    "audio/wave": "wav",
    "audio/x-wav": "wav",
    "audio/vnd.wave": "wav",
    "audio/mp4": "m4a",
    "audio/x-m4a": "m4a",
    "image/x-ms-bmp": "bmp",
    "video/quicktime": "mov",
    "video/x-msvideo": "avi",
}
"""The provider's word for a file, where it is not the second half of its media type."""
_COMPACT = json.JSONEncoder(separators=(",", ":"))  # made once: to make one costs more than to write with it


class TopView(Handler):
    """A code in every answer, whatever the HTTP status; a task is done when its items are."""

    title = "TopView"
    docs = "https://docs.topview.ai"
    base_url = "https://api.topview.ai"
    options = (
        Option("uid", "the account's uid (Topview-Uid)", parse=visible, credential=True),
        Option("api_key", "the account's API key (bearer token)", parse=visible, secret=True, credential=True),
        Option("busy_wait", "seconds to wait after code 5003, server is busy", 15.0, seconds(LONGEST_PAUSE)),
        Option("unfinished_wait", "seconds to wait after code 4007, a previous task is unfinished", 30.0,
               seconds(LONGEST_PAUSE)),
        Option("not_found_grace", "seconds after a submit in which code 4004 to a query is not believed (assumed: 10)",
               10.0, seconds(LONGEST_PAUSE)),
        Option("cdn_urls", "ask for CDN links in results (needCloudFrontUrl)", False, boolean),
        Option("accelerated_uploads", "ask for accelerated upload addresses (needAccelerateUrl)", False, boolean),
        Option("check_notice_uid", "refuse notices whose Topview-Uid is not ours", True, boolean),
        Option("paths", "other paths than the table's, for those that are assumed or have moved, such as "
               "product_any_shoot_v3.submit=/v3/path,voices.fetch=/v2/path", None, path_overrides),
    )  # fmt: skip
    operations: Mapping[str, Operation] = {
        name: Operation(name, flow.title, flow.schema, experimental="C" in flow.evidence)
        for name, flow in FLOWS.items()
    }
    resources: ClassVar[Mapping[str, str]] = {name: description for name, (_, description) in RESOURCES.items()}
    callbacks = Callbacks.UNSIGNED
    takes_uploads = True
    # It calls back, so polling only has to make up for a notice that got lost; its own client polls every
    # 3 to 5 s for want of one. Most tasks take one to ten minutes.
    poll_schedule = (30, 30, 60, 60, 120)
    task_deadline = 3600.0
    # Assumed: no rates are published.
    submit_rate = 2.0
    query_rate = 5.0

    def __init__(self, settings: Mapping[str, Any], clock: Callable[[], float]) -> None:
        super().__init__(settings, clock)
        self.http = ProviderSession(settings["base_url"], self.title, secrets=self.secrets)
        self.paths = {**known_paths(), **(settings["paths"] or {})}

    # -- calls -------------------------------------------------------------------------------------

    def submit(self, submission: Submission) -> Receipt:
        """One POST. The ``status`` in its answer is acceptance only; there is no idempotency key."""
        flow, given = FLOWS[submission.operation], submission.input
        body: dict[str, Any] = {**as_sent(given), **(flow.fixed or {})}
        path = self.paths[f"{submission.operation}.submit"]
        if submission.operation == "m2v_export" and not given.get("taskId"):  # all in one go, without a preview
            path, body["preview"] = self.paths["m2v_preview.submit"], False
        if submission.callback_url is not None:
            body["noticeUrl"] = submission.callback_url
        headers = {"Content-Type": "application/json", **self._credentials()}
        answer = self.http.post(path, body=json_body(body), headers=headers, starts_work=True)
        found = unpacked(self._result(answer, starts_work=True))
        result = found if isinstance(found, dict) else {}
        if STATUSES.get(status_of(result).lower()) is RemoteStatus.FAILED:
            refused = failed(result, answer.text, None).error
            assert refused is not None
            raise Rejected(refused, answer.text)
        # Export and script update may answer without an id of their own (assumed): then it is the preview's.
        task_id = text_of(result.get("taskId")) or (text_of(given.get("taskId")) if flow.continues else None)
        if task_id is None:
            raise OutcomeUnknown(f"{self.title} accepted the task but gave no id")
        notice = text_of(result.get("noticeUuid"))
        return Receipt(task_id, answer.text, {"noticeUuid": notice} if notice else {})

    def query(self, tasks: Sequence[RemoteTask]) -> Mapping[str, TaskUpdate]:
        """One GET for each task."""
        return {task.task_id: self._query(task, task.provider_task_id) for task in tasks if task.provider_task_id}

    def begin_upload(self, upload: Upload) -> UploadTicket:
        """Ask for a temporary credential; the bytes go to the ticket's URL without TopView's headers."""
        ending = upload.filename.rpartition(".")[2] if "." in upload.filename else ""
        media_type = upload.content_type.partition(";")[0].strip().lower()
        params = {"format": ending.strip().lower() or FORMATS.get(media_type, media_type.rpartition("/")[2])}
        if self.settings["accelerated_uploads"]:
            params["needAccelerateUrl"] = "true"
        result = self._read(UPLOAD_CREDENTIAL, params)
        given = result if isinstance(result, dict) else {}
        file_id, url = text_of(given.get("fileId")), url_of(given.get("uploadUrl"))
        if file_id is None or url is None:
            raise Unavailable(f"{self.title} gave no address for the upload")
        return UploadTicket(file_id, url, details={"fileName": given.get("fileName")})

    def finish_upload(self, ticket: UploadTicket) -> JsonObject:
        """Check that the file arrived. Raises Unavailable while the provider does not have it."""
        if self._read(UPLOAD_CHECK, {"fileId": ticket.file_id}) is not True:
            raise Unavailable(f"{self.title} does not have the file yet")
        return {"fileId": ticket.file_id, **ticket.details}

    def fetch(self, resource: str, params: Mapping[str, str]) -> Any:
        """Read one of ``resources``; ``params`` are passed on, the envelope's ``result`` comes back."""
        if resource not in RESOURCES:
            raise NotSupported(f"{self.title} has no resource {resource!r}")
        return self._read(self.paths[f"{resource}.fetch"], params)

    def _query(self, task: RemoteTask, provider_task_id: str) -> TaskUpdate:
        params = {"taskId": provider_task_id}
        if self.settings["cdn_urls"]:
            params["needCloudFrontUrl"] = "true"
        answer = self.http.get(self.paths[f"{task.operation}.query"], params=params, headers=self._credentials())
        try:
            result = unpacked(self._result(answer, starts_work=False))
        except Rejected as refusal:
            return self._refused_query(task, refusal)
        if task.operation == "m2v_script" and not status_of(result if isinstance(result, dict) else {}):
            # The list of scripts has no status: that it can be listed means that it is done (assumed).
            return succeeded(FLOWS[task.operation].artefacts, result, answer.text, provider_task_id)
        if not isinstance(result, dict):
            raise Unavailable(f"{self.title} answered a query without a task")
        if text_of(result.get("taskId")) not in (None, provider_task_id):
            raise Unavailable(f"{self.title} answered a query about another task")
        return self._update(task, status_of(result), result, answer.text)

    def _refused_query(self, task: RemoteTask, refusal: Rejected) -> TaskUpdate:
        """Two refusals of a query are about the task: it is not there, or its content was found wrong."""
        error = refusal.error
        if error.provider_code == NOT_FOUND and task.age < self.settings["not_found_grace"]:
            raise Unavailable(error.message)
        if error.provider_code == NOT_FOUND or error.code is ErrorCode.CONTENT_POLICY:
            return TaskUpdate(RemoteStatus.FAILED, refusal.raw or "", task.provider_task_id, error=error)
        raise refusal

    def _update(self, task: RemoteTask, word: str, result: Mapping[str, Any], raw: str) -> TaskUpdate:
        status = STATUSES.get(word.lower())
        if status is None:
            return TaskUpdate(RemoteStatus.RUNNING, raw, task.provider_task_id, unknown_status=word or "(none)")
        if status is RemoteStatus.FAILED:
            return failed(result, raw, task.provider_task_id)
        if status is not RemoteStatus.SUCCEEDED:
            return TaskUpdate(status, raw, task.provider_task_id)
        flow, result = FLOWS[task.operation], _of_task(task, result)
        continued = flow.continues and text_of(task.input.get("taskId")) == task.provider_task_id
        if continued and not any(outputs_of(flow.artefacts, result)):
            # The success is the preview's, whose task this one continues; its own work is not done yet.
            return TaskUpdate(RemoteStatus.RUNNING, raw, task.provider_task_id)
        return succeeded(flow.artefacts, result, raw, task.provider_task_id)

    def _credentials(self) -> dict[str, str]:
        return {"Topview-Uid": self.settings["uid"], "Authorization": f"Bearer {self.settings['api_key']}"}

    def _read(self, path: str, params: Mapping[str, str]) -> Any:
        return self._result(self.http.get(path, params=params, headers=self._credentials()), starts_work=False)

    def _result(self, answer: Answer, *, starts_work: bool) -> Any:
        """The ``result`` of a good answer. Raises what its code, else its HTTP status, means."""
        found = answer.json_object()
        code = text_of(found.get("code")) if found else None
        if found is None or code is None:
            raise not_understood(answer, self.title, starts_work=starts_work)
        if code != "200":
            self._refuse(code, found, answer, starts_work=starts_work)
        if answer.status >= 300:
            raise contradicted(answer, self.title, starts_work=starts_work)
        return found.get("result")

    def _refuse(self, code: str, found: Mapping[str, Any], answer: Answer, *, starts_work: bool) -> NoReturn:
        meaning = meaning_of(code)
        # A code that no page lists refuses a call only where nothing else says that it may have begun.
        broke = meaning.broke or (code not in CODES and (answer.status >= 500 or _names_a_task(found)))
        said = text_of(found.get("message"))
        message = f"{self.title} answered code {code}: {said or 'no reason given'}"
        if meaning.wait is not None:
            raise Unavailable(message, self.settings[meaning.wait])
        if broke and starts_work:  # it may have begun before it broke, and a second try may be paid for
            raise OutcomeUnknown(message)
        if broke:
            raise Unavailable(message)
        raise Rejected(TaskError(meaning.code, message, provider_code=code, provider_message=said), answer.text)

    # -- notices -----------------------------------------------------------------------------------

    def verify(self, notice: Notice) -> None:
        """No signature exists; but the uid header, which is no secret, must not be somebody else's."""
        super().verify(notice)
        if self.settings["check_notice_uid"] and not same(notice.headers.get("topview-uid", ""), self.settings["uid"]):
            raise BadSignature("the notice's Topview-Uid is not ours")

    def read(self, notice: Notice) -> TaskUpdate:
        """The notice's word, where it is clear; what is not (no result, another task's) is left to the query."""
        found, task = notice_object(notice), notice.task
        if found is None or task is None:
            raise Malformed("the notice is not a JSON object about a task")
        uuid, task_id, word = (text_of(found.get(name)) for name in ("uuid", "taskId", "status"))
        if uuid is None or task_id is None or word is None:
            raise Malformed("the notice lacks uuid, taskId or status")
        if task.provider_task_id not in (None, task_id):
            raise Malformed("the notice is about another task")
        if task.state.get("noticeUuid") not in (None, uuid):
            raise Malformed("the notice's uuid is not the one this task was promised")
        raw, status = notice.body.decode(), STATUSES.get(word.lower())
        inner = _inner(found.get("result"))
        if status is None:
            return TaskUpdate(RemoteStatus.RUNNING, raw, task_id, unknown_status=word)
        if status is RemoteStatus.FAILED:
            reasons = {"errorMsg": found.get("errorMsg"), "errorCode": found.get("errorCode")}
            own = {name: value for name, value in reasons.items() if text_of(value)}
            return failed({**(inner if isinstance(inner, dict) else {}), **own}, raw, task_id)
        if status is RemoteStatus.SUCCEEDED and _agrees(inner, task_id):
            outputs = tuple(outputs_of(FLOWS[task.operation].artefacts, _of_task(task, inner)))
            if any(output.status is OutputStatus.OK for output in outputs):
                return TaskUpdate(status, raw, task_id, outputs=outputs)
        return TaskUpdate(RemoteStatus.RUNNING, raw, task_id)

    def notice_id(self, notice: Notice) -> str | None:
        """The uuid, which repetitions share, and the status."""
        found = notice_object(notice) or {}
        uuid, word = text_of(found.get("uuid")), text_of(found.get("status"))
        return f"{uuid}:{word.lower()}" if uuid and word else None

    def reply(self, notice: Notice) -> Reply:
        """The echo of the uuid, also for duplicates; without a readable uuid a failure (assumed)."""
        uuid = text_of((notice_object(notice) or {}).get("uuid"))
        code, message, verdict = ("200", "Success", "success") if uuid else ("400", "Malformed notice", "fail")
        result = {"uuid": uuid, "topviewUid": self.settings["uid"], "result": verdict}
        answer = {"code": code, "message": message, "result": result}
        return Reply(_COMPACT.encode(answer).encode(), status=int(code))


def _names_a_task(found: Mapping[str, Any]) -> bool:
    result = found.get("result")
    return isinstance(result, dict) and text_of(result.get("taskId")) is not None


def _of_task(task: RemoteTask, result: Any) -> Any:
    """The result without what other exports of the same preview have made."""
    script = text_of(task.input.get("scriptId"))
    if task.operation != "m2v_export" or script is None or not isinstance(result, dict):
        return result
    videos = [item for item in objects(result.get("exportVideos")) if text_of(item.get("scriptId")) in (None, script)]
    return {**result, "exportVideos": videos}


def _agrees(inner: Any, task_id: str) -> bool:
    """Whether a notice's result, as far as it names a task and its state, names this one and success."""
    if not isinstance(inner, dict):
        return True
    state = STATUSES.get(status_of(inner).lower(), RemoteStatus.SUCCEEDED)
    return text_of(inner.get("taskId")) in (None, task_id) and state is RemoteStatus.SUCCEEDED


def _inner(result: Any) -> Any:
    """A notice's ``result``: the query's inner result, its whole envelope, or either as JSON text (assumed)."""
    if isinstance(result, str):
        result = json_object(result)
    if isinstance(result, dict) and "code" in result and "result" in result:
        return result["result"] if text_of(result["code"]) == "200" else None
    return result
