"""Group commit: one run for all who wait, a result for each, and nobody forgotten."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from receiver.store.together import Together


def in_threads(together: Together[int, int], numbers: Sequence[int]) -> dict[int, int]:
    """What each of so many threads got, all asking at about the same time."""
    got: dict[int, int] = {}
    threads = [threading.Thread(target=lambda n=n: got.update({n: together.do(n)})) for n in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return got


def test_who_comes_while_it_runs_is_part_of_the_next_run() -> None:
    """The first goes alone; all who came meanwhile share the second run, and each gets its own result."""
    runs: list[list[int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def work(numbers: Sequence[int]) -> list[int]:
        runs.append(list(numbers))
        begun.set()
        assert go_on.wait(20)
        return [number * 10 for number in numbers]

    together = Together(work)
    got: dict[int, int] = {}
    first = threading.Thread(target=lambda: got.update(in_threads(together, [1])))
    first.start()
    assert begun.wait(20)
    others = threading.Thread(target=lambda: got.update(in_threads(together, range(2, 10))))
    others.start()
    while len(together._waiting) < 8:
        threading.Event().wait(0.001)
    go_on.set()
    first.join(20)
    others.join(20)
    assert got == {number: number * 10 for number in range(1, 10)}
    assert [sorted(run) for run in runs] == [[1], list(range(2, 10))]


def test_a_run_has_a_bound() -> None:
    """However many wait: no run is larger than told, and all get their turn."""
    largest: list[int] = []

    def work(numbers: Sequence[int]) -> list[int]:
        largest.append(len(numbers))
        threading.Event().wait(0.002)
        return list(numbers)

    assert in_threads(Together(work, most=3), range(20)) == {number: number for number in range(20)}
    assert max(largest) <= 3


def test_who_is_alone_waits_for_nobody() -> None:
    """Work that is done in the caller's own thread, at once."""
    seen: list[str] = []
    together: Together[int, str] = Together(lambda numbers: [threading.current_thread().name for _ in numbers])
    seen.append(together.do(1))
    assert seen == [threading.current_thread().name]
