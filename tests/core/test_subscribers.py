"""Subscribers: refused when they cannot work, secrets sealed, backlogs drained gently, deletes final."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from receiver import outbound, subscribers
from receiver.errors import Busy, Invalid, NotFound
from receiver.models import DeliveryStatus, EventType
from receiver.schedule import CIRCUIT_AFTER
from receiver.signing import new_secret, verify
from receiver.store import backlog, deliveries
from receiver.store.backlog import DRAIN_RATE
from receiver.subscribers import NewSubscriber
from tests.core.stage import HOOK, Clock, Stage

DAY = 86_400


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "http://10.0.0.1/x"}, "url"),
        ({"url": "ftp://cdn.example.test/"}, "url"),
        ({"url": "http://user:pw@127.0.0.1/"}, "url"),
        ({"event_types": ()}, "event_types"),
        ({"event_types": ("task.exploded",)}, "event_types"),
        ({"event_types": ("*.succeeded",)}, "event_types"),
        ({"providers": ("nobody",)}, "providers"),
        ({"headers": {"Host": "x"}}, "headers"),
        ({"headers": {"Webhook-Id": "x"}}, "headers"),
        ({"headers": {"content-length": "3"}}, "headers"),
        ({"headers": {"X": "a\r\nY: b"}}, "headers"),
        ({"headers": {"X Y": "a"}}, "headers"),
        ({"headers": {"User-Agent": "mine/1"}}, "headers"),
        ({"headers": {"Authorization": "***"}}, "headers"),
        ({"headers": {"X": "a", "x": "b"}}, "headers"),
        ({"headers": {f"X-{number}": "a" for number in range(21)}}, "headers"),
        ({"secret": "whsec_short"}, "secret"),
        ({"secret": "tell-nobody"}, "secret"),
    ],
)
def test_what_cannot_work_is_refused_with_the_field(stage: Stage, change: dict[str, Any], field: str) -> None:
    """A subscriber that would never get anything is not stored; the same on a change."""
    wanted = {"url": HOOK, "event_types": ("*",), **change}
    with pytest.raises(Invalid) as caught:
        stage.runtime.subscribers.create(stage.account, NewSubscriber(**wanted))
    assert set(caught.value.errors) == {field}
    assert "tell-nobody" not in str(caught.value.errors)
    if field != "secret":
        subscriber = stage.subscribe()
        with pytest.raises(Invalid):
            stage.runtime.subscribers.change(stage.account, subscriber.id, {"description": "new", **change})
        assert stage.subscriber(subscriber) == subscriber, "all or nothing"


def test_an_account_has_so_many_subscribers_at_most(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One account's events cannot keep all others waiting: how many deliveries each is written for is bounded."""
    monkeypatch.setattr(subscribers, "MOST_SUBSCRIBERS", 3)

    def subscribe(_: int) -> str:
        try:
            return stage.subscribe().id
        except Invalid as error:
            return ", ".join(error.errors)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(subscribe, range(8)))
    registered = [one for one in made if one.startswith("sub_")]
    assert len(registered) == 3
    assert made.count("url") == 5
    stage.runtime.subscribers.delete(stage.account, registered[0])
    assert stage.subscribe().url == HOOK


def test_every_header_that_is_taken_can_be_sent(stage: Stage) -> None:
    """What the sender would refuse is refused at once, and not with each attempt for three days."""
    for name in outbound.OURS:
        with pytest.raises(Invalid):
            stage.subscribe(headers={name.title(): "x"})
    for sign in map(chr, range(256)):
        sendable = outbound._VALUE.fullmatch(sign) is not None
        assert (subscribers._header_problems({"X-A": sign}) == []) is sendable, repr(sign)


