"""The records that travel between the rooms, and the states they can be in.

All times are milliseconds since the epoch (UTC). Texts named ``*_json`` hold JSON as it came or
as it will go out; they are not parsed on the way.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Generic, TypeVar

from handlers import record

T = TypeVar("T")

IDEMPOTENCY_KEY = "[!-~]{1,255}"
"""What a key may be, as a regular expression: a header carries it."""
LONGEST_ID = 255
"""Characters of what a provider calls a task or a notice, at most: an index must hold it, and no real one is longer."""

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""The digits of ids, Crockford's base 32: they sort like the number, and none looks like another."""

_STORABLE = re.compile(r"[^\x00\ud800-\udfff]*")
_OF_A_BYTE = (ALPHABET * 8).encode()  # its lowest five bits as a letter


def new_id(prefix: str, now: int) -> str:
    """A new id like ``task_01kahx3mt5k0c4z7d6q8r9w2ve``: the prefix, 48 bits of time, 80 random bits.

    Ids with one prefix sort by time of creation. ``now``: milliseconds since the epoch.
    """
    return _since(prefix, now) + secrets.token_bytes(16).translate(_OF_A_BYTE).decode()


def first_id(prefix: str, at: int) -> str:
    """The smallest id that ``new_id`` could make at this time: for ranges of time over ids."""
    return _since(prefix, max(at, 0)) + 16 * ALPHABET[0]


@lru_cache(maxsize=256)
def _since(prefix: str, at: int) -> str:
    """What all ids of a millisecond begin with."""
    return f"{prefix}_" + "".join(ALPHABET[(at >> shift) & 31] for shift in range(45, -1, -5))


def id_pattern(prefix: str) -> str:
    """The regular expression of ids with a prefix (the first of the 26 characters holds three bits only)."""
    return rf"{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}"


def storable(text: str) -> bool:
    """Whether every database takes the text: no NUL, no lone surrogates."""
    return _STORABLE.fullmatch(text) is not None


class TaskStatus(StrEnum):
    """Where a task stands. ``queued → submitting → running → succeeded | failed | canceled | expired``."""

    QUEUED = "queued"
    """Accepted by us, not yet handed to the provider. The submit lane moves it on; so does a callback, when an earlier
    call for it, which seemed to start nothing, did."""
    SUBMITTING = "submitting"
    """About to be handed over, or handed over with the answer lost. The submit lane moves it on when
    the answer comes; a callback may be faster. After a lost answer a callback or a repeated submission does, or the
    deadline."""
    RUNNING = "running"
    """The provider has it. A callback or the query lane moves it on."""
    SUCCEEDED = "succeeded"
    """Final: there is at least one usable output."""
    FAILED = "failed"
    """Final: ``error`` says why."""
    CANCELED = "canceled"
    """Final: the caller (or the provider) stopped it."""
    EXPIRED = "expired"
    """Final: the deadline passed without a final word of the provider."""

    @property
    def final(self) -> bool:
        """Whether nothing will change this state any more."""
        return self in FINAL


FINAL = frozenset({TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELED, TaskStatus.EXPIRED})
LIVE = frozenset(TaskStatus) - FINAL


class CompletedVia(StrEnum):
    """What brought a task to its end at the provider."""

    CALLBACK = "callback"
    POLL = "poll"


class EventType(StrEnum):
    """What an event states."""

    TASK_RUNNING = "task.running"
    TASK_PROGRESS = "task.progress"
    TASK_SUCCEEDED = "task.succeeded"
    TASK_FAILED = "task.failed"
    TASK_CANCELED = "task.canceled"
    TASK_EXPIRED = "task.expired"
    SUBSCRIBER_PING = "subscriber.ping"
    SUBSCRIBER_DISABLED = "subscriber.disabled"


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    """To be attempted at ``due_at``. The deliver lane moves it on."""
    DELIVERED = "delivered"
    """The subscriber answered 2xx."""
    DEAD = "dead"
    """Given up (``reason`` says why); a retry or replay makes it pending again."""


class Trigger(StrEnum):
    """Why an attempt was made."""

    SCHEDULE = "schedule"
    MANUAL = "manual"


class Verdict(StrEnum):
    """What became of a notice."""

    BELIEVED = "believed"
    """It ended or moved the task by itself."""
    HINT = "hint"
    """It brought the next query forward."""
    LATE = "late"
    """The task was final already, and the notice agrees or says nothing new."""
    CONTRADICTION = "contradiction"
    """The task was final already in another way; nothing was changed."""
    IGNORED = "ignored"
    """Nothing about a task of ours."""


