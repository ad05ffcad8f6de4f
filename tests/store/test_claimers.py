"""Many who claim at once: what one has taken no other gets, nothing is left lying, and nobody waits for anybody."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from receiver.errors import Busy
from tests.core.stage import HOOK, Stage

CLAIMERS = 6


def at_once(build: Callable[..., Stage], claim: Callable[[Stage], Sequence[str]]) -> list[list[str]]:
    """What each of several claimers got, on two processes, claiming until there is nothing more."""
    stages = [build(), build()]
    start = threading.Barrier(CLAIMERS)
    got: list[list[str]] = [[] for _ in range(CLAIMERS)]
    troubles: list[Busy] = []

    def run(number: int) -> None:
        start.wait()
        empty = 0
        while empty < 3:  # another one may hold for a moment what is left
            try:
                found = claim(stages[number % 2])
            except Busy as trouble:
                troubles.append(trouble)
                return
            got[number] += found
            empty = 0 if found else empty + 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CLAIMERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == [], "a deadlock, or a lock that was waited for"
    return got


def test_tasks_are_claimed_once(build: Callable[..., Stage]) -> None:
    """Forty tasks, six claimers: every task has one taker."""
    stage = build()
    tasks = [stage.create().id for _ in range(40)]
    got = at_once(build, lambda one: [start.task.id for start in one.claim(5)])
    taken = Counter(task for each in got for task in each)
    assert taken == Counter(tasks)


def test_deliveries_are_claimed_once_over_many_subscribers(build: Callable[..., Stage]) -> None:
    """Claims lock rows of several subscribers at a time, in whatever order: none twice, none lost, no dead end."""
    stage = build()
    subscribers = [stage.subscribe(f"{HOOK}/{number}", "subscriber.ping") for number in range(8)]
    sent = [stage.ping(subscriber).id for subscriber in subscribers for _ in range(6)]
    got = at_once(build, lambda one: [claim.delivery.id for claim in one.attempt(room=5)])
    taken = Counter(delivery for each in got for delivery in each)
    assert taken == Counter(sent)
    assert {stage.delivery(delivery).status for delivery in sent} == {"delivered"}
