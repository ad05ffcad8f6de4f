"""One transaction begun in the midst of another one, on PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from tests import postgres
from tests.core.stage import Stage

T = TypeVar("T")


def nothing(_: Connection) -> None:
    """Do no more."""


def overtaken(
    stage: Stage,
    first: Callable[[Connection], object],
    second: Callable[[], T],
    then: Callable[[Connection], object] = nothing,
) -> T:
    """Begin ``second`` when ``first`` is written and not committed; once it waits, do ``then``, and commit.

    What ``second`` gives. AssertionError when it does not wait, Busy when the two are in a deadlock.
    """
    with ThreadPoolExecutor(1) as pool:
        with stage.runtime.store.write() as connection:
            first(connection)
            other = pool.submit(second)
            while not waiting(stage):
                assert not other.done(), f"it did not wait: {other.result()}"
                time.sleep(0.005)
            then(connection)
        return other.result(20)


def waiting(stage: Stage) -> bool:
    """Whether a session on the database waits for another one's lock."""
    url = stage.settings.database_url
    query = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{postgres.name_of(url)}' AND wait_event_type = 'Lock'"
    return bool(postgres.shared().execute(query))
