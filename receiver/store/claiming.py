"""Claims of due deliveries, fair between subscribers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
    true,
    update,
)

from handlers import record
from receiver import schedule
from receiver.models import Delivery, Subscriber
from receiver.store import dialect
from receiver.store import subscribers as subscriber_queries
from receiver.store.deliveries import from_row, of_subscribers, waiting
from receiver.store.prepared import Prepared, PreparedAmong
from receiver.store.schema import accounts, deliveries, events, subscribers


@record
class Claim:
    """A delivery to be attempted now, with what the attempt needs.

    ``body``: the event's bytes, the same object for all of its deliveries that are claimed together (and under way in
    one worker, ``DeliverLane``).
    ``secrets_sealed``: the subscriber's, or for a task's callback URL the account's; sealed for ``secrets_owner``.
    """

    delivery: Delivery
    subscriber: Subscriber
    body: bytes
    secrets_sealed: str
    secrets_owner: str


_NOW = bindparam("now", type_=BigInteger)
_PER_SUBSCRIBER = bindparam("per_subscriber", type_=Integer)
_ROOM = bindparam("room", type_=Integer)

# As the partial index on it has it: for "leased IS true" neither database takes that one.
_IS_LEASED: ColumnElement[bool] = literal_column("deliveries.leased")
# How many are; a lease that has passed holds none. SQLite prefers the index of what is due to any other, as long as
# it can use it: then all that waits for later would be counted.
_UNDER_WAY = (
    select(func.count()).select_from(deliveries).where(_IS_LEASED, deliveries.c.due_at + literal_column("0") > _NOW)
)
_MAY = and_(subscribers.c.disabled.is_(False), subscribers.c.deleted_at.is_(None))


def _seats(of: FromClause) -> ColumnElement[int]:
    """How many attempts a subscriber may have under way: a circuit that was open is probed one at a time."""
    return case((of.c.failures >= schedule.CIRCUIT_AFTER, 1), else_=_PER_SUBSCRIBER)


def _has_free_seat(of: FromClause) -> ColumnElement[bool]:
    return _UNDER_WAY.where(deliveries.c.subscriber_id == of.c.id).scalar_subquery() < _seats(of)


def _first_due(of: ColumnElement[str]) -> ScalarSelect[int]:
    """When the first of a subscriber's is due. For SQLite."""
    first = select(func.min(deliveries.c.due_at))
    return first.where(deliveries.c.subscriber_id == of, deliveries.c.due_at.is_not(None)).scalar_subquery()


def _firsts() -> CTE:
    """As ``waiting``, with the time when each one's first is due: a jump finds both. For PostgreSQL."""
    first = (
        select(deliveries.c.subscriber_id, deliveries.c.due_at)
        .where(deliveries.c.due_at.is_not(None))
        .order_by(deliveries.c.subscriber_id, deliveries.c.due_at)
        .limit(1)
    )
    jump = first.cte("firsts", recursive=True)
    beyond = first.where(deliveries.c.subscriber_id > jump.c.subscriber_id).correlate(jump).lateral("beyond")
    return jump.union_all(select(beyond).select_from(jump.join(beyond, true())))


def _servable(*kind: ColumnElement[bool]) -> Prepared:
    """Subscribers of a kind that may be served now, in turn. Those for which another worker claims now are passed over.

    Who has nothing that is due costs a look into the index of what waits, and nothing else.

    Of many that wait, a few are taken: PostgreSQL puts all of them into their order first, and looks in it until
    there are enough. SQLite would sort once more after looking at all of them, so it is asked plainly.
    """
    may = and_(_MAY, subscribers.c.ready_at <= _NOW, *kind)
    columns = (*subscriber_queries.COLUMNS, _seats(subscribers), subscribers.c.served_at)
    waits = waiting()
    due = select(waits.c.subscriber_id).where(_first_due(waits.c.subscriber_id) <= _NOW)
    plainly = (
        select(*columns)
        .where(subscribers.c.id.in_(due), may, _has_free_seat(subscribers))
        .order_by(subscribers.c.served_at)
        .limit(_ROOM)
    )
    firsts = _firsts()
    known = _each_known(firsts, may, subscribers.c.id, subscribers.c.failures, subscribers.c.served_at)
    turns = select(known).select_from(firsts.join(known, true())).where(firsts.c.due_at <= _NOW)
    turn = turns.order_by(known.c.served_at).subquery("turn")
    in_turn = (
        select(*columns)
        .join(turn, turn.c.id == subscribers.c.id)
        .where(_has_free_seat(turn))
        .where(may)  # of the row that is held then: whoever held it before may have set its pace
        .order_by(turn.c.served_at)
        .limit(_ROOM)
    )
    asked = ("now", "per_subscriber", "room")
    return Prepared(dialect.skip_locked(in_turn, of=subscribers), *asked, sqlite=plainly)


