"""The base that every handler is built on: its facts as class attributes, its calls as methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar

from marshmallow import INCLUDE, Schema, fields

from handlers._reading import EXACT
from handlers._records import (
    BadSignature,
    JsonObject,
    Notice,
    NotSupported,
    Receipt,
    RemoteTask,
    Reply,
    Submission,
    TaskUpdate,
    Upload,
    UploadTicket,
)


class Callbacks(StrEnum):
    """Whether a provider calls back. ``signed``: it authenticates itself in its headers."""

    NONE = "none"
    UNSIGNED = "unsigned"
    SIGNED = "signed"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of a handler; its environment variable is ``<PROVIDER>_<NAME>`` in upper case.

    ``parse`` turns the text into the value and raises ValueError with a sentence that says what
    is allowed. ``credential``: the provider is off while any of its credentials is missing.
    """

    name: str
    help: str
    default: Any = None
    parse: Callable[[str], Any] = str
    secret: bool = False
    credential: bool = False


def whole(value: Any) -> Any:
    """2 for 2.0, and any other value as it is; beyond what a float holds exactly it would be another number."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < EXACT else value


class InputSchema(Schema):
    """Base of all input schemas: checks what is known, passes unknown fields through."""

    class Meta:
        """marshmallow's switches."""

        unknown = INCLUDE


class Number(fields.Float):
    """A number that stays what it was: ``7`` must not reach the provider as ``7.0``, and ``"7"`` is none."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        super()._deserialize(value, attr, data, **kwargs)
        return value


class Whole(fields.Integer):
    """A whole number, also written ``2.0``, as some JSON libraries do; the provider gets ``2``."""

    def __init__(self, **more: Any) -> None:
        super().__init__(strict=True, **more)

    def _deserialize(self, value: Any, *others: Any, **more: Any) -> int:
        return int(super()._deserialize(whole(value), *others, **more))


class Switch(fields.Boolean):
    """``true`` or ``false`` and nothing that resembles them: inputs are passed on as they came."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing a provider can do. ``callbacks``: it accepts a callback URL for this operation.

    ``poll_schedule``: overrides the handler's default for this operation (seconds; last repeats).
    """

    name: str
    title: str
    schema: type[InputSchema]
    callbacks: bool = True
    experimental: bool = False
    poll_schedule: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How a provider wants to be treated, after settings: rates in calls per second, times in seconds."""

    poll_schedule: tuple[float, ...]
    task_deadline: float
    submit_rate: float
    query_rate: float
    max_in_flight: int | None
    confirm_notices: bool


class Handler(ABC):
    """All we know about one provider: how to submit, ask, believe and answer.

    Holds no task state; never retries, sleeps, logs secrets or touches a database. Exceptions are
    about the *call*; what is true of a *task* is returned as a TaskUpdate.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    docs: ClassVar[str]
    base_url: ClassVar[str]
    options: ClassVar[Sequence[Option]] = ()
    operations: Mapping[str, Operation]  # of the class; an instance may add some by its settings
    resources: ClassVar[Mapping[str, str]] = {}
    callbacks: ClassVar[Callbacks] = Callbacks.NONE
    signature_covers_body: ClassVar[bool] = False
    submit_is_safe_to_repeat: ClassVar[bool] = False
    repeat_after: float = 0.0  # seconds for which the provider may not know yet what a lost submit has started
    takes_uploads: ClassVar[bool] = False
    query_batch: ClassVar[int] = 1
    poll_schedule: ClassVar[tuple[float, ...]]
    task_deadline: ClassVar[float]
    submit_rate: ClassVar[float]
    query_rate: ClassVar[float]

    def __init__(self, settings: Mapping[str, Any], clock: Callable[[], float]) -> None:
        """``settings``: parsed values by option name, ``base_url`` among them.

        ``clock``: seconds since the epoch, for timestamps that a provider's signature needs.
        """
        self.settings = settings
        self.clock = clock

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of its secret settings, which nothing that it gives back may hold."""
        values = [self.settings[option.name] for option in self.options if option.secret]
        return tuple(text for value in values if value for text in ((value,) if isinstance(value, str) else value))

    @cached_property
    def pace(self) -> Pace:
        """Rates, poll plan and deadline after settings."""
        value = self.settings
        return Pace(
            poll_schedule=value["poll_schedule"] or self.poll_schedule,
            task_deadline=value["task_deadline"],
            submit_rate=value["submit_rate"],
            query_rate=value["query_rate"],
            max_in_flight=value["max_in_flight"],
            confirm_notices=value["confirm_notices"],
        )

    def poll_plan(self, operation: str) -> tuple[float, ...]:
        """Seconds between queries of a task of this operation; the last repeats."""
        chosen: tuple[float, ...] | None = self.settings["poll_schedule"]
        return chosen or self.operations[operation].poll_schedule or self.poll_schedule

    @abstractmethod
    def submit(self, submission: Submission) -> Receipt:
        """Hand a task over, in one call or two.

        Raises Rejected, Unavailable (certainly nothing was started) or OutcomeUnknown.
        """

    @abstractmethod
    def query(self, tasks: Sequence[RemoteTask]) -> Mapping[str, TaskUpdate]:
        """Ask for up to ``query_batch`` tasks; answers by *our* task id, those unknown left out.

        Raises Rejected or Unavailable when the call itself failed: nothing is known of any task.
        """

    def verify(self, notice: Notice) -> None:
        """Check the provider's own signature over the raw notice; raise BadSignature if it is wrong.

        At the provider-wide address (``notice.task is None``) a notice without a valid signature of
        the provider must be refused. The default suits providers that sign nothing.
        """
        if notice.task is None:
            raise BadSignature(f"{self.title} does not sign its notices; only per-task addresses are taken")

    def read(self, notice: Notice) -> TaskUpdate:
        """Understand a notice. Raises Malformed."""
        raise NotSupported(f"{self.title} sends no notices")

    def notice_id(self, notice: Notice) -> str | None:
        """What identifies this notice among repetitions, or None to compare whole bodies."""
        return None

    def reply(self, notice: Notice) -> Reply:
        """The answer that makes the provider stop repeating this notice."""
        return Reply()

    def begin_upload(self, upload: Upload) -> UploadTicket:
        """Ask where the bytes of a file may be put. Raises Rejected, Unavailable or NotSupported."""
        raise NotSupported(f"{self.title} takes no uploads")

    def finish_upload(self, ticket: UploadTicket) -> JsonObject:
        """Check that the bytes arrived; gives what the provider says of the file."""
        raise NotSupported(f"{self.title} takes no uploads")

    def fetch(self, resource: str, params: Mapping[str, str]) -> Any:
        """Read one of ``resources`` (a list of models, the credit left, ...) and give its JSON.

        ``params``: the caller's query parameters. Raises Rejected, Unavailable, NotSupported.
        """
        raise NotSupported(f"{self.title} has no resource {resource!r}")
