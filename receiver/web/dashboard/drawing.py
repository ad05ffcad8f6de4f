"""The timeline of a task as a picture: where each step lies, to scale, in pixels of an SVG of a fixed width.

Long waits would leave no room for what happens in milliseconds. A gap between two steps that is longer than three
times all shorter ones together is drawn as a short torn piece with its true length written on it; all else is to one
scale. So a schedule of retries is torn where it grows, and a night of even polls is not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

from receiver.models import Delivery
from receiver.tasks import History
from receiver.web.dashboard.exchanges import Line
from receiver.web.dashboard.formatting import duration

WIDTH = 1000
LEFT, RIGHT = 176, 14
LANE, TOP, BOTTOM = 30, 26, 8
TORN = 54
"""Pixels of a long wait."""
JUMP = 3
SHORTEST_TORN = 2000
"""ms; below, the scale is fine enough as it is."""
TICK_ROOM = 80
TICK_LABEL = 40
"""Pixels that the time at a tick takes, to its right."""


@dataclass(frozen=True)
class Bar:
    """A stretch of time in a lane. ``tone``: its colour. ``line``: the step that it shows, None for a wait."""

    x: float
    width: float
    tone: str
    title: str
    line: int | None = None


@dataclass(frozen=True)
class Dot:
    """A moment in a lane."""

    x: float
    tone: str
    title: str
    line: int


@dataclass(frozen=True)
class Lane:
    """One row of the picture."""

    y: int
    label: str
    title: str
    bars: tuple[Bar, ...]
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Torn:
    """A long wait that is not drawn to scale."""

    x: float
    width: float
    label: str


@dataclass(frozen=True)
class Picture:
    """All of it. ``ticks``: (x, label)."""

    width: int
    height: int
    left: int
    lanes: tuple[Lane, ...]
    torn: tuple[Torn, ...]
    ticks: tuple[tuple[float, str], ...]


class Scale:
    """From times (ms) to pixels: straight pieces, with long gaps torn."""

    def __init__(self, times: Sequence[int]) -> None:
        """``times``: of all that is drawn, at least one."""
        self.points = sorted(set(times))
        if len(self.points) == 1:
            self.points.append(self.points[0] + 1)
        gaps = [later - earlier for earlier, later in pairwise(self.points)]
        longest = _longest_to_scale(gaps)
        torn = [gap > longest for gap in gaps]
        room = WIDTH - LEFT - RIGHT - TORN * sum(torn)
        whole = sum(gap for gap, cut in zip(gaps, torn, strict=True) if not cut)
        self.per_ms = room / whole if whole else 0.0
        self.torn: list[Torn] = []
        self.places = [float(LEFT)]
        for gap, cut in zip(gaps, torn, strict=True):
            width = TORN if cut else gap * self.per_ms
            if cut:
                self.torn.append(Torn(self.places[-1], width, duration(gap)))
            self.places.append(self.places[-1] + width)

    def x(self, at: int) -> float:
        """The pixel of a time; one outside of what is drawn becomes the nearest edge."""
        if at <= self.points[0]:
            return self.places[0]
        if at > self.points[-1]:
            return round(self.places[-1], 1)
        place = bisect_left(self.points, at)
        before, after = self.points[place - 1], self.points[place]
        share = (at - before) / (after - before)
        return round(self.places[place - 1] + share * (self.places[place] - self.places[place - 1]), 1)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Round times since the beginning, where there is room for them and the scale holds."""
        if not self.per_ms:
            return ()
        step = _round_up(TICK_ROOM / self.per_ms)
        begin, end = self.points[0], self.points[-1]
        found: list[tuple[float, str]] = []
        free = 0.0
        for number in range(min(int((end - begin) / step), 2000) + 1):
            at = round(begin + number * step)
            place = self.x(at)
            label = TICK_LABEL if number else 0
            hidden = any(piece.x - label < place < piece.x + piece.width for piece in self.torn)
            if not hidden and place >= free and place <= WIDTH - RIGHT - 30:
                found.append((place, "0" if number == 0 else f"+{_since(number * step, step)}"))
                free = place + TICK_ROOM * 0.8
        return tuple(found)


def _since(ms: float, step: float) -> str:
    """A time as exact as neighbouring ones must be to differ by ``step``."""
    if ms < 1000 or step >= 1000:
        return duration(ms)
    return f"{ms / 1000:.{1 if step >= 100 else 2 if step >= 10 else 3}f} s"


