"""Places where a process can be told to die at once: for the tests of crashes, and for nothing else.

``RECEIVER_FAULT_POINT=deliver.answered:3`` makes the process kill itself with SIGKILL when it comes by that
place for the third time (without a number: for the first). A kill at a place that is hard to hit by chance can
thus be repeated at will; nothing is closed, flushed or rolled back, as when the machine loses power.

Unset, which is how the service runs, a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping

VARIABLE = "RECEIVER_FAULT_POINT"

POINTS: Mapping[str, str] = {
    "task.created": "a task is committed; neither are the workers woken nor the caller answered",
    "notice.kept": "a provider's notice is committed; neither are the workers woken nor the provider answered",
    "submit.claimed": "a task is claimed for its submission; the provider was not called",
    "submit.answered": "the provider has answered a submission; its answer is not stored",
    "query.claimed": "tasks are claimed for a query; the provider was not called",
    "query.answered": "the provider has answered a query; its answer is not stored",
    "event.added": "in the midst of a transaction: an event is written, its deliveries are not",
    "deliver.claimed": "a delivery is claimed; the subscriber was not called",
    "deliver.answered": "the subscriber has answered; the attempt is not stored",
    "deliver.stored": "some attempts are stored; others of the same event may be under way or still to come",
    "sweep.purged": "in the transaction of a sweep that purges tasks: they are, other things are not",
    "migrate.step": "in the midst of a migration's transaction: a step is applied, and not committed",
}
"""Every point, and what has happened there and what has not."""


class FaultPoint:
    """The one point at which this process dies."""

    def __init__(self, text: str) -> None:
        """``text``: ``label`` or ``label:N`` with N from 1. Raises ValueError for anything else."""
        self.label, _, times = text.partition(":")
        if self.label not in POINTS:
            raise ValueError(f"{VARIABLE} names no fault point: {text!r}; there are {', '.join(POINTS)}")
        if times and not (times.isdecimal() and int(times) > 0):
            raise ValueError(f"{VARIABLE} must be LABEL or LABEL:N with N from 1, not {text!r}")
        self._left = int(times or 1)
        self._lock = threading.Lock()

    def pass_by(self, label: str) -> None:
        """Die, if this is the point and the time."""
        if label != self.label:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


_CHOSEN = FaultPoint(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def reached(label: str) -> None:
    """The process has come to this point (one of POINTS)."""
    if _CHOSEN is not None:
        _CHOSEN.pass_by(label)
