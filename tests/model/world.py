"""Two runtimes on one database and a simulated clock, and a book of what was asked of them and what they said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import event

from handlers import HandlerError, OutcomeUnknown, Rejected, Unavailable
from receiver.config import Settings, read_settings
from receiver.deliveries import Outcome, Unmade
from receiver.dialling import OutboundError
from receiver.outbound import OutboundResult
from receiver.runtime import Runtime
from receiver.store.claiming import Claim
from receiver.submissions import Start
from tests import asking
from tests.databases import Template, place_of
from tests.model.ledger import Ledger, Row
from tests.model.providers import KINDS, Asked, FakeProvider, Submitted

BEGIN = 1_800_000_000_000
LEASE = 30
KEYS_KEPT = 86_400_000
RETENTION_DAYS = 30
PLAN = (5.0, 60.0)
DAY = 86_400_000

Answer = int | None | Callable[[str], int | None]
"""What a subscriber answers, or what the one at a URL does; None: its answer is lost."""


def settings_for(url: str) -> Settings:
    """Settings of a runtime on a database, without providers of the real world."""
    environment = {
        "RECEIVER_DATABASE_URL": url,
        "RECEIVER_SECRET_KEYS": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "RECEIVER_ALLOWED_NETWORKS": "127.0.0.0/8",
        "RECEIVER_RETRY_SCHEDULE": ",".join(map(str, PLAN)),
        "RECEIVER_LEASE": str(LEASE),
        "RECEIVER_RETENTION_DAYS": str(RETENTION_DAYS),
        "RECEIVER_API_KEY": "rk_model_key_0123456789",
    }
    with mock.patch.dict(os.environ, environment, clear=True):
        return read_settings()


def make_template(url: str) -> Template:
    """Give an empty database the schema, to be copied: migrating takes longer than a whole run."""
    runtime = Runtime.build(settings_for(url), lambda: BEGIN)
    runtime.prepare()
    runtime.close()
    return Template(url)


@dataclass
class TaskBook:
    """What the model knows of a task. ``end``: its row once final. ``asked_in_vain``: after its success was told."""

    id: str
    provider: FakeProvider
    calls: int = 0
    may_have_arrived: bool = False
    cancelled: bool = False
    success_told: bool = False
    asked_in_vain: bool = False
    end: Row | None = None


@dataclass
class SubscriberBook:
    """A registered webhook as the model knows it. ``wants``, ``providers``: None for all of them."""

    id: str
    url: str
    wants: frozenset[str] | None
    providers: Sequence[str] | None = None
    deleted: bool = False


@dataclass
class Hand:
    """A claim in a worker's hands. ``answer`` is what the call brought; None before it was made."""

    side: Runtime
    work: Start | Sequence[Any] | Claim
    answer: Any = None
    called: bool = False