def _each_known(firsts: CTE, may: ColumnElement[bool], *columns: ColumnElement[Any]) -> FromClause:
    """The subscriber of each of these, if it may be served; looked up by its id.

    OFFSET 0 keeps PostgreSQL from going about it the other way round, which for a table that it has not counted yet
    would compare each subscriber with all that wait.
    """
    one = select(*columns).where(subscribers.c.id == firsts.c.subscriber_id, may).correlate(firsts)
    return one.offset(literal_column("0")).lateral("known")


_READY = _servable()
_FAILS = subscribers.c.failures > 0
_PROVEN = and_(subscribers.c.failures == 0, subscribers.c.proven.is_(True))
_NEW = and_(subscribers.c.failures == 0, subscribers.c.proven.is_(False))
_IDLE = _UNDER_WAY.where(deliveries.c.subscriber_id == subscribers.c.id).scalar_subquery() == 0
_READY_PROVEN, _READY_NEW, _READY_FAILING = _servable(_PROVEN), _servable(_NEW), _servable(_FAILS)
_READY_IDLE, _READY_IDLE_PROVEN = _servable(subscribers.c.failures == 0, _IDLE), _servable(_PROVEN, _IDLE)


def _under_way_of(ids: list[BindParameter[Any]]) -> Select[Any]:
    of_subscriber = deliveries.c.subscriber_id
    return _UNDER_WAY.add_columns(of_subscriber).where(of_subscriber.in_(ids)).group_by(of_subscriber)


def _leased(ids: list[BindParameter[Any]]) -> Select[Any]:
    return (
        of_subscribers()
        .add_columns(accounts.c.secrets_sealed)
        .join(accounts, accounts.c.id == deliveries.c.account_id)
        .where(deliveries.c.id.in_(ids))
    )


_UNDER_WAY_OF = PreparedAmong(_under_way_of, "now")
_DUE = Prepared(
    dialect.skip_locked(
        select(deliveries.c.id)
        .where(deliveries.c.subscriber_id == bindparam("subscriber_id"), deliveries.c.due_at <= _NOW)
        .order_by(deliveries.c.due_at)  # and nothing else: a replay lets a million come due in one moment, unsorted
        .limit(_ROOM)
    ),
    "subscriber_id",
    "now",
    "room",
)
_LEASE = Prepared(
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"))
    .values(fence=deliveries.c.fence + 1, due_at=bindparam("until"), leased=True, holder=bindparam("by")),
    "delivery",
    "until",
    "by",
)
_LEASED = PreparedAmong(_leased)
_BODIES = PreparedAmong(lambda ids: select(events.c.id, events.c.body).where(events.c.id.in_(ids)))
_HELD_BY = dialect.locked(
    select(deliveries.c.id)
    .where(_IS_LEASED, deliveries.c.holder == bindparam("by"), deliveries.c.due_at > _NOW)
    .order_by(deliveries.c.id)
)
_GIVE_BACK = Prepared(
    update(deliveries).where(deliveries.c.id == bindparam("delivery")).values(due_at=_NOW, holder=None),
    "now",
    "delivery",
)


