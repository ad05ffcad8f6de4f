"""Providers that exist only in memory: they start jobs, answer as they are told, and remember what they were asked.

Each is both sides at once: the handler that the service calls, and the provider behind it. A job is bought with
every submission, unless the provider goes by our id and has it already.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from handlers import (
    BadSignature,
    Callbacks,
    ErrorCode,
    Handler,
    InputSchema,
    Malformed,
    Notice,
    Operation,
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

KEY = b"the provider's own key"
DEADLINE = 3600.0


class Submitted(StrEnum):
    """What a provider does with a submission."""

    TAKEN = "taken"
    TAKEN_AND_DONE = "taken, and the answer holds the result"
    LOST_AFTER = "taken, and the answer is lost"
    LOST_BEFORE = "not taken, and the answer is lost"
    UNAVAILABLE = "unavailable"
    PAUSE = "unavailable for a while"
    REFUSED = "refused"


class Asked(StrEnum):
    """What a provider does with a query."""

    TOLD = "told"
    PARTLY = "told of every second task only"
    UNAVAILABLE = "unavailable"
    PAUSE = "unavailable for a while"
    REFUSED = "refused"


@dataclass
class Job:
    """A task at the provider."""

    id: str
    task_id: str
    callback_url: str | None
    status: RemoteStatus = RemoteStatus.QUEUED
    progress: float = 0.0
    result: str = field(init=False)

    def __post_init__(self) -> None:
        self.result = f"https://results.example/{self.id}.png"

    def said(self) -> TaskUpdate:
        """The truth about it now."""
        raw = json.dumps({"job": self.id, "status": self.status})
        outputs: tuple[Output, ...] = ()
        error = None
        if self.status is RemoteStatus.SUCCEEDED:
            outputs = (Output(OutputKind.IMAGE, url=self.result),)
        if self.status is RemoteStatus.FAILED:
            error = TaskError(ErrorCode.CONTENT_POLICY, "The job failed.")
        return TaskUpdate(self.status, raw, self.id, self.progress or None, outputs, error)


class FakeProvider(Handler):
    """What all kinds have in common. ``answer_submit`` and ``answer_query`` are set before each call."""

    title = "A provider of the tests"
    docs = "https://provider.example/docs"
    base_url = "http://127.0.0.1:1"
    poll_schedule = (10.0, 30.0, 120.0, 600.0)
    task_deadline = DEADLINE
    submit_rate = 100.0
    query_rate = 100.0
    most_in_flight: int | None = None
    doubts_notices = True

    def __init__(self) -> None:
        settings = {
            "base_url": self.base_url,
            "poll_schedule": None,
            "task_deadline": DEADLINE,
            "submit_rate": self.submit_rate,
            "query_rate": self.query_rate,
            "max_in_flight": self.most_in_flight,
            "confirm_notices": self.doubts_notices,
        }
        super().__init__(settings, lambda: 0.0)
        calls_back = self.callbacks is not Callbacks.NONE
        self.operations = {"draw": Operation("draw", "Draw", InputSchema, callbacks=calls_back)}
        self.jobs: list[Job] = []
        self.answer_submit = Submitted.TAKEN
        self.answer_query = Asked.TOLD

    def jobs_of(self, task_id: str) -> list[Job]:
        """Everything that was started for a task of ours: more than one was bought twice."""
        return [job for job in self.jobs if job.task_id == task_id]

    def submit(self, submission: Submission) -> Receipt:
        """Do as ``answer_submit`` says; who repeats knowingly is given the job that is there already."""
        answer = self.answer_submit
        known = self.jobs_of(submission.task_id) if self.submit_is_safe_to_repeat else []
        if answer is Submitted.UNAVAILABLE:
            raise Unavailable("come back later")
        if answer is Submitted.PAUSE:
            raise Unavailable("too many calls", retry_after=40.0)
        if answer is Submitted.LOST_BEFORE:
            raise OutcomeUnknown("the connection broke")
        if known and not submission.repeated:  # a worker that was stopped between its claim and its call
            raise Rejected(TaskError(ErrorCode.INVALID_INPUT, "this id is taken"))
        if answer is Submitted.REFUSED and not known:
            raise Rejected(TaskError(ErrorCode.INVALID_INPUT, "no"), raw='{"code":"4000"}')
        job = known[0] if known else Job(f"{self.name}-{len(self.jobs)}", submission.task_id, submission.callback_url)
        if not known:
            self.jobs.append(job)
        if answer is Submitted.TAKEN_AND_DONE and not job.status.final:
            job.status = RemoteStatus.SUCCEEDED
        if answer is Submitted.LOST_AFTER:
            raise OutcomeUnknown("the connection broke")
        update = job.said() if answer is Submitted.TAKEN_AND_DONE else None
        return Receipt(job.id, json.dumps({"job": job.id}), {"seen": 1}, update)

    def query(self, tasks: Sequence[RemoteTask]) -> Mapping[str, TaskUpdate]:
        """Do as ``answer_query`` says."""
        assert 1 <= len(tasks) <= self.query_batch
        answer = self.answer_query
        if answer is Asked.UNAVAILABLE:
            raise Unavailable("come back later")
        if answer is Asked.PAUSE:
            raise Unavailable("too many calls", retry_after=50.0)
        if answer is Asked.REFUSED:
            raise Rejected(TaskError(ErrorCode.AUTHENTICATION, "who are you?"))
        asked = tasks[::2] if answer is Asked.PARTLY else tasks
        known = {job.id: job for job in self.jobs}
        found = ((task.task_id, known.get(task.provider_task_id or "")) for task in asked)
        return {task_id: job.said() for task_id, job in found if job is not None}

    def verify(self, notice: Notice) -> None:
        """Signed kinds sign the body; the others are only taken at a task's own address."""
        if self.callbacks is not Callbacks.SIGNED:
            super().verify(notice)
        elif notice.headers.get("x-signature") != sign(notice.body):
            raise BadSignature("not ours")

    def read(self, notice: Notice) -> TaskUpdate:
        """What the notice says."""
        try:
            said = json.loads(notice.body)
        except ValueError:
            raise Malformed("no JSON") from None
        status = RemoteStatus(said["status"])
        outputs = (Output(OutputKind.IMAGE, url=said["result"]),) if status is RemoteStatus.SUCCEEDED else ()
        return TaskUpdate(status, notice.body.decode(), said["job"], None, outputs)


