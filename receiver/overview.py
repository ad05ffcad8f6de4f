"""The service at a glance, for one account: what happened lately, how fast, and what fails."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from receiver.models import CompletedVia, Delivery, DeliveryStatus, Step, Subscriber, TaskStatus
from receiver.store import Connection, Store, deliveries, overview, subscribers
from receiver.store.overview import Rows

FRESH = 3000
"""For how long (ms) an answer is given again: any number of people who look cost as much as one."""
MOST_FAILING = 50
"""Of failing subscribers are shown; one more says that there are more."""
MOST_DELIVERIES = 200
"""Of an event, when it is shown."""
HOUR = 3_600_000  # ms
HOURS = 24
"""Of a subscriber that are shown, the present one among them."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time to look back over, cut into pieces; both in ms."""

    length: int
    piece: int


WINDOWS = {
    "hour": Window(HOUR, 60_000),
    "day": Window(24 * HOUR, 30 * 60_000),
    "week": Window(7 * 24 * HOUR, 3 * HOUR),
}


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds: the median and what 95 of 100 stay below; None when nothing was measured."""

    median: int | None
    slow: int | None


@dataclass(frozen=True, slots=True)
class ProviderView:
    """One provider lately. ``states``: status → tasks. ``waited``: in our queue; ``ran``: with the provider.

    ``by_callback``, ``by_poll``: operation → tasks whose end came that way.
    """

    name: str
    states: dict[str, int]
    by_callback: dict[str, int]
    by_poll: dict[str, int]
    waited: Times
    ran: Times


@dataclass(frozen=True, slots=True)
class Failure:
    """Failures of one kind, ``times`` of them. ``text``: the newest's words. ``last_at``: ms."""

    provider: str
    kind: str
    text: str
    times: int
    last_at: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What is shown. Times in ms; series have one number for each piece, from ``since`` on.

    ``covers``: since when everything is in it; later than ``since`` when there was more than is looked at.
    """

    since: int
    covers: int
    piece: int
    providers: Sequence[ProviderView]
    created: Sequence[int]
    succeeded: Sequence[int]
    failed: Sequence[int]
    delivered: Sequence[int]
    undelivered: Sequence[int]
    deliveries: dict[str, int]
    told_to_delivered: Times
    written_to_delivered: Times
    errors: Sequence[Failure]
    troubles: Sequence[Failure]
    failing: Sequence[Subscriber]


@dataclass(frozen=True, slots=True)
class Cell:
    """An hour of a subscriber. ``state``: ``none``, ``good``, ``retried``, ``waiting`` or ``bad``; ``start`` in ms."""

    start: int
    state: str
    delivered: int
    waiting: int
    dead: int


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """What came of the newest attempt of a delivery; as in ``models.Attempt``."""

    started_at: int
    response_status: int | None
    error: str | None
    message: str


class OverviewService:
    """Reads what happened, at a cost that does not grow with the tables."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        """``clock``: ms since the epoch."""
        self._store = store
        self._clock = clock
        self._kept: dict[tuple[str, str], tuple[int, Overview]] = {}
        self._lock = threading.Lock()

    def read(self, account_id: str, window: str) -> Overview:
        """What happened to an account's tasks and deliveries in a window (a key of WINDOWS). Raises Busy."""
        now = self._clock()
        with self._lock:  # whoever comes meanwhile waits for this one answer
            found = self._kept.get((account_id, window))
            if found is None or not 0 <= now - found[0] < FRESH:
                self._kept = {key: kept for key, kept in self._kept.items() if 0 <= now - kept[0] < FRESH}
                found = self._kept[account_id, window] = now, self._read(account_id, WINDOWS[window], now)
        return found[1]

    def _read(self, account_id: str, window: Window, now: int) -> Overview:
        end = now - now % window.piece + window.piece
        since = end - window.length
        with self._store.read() as connection:
            tasks = overview.task_counts(connection, account_id, since, window.piece)
            times = overview.task_times(connection, account_id, since)
            sent = overview.delivery_counts(connection, account_id, since, window.piece)
            arrived = overview.delivery_times(connection, account_id, since)
            errors = [
                (row.provider, *_code(row.error_json), row.finished_at)
                for row in overview.task_errors(connection, account_id, since)
            ]
            calls = [
                (provider, step.kind, _why(step), step.at)
                for provider, step in overview.troubles(connection, account_id, since)
            ]
            failing = self._failing(connection, account_id)
        covers = max(_covers(tasks, since), _covers(sent, since))
        pieces = window.length // window.piece

        def series(rows: Rows, *states: str) -> list[int]:
            numbers = Counter[int]()
            for row in rows:
                numbers[row.place] += row.number if not states or row.status in states else 0
            return [numbers[place] for place in range(pieces)]

        return Overview(
            since=since,
            covers=covers,
            piece=window.piece,
            providers=_providers(tasks, times),
            created=series(tasks),
            succeeded=series(tasks, TaskStatus.SUCCEEDED),
            failed=series(tasks, TaskStatus.FAILED, TaskStatus.EXPIRED),
            delivered=series(sent, DeliveryStatus.DELIVERED),
            undelivered=series(sent, DeliveryStatus.PENDING, DeliveryStatus.DEAD),
            deliveries={
                str(status): sum(row.number for row in sent if row.status == status) for status in DeliveryStatus
            },
            told_to_delivered=_times([row.delivered - row.told for row in arrived if row.told is not None]),
            written_to_delivered=_times([row.delivered - row.written for row in arrived]),
            errors=_grouped(errors),
            troubles=_grouped(calls),
            failing=failing,
        )

    def _failing(self, connection: Connection, account_id: str) -> list[Subscriber]:
        found = (
            subscribers.get(connection, each) for each in overview.failing(connection, account_id, MOST_FAILING + 1)
        )
        return [subscriber for subscriber in found if subscriber is not None]

    def last_attempts(self, delivery_ids: Sequence[str]) -> dict[str, LastAttempt]:
        """The newest attempt of each of some deliveries that have one, without its answer. Raises Busy."""
        with self._store.read() as connection:
            rows = overview.last_attempts(connection, delivery_ids)
        return {
            row.delivery_id: LastAttempt(row.started_at, row.response_status, row.error, row.message) for row in rows
        }

    def receivers(self, found: Sequence[Delivery]) -> dict[str, Subscriber]:
        """Who gets some deliveries, by id, those behind callback URLs too; deleted ones are left out. Raises Busy."""
        with self._store.read() as connection:
            return subscribers.some(connection, {delivery.subscriber_id for delivery in found})

    def last_failure(self, subscriber_id: str) -> tuple[str, LastAttempt] | None:
        """The newest attempt of a subscriber that failed, with the id of its delivery. Raises Busy."""
        with self._store.read() as connection:
            row = overview.last_failure(connection, subscriber_id)
        if row is None:
            return None
        return row.delivery_id, LastAttempt(row.started_at, row.response_status, row.error, row.message)

    def deliveries_of(self, account_id: str, event_id: str) -> Sequence[Delivery]:
        """The deliveries of an account's event, oldest first, MOST_DELIVERIES at most. Raises Busy."""
        with self._store.read() as connection:
            found = deliveries.of_event(connection, event_id, MOST_DELIVERIES)
        return [delivery for delivery in found if delivery.account_id == account_id]

    def health(self, subscriber_ids: Sequence[str]) -> dict[str, list[Cell]]:
        """The last 24 hours of some subscribers, oldest hour first; the present one is the last. Raises Busy."""
        now = self._clock()
        first = now - now % HOUR - (HOURS - 1) * HOUR
        starts = [first + hour * HOUR for hour in range(HOURS)]
        with self._store.read() as connection:
            return {each: _cells(overview.hours(connection, each, starts, HOUR), starts) for each in subscriber_ids}


