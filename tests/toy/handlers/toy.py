"""Toy: pictures from words. It signs what it sends, whole bodies included, and is asked for two tasks at once.

Source: the wire notes at the top of the sandbox module of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from marshmallow import fields, validate

from handlers._base import Callbacks, Handler, InputSchema, Operation, Option
from handlers._http import Answer, ProviderSession, json_body, not_understood
from handlers._options import visible
from handlers._reading import json_object, objects, text_of, url_of
from handlers._records import (
    BadSignature,
    ErrorCode,
    JsonObject,
    Malformed,
    Notice,
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
from handlers._signatures import hmac_sha256_hex, same

STATES = {
    "waiting": RemoteStatus.QUEUED,
    "drawing": RemoteStatus.RUNNING,
    "done": RemoteStatus.SUCCEEDED,
    "broken": RemoteStatus.FAILED,
}
CODES = {
    "bad_prompt": ErrorCode.INVALID_INPUT,
    "no_money": ErrorCode.INSUFFICIENT_CREDIT,
    "bad_signature": ErrorCode.AUTHENTICATION,
}


class DrawInput(InputSchema):
    """What a picture is drawn from."""

    prompt = fields.String(required=True, validate=validate.Length(1, 200))


class Toy(Handler):
    """One operation; a job is asked for by its id, and says by itself when it is over."""

    title = "Toy"
    docs = "https://toy.example.test/docs"
    base_url = "https://api.toy.example.test"
    options = (
        Option("key", "names the account", parse=visible, credential=True),
        Option("secret", "signs calls and notices", parse=visible, secret=True, credential=True),
    )
    operations: Mapping[str, Operation] = {"draw": Operation("draw", "Draw a picture", DrawInput)}
    callbacks = Callbacks.SIGNED
    signature_covers_body = True
    query_batch = 2
    poll_schedule = (5.0, 10.0, 20.0)
    task_deadline = 600.0
    submit_rate = 10.0
    query_rate = 10.0

    def __init__(self, settings: Mapping[str, Any], clock: Callable[[], float]) -> None:
        super().__init__(settings, clock)
        self.http = ProviderSession(settings["base_url"], self.title, secrets=self.secrets)

    def submit(self, submission: Submission) -> Receipt:
        """One POST."""
        job = {**submission.input, **({"callback": submission.callback_url} if submission.callback_url else {})}
        body = json_body(job)
        answer = self.http.post("/v1/jobs", body=body, headers=self._signed(body), starts_work=True)
        found = self._understood(answer, starts_work=True)
        job_id = text_of(found.get("id"))
        if job_id is None:
            raise OutcomeUnknown(f"{self.title} accepted the job but gave no id")
        return Receipt(job_id, answer.text)

    def query(self, tasks: Sequence[RemoteTask]) -> Mapping[str, TaskUpdate]:
        """One GET for up to two jobs."""
        ours = {task.provider_task_id: task.task_id for task in tasks if task.provider_task_id}
        if not ours:
            return {}
        target = "/v1/jobs?" + urlencode({"ids": ",".join(ours)})
        answer = self.http.get(target, headers=self._signed(target.encode()))
        jobs = objects(self._understood(answer, starts_work=False).get("jobs"))
        found = [(ours.get(text_of(job.get("id")) or ""), job) for job in jobs]
        return {task_id: _update(job, answer.text) for task_id, job in found if task_id is not None}

    def verify(self, notice: Notice) -> None:
        """HMAC-SHA256 of the raw body."""
        expected = hmac_sha256_hex(self.settings["secret"], notice.body)
        if not same(notice.headers.get("x-toy-sign", ""), expected):
            raise BadSignature("the notice is not signed by the toy")

    def read(self, notice: Notice) -> TaskUpdate:
        """The job as a query would give it."""
        job = json_object(notice.body)
        if job is None or text_of(job.get("id")) is None or text_of(job.get("state")) is None:
            raise Malformed("the notice is not about a job")
        if notice.task is not None and notice.task.provider_task_id not in (None, text_of(job["id"])):
            raise Malformed("the notice is about another job")
        return _update(job, notice.body.decode())

    def notice_id(self, notice: Notice) -> str | None:
        """A job is in each state once."""
        job = json_object(notice.body) or {}
        job_id, state = text_of(job.get("id")), text_of(job.get("state"))
        return f"{job_id}:{state}" if job_id and state else None

    def reply(self, notice: Notice) -> Reply:
        """Any 200 will do."""
        return Reply(b'{"ok":true}')

    def _signed(self, message: bytes) -> dict[str, str]:
        sign = hmac_sha256_hex(self.settings["secret"], message)
        return {"Content-Type": "application/json", "X-Toy-Key": self.settings["key"], "X-Toy-Sign": sign}

    def _understood(self, answer: Answer, *, starts_work: bool) -> JsonObject:
        found = answer.json_object()
        if found is None or not ({"id", "jobs", "code"} & set(found)):
            raise not_understood(answer, self.title, starts_work=starts_work)
        code = text_of(found.get("code"))
        if code is None and answer.status < 300:
            return found
        if code == "busy":
            raise Unavailable(f"{self.title} is busy", 3.0)
        if code is None or answer.status >= 500:
            raise not_understood(answer, self.title, starts_work=starts_work)
        known = CODES.get(code, ErrorCode.PROVIDER_ERROR)
        raise Rejected(TaskError(known, f"{self.title} refused: {code}", provider_code=code), answer.text)


def _update(job: JsonObject, raw: str) -> TaskUpdate:
    job_id, word = text_of(job.get("id")), text_of(job.get("state")) or ""
    status = STATES.get(word)
    share = job.get("progress")
    progress = max(0.0, min(share, 1.0)) if isinstance(share, float) else None
    if status is None:
        return TaskUpdate(RemoteStatus.RUNNING, raw, job_id, progress, unknown_status=word or "(none)")
    if status is RemoteStatus.FAILED:
        reason = text_of(job.get("reason"))
        error = TaskError(ErrorCode.PROVIDER_ERROR, f"Toy failed: {reason}", provider_message=reason)
        return TaskUpdate(status, raw, job_id, error=error)
    if status is not RemoteStatus.SUCCEEDED:
        return TaskUpdate(status, raw, job_id, progress)
    url = url_of(job.get("picture"))
    if url is None:
        error = TaskError(ErrorCode.EMPTY_RESULT, "Toy is done, but there is no picture.")
        return TaskUpdate(RemoteStatus.FAILED, raw, job_id, error=error)
    return TaskUpdate(status, raw, job_id, outputs=(Output(OutputKind.IMAGE, url=url, name="picture"),))
