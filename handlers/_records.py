"""The words of every handler: what goes in, what comes out, and who must act on an error.

Errors, drawn::

    HandlerError
    ├── Rejected          the provider said no; asking again cannot help
    ├── Unavailable       nothing happened; try later (``retry_after`` seconds, if known)
    ├── OutcomeUnknown    it may have happened: a submission must not be sent again blindly
    ├── NotSupported      this provider has no such thing
    └── BadNotice         a notice that is refused
        ├── BadSignature  the provider's own signature is missing or wrong
        └── Malformed     not what the provider sends

A ``ConfigurationError`` stands beside the tree on purpose: it is for the operator, at start-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar, dataclass_transform

JsonObject = Mapping[str, Any]
T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A dataclass that is never changed: the type checker enforces it.

    Python's own frozen dataclasses enforce it at run time, and take three to seven times as long to make. That was
    nearly a tenth of what each notice, answer and delivery cost.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)  # by its values, as a frozen one


class HandlerError(Exception):
    """Root of what a handler may raise about a call or a notice."""


class ErrorCode(StrEnum):
    """Why a task failed, in our words: ``error.code`` (``docs/tasks.md``, "Error codes")."""

    INVALID_INPUT = "invalid_input"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    INSUFFICIENT_CREDIT = "insufficient_credit"
    CONTENT_POLICY = "content_policy"
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"
    PROVIDER_ERROR = "provider_error"
    TIMEOUT = "timeout"
    EMPTY_RESULT = "empty_result"
    SUBMISSION_UNKNOWN = "submission_unknown"
    INTERNAL = "internal"


@record
class TaskError:
    """Why a task failed. ``retryable``: submitting the same task anew may succeed."""

    code: ErrorCode
    message: str
    retryable: bool = False
    provider_code: str | None = None
    provider_message: str | None = None


class Rejected(HandlerError):
    """The provider understood the call and refused it; the same call will be refused again."""

    def __init__(self, error: TaskError, raw: str | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.raw = raw


LONGEST_PAUSE = 3600.0
"""Seconds for which one answer can hold back all calls to a provider; a date taken for a delay would mean years."""


def _bounded(pause: float | None) -> float | None:
    return None if pause is None else min(max(pause, 0.0), LONGEST_PAUSE)


class Unavailable(HandlerError):
    """Nothing happened at the provider; the same call may succeed later.

    ``retry_after``: seconds the provider asked us to wait, ``LONGEST_PAUSE`` at most, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = _bounded(retry_after)


class OutcomeUnknown(HandlerError):
    """The call may or may not have taken effect (the answer was lost, or was a server failure).

    ``retry_after``: as of Unavailable; for how long no other call of the kind should follow.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = _bounded(retry_after)


class NotSupported(HandlerError):
    """The provider offers nothing of the kind."""


class BadNotice(HandlerError):
    """A notice that must be refused, with no effect."""


class BadSignature(BadNotice):
    """The provider's own signature is missing, stale or wrong."""


class Malformed(BadNotice):
    """The notice is not what this provider sends."""


class ConfigurationError(Exception):
    """Settings of a handler that cannot work. ``problems``: one plain sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class RemoteStatus(StrEnum):
    """The provider's word on a task, in our words."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        """Whether the provider will not change its word any more."""
        return self in (RemoteStatus.SUCCEEDED, RemoteStatus.FAILED, RemoteStatus.CANCELED)


class OutputKind(StrEnum):
    """What an output is."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    TEXT = "text"
    DATA = "data"


class OutputStatus(StrEnum):
    """Whether an output can be used. ``blocked``: withheld by the provider's moderation."""

    OK = "ok"
    FAILED = "failed"
    BLOCKED = "blocked"


@record
class Output:
    """One artefact of a task: exactly one of ``url``, ``text``, ``data`` is set when it is ``ok``.

    ``expires_at``: milliseconds since the epoch after which the URL no longer works, if known.
    ``details``: what else the provider says of it, in the provider's names.
    """

    kind: OutputKind
    url: str | None = None
    text: str | None = None
    data: Any = None
    name: str | None = None
    status: OutputStatus = OutputStatus.OK
    expires_at: int | None = None
    details: JsonObject = field(default_factory=dict)


@record
class TaskUpdate:
    """What a provider says of one task, from an answer or a notice.

    ``raw`` is the provider's text as it came and is always kept. ``progress``: 0..1 or None.
    ``unknown_status``: a status word this handler does not know (still running; logged once).
    """

    status: RemoteStatus
    raw: str
    provider_task_id: str | None = None
    progress: float | None = None
    outputs: tuple[Output, ...] = ()
    error: TaskError | None = None
    unknown_status: str | None = None


@record
class Submission:
    """A task on its way to the provider.

    ``task_id``: ours, unique for ever; providers that take a caller's id get this one.
    ``callback_url``: where the provider shall call, or None when it must not.
    ``repeated``: an earlier call for this very task may have arrived (only for handlers whose
    ``submit_is_safe_to_repeat``).
    """

    task_id: str
    operation: str
    input: JsonObject
    callback_url: str | None = None
    repeated: bool = False


@record
class Receipt:
    """The provider's acceptance. ``state``: small JSON the handler wants back in every RemoteTask.

    ``update``: set when the answer is already final (or carries progress), else None.
    """

    provider_task_id: str
    raw: str
    state: JsonObject = field(default_factory=dict)
    update: TaskUpdate | None = None


@record
class RemoteTask:
    """A task as a handler needs it for asking. ``age``: seconds since it was submitted.

    ``provider_task_id`` is None only while the submission's answer is missing.
    """

    task_id: str
    operation: str
    provider_task_id: str | None
    state: JsonObject
    input: JsonObject
    age: float


@record
class Notice:
    """One call at a callback URL, free of any web framework.

    ``headers``: names in lower case. ``url``: the address we gave out (never rebuilt from the
    request). ``received_at``: milliseconds since the epoch. ``task``: the task that the address
    names, or None at the provider-wide address.
    """

    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    url: str
    received_at: int
    task: RemoteTask | None = None


@record
class Reply:
    """The answer a provider wants to its notice."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"


@record
class Upload:
    """A file that a caller wants a provider to have. ``size`` in bytes."""

    filename: str
    content_type: str
    size: int


@record
class UploadTicket:
    """Where the bytes of an upload go: one PUT to ``url`` with ``headers``.

    The caller of the handler makes it, because an address that a provider's answer names must pass
    the address guard first.
    """

    file_id: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    details: JsonObject = field(default_factory=dict)