def _covers(rows: Rows, since: int) -> int:
    whole = sum(row.number for row in rows) < overview.MOST
    return since if whole else int(min(row.oldest for row in rows))


def _providers(tasks: Rows, times: Rows) -> list[ProviderView]:
    views = []
    for name in sorted({row.provider for row in tasks}):
        own = [row for row in tasks if row.provider == name]
        states, ways = Counter[str](), {via: Counter[str]() for via in (*CompletedVia, None)}
        for row in own:
            states[row.status] += row.number
            ways[row.completed_via][row.operation] += row.number
        measured = [row for row in times if row.provider == name]
        waited, ran = _times([row.waited for row in measured]), _times([row.ran for row in measured])
        called, polled = dict(ways[CompletedVia.CALLBACK]), dict(ways[CompletedVia.POLL])
        views.append(ProviderView(name, dict(states), called, polled, waited, ran))
    return views


def _times(values: Sequence[int]) -> Times:
    if not values:
        return Times(None, None)
    ordered = sorted(max(value, 0) for value in values)
    return Times(ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)])


def _code(error_json: str | None) -> tuple[str, str]:
    """The code and the message of a task's error; a task that ended badly without one has expired."""
    if error_json is None:
        return TaskStatus.EXPIRED, "The deadline passed without a result."
    error = json.loads(error_json)
    return error["code"], error["message"]


def _why(step: Step) -> str:
    return str(step.detail.get("failed") or step.detail.get("why") or "")


def _grouped(found: Sequence[tuple[str, str, str, int]]) -> list[Failure]:
    """(provider, kind, text, at), newest first, as one Failure for each provider and kind; the most frequent first."""
    groups: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for provider, kind, text, at in found:
        groups.setdefault((provider, kind), []).append((text, at))
    failures = [
        Failure(provider, kind, members[0][0], len(members), members[0][1])
        for (provider, kind), members in groups.items()
    ]
    return sorted(failures, key=lambda failure: -failure.times)


def _cells(rows: Rows, starts: Sequence[int]) -> list[Cell]:
    cells = []
    for place, start in enumerate(starts):
        own = [row for row in rows if row.place == place]
        numbers = {status: sum(row.number for row in own if row.status == status) for status in DeliveryStatus}
        failed_so_far = any(row.status == DeliveryStatus.PENDING and row.attempts for row in own)
        if numbers[DeliveryStatus.DEAD] or failed_so_far:
            state = "bad"
        elif numbers[DeliveryStatus.PENDING]:
            state = "waiting"
        elif any(row.attempts > 1 for row in own):
            state = "retried"
        else:
            state = "good" if own else "none"
        cells.append(
            Cell(
                start,
                state,
                numbers[DeliveryStatus.DELIVERED],
                numbers[DeliveryStatus.PENDING],
                numbers[DeliveryStatus.DEAD],
            )
        )
    return cells
