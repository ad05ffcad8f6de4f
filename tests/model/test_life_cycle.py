"""The life of tasks and deliveries under everything that can happen at once.

Two runtimes with clocks apart work on one database. Each claim, call and write is a step of its own, so that
anything may come between them: time, another worker, a callback, a cancel. After every step all promises are checked.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from handlers import RemoteStatus
from receiver import models
from tests.databases import Template, empty
from tests.model.acts import Acts
from tests.model.promises import Promises
from tests.model.providers import KINDS, Asked, Submitted
from tests.model.world import World, make_template

CI = settings(
    max_examples=80,
    stateful_step_count=80,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=[Phase.generate],
)
PROFILES = {
    "ci": CI,
    "shrink": settings(CI, phases=[Phase.generate, Phase.shrink]),
    "long": settings(CI, max_examples=5000, stateful_step_count=150, derandomize=False),
}
"""By ``HYPOTHESIS_PROFILE``. ``ci``: the same runs each time. ``shrink``: the same, and of a failing one the shortest
form, which takes minutes. ``long``: many new runs."""

sides = st.sampled_from([0, 1])
pick = st.integers(0, 9)
rooms = st.integers(1, 4)
submitted = st.sampled_from([Submitted.TAKEN, Submitted.TAKEN, *Submitted])
asked = st.sampled_from([Asked.TOLD, Asked.TOLD, *Asked])
answers = st.sampled_from([200, 200, 500, None, 429, 503, 302, 410])
deadlines = st.sampled_from([None, None, None, 1.0, 45.0])
ends = st.sampled_from([RemoteStatus.SUCCEEDED, RemoteStatus.SUCCEEDED, RemoteStatus.FAILED, RemoteStatus.CANCELED])


def act(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """A method of Acts with its arguments."""
    return st.tuples(st.just(name), *arguments)


DAILY = (
    act("turn", pick, submitted, asked, answers),
    act("create", pick, st.sampled_from([None, None, "a", "b"]), st.booleans(), st.booleans(), deadlines),
    act("claim_submits", pick, rooms),
    act("call_submit", pick, submitted),
    act("claim_queries", pick, rooms),
    act("call_query", pick, asked),
    act("claim_deliveries", rooms),
    act("attempt", pick, answers),
    act("write", pick, st.booleans()),
    act("turn", pick, st.just(Submitted.TAKEN), st.just(Asked.TOLD), st.just(200)),
    act("finish", pick, ends),
    act("notify", pick, st.booleans()),
    act("wait", st.sampled_from([None, None, 100, 1_000, 6_000, 31_000, 120_000, 700_000])),
)
RARE = (
    act("progress", pick, st.sampled_from([0.1, 0.5, 0.9])),
    act("notify_again", pick),
    act("cancel", pick),
    act("die", pick),
    act("bury", st.booleans()),
    act("hit_limit", pick),
    act("end_overdue"),
    act("forge", pick, ends),
    act("subscribe", st.booleans()),
    act("switch", pick, st.booleans()),
    act("readdress", pick),
    act("narrow", pick, st.booleans(), st.sampled_from([None, None, 0])),
    act("pace", pick, st.sampled_from([None, 0.5, 20.0])),
    act("rotate", pick, st.sampled_from([0, 60, 86_400])),
    act("unsubscribe", pick),
    act("replay", pick, st.sampled_from(["dead", "all"])),
    act("ping", pick),
    act("retry", pick),
    act("wait", st.sampled_from([700_000, 700_000, 3_700_000, 90_000_000])),
    act("sweep", st.sampled_from([0, 0, 0, 31])),
)
happenings = st.one_of(*DAILY * 3, *RARE)


class SeededIds(random.Random):
    """Where ids are drawn from here, so that a run can be repeated."""

    token_bytes = random.Random.randbytes


IDS = SeededIds()


class LifeCycle(RuleBasedStateMachine):
    """One run. There is one rule on purpose: of several, Hypothesis would leave about half out of each run."""

    folder: Path
    template: Template
    runs = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        IDS.seed(0)
        self.place = self.folder / f"run{next(self.runs)}"
        self.place.mkdir()

    @initialize(
        skew=st.sampled_from([0, 1_000, 29_000, 300_000]),
        webhooks=st.lists(st.booleans(), min_size=1, max_size=2),
        tasks=st.lists(st.integers(0, len(KINDS) - 1), min_size=1, max_size=4),
    )
    def begin(self, skew: int, webhooks: list[bool], tasks: list[int]) -> None:
        """Two workers whose clocks are up to five minutes apart, some webhooks, some tasks."""
        self.world = World(self.place, self.template, skew)
        self.promises = Promises(self.world)
        self.acts = Acts(self.world)
        for every in webhooks:
            self.acts.subscribe(self.world.sides[0], every)
        for kind in tasks:
            self.acts.create(self.world.sides[0], kind, None, kind % 2 == 0, False)

    @rule(side=sides, does=happenings)
    def happens(self, side: int, does: tuple[Any, ...]) -> None:
        """Somebody does something, on one of the two sides."""
        name, *arguments = does
        getattr(self.acts, name)(self.world.sides[side], *arguments)

    @invariant()
    def promises_hold(self) -> None:
        """Everything that must hold at any time."""
        self.promises.check(pinged=self.acts.pinged)
        self.acts.pinged = None

    def teardown(self) -> None:
        """Late results are written, one worker stays, everybody behaves, and time runs on to the end."""
        if not hasattr(self, "acts"):
            return
        try:
            self._come_to_rest()
            self.promises.check_rest()
            for n in range(len(self.world.subscribers)):  # what was given up gets the whole schedule once more
                self.acts.replay(self.world.sides[0], n, "dead")
            self._come_to_rest()
            self.promises.check_rest()
        finally:
            self.world.close()

    def _come_to_rest(self) -> None:
        world = self.world
        world.write([hand for hand in world.hands if hand.called])
        world.hands.clear()
        self.promises.check()
        for provider in world.providers:  # some jobs never end, so that their tasks expire
            for place, job in enumerate(provider.jobs):
                if place % 3 and not job.status.final:
                    job.status = RemoteStatus.SUCCEEDED if place % 3 == 1 else RemoteStatus.FAILED
        runtime = world.sides[0]
        for book in world.subscribers:
            if not book.deleted:
                runtime.subscribers.change(world.account, book.id, {"disabled": False})
        pause = 1
        for _ in range(2000):
            self._work_off()
            next_look = world.next_look(runtime)
            if next_look is None:
                # A callback URL that answered 410 keeps its backlog until somebody tries it again by hand.
                kept = world.ledger.rows("SELECT id FROM deliveries WHERE status = 'pending'")
                if not kept:
                    return
                for row in kept:
                    runtime.deliveries.retry(world.account, row["id"])
                continue
            pause = 1 if next_look > world.now else pause * 2  # as a lane does when a cap keeps it from what is due
            world.now = max(world.now + pause, next_look)
        left = world.ledger.rows("SELECT provider, status, due_at, submits, polls FROM tasks WHERE due_at IS NOT NULL")
        raise AssertionError(f"it never comes to rest: at {world.now} {left} {world.ledger.waiting()}")

    def _work_off(self) -> None:
        runtime = self.world.sides[0]
        for n in range(len(self.world.providers)):
            self.acts.turn(runtime, n, Submitted.TAKEN, Asked.TOLD, lambda url: 500 if url.endswith("hook-1") else 200)
        self.promises.check()


@pytest.fixture
def template(database: str, tmp_path: Path) -> Iterator[Template]:
    """A database to copy, while ids come from the seeded source."""
    with empty(database, tmp_path) as url:
        made = make_template(url)
        with mock.patch.object(models, "secrets", IDS):
            yield made


def test_life_cycle(database: str, template: Template, tmp_path: Path) -> None:
    """Whatever happens in whatever order: bought once, one end, one final event, everything delivered or listed."""
    LifeCycle.folder, LifeCycle.template = tmp_path, template
    chosen = PROFILES.get(os.environ.get("HYPOTHESIS_PROFILE", "ci"), CI)
    if database == "postgresql":  # where every step takes several times as long
        chosen = settings(chosen, max_examples=chosen.max_examples // 10)
    run_state_machine_as_test(LifeCycle, settings=chosen)
