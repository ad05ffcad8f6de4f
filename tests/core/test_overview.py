"""The service at a glance: numbers of an account, made from a bounded number of rows."""

from __future__ import annotations

import pytest

from receiver import stats
from receiver.overview import FRESH, HOURS, Cell, Overview
from receiver.store import overview
from tests import asking
from tests.core.stage import Stage, broken, done
from tests.databases import on_sqlite
from tests.store.test_claims import plans


def seen(stage: Stage, window: str = "hour") -> Overview:
    """What is shown now, not what was shown a moment ago."""
    stage.clock.pass_by(FRESH / 1000)
    return stage.runtime.overview.read(stage.account, window)


def ended(stage: Stage, job: str, *, by_callback: bool = False) -> None:
    """A task that came to its end."""
    task = stage.running(job)
    if by_callback:
        stage.clock.pass_by(2)
        stage.notice(task, job)
    else:
        stage.wait_until_due(task)
        stage.poll(done(job))


def test_nothing_yet(stage: Stage) -> None:
    """A fresh installation has an overview too."""
    found = seen(stage)
    assert sum(found.created) == 0
    assert found.told_to_delivered.median is None
    assert not found.providers
    assert len(found.created) == 60


def test_tasks_by_provider_state_and_way(stage: Stage) -> None:
    """How many tasks stand where, and whether a callback or a poll brought their end."""
    ended(stage, "job-1", by_callback=True)
    ended(stage, "job-2")
    stage.create()
    found = seen(stage, "day")
    (toy,) = found.providers
    assert toy.states == {"succeeded": 2, "queued": 1}
    assert (toy.by_callback, toy.by_poll) == ({"draw": 1}, {"draw": 1})
    assert toy.ran.median is not None
    assert (sum(found.created), sum(found.succeeded), sum(found.failed)) == (3, 2, 0)
    assert found.covers == found.since


def test_from_callback_to_delivery(stage: Stage) -> None:
    """The latency that is ours: from the provider's notice to the subscriber's answer."""
    stage.subscribe("http://127.0.0.1:9/hook", "task.succeeded")
    ended(stage, "job-1", by_callback=True)
    stage.clock.pass_by(3)
    stage.attempt()
    found = seen(stage)
    assert (found.told_to_delivered.median, found.told_to_delivered.slow) == (3012, 3012)  # an attempt takes 12 ms
    assert found.written_to_delivered.median == 3012
    assert found.deliveries == {"pending": 0, "delivered": 1, "dead": 0}
    assert sum(found.delivered) == 1


def test_a_repetition_does_not_count_as_lateness(stage: Stage) -> None:
    """What arrived in time and was sent again later, by a replay, does not make the service look slow."""
    subscriber = stage.subscribe("http://127.0.0.1:9/hook", "task.succeeded")
    ended(stage, "job-1", by_callback=True)
    stage.clock.pass_by(3)
    stage.attempt()
    stage.clock.pass_by(900)
    assert stage.runtime.subscribers.replay(stage.account, subscriber.id, 0, None, "all") == 1
    stage.attempt(500)
    stage.clock.pass_by(10)
    stage.attempt()
    found = seen(stage)
    assert found.deliveries["delivered"] == 1
    assert (found.told_to_delivered.median, found.written_to_delivered.median) == (3012, 3012)


