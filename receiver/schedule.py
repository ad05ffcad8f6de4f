"""The only place that decides how long to wait: delays, jitter, Retry-After. Pure; the clock is passed in.

Times and delays are milliseconds; schedules, like the settings, are seconds. ``chance``: a number in [0, 1) for jitter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

JITTER = 0.1
"""The most that chance adds to a wait, as a part of it."""
DAY = 86_400_000
"""Milliseconds; what a Retry-After can ask for, at most."""
SUBMIT_BACKOFF = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds between submissions that certainly started nothing."""
CIRCUIT_AFTER = 5
"""So many failures of a subscriber in a row open its circuit."""
CIRCUIT_PAUSES = (10.0, 30.0, 60.0, 300.0)
"""Seconds for which a subscriber gets nothing then, and after each further failure."""
SLOW_DOWN = 10.0
"""Seconds of pause for a subscriber that answers 429 and does not say how long."""
LIMIT_PAUSE = 5.0
"""Seconds that a delivery waits whose attempt could not be made, at a limit of our own machine."""


def delay(schedule: Sequence[float], step: int, chance: float) -> int:
    """The wait at a step (0-based) of a schedule in seconds; the last entry repeats; jitter only adds."""
    seconds = schedule[min(step, len(schedule) - 1)]
    return round(seconds * 1000 * (1 + JITTER * chance))


def attempt_delay(schedule: Sequence[float], failed: int, chance: float) -> int | None:
    """The wait after the n-th failed attempt (1-based) of a delivery, or None when the schedule is used up."""
    if failed > len(schedule):
        return None
    return delay(schedule, failed - 1, chance)


def submit_delay(failed: int, asked: float | None, chance: float) -> int:
    """The wait after the n-th (1-based) submission that certainly started nothing; never less than ``asked`` s."""
    own = delay(SUBMIT_BACKOFF, max(failed - 1, 0), chance)
    return max(own, round((asked or 0) * 1000))


def limit_pause(chance: float) -> int:
    """The wait of a delivery whose attempt could not be made, at a limit of our own machine."""
    return delay((LIMIT_PAUSE,), 0, chance)


def circuit_pause(failures: int, chance: float) -> int | None:
    """The pause of a whole subscriber after so many consecutive failures, or None while the circuit is closed."""
    if failures < CIRCUIT_AFTER:
        return None
    return delay(CIRCUIT_PAUSES, failures - CIRCUIT_AFTER, chance)


def retry_after(value: str | None, now: int) -> int | None:
    """What a Retry-After header asks for, as a delay of 0 ms to one day; None for nonsense.

    Takes seconds, also with decimals (rounded up), and the three date forms of RFC 9110.
    """
    if value is None:
        return None
    text = value.strip()
    try:
        seconds = float(text) if text.isascii() else math.nan
        wait = math.ceil(seconds) * 1000 if math.isfinite(seconds) else None
    except ValueError:
        wait = _until(text, now)
    if wait is None or wait < 0:
        return None if wait is None else 0
    return min(wait, DAY)


def _until(text: str, now: int) -> int | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000) - now


def slots(next_free: int, now: int, rate: float, horizon: int, wanted: int) -> tuple[list[int], int]:
    """Reserve up to ``wanted`` starting times at ``rate`` per second, none later than ``now + horizon`` ms.

    Returns the starting times and the new ``next_free``. Slots are evenly spaced and never saved
    up, so that no second ever sees more than ``rate`` (+1) starts, however many workers share them.
    """
    interval = 1000 / rate
    start = float(max(next_free, now))
    times: list[int] = []
    while len(times) < wanted and start <= now + horizon:
        times.append(math.ceil(start))
        start += interval
    return times, math.ceil(start) if times else next_free