@record
class Task:
    """One piece of work handed to a provider.

    ``due_at``: when a worker must look at it next, None for never. ``fence`` grows with every
    claim: only the worker that holds the newest number may write a result. ``submits`` and
    ``polls`` count calls. ``outcome_unknown``: a submission's answer was lost, and nobody
    repeats it just now. ``noticed_id``: the provider's id as a notice gave it before the submission's
    answer was stored.
    """

    id: str
    account_id: str
    provider: str
    operation: str
    status: TaskStatus
    input_json: str
    metadata: Mapping[str, str]
    callback_url: str | None
    created_at: int
    deadline_at: int
    due_at: int | None
    provider_task_id: str | None = None
    state_json: str = "{}"
    progress: float | None = None
    outputs_json: str = "[]"
    error_json: str | None = None
    completed_via: CompletedVia | None = None
    provider_response: str | None = None
    submitted_at: int | None = None
    finished_at: int | None = None
    fence: int = 0
    submits: int = 0
    polls: int = 0
    outcome_unknown: bool = False
    noticed_id: str | None = None


@record
class StoredNotice:
    """One call of a provider, kept as received; ``copies`` counts its repetitions."""

    id: str
    provider: str
    task_id: str | None
    received_at: int
    headers: Mapping[str, str]
    body: bytes
    verdict: Verdict
    copies: int = 1


@record
class Step:
    """One line of a task's timeline."""

    at: int
    kind: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@record
class Event:
    """One statement to subscribers. ``seq``: its place in the order of ``store.events``; ``body`` is sent unchanged."""

    id: str
    account_id: str
    type: EventType
    created_at: int
    body: str
    task_id: str | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns tasks and subscribers."""

    id: str
    name: str
    created_at: int


class Scope(StrEnum):
    """What an API key may do; ``manage`` includes the others."""

    SUBMIT = "submit"
    READ = "read"
    MANAGE = "manage"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret, which is shown once and kept only as a hash."""

    id: str
    account_id: str
    name: str
    prefix: str
    scopes: frozenset[Scope]
    created_at: int
    last_used_at: int | None = None
    revoked_at: int | None = None


@record
class Subscriber:
    """A registered webhook, or (``task_only``) the hidden one behind tasks' ``callback_url``.

    ``secrets_sealed`` is None for task-only subscribers: the account's secrets sign for them.
    ``ready_at``: no attempt starts before (slow-down, open circuit, rate limit).
    ``failing_since``: first failure since the last success. ``failures``: consecutive ones.
    ``resets``: how often it was enabled or moved elsewhere; no attempt begun before tells anything of it.
    ``proven``: it has taken a delivery since then.
    """

    id: str
    account_id: str
    url: str
    event_types: tuple[str, ...]
    providers: tuple[str, ...] | None
    description: str
    headers_sealed: str | None
    secrets_sealed: str | None
    rate_limit: float | None
    created_at: int
    task_only: bool = False
    disabled: bool = False
    disabled_reason: str | None = None
    ready_at: int = 0
    failing_since: int | None = None
    failures: int = 0
    resets: int = 0
    proven: bool = False

    @property
    def doubtful(self) -> bool:
        """Whether the next attempt may well fail, or hang: the last one did, or there was none yet that went well."""
        return self.failures > 0 or not self.proven


@record
class Delivery:
    """One event on its way to one subscriber.

    ``attempts`` counts those made and is the number of the last; ``base`` is how many belong to
    earlier runs of the schedule (before a retry or replay). ``fence`` as in Task. ``task_only``: it
    goes to a task's ``callback_url``, not to a registered subscriber.
    """

    id: str
    account_id: str
    event_id: str
    event_type: EventType
    subscriber_id: str
    task_id: str | None
    url: str
    status: DeliveryStatus
    created_at: int
    due_at: int | None
    attempts: int = 0
    base: int = 0
    fence: int = 0
    trigger: Trigger = Trigger.SCHEDULE
    finished_at: int | None = None
    reason: str | None = None
    task_only: bool = False


@record
class Attempt:
    """One POST of a delivery; never changed once stored. ``duration_ms``: wall clock."""

    id: str
    delivery_id: str
    number: int
    trigger: Trigger
    started_at: int
    duration_ms: int
    response_status: int | None
    response_headers: Mapping[str, str]
    response_body: str
    error: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A piece of a list, newest first; ``next_cursor`` fetches the next one, None at the end."""

    items: tuple[T, ...]
    next_cursor: str | None
