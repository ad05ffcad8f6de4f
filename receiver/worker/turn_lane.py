"""A lane that writes results and the next claims together, one transaction for all that came meanwhile."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from receiver import logs
from receiver.errors import Busy
from receiver.worker.lane import Rounds, persist

MOST_AT_ONCE = 100
"""Results in one transaction at most: others want to write, too."""
GATHERING = 0.001
"""Seconds that results wait for others in flight, so that they are written together."""

log = logs.get("worker")

C = TypeVar("C")
E = TypeVar("E")


class TurnLane(Rounds, Generic[C, E]):
    """Claims pieces of work (``C``) and stores how they ended (``E``). A seat is taken from the one to the other."""

    def __init__(self, name: str, seats: int, clock: Callable[[], int]) -> None:
        """As for Rounds."""
        super().__init__(name, seats, clock)
        self._ended: deque[E] = deque()  # those who do the work add, this lane's thread takes
        self._due: int | None = None
        self._known = False  # whether that was told just now, and need not be asked for
        self._rung = False  # whether the bell rang since the last round
        self._doubted = False  # whether a ring may have been lost since then

    @abstractmethod
    def turn(self, ended: Sequence[E], free: int) -> tuple[Sequence[C], int | None]:
        """One transaction: store ``ended``, and claim for up to ``free`` seats; also when (ms) to look again.

        Raises Busy; then nothing was stored.
        """

    @abstractmethod
    def first_due(self) -> int | None:
        """When (ms) something can be claimed, as the database says; None when nothing waits."""

    @abstractmethod
    def begin(self, claimed: Sequence[C]) -> None:
        """Have it done; how each ends is added to ``_ended``, and the lane woken."""

    @abstractmethod
    def close(self) -> None:
        """Give back what those who do the work need, once all is stored."""

    @abstractmethod
    def together(self, ended: Sequence[E]) -> int:
        """How many of these (at least one), from the first, one transaction should store. Raises Busy.

        Fewer than all where very many subscribers are to be told of them: others want to write in between.
        """

    def stored(self, ended: Sequence[E]) -> None:
        """Told of what was stored."""

    def wake(self) -> None:
        """The bell has rung: perhaps something has become due."""
        self._rung = True
        super().wake()

    def look_again(self) -> None:
        """Look now, should a ring of the bell have been lost: what the last turn has told is not enough."""
        self._doubted = True
        super().look_again()

    def make_round(self) -> bool:
        """Store what has ended and begin what is due."""
        self._gather()
        ended = self._some_ended()
        free = 0 if self._stopping.is_set() else self.seats - self._taken + len(ended)
        if self._rung:
            self._rung = False
            self._heard()
        if self._doubted:
            self._doubted = self._known = False
        if not ended and not (free and self._something_is_due()):
            return False
        claimed = self._take_turn(ended, free)
        self._taken += len(claimed) - len(ended)
        self.begin(claimed)
        return bool(ended or claimed)

    def next_look(self) -> int | None:
        """When something can be claimed, as far as the last look could tell."""
        return self._due

    def _some_ended(self) -> Sequence[E]:
        """Results for one transaction."""
        some = [self._ended.popleft() for _ in range(min(len(self._ended), MOST_AT_ONCE))]
        fit = 0
        try:
            fit = self.together(some) if len(some) > 1 else len(some)
        finally:
            self._ended.extendleft(reversed(some[fit:]))
        return some[:fit]

    def _gather(self) -> None:
        """Let results wait for more, while others are in flight."""
        if self._taken > len(self._ended) > 0:
            time.sleep(GATHERING)

    def _heard(self) -> None:
        """What is known of the next work after a ring: nothing, so that the database is asked."""
        self._known = False

    def _over(self) -> bool:
        return self._stopping.is_set() and self._taken == 0

    def _run(self) -> None:
        try:
            super()._run()
        finally:
            self.close()

    def _something_is_due(self) -> bool:
        """Whether anything is: by what the last turn told, else by the database, without taking the writer's turn."""
        if not self._known:
            self._due = self.first_due()
        self._known = False
        return self._due is not None and self._due <= self.clock()

    def _take_turn(self, ended: Sequence[E], free: int) -> Sequence[C]:
        """A turn. Raises Busy; then what has ended is there for the next round."""
        try:
            claimed, due = self.turn(ended, free)
        except Busy:
            self._ended.extendleft(reversed(ended))
            raise
        except Exception:
            if not ended:
                raise
            self._store_one_by_one(ended)
            return ()
        if ended:
            self._tell(ended)
        self._due, self._known = due, True
        return claimed

    def _store_one_by_one(self, ended: Sequence[E]) -> None:
        """Store each by itself: one that cannot be stored must not cause the others to be done again."""
        for one in ended:
            try:
                persist(partial(self.turn, [one], 0), self._stopping)
            except Exception:
                log.exception("a result could not be stored; its lease hands the work over", lane=self.name)
            else:
                self._tell([one])

    def _tell(self, ended: Sequence[E]) -> None:
        try:
            self.stored(ended)
        except Exception:  # what only logs and counts may fail: seats are freed, and what is claimed begins
            log.exception("what was stored could not be told", lane=self.name)
