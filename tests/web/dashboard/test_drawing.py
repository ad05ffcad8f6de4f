"""The picture of a timeline: to scale where that can be seen, torn where it cannot."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from receiver.models import Delivery, DeliveryStatus, EventType, Step, Task, TaskStatus
from receiver.tasks import History
from receiver.web.dashboard import drawing
from receiver.web.dashboard.drawing import LEFT, RIGHT, TORN, WIDTH, Scale, picture_of
from receiver.web.dashboard.exchanges import lines_of

BEGIN = 1_767_225_600_000


def scale(*seconds: float) -> Scale:
    """A scale of steps at these seconds after the beginning."""
    return Scale([BEGIN + round(at * 1000) for at in seconds])


def test_even_steps_are_to_scale() -> None:
    """The same time takes the same room, and all of the room is used."""
    found = scale(0, 5, 10, 20)
    places = [found.x(BEGIN + at) for at in (0, 5000, 10_000, 20_000)]
    assert places[0] == LEFT
    assert places[-1] == WIDTH - RIGHT
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)
    assert places[3] - places[2] == pytest.approx(2 * (places[1] - places[0]), abs=0.2)
    assert found.torn == []


def test_long_waits_are_torn_and_say_how_long_they_are() -> None:
    """A schedule of retries: what happened in between can still be seen, and each wait is marked with its length."""
    found = scale(0, 0.1, 0.3, 5, 305, 2105, 9305)
    assert [piece.label for piece in found.torn] == ["4.7 s", "5 min", "30 min", "2 h"]
    assert {piece.width for piece in found.torn} == {TORN}
    assert found.x(BEGIN + 100) - found.x(BEGIN) > 100
    assert found.x(BEGIN + 9_305_000) == WIDTH - RIGHT


def test_a_night_of_polls_is_not_torn() -> None:
    """Many equal gaps are one scale, however long they are together."""
    assert scale(0, *(0.2 + 60 * number for number in range(500))).torn == []


def test_a_task_with_many_steps_is_drawn() -> None:
    """A place is looked up, not searched for from the beginning: else thousands of polls take as many squared."""
    found = Scale(range(BEGIN, BEGIN + 10_000))
    looked_at: list[int] = []

    class Counted(list[int]):
        def __getitem__(self, place: Any) -> Any:
            looked_at.append(place)
            return super().__getitem__(place)

    found.points = Counted(found.points)
    found.x(BEGIN + 9000)
    assert len(looked_at) < 50


@pytest.mark.parametrize("seconds", [(0,), (0, 0), (0, 86_400), (0, 0.001), (5, 3, 4)])
def test_any_set_of_times_can_be_drawn(seconds: tuple[float, ...]) -> None:
    """One moment, the same one twice, a day, a millisecond, out of order: every place is inside of the picture."""
    found = scale(*seconds)
    for at in (*seconds, -100, 1e6):
        assert LEFT <= found.x(BEGIN + round(at * 1000)) <= WIDTH - RIGHT
    assert all(LEFT <= x <= WIDTH for x, _ in found.ticks())


def test_ticks_behind_a_long_gap_differ() -> None:
    """Milliseconds count again after five seconds that were torn out: no three ticks all say 5.5 s."""
    labels = [label for _, label in scale(0, 0.02, 0.05, 5.51, 5.52, 5.56).ticks()]
    assert labels == ["0", "+20 ms", "+40 ms", "+5.52 s", "+5.54 s"]


def test_ticks_are_round_and_do_not_touch() -> None:
    """Lengths of time that people count in, with room for the words."""
    ticks = scale(0, 3, 7, 12).ticks()
    assert ticks[0][1] == "0"
    assert {label for _, label in ticks[1:]} <= {f"+{number}.0 s" for number in range(10)} | {"+10 s", "+11 s", "+12 s"}
    assert all(later[0] - earlier[0] >= 60 for earlier, later in pairwise(ticks))


@pytest.mark.parametrize("seconds", [0.05, 0.4, 3, 12, 45, 60, 100, 240, 600, 2000, 7200, 30_000, 90_000, 400_000, 2e6])
def test_the_scale_can_be_read_however_long_the_task_took(seconds: float) -> None:
    """There are round times for every length, from milliseconds to weeks."""
    ticks = scale(0, seconds / 3, seconds).ticks()
    assert 4 <= len(ticks) <= 10, ticks


def test_a_tick_leaves_room_for_the_length_of_a_torn_wait() -> None:
    """What stands at a tick does not run into what stands on the torn piece behind it."""
    found = scale(0, 0.6, 1.2, 1.8, 27)
    (torn,) = found.torn
    assert [label for _, label in found.ticks()][-1] == "+1.6 s"
    assert all(x + drawing.TICK_LABEL <= torn.x or x >= torn.x + torn.width for x, _ in found.ticks())


def test_what_is_under_way_is_drawn_until_now() -> None:
    """A live task grows to the right; a delivery that waits has a thread; a long name is cut, not in its title."""
    task = Task(
        "task_01kahx3mt5k0c4z7d6q8r9w2ve", "acct", "superapp", "text2image", TaskStatus.RUNNING, "{}", {}, None,
        BEGIN, BEGIN + 60_000, None,
    )  # fmt: skip
    delivery = Delivery(
        "dlv_1", "acct", "evt_1", EventType.TASK_RUNNING, "sub_1", task.id,
        "https://hooks.a-very-long-name.example/x", DeliveryStatus.PENDING, BEGIN + 2000, BEGIN + 3000,
    )  # fmt: skip
    state = Step(BEGIN + 1000, "state", {"from": "queued", "to": "running"})
    history = History(task, [Step(BEGIN, "created", {}), state], [], [], [delivery], [])
    picture = picture_of(history, lines_of(history, "https://gw.example"), BEGIN + 5000)
    states, waiting = picture.lanes
    assert [bar.title for bar in states.bars] == ["queued for 1.0 s", "running for 4.0 s"]
    assert states.bars[-1].x + states.bars[-1].width == pytest.approx(WIDTH - RIGHT, abs=0.2)
    assert [bar.tone for bar in waiting.bars] == ["thread"]
    assert waiting.label == "running → h…ame.example"
    assert "hooks.a-very-long-name.example" in waiting.title
    assert picture.height > waiting.y + drawing.LANE