def _next_due() -> Prepared:
    """The first moment at which one of those who have a seat free may have something: see ``next_due``."""
    waits = waiting()
    plainly = select(func.min(func.max(_first_due(waits.c.subscriber_id), subscribers.c.ready_at))).where(
        subscribers.c.id == waits.c.subscriber_id, _MAY, _has_free_seat(subscribers)
    )
    firsts = _firsts()
    known = _each_known(firsts, _MAY, subscribers.c.id, subscribers.c.failures, subscribers.c.ready_at)
    first = select(func.min(func.greatest(firsts.c.due_at, known.c.ready_at)))
    query = first.select_from(firsts.join(known, true())).where(_has_free_seat(known))
    return Prepared(query, "now", "per_subscriber", sqlite=plainly)


_NEXT_DUE = _next_due()


@record
class _Ready:
    """A subscriber that may be served now. ``allowed``: attempts in flight at most."""

    subscriber: Subscriber
    allowed: int
    served_at: int


@dataclass(slots=True)
class _Shares:
    """How many may still be claimed for subscribers that fail, and for all of which nobody knows that they answer."""

    failing: int
    doubtful: int

    def left_for(self, subscriber: Subscriber) -> int | float:
        """How many a subscriber may have; those that fail divide among them what is left for these."""
        return self.doubtful if subscriber.doubtful else inf

    def give(self, subscriber: Subscriber, count: int) -> None:
        """So many are for this subscriber."""
        self.failing -= count if subscriber.failures else 0
        self.doubtful -= count if subscriber.doubtful else 0


