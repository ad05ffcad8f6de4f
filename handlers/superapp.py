"""Alibaba Cloud SuperApp AIGC: image to video, text to image, virtual try-on. It never calls back.

Sources: the provider's pages on submitting and on querying AIGC tasks. What they leave open is marked
"assumed", and is a setting where an operator could know better.
"""
# ruff: noqa: N815  # schemas carry the provider's own field names

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from marshmallow import ValidationError, fields, validate

from handlers._base import Handler, InputSchema, Operation, Option, Whole
from handlers._http import Answer, ProviderSession, json_body, not_understood
from handlers._options import boolean, one_of, seconds, visible, whole
from handlers._reading import kind_of_url, name_of_url, text_of, unpacked, url_expiry, url_of
from handlers._records import (
    LONGEST_PAUSE,
    ErrorCode,
    OutcomeUnknown,
    Output,
    OutputKind,
    Receipt,
    Rejected,
    RemoteStatus,
    RemoteTask,
    Submission,
    TaskError,
    TaskUpdate,
    Unavailable,
)
from handlers._signatures import base64_text, hmac_sha1_hex, percent

SUBMIT_PATH = "/openapi/v1/aigc/submitTask"
QUERY_PATH = "/openapi/v1/aigc/queryTask"
SIDE_RANGE = (64, 4096)  # assumed

STATUSES = {
    "WAITING": RemoteStatus.QUEUED,
    "RUNNING": RemoteStatus.RUNNING,
    "SUCCESS": RemoteStatus.SUCCEEDED,
    "AIGC_ERROR": RemoteStatus.FAILED,
    "LW_REQUEST_ERROR": RemoteStatus.FAILED,
    "LW_RESULT_ERROR": RemoteStatus.FAILED,
    "TIMEOUT": RemoteStatus.FAILED,
    "FC_ERROR": RemoteStatus.FAILED,
    "UNKNOWN_ERROR": RemoteStatus.FAILED,
    "SUBMIT_ERROR": RemoteStatus.FAILED,
}

SYSTEM_ERROR = "INTCNN_COMMON_SYS_ERROR"
INVALID_PARAMETER = "INTCNN_COMMON_PARAM_VALID_ERROR"
REFUSALS = {
    "INTCNN_COMMON_AUTH_CHECK_ERROR": ErrorCode.AUTHENTICATION,
    "INTCNN_COMMON_NOT_FOUND": ErrorCode.NOT_FOUND,
    INVALID_PARAMETER: ErrorCode.INVALID_INPUT,
}


def _http_url(value: str) -> None:
    if url_of(value) != value:  # one with a blank before or behind it would be sent with it
        raise ValidationError("Must be an http or https URL.")


def _prompt() -> fields.String:
    return fields.String(
        required=True,
        validate=validate.Length(min=1, max=500),
        metadata={"description": "What to show, at most 500 characters."},
    )


def _image(what: str) -> fields.String:
    rules = "a public http(s) URL of a JPG, PNG, JPEG or BMP, 5 KB to 5 MB, 150 to 4096 pixels each way"
    return fields.String(
        required=True, validate=_http_url, metadata={"description": f"{what}: {rules}.", "format": "uri"}
    )


def _side(name: str, least: int, most: int) -> Whole:
    return Whole(
        required=True,
        validate=validate.Range(least, most),
        metadata={"description": f"{name} of the image in pixels."},
    )


class Image2VideoInput(InputSchema):
    """``algoInput`` of IMAGE2VIDEO."""

    inputText = _prompt()
    inputImage = _image("The image to set in motion")


class CatvtonInput(InputSchema):
    """``algoInput`` of CATVTON."""

    modelImage = _image("The person")
    garmentImage = _image("The garment")
    category = fields.String(
        required=True,
        validate=validate.OneOf(("upper", "lower", "overall")),
        metadata={"description": "What the garment covers."},
    )
    seed = Whole(
        required=True,
        validate=validate.Range(min=0, max=2147483647),
        metadata={"description": "The same seed and input give the same output."},
    )


def _text2image(sides: tuple[int, int]) -> Operation:
    """TEXT2IMAGE, for pictures whose sides are within these limits in pixels."""

    class Text2ImageInput(InputSchema):
        """``algoInput`` of TEXT2IMAGE."""

        inputText = _prompt()
        width = _side("Width", *sides)
        height = _side("Height", *sides)

    return Operation("text2image", "Text to image", Text2ImageInput, callbacks=False)


def side_range(text: str) -> tuple[int, int]:
    """Two whole numbers of at least 1 like ``64-4096``, the smaller one first."""
    least, _, most = text.partition("-")
    try:
        limits = whole(least), whole(most)
    except ValueError:
        limits = (1, 0)
    if limits[0] > limits[1]:
        raise ValueError("must be two whole numbers of at least 1 like 64-4096, the smaller one first")
    return limits


