"""Claims when some may have few seats, or none: nobody stands in the way of those for whom there are seats."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from receiver.models import Subscriber
from receiver.store import claiming
from receiver.store.subscribers import note_served
from tests.core.stage import HOOK, Clock, Stage
from tests.store.test_claims import claim, shares, waiting

NEW: tuple[int, ...] = ()
PROVEN = (200,)
FAILING = (500,)
FAILING_SINCE = (200, 500)
"""What a subscriber has answered so far."""


def known(stage: Stage, count: int, answers: Sequence[int]) -> list[Subscriber]:
    """So many subscribers that have answered so."""
    made = [stage.subscribe(HOOK, "subscriber.ping") for _ in range(count)]
    for status in answers:
        owe(stage, made)
        stage.attempt(status)
    return made


def owe(stage: Stage, subscribers: Sequence[Subscriber], count: int = 1) -> None:
    """Let each have so many deliveries due."""
    for subscriber in subscribers:
        for _ in range(count):
            stage.tell(subscriber)


def in_turn(stage: Stage, *groups: Sequence[Subscriber]) -> None:
    """Let these be served next in this order, all of one group at once."""
    with stage.runtime.store.write() as connection:
        for place, group in enumerate(groups):
            note_served(connection, [one.id for one in group], stage.clock() + place)


@pytest.mark.parametrize(
    ("many", "other", "troubled", "doubtful"),
    [
        (NEW, PROVEN, 4, 0),
        (FAILING, PROVEN, 4, 0),
        (FAILING, PROVEN, 0, 4),
        (FAILING, NEW, 0, 4),
        (FAILING_SINCE, PROVEN, 0, 4),
        (FAILING_SINCE, NEW, 0, 4),
    ],
)
@pytest.mark.parametrize("reserve", [False, True])
def test_many_that_may_have_no_seat_stand_in_nobodys_way(
    stage: Stage, many: Sequence[int], other: Sequence[int], troubled: int, doubtful: int, reserve: bool
) -> None:
    """More of them than there are seats, all served longer ago; also when the reserve alone is left."""
    busy, in_the_way, late = known(stage, 4, PROVEN), known(stage, 5, many), known(stage, 1, other)
    if reserve:
        owe(stage, busy, 2)
        assert len(stage.runtime.deliveries.turn((), 4).claims) == 4
    owe(stage, in_the_way)
    owe(stage, late, 2)
    in_turn(stage, busy, in_the_way, late)
    reserved = 4 if reserve else 0
    found = stage.runtime.deliveries.turn((), 4, reserved=reserved, troubled=troubled, doubtful=doubtful).claims
    assert shares(found) == {late[0].id: 1 if reserve else 2}


def test_a_share_that_is_used_up_gives_nobody_two_turns(stage: Stage) -> None:
    """Beside failing ones that have no share, each of those that answer has one seat."""
    failing, proven = known(stage, 4, FAILING), known(stage, 4, PROVEN)
    owe(stage, [*failing, *proven], 3)
    in_turn(stage, failing, proven)
    found = stage.runtime.deliveries.turn((), 4, troubled=0).claims
    assert shares(found) == {one.id: 1 for one in proven}


def test_what_is_left_for_failing_ones_is_theirs(stage: Stage) -> None:
    """Though others were served longer ago: these have seats of their own."""
    proven, failing = known(stage, 1, PROVEN), known(stage, 2, FAILING)
    owe(stage, [*proven, *failing])
    in_turn(stage, proven, failing)
    found = shares(stage.runtime.deliveries.turn((), 4, troubled=1).claims)
    assert found[proven[0].id] == 1
    assert sum(found[one.id] for one in failing) == 1


@pytest.mark.parametrize(("troubled", "doubtful", "taken"), [(4, 2, 2), (2, 4, 2), (0, 4, 0), (4, 0, 0)])
def test_a_failing_subscriber_has_the_smaller_share(stage: Stage, troubled: int, doubtful: int, taken: int) -> None:
    """It is one of those that fail, and one of those of which nobody knows that they answer."""
    owe(stage, known(stage, 1, FAILING), 6)
    assert len(stage.runtime.deliveries.turn((), 8, troubled=troubled, doubtful=doubtful).claims) == taken


def test_newcomers_have_no_more_than_what_is_left_for_them(stage: Stage) -> None:
    """However much each has waiting; and those that answer take nothing of it."""
    proven, new = known(stage, 1, PROVEN), known(stage, 2, NEW)
    owe(stage, [*proven, *new], 8)
    in_turn(stage, proven, new)
    found = shares(stage.runtime.deliveries.turn((), 12, doubtful=5).claims)
    assert sum(found[one.id] for one in new) == 5
    assert found[proven[0].id] >= 4


def test_who_is_full_does_not_stand_in_the_way_of_who_has_one_under_way(stage: Stage) -> None:
    """Many at their cap, all served longer ago: the free seat goes to the next one that may have a second attempt."""
    full, late = known(stage, 5, NEW), known(stage, 1, NEW)
    owe(stage, full, 3)
    assert len(claim(stage, 10, per_subscriber=2)) == 10
    owe(stage, late, 2)
    assert shares(claim(stage, 1, per_subscriber=2)) == {late[0].id: 1}
    in_turn(stage, full, late)
    assert shares(claim(stage, 1, per_subscriber=2)) == {late[0].id: 1}


def test_of_several_the_first_says_when_to_look(stage: Stage, clock: Clock) -> None:
    """Not whoever is held for longest, nor one who has more due but no seat for it."""
    for seconds in (10, 30, 20):
        waiting(stage, 1)
        stage.attempt(429, retry_after=str(seconds))
    assert stage.runtime.deliveries.next_look() == clock() + 10_000
    waiting(stage, 2)
    assert len(claim(stage, 9, per_subscriber=1)) == 1
    with stage.runtime.store.read() as connection:
        assert claiming.next_due(connection, clock(), 1) == clock() + 10_000
        assert claiming.next_due(connection, clock(), 2) == clock()


def test_who_got_no_seat_keeps_its_turn(stage: Stage) -> None:
    """Where the share of newcomers is used up by one of them, the next seat is for the other."""
    first, second = sorted(known(stage, 2, NEW), key=lambda one: one.id)
    owe(stage, [first, second], 2)
    in_turn(stage, [first], [second])
    for one in (first, second):
        stage.clock.pass_by(1)
        assert shares(stage.runtime.deliveries.turn((), 4, doubtful=1).claims) == {one.id: 1}


def test_no_seat_is_given_twice(stage: Stage) -> None:
    """What goes to those whose turn it is, and the reserve, are together no more than there are seats."""
    busy, idle = known(stage, 4, PROVEN), known(stage, 6, PROVEN)
    owe(stage, busy, 3)
    assert len(stage.runtime.deliveries.turn((), 4).claims) == 4
    owe(stage, idle)
    in_turn(stage, busy, idle)
    found = shares(stage.runtime.deliveries.turn((), 4, reserved=2).claims)
    assert (len(found), set(found.values())) == (4, {1})
    assert len(found.keys() & {one.id for one in idle}) == 2


def test_what_others_leave_is_for_who_comes_last(stage: Stage) -> None:
    """Those who have one delivery each take one seat each, whatever they might have had."""
    others, crowd = known(stage, 5, NEW), known(stage, 1, NEW)
    owe(stage, others)
    owe(stage, crowd, 20)
    in_turn(stage, others, crowd)
    assert shares(claim(stage, 10))[crowd[0].id] == 5


def test_who_has_something_for_later_alone_is_passed_over(stage: Stage) -> None:
    """More that wait for their next attempt than there are seats, all served longer ago."""
    waits, late = known(stage, 5, FAILING), known(stage, 1, PROVEN)
    owe(stage, late, 2)
    in_turn(stage, waits, late)
    assert shares(claim(stage, 4)) == {late[0].id: 2}


def test_turns_are_taken_across_kinds(stage: Stage) -> None:
    """A newcomer that was served longest ago comes before those that are known to answer, though one fails beside."""
    failing, new, proven = known(stage, 1, FAILING), known(stage, 1, NEW), known(stage, 4, PROVEN)
    owe(stage, [*failing, *new, *proven])
    in_turn(stage, failing, new, proven)
    found = shares(stage.runtime.deliveries.turn((), 4, troubled=0).claims)
    assert len(found) == 4
    assert (found[new[0].id], found[failing[0].id]) == (1, 0)