def test_secrets_and_headers_are_sealed_in_the_database(stage: Stage) -> None:
    """A copy of the file tells nobody how to sign, nor what the caller's headers hold."""
    wanted = NewSubscriber(HOOK, ("*",), headers={"Authorization": "Bearer their-token"})
    subscriber, secret = stage.runtime.subscribers.create(stage.account, wanted)
    (account_secret,) = stage.runtime.accounts.signing_secrets(stage.account)
    assert stage.runtime.subscribers.secrets(stage.account, subscriber.id)[0].key == secret
    assert stage.runtime.subscribers.headers(subscriber) == {"Authorization": "Bearer their-token"}
    (row,) = stage.rows("SELECT * FROM subscribers")
    (account,) = stage.rows("SELECT * FROM accounts")
    for kept in (str(row), str(account)):
        for hidden in (secret, secret.removeprefix("whsec_"), "their-token", account_secret.key):
            assert hidden not in kept
    assert subscriber.secrets_sealed is not None
    assert subscriber.secrets_sealed.startswith("v1.")


def test_a_callers_own_secret_is_taken(stage: Stage) -> None:
    """Whoever moves here from elsewhere keeps the secret."""
    mine = new_secret()
    _, secret = stage.runtime.subscribers.create(stage.account, NewSubscriber(HOOK, ("*",), secret=mine))
    assert secret == mine


def test_rotation_signs_with_both_until_the_overlap_ends(stage: Stage) -> None:
    """A subscriber can change over without missing a webhook."""
    service = stage.runtime.subscribers
    subscriber, old = service.create(stage.account, NewSubscriber(HOOK, ("*",)))
    service.rotate_secret(stage.account, subscriber.id, 60, None)
    new = service.secrets(stage.account, subscriber.id)[0].key
    stage.ping(subscriber)
    (claim,) = stage.runtime.deliveries.turn((), 10).claims
    headers = stage.runtime.deliveries.request_of(claim).headers
    for secret in (old, new):
        verify([secret], headers, claim.body, stage.clock() / 1000, 1)
    assert len(headers["webhook-signature"].split(" ")) == 2
    stage.clock.pass_by(61)
    headers = stage.runtime.deliveries.request_of(claim).headers
    assert len(headers["webhook-signature"].split(" ")) == 1
    assert [secret.key for secret in service.secrets(stage.account, subscriber.id)] == [new]


def test_rotation_refuses_bad_and_too_many_secrets(stage: Stage) -> None:
    """Ten sign together at most; a secret in use is no new one; nothing changes then."""
    service = stage.runtime.subscribers
    subscriber, old = service.create(stage.account, NewSubscriber(HOOK, ("*",)))
    for bad in ("whsec_x", old):
        with pytest.raises(Invalid):
            service.rotate_secret(stage.account, subscriber.id, 60, bad)
    for _ in range(9):
        service.rotate_secret(stage.account, subscriber.id, 3600, None)
    with pytest.raises(Invalid):
        service.rotate_secret(stage.account, subscriber.id, 3600, None)
    assert len(service.secrets(stage.account, subscriber.id)) == 10
    assert len(service.rotate_secret(stage.account, subscriber.id, 0, None)) == 1


def test_changes_take_effect_for_what_is_still_to_be_sent(stage: Stage) -> None:
    """A corrected address gets the backlog; all other fields are as they were."""
    subscriber = stage.subscribe(headers={"X-A": "1"}, description="shop", providers=["toy"])
    stage.ping(subscriber)
    values = {"url": HOOK + "/new", "rate_limit": 5.0, "headers": None, "providers": None}
    changed = stage.runtime.subscribers.change(stage.account, subscriber.id, values)
    assert (changed.url, changed.rate_limit, changed.headers_sealed) == (HOOK + "/new", 5.0, None)
    assert (changed.description, changed.event_types, changed.providers) == ("shop", ("*",), None)
    (claim,) = stage.runtime.deliveries.turn((), 10).claims
    assert stage.runtime.deliveries.request_of(claim).url == HOOK + "/new"


def test_headers_set_at_the_same_moment_all_stay(stage: Stage) -> None:
    """Each change is merged with what the one before it has stored, not with what it once saw."""
    made = stage.subscribe(headers={"X-First": "1"})

    def add(number: int) -> None:
        stage.runtime.subscribers.change(stage.account, made.id, {"headers": {f"X-{number}": "1"}})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    kept = stage.runtime.subscribers.headers(stage.subscriber(made))
    assert set(kept) == {"X-First", *(f"X-{number}" for number in range(8))}