class SuperApp(Handler):
    """Every call is signed over its bytes; a task ends in one artefact or in one of seven failure words."""

    title = "Alibaba Cloud SuperApp"
    docs = "https://www.alibabacloud.com/help/en/superapp/superapp-smartstudio-public-intl/developer-reference/submit-aigc-task"
    base_url = "https://industrysolutions.alibabacloud.com"
    options = (
        Option("access_key", "the access key id (X-Access-Key)", parse=visible, credential=True),
        Option("secret_key", "the secret key that signs every call", parse=visible, secret=True, credential=True),
        Option("version", "the workflow version sent with every task", "1.0.0"),
        Option(
            "query_sign",
            "how queries are signed, which the provider does not publish: default (like a submit, with GET, the "
            "bare path and no body), hex (the same without the last base64), path_with_query (the path with its "
            "query)",
            "default",
            one_of("default", "hex", "path_with_query"),
        ),
        Option(
            "side_range",
            "smallest and largest width and height of a text2image picture, in pixels (assumed: no range is published)",
            SIDE_RANGE,
            side_range,
        ),
        Option(
            "unknown_task_grace",
            "seconds after a submit in which a query that calls the task id invalid is not believed (assumed: 60)",
            60.0,
            seconds(LONGEST_PAUSE),
        ),
        Option(
            "resubmit_after_system_error",
            "send a task again after the provider's unknown system error, at the risk of paying twice",
            False,
            boolean,
        ),
        Option(
            "resubmit_after_429",
            "send a task again after HTTP 429, which should mean that nothing was started; the provider does not say",
            False,
            boolean,
        ),
    )
    operations: Mapping[str, Operation] = {
        operation.name: operation
        for operation in (
            Operation("image2video", "Image to video", Image2VideoInput, callbacks=False),
            _text2image(SIDE_RANGE),
            Operation("catvton", "Virtual try-on", CatvtonInput, callbacks=False),
        )
    }
    # All assumed: the provider publishes neither rates nor durations.
    poll_schedule = (5, 7.5, 11, 17, 25, 30)
    task_deadline = 1800.0
    submit_rate = 5.0
    query_rate = 10.0

    def __init__(self, settings: Mapping[str, Any], clock: Callable[[], float]) -> None:
        super().__init__(settings, clock)
        self.operations = {**type(self).operations, "text2image": _text2image(settings["side_range"])}
        self.http = ProviderSession(
            settings["base_url"],
            self.title,
            secrets=self.secrets,
            refusal_is_certain=settings["resubmit_after_429"],
        )

    def submit(self, submission: Submission) -> Receipt:
        """One signed POST. There is no idempotency key, so a lost answer is an unknown outcome."""
        body = json_body(
            {
                "workflow": submission.operation.upper(),
                "version": self.settings["version"],
                "algoInput": submission.input,
            }
        )
        headers = {"Content-Type": "application/json", **self._signed("POST", SUBMIT_PATH, body)}
        answer = self.http.post(SUBMIT_PATH, body=body, headers=headers, starts_work=True)
        found = answer.json_object()
        if found is None or not isinstance(found.get("success"), bool):
            raise not_understood(answer, self.title, starts_work=True)
        if not found["success"]:
            self._submit_failed(found, answer)
        task_id = text_of(found.get("model"))
        if task_id is None:
            raise OutcomeUnknown(f"{self.title} accepted the task but gave no id")
        return Receipt(task_id, answer.text)

    def query(self, tasks: Sequence[RemoteTask]) -> Mapping[str, TaskUpdate]:
        """One signed GET for each task."""
        return {task.task_id: self._query(task, task.provider_task_id) for task in tasks if task.provider_task_id}

    def _query(self, task: RemoteTask, provider_task_id: str) -> TaskUpdate:
        target = f"{QUERY_PATH}?taskId={percent(provider_task_id)}"
        form = self.settings["query_sign"]
        headers = self._signed("GET", target if form == "path_with_query" else QUERY_PATH, plain_hex=form == "hex")
        # The submit page asks for x-acs-request-id, the query page's sample shows X-Request-Id: both are sent.
        headers["X-Request-Id"] = headers["x-acs-request-id"]
        answer = self.http.get(target, headers=headers)
        found = answer.json_object()
        if found is None or not isinstance(found.get("success"), bool):
            raise not_understood(answer, self.title, starts_work=False)
        if not found["success"]:
            return self._query_failed(task, found, answer)
        model = unpacked(found.get("model"))
        if not isinstance(model, dict):
            raise Unavailable(f"{self.title} answered a query without a task")
        if text_of(model.get("taskId")) not in (None, provider_task_id):
            raise Unavailable(f"{self.title} answered a query about another task")
        return _update(task.operation, model, answer.text)

    def _signed(self, method: str, uri: str, body: bytes = b"", *, plain_hex: bool = False) -> dict[str, str]:
        """The headers that authenticate one call.

        ``uri`` is the provider's own path: what a base URL may put before it (a gateway's prefix) is
        not known to the provider and so not signed.
        """
        timestamp = str(int(self.clock() * 1000))
        access_key = self.settings["access_key"]
        signed = signature(self.settings["secret_key"], access_key, timestamp, method, uri, body)
        return {
            "X-Access-Key": access_key,
            "X-Request-Timestamp": timestamp,
            "X-Request-Sign": signed if plain_hex else base64_text(signed.encode()),
            "x-acs-request-id": str(uuid.uuid4()),
        }

    def _submit_failed(self, found: Mapping[str, Any], answer: Answer) -> NoReturn:
        error = _call_error(found)
        if error.provider_code == SYSTEM_ERROR and self.settings["resubmit_after_system_error"]:
            raise Unavailable(error.message)
        # A code that no page lists refuses a call only where nothing else says that it may have begun.
        begun = error.provider_code not in REFUSALS and (answer.status >= 500 or text_of(found.get("model")))
        if error.provider_code == SYSTEM_ERROR or begun:
            raise OutcomeUnknown(error.message)
        raise Rejected(error, answer.text)

    def _query_failed(self, task: RemoteTask, found: Mapping[str, Any], answer: Answer) -> TaskUpdate:
        error = _call_error(found)
        if error.provider_code == INVALID_PARAMETER:
            # The task id is the only parameter, so this is taken to mean an unknown task (assumed).
            if task.age < self.settings["unknown_task_grace"]:
                raise Unavailable(error.message)
            gone = TaskError(
                ErrorCode.NOT_FOUND,
                f"{self.title} does not know the task",
                provider_code=error.provider_code,
                provider_message=error.provider_message,
            )
            return TaskUpdate(RemoteStatus.FAILED, answer.text, task.provider_task_id, error=gone)
        if error.provider_code in REFUSALS:
            raise Rejected(error, answer.text)
        raise Unavailable(error.message)


