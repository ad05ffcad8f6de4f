"""The lane query: one for each provider; answers and the next claims are written together."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from handlers import HandlerError, Rejected, TaskUpdate, Unavailable, calls_made
from receiver import logs, watching
from receiver.bell import query_lane
from receiver.faultpoints import reached
from receiver.models import Task
from receiver.polling import AHEAD, HORIZON, Answer
from receiver.runtime import Runtime
from receiver.worker.crew import Crew
from receiver.worker.turn_lane import GATHERING, TurnLane

LEAST_SEATS = 8
MOST_SEATS = 150
"""As many connections as a handler keeps to its provider (``handlers/_http.py``)."""
LONG_ANSWER = 2.0
"""Seconds that a provider may take to answer while its rate is still used in full, as far as there are seats."""
LEISURE = AHEAD / 1000
"""Seconds that answers wait for others when nobody waits for them (the tasks still run). Where a rate is used up, that
is until slots are reserved again: one transaction does both."""

log = logs.get("worker")

Batch = tuple[int, Sequence[Task]]
"""Tasks to ask about in one call, with its starting time (ms)."""


class QueryLane(TurnLane[Batch, Answer]):
    """Asks one provider after its running tasks, in batches. A seat is a call, until its answer is stored."""

    def __init__(self, runtime: Runtime, provider: str) -> None:
        """``provider``: a configured one."""
        self._handler = runtime.providers.get(provider)
        enough = math.ceil(self._handler.pace.query_rate * (LONG_ANSWER + HORIZON / 1000))
        super().__init__(query_lane(provider), min(max(enough, LEAST_SEATS), MOST_SEATS), runtime.clock)
        self._service = runtime.polling
        self._provider = provider
        self._crew = Crew(self.name, self.seats)
        self._pressing = threading.Event()  # the next turn should not wait for more answers
        self._logged: set[str] = set()
        self._logged_lock = threading.Lock()

    def wake(self) -> None:
        """The bell has rung: perhaps something has become due."""
        self._pressing.set()
        super().wake()

    def stop(self) -> None:
        """Claim nothing more; what has a seat goes on, and its answer is stored."""
        super().stop()
        self._pressing.set()

    def turn(self, ended: Sequence[Answer], free: int) -> tuple[Sequence[Batch], int | None]:
        """The provider's answers, and the next batches. Raises Busy."""
        turn = self._service.turn(self._provider, ended, free)
        return turn.batches, turn.next_look

    def together(self, ended: Sequence[Answer]) -> int:
        """How many answers one transaction should write. Raises Busy."""
        return self._service.together(ended)

    def first_due(self) -> int | None:
        """When the next running task is to be asked about."""
        return self._service.next_look(self._provider)

    def begin(self, claimed: Sequence[Batch]) -> None:
        """Ask about each batch at its time."""
        now = self.clock()
        try:
            self._crew.give([((at - now) / 1000, partial(self._ask, batch)) for at, batch in claimed])
        except RuntimeError:
            log.exception("no thread for calls", lane=self.name)
            self._ended.extend(Answer(batch, {}, "internal error") for _, batch in claimed)
            self._wake.set()

    def close(self) -> None:
        """End the threads."""
        self._crew.close()

    def _gather(self) -> None:
        """Let answers wait for more, while calls are in flight and nothing else is to be done."""
        if 0 < len(self._ended) < self._taken < self.seats:
            ahead = LEISURE if self._due is None else (self._due - self.clock()) / 1000
            if self._pressing.wait(min(max(ahead, 0), LEISURE)):
                time.sleep(GATHERING)
        self._pressing.clear()

    def _ask(self, batch: Sequence[Task]) -> None:
        """Make a call; in a thread of the crew."""
        reached("query.claimed")
        began, before = self.clock(), calls_made()
        answer, news = Answer(batch, {}, "internal error"), False
        try:
            outcome, answer = self._query(batch)
            answer = replace(answer, calls=calls_made() - before)
            news = any(update.status.final for update in answer.updates.values())
            watching.provider_called(
                self._provider, "query", outcome, batch, began, self.clock(), news=news, why=answer.failed
            )
            reached("query.answered")
        finally:  # whatever fails: the seat is free again
            self._ended.append(answer)
            if news or answer.failed is not None or len(self._ended) >= self._taken:
                self._pressing.set()
            self._wake.set()

    def _query(self, batch: Sequence[Task]) -> tuple[str, Answer]:
        """Make the call; its outcome in a word, and what to write."""
        try:
            updates = self._handler.query([self._service.remote(task) for task in batch])
            for update in updates.values():
                self._note_unknown(update)
            return "answered", Answer(batch, updates)
        except Unavailable as error:
            return "unavailable", Answer(batch, {}, str(error), error.retry_after or 0.0)
        except Rejected as error:
            log.warning("query refused", provider=self._provider, code=error.error.code, why=error.error.message)
            return "rejected", Answer(batch, {}, error.error.message)
        except HandlerError as error:
            return "failed", Answer(batch, {}, str(error))
        except Exception:
            log.exception("asking failed", provider=self._provider)
            return "failed", Answer(batch, {}, "internal error")

    def _note_unknown(self, update: TaskUpdate) -> None:
        """An unknown status word is logged once: it means still running, and a handler to be brought up to date."""
        word = update.unknown_status
        if word is None:
            return
        with self._logged_lock:
            if word in self._logged or len(self._logged) >= 100:
                return
            self._logged.add(word)
        log.warning("unknown status word", provider=self._provider, word=word)
