"""Slots of a rate that all workers share."""

from __future__ import annotations

from receiver.store import pacing
from tests.core.stage import Stage


def test_slots_are_shared_by_name(stage: Stage) -> None:
    """One row per name: a second caller goes on where the first ended, another name is free."""
    now = stage.clock()
    with stage.runtime.store.write() as connection:

        def reserve(name: str, wanted: int) -> tuple[list[int], int]:
            return pacing.reserve(connection, name, pacing.take_turn(connection, name), 10, now, 250, wanted)

        assert reserve("a", 2) == ([now, now + 100], now + 200)
        assert reserve("a", 9) == ([now + 200], now + 300)
        assert reserve("b", 1) == ([now], now + 100)
        pacing.postpone(connection, "a", now + 5000)
        pacing.postpone(connection, "a", now + 1000)
        assert pacing.next_free(connection, "a", now, 10) == now + 5000, "a pause is never shortened"
        assert reserve("a", 9) == ([], now + 5000)
        assert pacing.next_free(connection, "never used", now, 10) == 0