def signature(secret: str, access_key: str, timestamp: str, method: str, uri: str, body: bytes) -> str:
    """The HMAC of one call as 40 lower-case hexadecimal characters (the provider's Java sample).

    ``timestamp``: milliseconds since the epoch; ``uri``: the path; ``body``: the very bytes sent.
    X-Request-Sign is the base64 of these characters, not of the 20 bytes they stand for.
    """
    head = f"{method} {uri}\n".encode()
    return hmac_sha1_hex(secret, head + body + f".{timestamp}.{access_key}".encode())


def _call_error(found: Mapping[str, Any]) -> TaskError:
    """What a ``success: false`` says. One edition of the pages prints a colon after a code: it is dropped."""
    code = (text_of(found.get("errorCode")) or "").rstrip(" :;,.") or None
    message = text_of(found.get("errorMsg"))
    ours = REFUSALS.get(code or "", ErrorCode.PROVIDER_ERROR)
    return TaskError(
        ours,
        f"Alibaba Cloud SuperApp refused the call: {message or code or 'no reason given'}",
        provider_code=code,
        provider_message=message,
    )


def _update(operation: str, model: Mapping[str, Any], raw: str) -> TaskUpdate:
    """What the query's ``model`` says of the task."""
    word = text_of(model.get("status")) or ""
    status = STATUSES.get(word.upper())
    task_id = text_of(model.get("taskId"))
    if status is None:
        return TaskUpdate(RemoteStatus.RUNNING, raw, task_id, unknown_status=word or "(none)")
    if status is RemoteStatus.FAILED:
        return TaskUpdate(status, raw, task_id, error=_task_error(word.upper()))
    if status is not RemoteStatus.SUCCEEDED:
        return TaskUpdate(status, raw, task_id)
    given = unpacked(model.get("ossPath"))
    paths = given if isinstance(given, list) else [given]  # one; the page's own sample names a list
    outputs = tuple(output for path in paths if (output := _output(operation, path)) is not None)
    if not outputs:
        nothing = TaskError(
            ErrorCode.EMPTY_RESULT,
            "The provider reports success without a result",
            retryable=True,
            provider_code=word,
            provider_message=text_of(model.get("ossPath")),
        )
        return TaskUpdate(RemoteStatus.FAILED, raw, task_id, error=nothing)
    return TaskUpdate(status, raw, task_id, outputs=outputs)


def _task_error(word: str) -> TaskError:
    """A failed task. That all but a request error may go away by itself is assumed."""
    code = ErrorCode.TIMEOUT if word == "TIMEOUT" else ErrorCode.PROVIDER_ERROR
    return TaskError(
        code,
        f"The task failed at the provider: {word}",
        retryable=word != "LW_REQUEST_ERROR",
        provider_code=word,
    )


def _output(operation: str, oss_path: Any) -> Output | None:
    """The artefact, or None: an empty path, no URL, or an object named ``[]`` (the query page's own sample)."""
    url = url_of(oss_path)
    if url is None:
        return None
    if name_of_url(url) in ("", "[]"):
        return None
    # The page speaks of an image only; that image2video gives a video is assumed unless the name says more.
    expected = OutputKind.VIDEO if operation == "image2video" else OutputKind.IMAGE
    return Output(kind_of_url(url, expected), url=url, name="ossPath", expires_at=url_expiry(url))