def claim(
    connection: Connection,
    now: int,
    until: int,
    room: int,
    per_subscriber: int,
    *,
    reserved: int = 0,
    troubled: int | None = None,
    doubtful: int | None = None,
    holder: str | None = None,
) -> Sequence[Claim]:
    """Take up to ``room`` due deliveries until a lease's end, at most ``per_subscriber`` in flight for each.

    Subscribers are served in turn, the one served longest ago first, so that a backlog of one
    keeps nobody else waiting. Disabled and held ones are passed over, and use up no attempts.
    ``reserved``: of ``room``, what is kept for subscribers that have nothing in flight. ``troubled``: how
    many may be for subscribers whose last attempt failed; ``doubtful``: for those, and for such as have not taken any
    delivery yet (None: all). ``holder``: the worker that claims.
    """
    shares = _Shares(room if troubled is None else troubled, room if doubtful is None else doubtful)
    ready = _ready(connection, now, room, per_subscriber, shares)
    under_way = _under_way(connection, [each.subscriber.id for each in ready], now)  # counted once their turn is ours
    # First a seat for everybody with nothing in flight; what is beyond those and the reserve is shared.
    shared = max(room - reserved - sum(each.subscriber.id not in under_way for each in ready), 0)
    failing = sum(each.subscriber.failures > 0 for each in ready)
    chosen: dict[str, Subscriber] = {}
    ids: list[str] = []

    def take(subscriber: Subscriber, most: int) -> int:
        cap = int(min(most, shares.left_for(subscriber), room - len(ids)))
        if cap <= 0:
            return 0
        taken = [delivery_id for (delivery_id,) in _DUE.fetch(connection, (subscriber.id, now, cap))]
        ids.extend(taken)
        chosen[subscriber.id] = subscriber
        shares.give(subscriber, len(taken))
        if subscriber.rate_limit and taken:
            subscriber_queries.hold(connection, subscriber.id, now + ceil(1000 * len(taken) / subscriber.rate_limit))
        return len(taken)

    for place, each in enumerate(ready):
        subscriber = each.subscriber
        first = 0 if subscriber.id in under_way else 1
        free = each.allowed - under_way.get(subscriber.id, 0)
        cap = min(first - (-shared // (len(ready) - place)), free)
        if subscriber.rate_limit:
            cap = min(cap, 1)
        if subscriber.failures:
            cap = min(cap, -(-shares.failing // failing))
            failing -= 1
        shared -= max(take(subscriber, cap) - first, 0)
    if len(ready) == room > len(ids):  # those whose turn it was have as much as they may: the reserve is for others
        query = _READY_IDLE if shares.doubtful > 0 else _READY_IDLE_PROVEN
        for each in _some(connection, query, now, per_subscriber, room):
            if each.subscriber.id not in chosen:
                take(each.subscriber, 1)
    if len(ready) > 1 or len(ready) == room:  # who is alone goes before nobody
        subscriber_queries.note_served(connection, list(chosen), now)
    if not ids:
        return ()
    _LEASE.send(connection, [(delivery_id, until, holder) for delivery_id in ids])
    return _claims(connection, ids, chosen)


def _claims(connection: Connection, ids: Sequence[str], chosen: Mapping[str, Subscriber]) -> Sequence[Claim]:
    """What was leased, in this order, with what its attempts need."""
    leased = [(from_row(row), row[-1]) for row in _LEASED.fetch(connection, ids)]
    # Each is read once for all its subscribers: else a large event is in the memory as often as it is under way.
    of_events = _BODIES.fetch(connection, {delivery.event_id for delivery, _ in leased})
    bodies: dict[str, bytes] = {}
    while of_events:  # nor as text and bytes
        event_id, body = of_events.pop()
        bodies[event_id] = body.encode()
    claims = {
        delivery.id: _claim(delivery, chosen[delivery.subscriber_id], bodies[delivery.event_id], of_account)
        for delivery, of_account in leased
    }
    return [claims[delivery_id] for delivery_id in ids]


def _claim(delivery: Delivery, subscriber: Subscriber, body: bytes, of_account: str) -> Claim:
    if subscriber.secrets_sealed is None:  # behind a task's callback URL: the account signs
        return Claim(delivery, subscriber, body, of_account, delivery.account_id)
    return Claim(delivery, subscriber, body, subscriber.secrets_sealed, subscriber.id)


def _ready(connection: Connection, now: int, room: int, per_subscriber: int, shares: _Shares) -> Sequence[_Ready]:
    """Subscribers that may be served now, in the order of their turns."""
    ready = _some(connection, _READY, now, per_subscriber, room)
    failing = sum(each.subscriber.failures > 0 for each in ready)
    if failing <= shares.failing and sum(each.subscriber.doubtful for each in ready) <= shares.doubtful:
        return ready
    each_kind = _some(connection, _READY_PROVEN, now, per_subscriber, room)
    each_kind += _some(connection, _READY_NEW, now, per_subscriber, room if shares.doubtful > 0 else 0)
    each_kind += _some(connection, _READY_FAILING, now, per_subscriber, min(shares.failing, shares.doubtful, room))
    return sorted(each_kind, key=lambda each: (each.served_at, each.subscriber.id))[:room]


def _some(connection: Connection, query: Prepared, now: int, per_subscriber: int, limit: int) -> list[_Ready]:
    rows = query.fetch(connection, (now, per_subscriber, limit)) if limit > 0 else ()
    return [_Ready(subscriber_queries.known(row[:-2]), *row[-2:]) for row in rows]


def _under_way(connection: Connection, subscriber_ids: Sequence[str], now: int) -> Mapping[str, int]:
    """How many attempts of each of these subscribers are under way; without those that have none."""
    found = _UNDER_WAY_OF.fetch(connection, subscriber_ids, (now,))
    return {subscriber_id: count for count, subscriber_id in found}


def give_back(connection: Connection, holder: str, now: int) -> int:
    """End the leases of a worker that is dead; how many deliveries are due now for that.

    Taken in the order of their ids, as whoever writes what came of attempts takes them: neither waits for the other.
    """
    held = connection.execute(_HELD_BY, {"by": holder, "now": now}).scalars().all()
    return _GIVE_BACK.run(connection, [(now, delivery_id) for delivery_id in held])


def next_due(connection: Connection, now: int, per_subscriber: int) -> int | None:
    """When the next delivery can be attempted, as far as can be told now; None when none is waiting.

    What waits for an attempt of its own subscriber to end does not count: it would be looked for in vain.
    """
    ((first,),) = _NEXT_DUE.fetch(connection, (now, per_subscriber))
    return first if first is None else int(first)
