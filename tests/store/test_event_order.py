"""The order of events: whoever reads them one after another misses none, however their transactions interleave."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, text

from receiver.models import Event, EventType, new_id
from receiver.store import events
from tests.core.stage import START, Stage
from tests.databases import on_postgresql


def add(connection: Connection, stage: Stage, now: int = START) -> str:
    """One more event of the account; its id."""
    event = Event(new_id("evt", now), stage.account, EventType.SUBSCRIBER_PING, now, "{}", None)
    events.add(connection, [event])
    connection.execute(text("SELECT 1"))  # with which it goes out, and takes its place
    return event.id


def behind(stage: Stage, seq: int) -> list[Event]:
    """What a reader gets who has read up to a place."""
    return list(stage.runtime.feed.behind(stage.account, seq, (), 100)[0])


@on_postgresql
def test_a_reader_waits_for_places_that_are_still_open(stage: Stage) -> None:
    """A later place is committed before an earlier one: the reader sees neither until both are there, then both."""
    with stage.runtime.store.write() as slow:
        early = add(slow, stage)
        with stage.runtime.store.write() as fast:
            late = add(fast, stage)
        assert behind(stage, 0) == []
        assert stage.runtime.feed.newest(stage.account) is None
        newest_first = stage.runtime.feed.list_page(stage.account, (), 10, None)
        assert not newest_first.items, "who goes on behind the newest of these must miss none"
    seen = behind(stage, 0)
    assert [event.id for event in seen] == [early, late]
    newest = stage.runtime.feed.newest(stage.account)
    assert newest is not None
    assert newest.id == seen[-1].id


@on_postgresql
def test_what_was_there_before_is_read_meanwhile(stage: Stage) -> None:
    """A transaction that is slow to commit holds back only what came after it began to write events."""
    with stage.runtime.store.write() as connection:
        first = add(connection, stage)
    with stage.runtime.store.write() as slow:
        add(slow, stage)
        assert [event.id for event in behind(stage, 0)] == [first]


@on_postgresql
def test_a_writer_that_gave_up_holds_back_nobody(stage: Stage) -> None:
    """Its place stays empty, and readers go on behind it."""

    def fail() -> None:
        with stage.runtime.store.write() as connection:
            add(connection, stage)
            raise KeyError

    try:
        fail()
    except KeyError:
        with stage.runtime.store.write() as connection:
            late = add(connection, stage)
    assert [event.id for event in behind(stage, 0)] == [late]


def test_a_reader_beside_many_writers_misses_nothing(build: Callable[..., Stage]) -> None:
    """Eight writers of several events a transaction, a reader that always goes on from the last place it saw."""
    stages = [build(), build()]
    reader = stages[0]
    written: list[list[str]] = [[] for _ in range(8)]
    done = threading.Event()

    def write(number: int) -> None:
        for _ in range(15):
            with stages[number % 2].runtime.store.write() as connection:
                written[number] += [add(connection, stages[0]) for _ in range(1 + number % 3)]

    seen: list[Any] = []

    def read() -> None:
        last_round = False
        while not last_round:
            last_round = done.is_set()
            seen.extend(behind(reader, seen[-1].seq if seen else 0))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    reading = threading.Thread(target=read)
    for thread in (reading, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reading.join()
    ids = [event.id for event in seen]
    assert len(ids) == len(set(ids))
    assert set(ids) == {event for each in written for event in each}
