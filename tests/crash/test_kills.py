"""Kills in the midst of everything: nothing acknowledged is lost, nothing is bought or ended twice.

``RECEIVER_CRASH_KILLS`` sets how often (20 in everyday runs: each kind at least once), half of them on each of the
two databases; ``RECEIVER_CRASH_SEED`` repeats the dice of a run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from receiver.submissions import LATE_ANSWER
from tests import postgres
from tests.crash.checker import Checker, await_rest
from tests.crash.load import DEADLINE, Callers, Hook
from tests.crash.plant import Group, Plant, until
from tests.databases import empty

pytestmark = pytest.mark.process

KILLS = int(os.environ.get("RECEIVER_CRASH_KILLS", "20"))
SEED = int(os.environ.get("RECEIVER_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)

WEB_POINTS = ("task.created", "notice.kept", "event.added")
WORKER_POINTS = (
    "submit.claimed",
    "submit.answered",
    "query.claimed",
    "query.answered",
    "deliver.claimed",
    "deliver.answered",
    "deliver.stored",
    "event.added",
)
PATIENCE = 20.0
"""Seconds in which a process under this load comes by any of its points."""


class Season:
    """Web and worker of a plant, killed one time after the other. They always run, but for moments."""

    def __init__(self, plant: Plant, hook: Hook, dice: random.Random) -> None:
        """``hook``: the subscriber that kills the worker between a request and its answer."""
        self._plant = plant
        self._hook = hook
        self._dice = dice
        self._web = plant.start("web")
        self._worker = plant.start("worker")
        self.log: list[str] = []

    def run(self, kills: int) -> None:
        """Every labelled point in turn, in any order, and random moments between them."""
        for number, kind in zip(range(kills), self._kinds(), strict=False):
            began = time.monotonic()
            kind()
            self.log[-1] += f" after {time.monotonic() - began:.1f} s"
            print(f"kill {number + 1}: {self.log[-1]}")  # noqa: T201  what happened when, for whom a run fails

    def _kinds(self) -> Iterator[Callable[[], None]]:
        kinds: list[Callable[[], None]] = [self._at_web_point(label) for label in WEB_POINTS]
        kinds += [self._at_worker_point(label) for label in WORKER_POINTS]
        kinds += [self._worker_by_subscriber, self._web_anytime, self._worker_anytime, self._everything_anytime]
        self._dice.shuffle(kinds)
        if isinstance(
            self._plant.database, str
        ):  # in the other order than on SQLite: few kills are each kind once, too
            kinds = [self._sessions_anytime, *reversed(kinds)]
        return cycle(kinds)

    def _at_web_point(self, label: str) -> Callable[[], None]:
        def kill() -> None:
            self._web.kill()
            fault = f"{label}:{self._dice.randint(1, 3)}"
            self._web = self._plant.start("web", fault=fault)
            served = until(self._web.children, PATIENCE, "the web serves nothing")
            # gunicorn would serve on with another process: the whole group is to go down, as with a machine
            until(lambda: not served & self._web.children(), PATIENCE, f"nobody came by {label}:\n{self._web.tail()}")
            self._web.kill()
            self._web = self._plant.start("web")
            self.log.append(f"web at {fault}")

        return kill

    def _at_worker_point(self, label: str) -> Callable[[], None]:
        def kill() -> None:
            self._worker.kill()
            fault = f"{label}:{self._dice.randint(1, 3)}"
            self._worker = self._plant.start("worker", fault=fault)
            died = until(
                lambda: self._worker.popen.poll() is not None,
                PATIENCE,
                f"nobody came by {label}:\n{self._worker.tail()}",
            )
            assert died
            self._worker = self._plant.start("worker")
            self.log.append(f"worker at {fault}")

        return kill

    def _worker_by_subscriber(self) -> None:
        self._hook.set_trap(self._worker.kill)
        assert self._hook.sprung.wait(PATIENCE), f"nothing was delivered:\n{self._worker.tail()}"
        self._worker = self._plant.start("worker")
        self.log.append("worker between a request and its answer")

    def _web_anytime(self) -> None:
        self._web = self._restart(self._web)
        self.log.append("web at any moment")

    def _worker_anytime(self) -> None:
        self._worker = self._restart(self._worker)
        self.log.append("worker at any moment")

    def _everything_anytime(self) -> None:
        time.sleep(self._dice.uniform(0.5, 2))
        self._web.kill()
        self._worker.kill()
        self._web, self._worker = self._plant.start("web"), self._plant.start("worker")
        self.log.append("everything at any moment")

    def _sessions_anytime(self) -> None:
        time.sleep(self._dice.uniform(0.5, 2))
        assert isinstance(self._plant.database, str)
        database = self._plant.database
        # Those who were started just now may have none yet.
        count = until(
            lambda: postgres.shared().disconnect(database, "receiver@%"), PATIENCE, "web and worker had no session"
        )
        self.log.append(f"{count} sessions of the database at any moment")

    def _restart(self, group: Group) -> Group:
        time.sleep(self._dice.uniform(0.5, 2))
        group.kill()
        return self._plant.start(group.name)


def test_kills(database: str, tmp_path: Path) -> None:
    """Whatever is killed whenever: one start for each key, one end for each task, told to everybody at least once."""
    print(f"RECEIVER_CRASH_SEED={SEED} RECEIVER_CRASH_KILLS={KILLS}")  # noqa: T201  shown when the test fails
    dice = random.Random(SEED)
    hooks = [Hook(SEED, flaky=False), Hook(SEED + 1, flaky=True)]
    with empty(database, tmp_path) as url:
        plant = Plant(tmp_path, RECEIVER_DATABASE_URL=url, TOPVIEW_CONFIRM_NOTICES="false")
        try:
            season = Season(plant, hooks[1], dice)
            plant.await_web()
            for hook in hooks:
                hook.secret = plant.subscribe(hook.url)
            callers = Callers(plant, SEED)
            try:
                season.run((KILLS + 1) // 2)
            finally:
                callers.stop()
            plant.await_web()
            await_rest(plant, DEADLINE + LATE_ANSWER / 1000 + 20)
            print(Checker(plant, callers.orders, hooks).check())  # noqa: T201  how much was compared
        finally:
            plant.close()
            for hook in hooks:
                hook.subscriber.close()