def test_an_enabled_subscriber_gets_its_backlog_bit_by_bit(stage: Stage, clock: Clock) -> None:
    """A backlog does not fall on whoever has just come back; its order is kept; the record is clean."""
    subscriber = stage.subscribe()
    stage.ping(subscriber)
    stage.attempt(410)
    waiting = [stage.tell(subscriber).id for _ in range(2 * DRAIN_RATE + 10)]
    clock.pass_by(DAY)
    enabled = stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": False})
    assert (enabled.disabled, enabled.disabled_reason, enabled.failures) == (False, None, 0)
    due = stage.rows("SELECT id, due_at FROM deliveries WHERE status = 'pending' ORDER BY id")
    assert {row.id for row in due} == set(waiting)
    assert [row.due_at for row in due] == sorted(row.due_at for row in due)
    counts = [sum(row.due_at <= clock() + 1000 * step for row in due) for step in range(3)]
    assert counts == [DRAIN_RATE, 2 * DRAIN_RATE, 2 * DRAIN_RATE + 10]
    assert DRAIN_RATE == 50, "as the documents say"


def test_who_is_disabled_while_being_enabled_gets_its_backlog_bit_by_bit_too(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is how the subscriber is when the change is written, not how it was when it was looked up."""
    service = stage.runtime.subscribers
    subscriber = stage.subscribe()
    for _ in range(DRAIN_RATE + 5):
        stage.ping(subscriber)
    clock.pass_by(DAY)
    before = service.get(stage.account, subscriber.id)
    service.change(stage.account, subscriber.id, {"disabled": True})
    monkeypatch.setattr(service, "get", lambda *_: before)
    service.change(stage.account, subscriber.id, {"disabled": False})
    (row,) = stage.rows("SELECT count(*) AS n FROM deliveries WHERE due_at <= :now", now=clock())
    assert row.n == DRAIN_RATE


def test_a_big_backlog_is_given_up_in_steps(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that others write in between; a step that was not made is made by the sweep."""
    monkeypatch.setattr(deliveries, "MOST_ENDED", 2)
    subscriber, other = stage.subscribe(), stage.subscribe()
    sent = [stage.ping(subscriber) for _ in range(5)]
    kept = stage.ping(other)
    with stage.runtime.store.write() as connection:
        assert deliveries.end_pending(connection, subscriber.id, stage.clock(), "subscriber_deleted") == 2
    stage.runtime.subscribers.delete(stage.account, subscriber.id)
    assert {stage.delivery(one).status for one in sent} == {DeliveryStatus.DEAD}
    assert stage.delivery(kept).status is DeliveryStatus.PENDING


def test_a_deletion_that_is_cut_short_by_a_busy_database_is_done(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as done, which it is; the sweep ends the rest without a pause, a step in each transaction."""
    subscriber, other = stage.subscribe(), stage.subscribe()
    waiting = [stage.ping(one) for one in (subscriber, other) for _ in range(3)]
    end_pending = deliveries.end_pending

    def busy(*_: object) -> int:
        raise Busy("for the test")

    monkeypatch.setattr(deliveries, "end_pending", busy)
    for one in (subscriber, other):
        stage.runtime.subscribers.delete(stage.account, one.id)
    assert {stage.delivery(one).status for one in waiting} == {DeliveryStatus.PENDING}
    monkeypatch.setattr(deliveries, "end_pending", end_pending)
    monkeypatch.setattr(deliveries, "MOST_ENDED", 2)
    assert [stage.runtime.sweeping.step() for _ in range(5)] == [2, 1, 2, 1, 0]
    assert {stage.delivery(one).reason for one in waiting} == {"subscriber_deleted"}


def test_a_deleted_subscriber_gets_nothing_more(stage: Stage) -> None:
    """What was waiting ends as dead and stays listed; a result on its way is not written; it cannot be found."""
    subscriber = stage.subscribe()
    first, second = stage.ping(subscriber), stage.ping(subscriber)
    (claim,) = stage.runtime.deliveries.turn((), 1).claims
    stage.runtime.subscribers.delete(stage.account, subscriber.id)
    stage.finish([claim], 200)
    for delivery in (first, second):
        ended = stage.delivery(delivery)
        assert (ended.status, ended.reason, ended.due_at) == (DeliveryStatus.DEAD, "subscriber_deleted", None)
        assert ended.finished_at == stage.clock()
    assert stage.rows("SELECT id FROM deliveries WHERE leased") == [], "none is counted as under way"
    stage.running()
    assert len(stage.rows("SELECT id FROM deliveries")) == 2
    assert stage.attempt() == []
    for call in (
        lambda: stage.subscriber(subscriber),
        lambda: stage.ping(subscriber),
        lambda: stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": False}),
        lambda: stage.runtime.subscribers.rotate_secret(stage.account, subscriber.id, 0, None),
        lambda: stage.runtime.subscribers.replay(stage.account, subscriber.id, 0, None, "all"),
        lambda: stage.runtime.subscribers.delete(stage.account, subscriber.id),
    ):
        with pytest.raises(NotFound):
            call()


def test_subscribers_of_another_account_do_not_exist(stage: Stage) -> None:
    """They cannot be read, changed, pinged, replayed or deleted, and they get none of our events."""
    key, _ = stage.runtime.accounts.create_key("other", "", ["manage"])
    theirs, _ = stage.runtime.subscribers.create(key.account_id, NewSubscriber(HOOK, ("*",)))
    for call in (stage.subscriber, stage.ping):
        with pytest.raises(NotFound):
            call(theirs)
    stage.running()
    assert stage.rows("SELECT id FROM deliveries") == []


def test_a_ping_goes_to_one_subscriber_whatever_it_wants(stage: Stage) -> None:
    """The others, who would want it, hear nothing."""
    subscriber = stage.subscribe(HOOK, "task.succeeded")
    stage.subscribe(HOOK, "*")
    delivery = stage.ping(subscriber)
    (claim,) = stage.attempt(200)
    assert claim.delivery.id == delivery.id
    assert claim.delivery.event_type is EventType.SUBSCRIBER_PING
    assert subscriber.id.encode() in claim.body


# Replay ------------------------------------------------------------------------------------------------


def test_replay_sends_the_dead_of_a_span_again(stage: Stage, clock: Clock) -> None:
    """From ``since`` on, before ``until``; those delivered only when asked for; twice is once."""
    subscriber = stage.subscribe()
    made = []
    for status in (410, 200, 410):
        stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": False})
        made.append(stage.ping(subscriber))
        stage.attempt(status)
        clock.pass_by(10)
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": False})

    def replay(since: int, until: int | None, status: str) -> int:
        return stage.runtime.subscribers.replay(stage.account, subscriber.id, since, until, status)

    assert replay(made[0].created_at + 1, made[2].created_at, "dead") == 0
    assert replay(made[0].created_at, made[2].created_at, "dead") == 1
    assert replay(0, None, "dead") == 1, "the first is pending already"
    assert replay(0, None, "all") == 1
    assert replay(0, None, "all") == 0
    claims = stage.attempt(200)
    assert {claim.delivery.id for claim in claims} == {delivery.id for delivery in made}
    assert {claim.delivery.trigger for claim in claims} == {"manual"}
    assert len({claim.delivery.event_id for claim in claims}) == 3


def test_a_replay_can_be_counted_first_and_watched(stage: Stage, clock: Clock) -> None:
    """Somebody who looks learns how many it will be, then how many still wait."""
    service, subscriber = stage.runtime.subscribers, stage.subscribe()
    first = stage.ping(subscriber)
    stage.attempt(200)
    clock.pass_by(1)
    stage.ping(subscriber)
    stage.attempt(410)
    service.change(stage.account, subscriber.id, {"disabled": False})

    def count(since: int, until: int | None, status: str) -> int:
        return service.count_replay(stage.account, subscriber.id, since, until, status)

    assert (count(0, None, "all"), count(0, None, "dead"), count(0, first.created_at, "all")) == (2, 1, 0)
    assert service.replay(stage.account, subscriber.id, 0, None, "all") == 2
    stage.ping(subscriber)
    assert service.waiting(stage.account, subscriber.id) == (3, 2)
    assert service.retrying(stage.account, subscriber.id) == 0
    stage.attempt(500)
    assert service.waiting(stage.account, subscriber.id) == (3, 0), "they wait for the schedule now"
    assert service.retrying(stage.account, subscriber.id) == 3
    assert count(0, None, "all") == 0


@pytest.mark.parametrize("reopened", ["registered", "callback_url"])
def test_a_big_backlog_drains_as_a_small_one(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch, reopened: str
) -> None:
    """Spread in many steps before its subscriber is enabled, it comes due at the same rate, the oldest first."""
    monkeypatch.setattr(backlog, "STEP", 30)
    subscriber = stage.subscribe()
    service = stage.runtime.subscribers
    service.change(stage.account, subscriber.id, {"disabled": True})
    waiting = []
    for _ in range(3 * DRAIN_RATE - 10):
        waiting.append(stage.tell(subscriber).id)
        clock.pass_by(1)
    if reopened == "registered":
        service.change(stage.account, subscriber.id, {"disabled": False})
    else:
        stage.runtime.store.in_steps(lambda connection: backlog.reopen(connection, subscriber.id, clock()))
    rows = stage.rows("SELECT id, due_at FROM deliveries ORDER BY due_at, id")
    assert [row.id for row in rows] == waiting
    seconds = [max(0, row.due_at - clock()) // 1000 for row in rows]
    assert seconds == [place // DRAIN_RATE for place in range(len(waiting))]


def test_enabling_that_is_cut_short_can_be_repeated(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some steps the subscriber is still disabled and nothing is due too early; the next time does the rest."""
    monkeypatch.setattr(backlog, "STEP", DRAIN_RATE)
    subscriber = stage.subscribe()
    service = stage.runtime.subscribers
    service.change(stage.account, subscriber.id, {"disabled": True})
    waiting = {stage.tell(subscriber).id for _ in range(3 * DRAIN_RATE)}
    spread = backlog.spread
    steps = iter([spread])
    monkeypatch.setattr(backlog, "spread", lambda *given: next(steps)(*given))
    with pytest.raises(StopIteration):
        service.change(stage.account, subscriber.id, {"disabled": False})
    assert service.get(stage.account, subscriber.id).disabled
    monkeypatch.setattr(backlog, "spread", spread)
    assert not service.change(stage.account, subscriber.id, {"disabled": False}).disabled
    rows = stage.rows("SELECT id, due_at FROM deliveries")
    assert {row.id for row in rows} == waiting
    assert [sum(row.due_at == clock() + 1000 * second for row in rows) for second in (1, 2)] == [DRAIN_RATE] * 2


def test_a_large_replay_is_spread(stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of old events come back at a bounded rate, oldest first, however many steps it takes to ask for them."""
    monkeypatch.setattr(backlog, "STEP", DRAIN_RATE)
    subscriber = stage.subscribe()
    for _ in range(DRAIN_RATE + 20):
        stage.ping(subscriber)
    while stage.attempt(200):
        pass
    assert stage.runtime.subscribers.replay(stage.account, subscriber.id, 0, None, "all") == DRAIN_RATE + 20
    (row,) = stage.rows("SELECT count(*) AS n FROM deliveries WHERE due_at <= :now", now=clock())
    assert row.n == DRAIN_RATE


def test_open_circuits_are_looked_for_among_those_that_wait(stage: Stage) -> None:
    """A scrape costs no more for all the subscribers, hidden ones above all, that are to get nothing."""
    subscriber = stage.subscribe()
    for _ in range(CIRCUIT_AFTER):
        stage.ping(subscriber)
    stage.attempt(500)
    assert stage.runtime.stats.read().circuits_open == 1
    with stage.runtime.store.write() as connection:
        connection.execute(text("UPDATE deliveries SET due_at = NULL, status = 'dead'"))
    assert stage.runtime.stats.read().circuits_open == 0