def test_times_are_made_from_the_newest(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among many it is the newest tasks and deliveries whose times count, as the page says."""
    monkeypatch.setattr(overview, "SOME", 3)
    stage.subscribe("http://127.0.0.1:9/hook", "task.succeeded")
    for seconds in (900, 5, 6, 7):
        ended(stage, f"job-{seconds}")
        stage.clock.pass_by(seconds)
        stage.attempt()
    found = seen(stage, "day")
    assert (found.written_to_delivered.median, found.written_to_delivered.slow) == (6012, 7012)


def test_errors_and_troubles_are_grouped(stage: Stage) -> None:
    """What fails at providers is told by kind, with the newest words and how often."""
    for job in ("job-1", "job-2"):
        task = stage.running(job)
        stage.wait_until_due(task)
        stage.poll(broken())
    task = stage.running("job-3")
    stage.wait_until_due(task)
    (claimed,) = [each for _, batch in asking.claim(stage.runtime.polling, "toy", 5) for each in batch]
    asking.failed(stage.runtime.polling, [claimed], "no answer", None)
    found = seen(stage, "day")
    ((provider, kind, times),) = [(each.provider, each.kind, each.times) for each in found.errors]
    assert (provider, kind, times) == ("toy", "provider_error", 2)
    ((kind, text),) = [(each.kind, each.text) for each in found.troubles]
    assert (kind, text) == ("poll", "no answer")


def test_what_expired_is_called_so(stage: Stage) -> None:
    """A task without a final word of its provider is no failure of an unknown kind."""
    stage.create(deadline=1)
    stage.clock.pass_by(60)
    assert stage.runtime.polling.end_overdue() == 1
    (failure,) = seen(stage).errors
    assert (failure.kind, failure.times) == ("expired", 1)
    assert "deadline" in failure.text


def test_a_failing_subscriber_is_named(stage: Stage) -> None:
    """Who gets nothing stands on the overview, until it works again."""
    subscriber = stage.subscribe()
    delivery = stage.ping(subscriber)
    stage.attempt(500)
    assert [each.id for each in seen(stage).failing] == [subscriber.id]
    stage.runtime.deliveries.retry(stage.account, delivery.id)
    stage.attempt(200)
    assert not seen(stage).failing


def test_other_accounts_stay_out(stage: Stage) -> None:
    """Nobody sees numbers of another account."""
    stage.create()
    key, _ = stage.runtime.accounts.create_key("stranger", "", ["manage"])
    assert not stage.runtime.overview.read(key.account_id, "hour").providers


def test_an_answer_is_given_again_for_a_moment(stage: Stage) -> None:
    """Many who look cost as much as one."""
    first = seen(stage)
    stage.create()
    assert stage.runtime.overview.read(stage.account, "hour") is first
    assert sum(seen(stage).created) == 1


def test_more_than_is_looked_at_is_said(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the newest rows do not reach back over the whole window, the page can say how far they do."""
    monkeypatch.setattr(overview, "MOST", 2)
    for _ in range(3):
        stage.clock.pass_by(60)
        stage.create()
    found = seen(stage)
    assert sum(found.created) == 2
    assert found.covers == stage.clock() - FRESH - 60_000


def last(stage: Stage, subscriber_id: str) -> Cell:
    """The present hour of a subscriber."""
    cells = stage.runtime.overview.health([subscriber_id])[subscriber_id]
    assert len(cells) == HOURS
    return cells[-1]


def test_the_last_day_of_a_subscriber(stage: Stage) -> None:
    """Each hour is none, good, retried, waiting or bad, so that an outage is seen at a glance."""
    subscriber = stage.subscribe()
    assert last(stage, subscriber.id).state == "none"
    delivery = stage.ping(subscriber)
    assert last(stage, subscriber.id).state == "waiting"
    stage.attempt(500)
    assert last(stage, subscriber.id).state == "bad"
    stage.runtime.deliveries.retry(stage.account, delivery.id)
    stage.attempt(200)
    assert (last(stage, subscriber.id).state, last(stage, subscriber.id).delivered) == ("retried", 1)
    stage.clock.pass_by(3600)
    stage.ping(subscriber)
    stage.attempt(200)
    before, now = stage.runtime.overview.health([subscriber.id])[subscriber.id][-2:]
    assert (before.state, now.state) == ("retried", "good")


def test_queues_are_counted_once_for_all_who_look(stage: Stage) -> None:
    """Also those numbers are given again for a moment; a scrape always counts."""
    first = stage.runtime.stats.lately()
    stage.create()
    assert stage.runtime.stats.lately() is first
    assert stage.runtime.stats.read().tasks
    stage.clock.pass_by(stats.FRESH / 1000)
    assert stage.runtime.stats.lately().tasks


@on_sqlite
def test_calls_that_failed_are_found_without_going_through_an_accounts_tasks(stage: Stage) -> None:
    """The overview costs as much beside a million tasks as beside ten thousand."""
    plan = plans(stage, lambda connection: overview.troubles(connection, stage.account, 0))
    assert any("SEARCH tasks" in line and "(id=?)" in line for line in plan), plan
    assert not any("account_id=?" in line for line in plan), plan
