"""The look for what is due next, which follows a turn."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

from receiver.errors import Busy
from receiver.models import Subscriber
from receiver.store import Store, claiming
from receiver.store import subscribers as subscriber_queries
from tests.core.stage import Stage
from tests.store.test_claims import waiting


def test_nobody_waits_while_the_next_due_time_is_looked_for(stage: Stage, build: Callable[[], Stage]) -> None:
    """All addresses with something to get are gone through for it: whoever writes need not wait that long."""
    subscriber = waiting(stage, 2)
    other = build().runtime.store
    looks = mock.Mock(side_effect=lambda *_: _note_served(other, subscriber))
    with mock.patch.object(claiming, "next_due", looks):
        turn = stage.runtime.deliveries.turn((), 5)
    assert (len(turn.claims), turn.next_look) == (2, 7)


def _note_served(store: Store, subscriber: Subscriber) -> int:
    with store.write() as connection:
        subscriber_queries.note_served(connection, [subscriber.id], 1)
    return 7


def test_what_is_claimed_is_sent_though_the_next_look_fails(stage: Stage) -> None:
    """A database that goes away just after a claim does not leave the deliveries to their leases."""
    waiting(stage, 2)
    with mock.patch.object(claiming, "next_due", side_effect=Busy("away")):
        turn = stage.runtime.deliveries.turn((), 5)
    assert (len(turn.claims), turn.next_look) == (2, stage.clock())
