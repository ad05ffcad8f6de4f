"""What workers, providers, callers and operators may do, in small steps; one that finds nothing does nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

import pytest

import handlers
from handlers import BadSignature, Callbacks, RemoteStatus
from receiver.errors import Conflict, IdempotencyMismatch, Invalid
from receiver.models import Verdict
from receiver.notices import Call
from receiver.runtime import Runtime
from receiver.store.claiming import Claim
from receiver.submissions import Start
from receiver.subscribers import NewSubscriber
from receiver.tasks import NewTask
from tests.model.ledger import Row
from tests.model.providers import Asked, FakeProvider, Job, Submitted, notice_body, sign
from tests.model.world import DAY, KEYS_KEPT, RETENTION_DAYS, Answer, SubscriberBook, TaskBook, World

T = TypeVar("T")


def nth(things: Sequence[T], n: int) -> T:
    """One of the things, whatever number was drawn."""
    return things[n % len(things)]


class Acts:
    """The steps. ``n``: which one of those there are. ``pinged``: the subscriber of the ping in the newest step."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pinged: str | None = None
        self._nonces = itertools.count()
        self._sent: list[tuple[int, Call]] = []

    # Callers -----------------------------------------------------------------------------------------------------

    def create(
        self, side: Runtime, n: int, key: str | None, hook: bool, more: bool, deadline: float | None = None
    ) -> None:
        """A caller asks for a task, while there are few; the same key means the same task."""
        world = self.world
        if key not in world.keys and sum(book.end is None for book in world.tasks.values()) >= 5:
            return
        provider = nth(world.providers, n)
        url = "http://127.0.0.1:1/task" if hook else None
        wanted = NewTask(provider.name, "draw", {"prompt": "a boat"}, url, {"n": "1"} if more else None, deadline)
        bound = world.keys.get(key or "")
        try:
            task, replayed = side.tasks.create(world.account, wanted, key)
        except IdempotencyMismatch:
            assert bound is not None
            return
        if replayed:
            assert bound is not None
            assert task.id == bound[0], "another task under the same key"
            return
        if bound is not None:
            assert side.clock() - bound[1] >= KEYS_KEPT - world.skew, "the key was forgotten too early"
        world.tasks[task.id] = TaskBook(task.id, provider)
        if key is not None:
            world.keys[key] = (task.id, side.clock())

    def cancel(self, side: Runtime, n: int) -> None:
        """A caller stops a task."""
        if not self.world.tasks:
            return
        book = nth(list(self.world.tasks.values()), n)
        try:
            side.tasks.cancel(self.world.account, book.id)
        except Conflict:
            assert book.end is not None
        else:
            book.cancelled = True

    # Workers -----------------------------------------------------------------------------------------------------

    def claim_submits(self, side: Runtime, n: int, room: int) -> None:
        """A worker takes tasks to hand over."""
        if due := self._due(side, "queued", "submitting"):
            self.world.claim_submits(side, nth(due, n), room)

    def call_submit(self, _: Runtime, n: int, answer: Submitted) -> None:
        """A worker hands a task over."""
        if hands := self.world.of_kind(Start, called=False):
            self.world.call_submit(nth(hands, n), answer)

    def claim_queries(self, side: Runtime, n: int, room: int) -> None:
        """A worker takes tasks to ask after."""
        if due := self._due(side, "running"):
            self.world.claim_queries(side, nth(due, n), room)

    def call_query(self, _: Runtime, n: int, answer: Asked) -> None:
        """A worker asks the provider."""
        if hands := self.world.of_kind(list, called=False):
            self.world.call_query(nth(hands, n), answer)

    def claim_deliveries(self, side: Runtime, room: int) -> None:
        """A worker takes deliveries."""
        self.world.claim_deliveries(side, room)

    def attempt(self, _: Runtime, n: int, status: int | None) -> None:
        """A worker makes an attempt."""
        if hands := self.world.of_kind(Claim, called=False):
            self.world.call_delivery(nth(hands, n), status)

    def write(self, _: Runtime, n: int, together: bool) -> None:
        """A worker writes down what came of a call; one whose lease is over changes no delivery."""
        called = [hand for hand in self.world.hands if hand.called]
        if not called:
            return
        chosen = called if together else [nth(called, n)]
        claims = [hand.work for hand in chosen if isinstance(hand.work, Claim)]
        stale = {claim.delivery.id: row for claim in claims if (row := self._overtaken(claim)) is not None}
        current = {claim.delivery.id for claim in claims if self._overtaken(claim) is None}
        self.world.write(chosen)
        for delivery_id, before in stale.items():
            assert delivery_id in current or self.world.ledger.delivery(delivery_id) == before, "a stale worker wrote"

    def hit_limit(self, _: Runtime, n: int) -> None:
        """A worker cannot make an attempt, at a limit of its machine."""
        if hands := self.world.of_kind(Claim, called=False):
            self.world.leave_unmade(nth(hands, n))

    def die(self, _: Runtime, n: int) -> None:
        """A worker dies with a piece of work in its hands."""
        if self.world.hands:
            self.world.hands.remove(nth(self.world.hands, n))

    def bury(self, side: Runtime, late: bool) -> None:
        """Somebody finds a worker dead and gives back its deliveries. ``late``: it ends only now, and writes still."""
        place = self.world.sides.index(side)
        if not late:
            self.world.hands = [
                hand for hand in self.world.hands if hand.side is not side or not isinstance(hand.work, Claim)
            ]
        self.world.sides[1 - place].sweeping.bury(self.world.holder_of(side))

    def end_overdue(self, side: Runtime) -> None:
        """A worker ends what is past its deadline and in no lane's hands."""
        side.polling.here()
        side.polling.end_overdue()

    def turn(self, side: Runtime, n: int, submitted: Submitted, asked: Asked, status: Answer) -> None:
        """A worker that nobody disturbs does what is due: hands over, asks, delivers."""
        world = self.world
        if due := self._due(side, "queued", "submitting"):
            hands = world.claim_submits(side, nth(due, n), 4)
            for hand in hands:
                world.call_submit(hand, submitted)
            world.write(hands)
        if due := self._due(side, "running"):
            hands = world.claim_queries(side, nth(due, n), 4)
            for hand in hands:
                world.call_query(hand, asked)
            world.write(hands)
        hands = world.claim_deliveries(side, 4)
        for hand in hands:
            world.call_delivery(hand, status)
        world.write(hands)

    def _due(self, side: Runtime, *statuses: str) -> list[FakeProvider]:
        """Providers with tasks that are due in one of these states."""
        marks = ",".join("?" * len(statuses))
        query = f"SELECT DISTINCT provider FROM tasks WHERE due_at <= ? AND status IN ({marks})"
        names = {row["provider"] for row in self.world.ledger.rows(query, side.clock(), *statuses)}
        return [provider for provider in self.world.providers if provider.name in names]

    def _overtaken(self, claim: Claim) -> Row | None:
        """The delivery as it is now, when another worker has it, or None."""
        row = self.world.ledger.delivery(claim.delivery.id)
        return row if row is not None and row["fence"] != claim.delivery.fence else None

    # Providers ---------------------------------------------------------------------------------------------------

    def progress(self, _: Runtime, n: int, progress: float) -> None:
        """A provider gets on with a job."""
        if live := [job for _, job in self._jobs() if not job.status.final]:
            job = nth(live, n)
            job.status, job.progress = RemoteStatus.RUNNING, max(job.progress, progress)

    def finish(self, _: Runtime, n: int, end: RemoteStatus) -> None:
        """A provider ends a job; it never changes its word."""
        if live := [job for _, job in self._jobs() if not job.status.final]:
            nth(live, n).status = end

    def notify(self, side: Runtime, n: int, wide: bool) -> None:
        """A provider tells the truth at the callback URL, perhaps before the submission's answer was stored."""
        if calling := self._calling():
            book, job = nth(calling, n)
            body = notice_body(job, job.status, job.result, next(self._nonces))
            wide = wide and book.provider.callbacks is Callbacks.SIGNED
            call = self._call(book, job, body, wide=wide, signature=sign(body))
            self._sent.append((self.world.now, call))
            self._take_truth(side, book, job, call)

    def notify_again(self, side: Runtime, n: int) -> None:
        """A provider repeats a notice."""
        if self._sent:
            sent_at, call = nth(self._sent, n)
            verdict = side.notices.take(call).verdict
            # At the provider-wide address a notice that came before the submission's answer was about nothing that
            # we knew, and its repetition may be the first that we understand. Retention forgets notices.
            forgiven = call.token is None or self.world.now - sent_at >= RETENTION_DAYS * DAY - self.world.skew
            assert forgiven or verdict in (None, Verdict.IGNORED), "a repetition taken for news"

    def forge(self, side: Runtime, n: int, said: RemoteStatus) -> None:
        """Somebody who knows the callback URL lies: refused where notices are signed, a mere hint elsewhere."""
        if not (calling := self._calling()):
            return
        book, job = nth(calling, n)
        if not book.provider.pace.confirm_notices:
            return  # whoever says so believes whoever knows the URL
        body = notice_body(job, said, "https://attacker.example/x.png", next(self._nonces))
        call = self._call(book, job, body, wide=False, signature="0" * 64)
        if book.provider.callbacks is not Callbacks.SIGNED:
            assert side.notices.take(call).verdict is not Verdict.BELIEVED
            return
        before = self.world.ledger.rows("SELECT count(*) AS n FROM notices")
        with pytest.raises(BadSignature):
            side.notices.take(call)
        assert self.world.ledger.rows("SELECT count(*) AS n FROM notices") == before, "a forgery was kept"

    def _call(self, book: TaskBook, job: Job, body: bytes, *, wide: bool, signature: str) -> Call:
        assert job.callback_url is not None
        token = None if wide else job.callback_url.rpartition("/")[2]
        return Call(book.provider.name, token, {"x-signature": signature}, {}, body)

    def _take_truth(self, side: Runtime, book: TaskBook, job: Job, call: Call) -> None:
        """Send a notice; an acknowledged truth about a success must not be lost from here on."""
        verdict = side.notices.take(call).verdict
        after = self.world.ledger.task(book.id)
        if verdict is Verdict.IGNORED or after is None:
            return
        asked_now = after["due_at"] is None or after["due_at"] <= side.clock()
        assert asked_now or after["status"] != "running" or verdict is not Verdict.HINT, "a hint that hastens nothing"
        if job.status is not RemoteStatus.SUCCEEDED:
            return
        book.success_told = True
        if book.provider.callbacks is Callbacks.SIGNED:
            assert after["finished_at"] is not None, "a signed end was not believed"

    def _jobs(self) -> list[tuple[TaskBook, Job]]:
        return [(book, job) for book in self.world.tasks.values() for job in book.provider.jobs_of(book.id)]

    def _calling(self) -> list[tuple[TaskBook, Job]]:
        return [(book, job) for book, job in self._jobs() if job.callback_url is not None]

    # Operators ---------------------------------------------------------------------------------------------------

    def subscribe(self, side: Runtime, every: bool) -> None:
        """Somebody registers a webhook; there are three at most."""
        if sum(not book.deleted for book in self.world.subscribers) == 3:
            return
        wants = ["*"] if every else ["task.succeeded", "task.failed", "task.expired"]
        url = f"http://127.0.0.1:1/hook-{len(self.world.subscribers)}"
        made, _ = side.subscribers.create(self.world.account, NewSubscriber(url, wants))
        self.world.subscribers.append(SubscriberBook(made.id, url, None if every else frozenset(wants)))

    def switch(self, side: Runtime, n: int, disabled: bool) -> None:
        """Somebody disables or enables a webhook."""
        if book := self._subscriber(n):
            side.subscribers.change(self.world.account, book.id, {"disabled": disabled})

    def readdress(self, side: Runtime, n: int) -> None:
        """Somebody points a webhook elsewhere, perhaps in the middle of an attempt."""
        if book := self._subscriber(n):
            book.url = f"http://127.0.0.1:1/moved-{next(self._nonces)}"
            side.subscribers.change(self.world.account, book.id, {"url": book.url})

    def narrow(self, side: Runtime, n: int, every: bool, only: int | None) -> None:
        """Somebody chooses other event types for a webhook, and perhaps a provider."""
        if book := self._subscriber(n):
            wants = ["*"] if every else ["task.succeeded", "task.failed"]
            named = None if only is None else [nth(handlers.available(), only)]
            side.subscribers.change(self.world.account, book.id, {"event_types": wants, "providers": named})
            book.wants = None if every else frozenset(wants)
            book.providers = named

    def pace(self, side: Runtime, n: int, rate: float | None) -> None:
        """Somebody sets or lifts a webhook's rate limit."""
        if book := self._subscriber(n):
            side.subscribers.change(self.world.account, book.id, {"rate_limit": rate})

    def rotate(self, side: Runtime, n: int, overlap: int) -> None:
        """Somebody changes a webhook's secret; with too many that overlap this is refused."""
        if book := self._subscriber(n):
            try:
                side.subscribers.rotate_secret(self.world.account, book.id, overlap, None)
            except Invalid:
                assert overlap

    def unsubscribe(self, side: Runtime, n: int) -> None:
        """Somebody deletes a webhook; what was pending is listed as dead."""
        if book := self._subscriber(n):
            side.subscribers.delete(self.world.account, book.id)
            book.deleted = True

    def replay(self, side: Runtime, n: int, status: str) -> None:
        """Somebody replays what a webhook missed, or everything."""
        if book := self._subscriber(n):
            side.subscribers.replay(self.world.account, book.id, 0, None, status)

    def ping(self, side: Runtime, n: int) -> None:
        """Somebody tries a webhook out."""
        if book := self._subscriber(n):
            try:
                side.subscribers.ping(self.world.account, book.id)
            except Conflict:
                return  # it is disabled
            self.pinged = book.id

    def retry(self, side: Runtime, n: int) -> None:
        """Somebody retries a delivery by hand."""
        if rows := self.world.ledger.rows("SELECT id FROM deliveries ORDER BY created_at, id"):
            try:
                side.deliveries.retry(self.world.account, nth(rows, n)["id"])
            except Conflict:
                return  # its subscriber was deleted or is disabled

    def _subscriber(self, n: int) -> SubscriberBook | None:
        live = [book for book in self.world.subscribers if not book.deleted]
        return nth(live, n) if live else None

    # Time --------------------------------------------------------------------------------------------------------

    def wait(self, _: Runtime, by: int | None) -> None:
        """Time passes (ms): leases end, retries and queries fall due, deadlines pass. None: until something is due."""
        if by is None:
            due = self.world.next_look(self.world.sides[0])
            by = max(0, due - self.world.now) if due is not None else 0
        self.world.now += by

    def sweep(self, side: Runtime, days: int) -> None:
        """A worker purges what ended long ago, perhaps after a long silence."""
        self.world.now += days * DAY
        owed = self.world.ledger.rows(
            "SELECT d.task_id FROM deliveries d JOIN subscribers s ON s.id = d.subscriber_id "
            "WHERE d.status = 'pending' AND NOT s.disabled AND d.task_id IS NOT NULL"
        )
        side.sweeping.step()
        left = self.world.ledger.tasks()
        assert all(row["task_id"] in left for row in owed), "purged before its end was told"