@dataclass
class World:
    """Everything of one run."""

    folder: Path
    template: Template
    skew: int
    now: int = BEGIN
    tasks: dict[str, TaskBook] = field(default_factory=dict)
    purged: dict[str, TaskBook] = field(default_factory=dict)
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)
    subscribers: list[SubscriberBook] = field(default_factory=list)
    hands: list[Hand] = field(default_factory=list)
    taken: dict[tuple[str, str], list[int | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._given = ExitStack()
        url = self._given.enter_context(self.template.copy(self.folder))
        settings = settings_for(url)
        self.sides = (
            Runtime.build(settings, lambda: self.now),
            Runtime.build(settings, lambda: self.now + self.skew),
        )
        self.providers = [kind() for kind in KINDS]
        for side in self.sides:
            # The fakes are known to this run alone; handlers.load() finds only files of the package.
            side.providers._handlers.update({provider.name: provider for provider in self.providers})
            if url.startswith("sqlite"):
                event.listen(side.store.engine, "connect", _forget_durability)
        key = self.sides[0].accounts.authenticate("rk_model_key_0123456789")
        assert key is not None
        self.account = key.account_id
        self.ledger = Ledger(place_of(url))

    def close(self) -> None:
        """Give everything back."""
        self.ledger.close()
        for side in self.sides:
            side.close()
        self._given.close()
        shutil.rmtree(self.folder)

    # Submitting --------------------------------------------------------------------------------------------------

    def claim_submits(self, side: Runtime, provider: FakeProvider, room: int) -> list[Hand]:
        """A worker looks for tasks to hand over."""
        before = self.ledger.tasks()
        starts = side.submissions.claim_lost(provider.name, room)
        starts += side.submissions.claim(provider.name, room - len(starts))
        for start in starts:
            book = self.tasks[start.task.id]
            assert start.repeated == (before[start.task.id]["status"] == "submitting")
            assert provider.submit_is_safe_to_repeat or not start.repeated, "a repetition that nobody made safe"
            assert not book.may_have_arrived or start.repeated, "begun anew although an earlier call may have arrived"
        return self._hold(side, starts)

    def call_submit(self, hand: Hand, answer: Submitted) -> None:
        """The worker makes the call."""
        start = hand.work
        assert isinstance(start, Start)
        service, task, book = hand.side.submissions, start.task, self._book(start.task.id)
        hand.called = True
        if hand.side.clock() >= task.deadline_at and not start.repeated:
            hand.answer = lambda: service.expired(task)
            return
        book.calls += 1
        book.provider.answer_submit = answer
        book.may_have_arrived = answer not in (Submitted.UNAVAILABLE, Submitted.PAUSE) or book.may_have_arrived
        try:
            receipt = book.provider.submit(service.submission_of(start))
        except Rejected as error:
            refusal = error
            hand.answer = lambda: service.rejected(task, refusal.error, refusal.raw)
        except Unavailable as error:
            failure = error
            hand.answer = lambda: service.unavailable(task, failure)
        except OutcomeUnknown as error:
            why = str(error)
            hand.answer = lambda: service.lost(task, why)
        else:
            hand.answer = lambda: service.accepted(task, receipt)

    # Asking ------------------------------------------------------------------------------------------------------

    def claim_queries(self, side: Runtime, provider: FakeProvider, room: int) -> list[Hand]:
        """A worker looks for tasks to ask after."""
        return self._hold(side, [batch for _, batch in asking.claim(side.polling, provider.name, room)])

    def call_query(self, hand: Hand, answer: Asked) -> None:
        """The worker makes the call."""
        batch = hand.work
        assert isinstance(batch, Sequence)
        service, provider = hand.side.polling, self._book(batch[0].id).provider
        provider.answer_query = answer
        hand.called = True
        told: set[str] = set()
        try:
            updates = provider.query([service.remote(task) for task in batch])
        except HandlerError as error:
            failure, pause = str(error), getattr(error, "retry_after", None)
            hand.answer = lambda: asking.failed(service, batch, failure, pause)
        else:
            told = set(updates)
            hand.answer = lambda: asking.answered(service, batch, updates)
        for task in batch:
            book = self._book(task.id)
            if book.success_told and task.id not in told:
                book.asked_in_vain = True

    # Delivering --------------------------------------------------------------------------------------------------

    def claim_deliveries(self, side: Runtime, room: int) -> list[Hand]:
        """A worker looks for deliveries."""
        return self._hold(side, self._claims(side, room))

    def _claims(self, side: Runtime, room: int) -> list[Claim]:
        turn = side.deliveries.turn((), room, holder=self.holder_of(side))
        return sorted(turn.claims, key=lambda claim: claim.delivery.id)

    def holder_of(self, side: Runtime) -> str:
        """The name under which the worker of a side claims deliveries."""
        return f"worker-{self.sides.index(side)}"

    def leave_unmade(self, hand: Hand) -> None:
        """The worker cannot make the attempt, through no fault of the subscriber."""
        assert isinstance(hand.work, Claim)
        hand.called, hand.answer = True, Unmade(hand.work)

    def call_delivery(self, hand: Hand, answer: Answer) -> None:
        """The worker makes the attempt."""
        claim = hand.work
        assert isinstance(claim, Claim)
        status = answer(claim.subscriber.url) if callable(answer) else answer
        request = hand.side.deliveries.request_of(claim)
        assert request.headers["webhook-id"] == claim.delivery.event_id
        assert request.body == claim.body
        self.taken.setdefault((claim.delivery.subscriber_id, claim.delivery.event_id), []).append(status)
        headers = {"retry-after": "20"} if status in (429, 503) else {}
        error = OutboundError.TIMEOUT if status is None else None
        result = OutboundResult(status, headers, "", error, "said the subscriber", 12)
        hand.called = True
        hand.answer = Outcome(claim, hand.side.clock(), result)

    # Writing -----------------------------------------------------------------------------------------------------

    def write(self, hands: Sequence[Hand]) -> None:
        """The workers write down what came of their calls; deliveries of one worker all at once."""
        outcomes: dict[int, list[Outcome | Unmade]] = {}
        for hand in hands:
            self.hands.remove(hand)
            if isinstance(hand.answer, Outcome | Unmade):
                outcomes.setdefault(id(hand.side), []).append(hand.answer)
            else:
                hand.answer()
        for side in self.sides:
            if id(side) in outcomes:
                side.deliveries.turn(outcomes[id(side)], 0)

    def of_kind(self, kind: type[Any], *, called: bool) -> list[Hand]:
        """The hands that hold this kind of work, before or after their call."""
        return [hand for hand in self.hands if isinstance(hand.work, kind) and hand.called is called]

    def next_look(self, side: Runtime) -> int | None:
        """When a worker on this side has something to do next, by its clock."""
        looks = [side.submissions.next_look(provider.name) for provider in self.providers]
        looks += [side.polling.next_look(provider.name) for provider in self.providers]
        looks.append(side.deliveries.next_look())
        return min((look for look in looks if look is not None), default=None)

    def _book(self, task_id: str) -> TaskBook:
        """Of any task that ever was: a worker may still hold one that is purged."""
        return self.tasks.get(task_id) or self.purged[task_id]

    def _hold(self, side: Runtime, work: Sequence[Any]) -> list[Hand]:
        new = [Hand(side, piece) for piece in work]
        self.hands += new
        return new


def _forget_durability(connection: Any, record: Any) -> None:
    """Nothing here must survive a power cut, and waiting for the disk would be most of the run."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    record.info.pop("synchronous")  # so that it stays like that
    cursor.close()