def sign(body: bytes) -> str:
    """The provider's signature of a notice."""
    return hmac.new(KEY, body, hashlib.sha256).hexdigest()


def notice_body(job: Job, status: RemoteStatus, result: str, nonce: int) -> bytes:
    """A notice as the provider (or somebody in its name) writes it."""
    return json.dumps({"job": job.id, "status": status, "result": result, "nonce": nonce}).encode()


class Silent(FakeProvider):
    """Never calls back; a submission must not be repeated."""

    name = "silent"


class Hinting(FakeProvider):
    """Calls back without a signature; a submission must not be repeated; few tasks at once."""

    name = "hinting"
    callbacks = Callbacks.UNSIGNED
    most_in_flight = 3


class Signing(FakeProvider):
    """Signs its notices' bodies and is asked for ten at once; a submission must not be repeated."""

    name = "signing"
    callbacks = Callbacks.SIGNED
    signature_covers_body = True
    query_batch = 10


class Trusting(FakeProvider):
    """Calls back without a signature, and is believed: ``CONFIRM_NOTICES=false``."""

    name = "trusting"
    callbacks = Callbacks.UNSIGNED
    doubts_notices = False


class Repeating(FakeProvider):
    """Takes our id, so that repeating is safe; calls back without a signature; slow to take submissions."""

    name = "repeating"
    callbacks = Callbacks.UNSIGNED
    submit_is_safe_to_repeat = True
    query_batch = 3
    submit_rate = 1.0


class RepeatingSilent(FakeProvider):
    """Takes our id, so that repeating is safe, and never calls back."""

    name = "repeating_silent"
    submit_is_safe_to_repeat = True
    query_batch = 2


KINDS: tuple[type[FakeProvider], ...] = (Silent, Hinting, Signing, Trusting, Repeating, RepeatingSilent)