def _longest_to_scale(gaps: Sequence[int]) -> int:
    """The longest gap that is still drawn to scale."""
    shorter = sum(gaps)
    for gap in sorted(gaps, reverse=True):
        shorter -= gap
        if gap < SHORTEST_TORN or gap <= JUMP * shorter or not shorter:
            return gap
    return 0  # there are no gaps at all


def _round_up(ms: float) -> float:
    """The next round length of time, as people count it."""
    steps = [factor * 10**power for power in range(3) for factor in (1, 2, 5)]
    steps += [factor * unit for unit in (1000, 60_000) for factor in (1, 2, 5, 10, 15, 30)]
    steps += [factor * 3_600_000 for factor in (1, 2, 3, 6, 12)]
    steps += [factor * 86_400_000 for factor in (1, 2, 5, 10, 30)]
    return next((step for step in sorted(steps) if step >= ms), ms)


def picture_of(history: History, lines: Sequence[Line], now: int) -> Picture:
    """The timeline of a task. ``now``: until where what is still under way is drawn."""
    task = history.task
    waiting = [each for each in history.deliveries if each.finished_at is None]
    times = [line.step.at for line in lines] + [task.created_at]
    times += [attempt.started_at for attempt in history.attempts]
    if not task.status.final or waiting:
        times.append(max(now, *times))
    scale = Scale(times)
    lanes: list[tuple[str, str, tuple[Bar, ...], tuple[Dot, ...]]] = []
    lanes.append(("Task", task.operation, _states(history, lines, scale, now), ()))
    for label, kind in (("Handed over", "submit"), ("Callbacks", "notice"), ("Queries", "poll")):
        dots = tuple(
            Dot(scale.x(line.step.at), line.tone, line.text, line.number) for line in lines if line.step.kind == kind
        )
        if dots:
            lanes.append((label, label, (), dots))
    for delivery in history.deliveries:
        host = urlsplit(delivery.url).netloc
        label = f"{delivery.event_type.removeprefix('task.')} → {host}"
        lanes.append(
            (label, f"{delivery.event_type} to {delivery.url}", _attempts(delivery, history, lines, scale, now), ())
        )
    drawn = tuple(
        Lane(TOP + number * LANE, _cut(label), title, tuple(bars), dots)
        for number, (label, title, bars, dots) in enumerate(lanes)
    )
    return Picture(WIDTH, TOP + LANE * len(drawn) + BOTTOM, LEFT, drawn, tuple(scale.torn), scale.ticks())


_STATE_TONES = {"queued": "wait", "submitting": "busy", "running": "busy"}


def _states(history: History, lines: Sequence[Line], scale: Scale, now: int) -> tuple[Bar, ...]:
    """How long the task was in each state."""
    changes = [(line.step.at, str(line.step.detail["to"]), line.number) for line in lines if line.step.kind == "state"]
    at, state, number = history.task.created_at, "queued", 0
    bars = []
    for until, then, line in [*changes, (now, "", 0)]:
        if state in _STATE_TONES:
            bars.append(_bar(scale, at, until, _STATE_TONES[state], f"{state} for {duration(until - at)}", number))
        at, state, number = until, then, line
    return tuple(bars)


def _attempts(delivery: Delivery, history: History, lines: Sequence[Line], scale: Scale, now: int) -> tuple[Bar, ...]:
    """A delivery's waits, thin, and its attempts on top of them."""
    end = delivery.finished_at or now
    bars = [
        _bar(
            scale, delivery.created_at, end, "thread", f"{delivery.status} after {duration(end - delivery.created_at)}"
        )
    ]
    of_delivery = {
        line.step.detail["number"]: line
        for line in lines
        if line.step.kind == "attempt" and line.step.detail["delivery"] == delivery.id
    }
    for attempt in history.attempts:
        if attempt.delivery_id == delivery.id:
            line = of_delivery[attempt.number]
            title = f"{line.text}, {duration(attempt.duration_ms)}"
            ended = attempt.started_at + attempt.duration_ms
            bars.append(_bar(scale, attempt.started_at, ended, line.tone, title, line.number))
    return tuple(bars)


def _bar(scale: Scale, start: int, end: int, tone: str, title: str, line: int | None = None) -> Bar:
    x = scale.x(start)
    return Bar(x, round(max(scale.x(end) - x, 3.0), 1), tone, title, line)


def _cut(label: str) -> str:
    """Both ends of a long label: addresses often differ in their last part only."""
    return label if len(label) <= 23 else f"{label[:11]}…{label[-11:]}"
