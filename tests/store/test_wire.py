"""Waking each other over PostgreSQL: machines that share nothing but the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver import bell
from receiver.bell import BREATH, Bell, Listener
from receiver.metrics import CONNECTIONS
from receiver.store import Store, wire
from receiver.store.wire import Wire
from tests import postgres


class Machine:
    """A process on a machine of its own: its bells' sockets reach nobody else."""

    def __init__(self, url: str, folder: Path) -> None:
        self.store = Store(url, pool=2)
        self.bell = Bell(f"{folder}", Wire(self.store))

    def listen(self) -> Listener:
        """A listener that is connected."""
        listener = self.bell.listen()
        assert listener.wait(5), "whatever was missed before it listened counts as a ring"
        return listener

    def close(self) -> None:
        """Give everything back."""
        self.bell.close()
        self.store.close()


@pytest.fixture
def url() -> Iterator[str]:
    """A database."""
    with postgres.fresh_database() as fresh:
        yield fresh


@pytest.fixture
def machines(url: str, tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines on one database."""
    both = Machine(url, tmp_path / "one"), Machine(url, tmp_path / "two")
    yield both
    for machine in both:
        machine.close()


def test_who_listens_holds_none_of_the_pools_connections(machines: tuple[Machine, Machine]) -> None:
    """The gauge of connections in use counts what the pool has lent out, however often a listener connects."""
    before = CONNECTIONS._value.get()  # type: ignore[attr-defined]
    listener = machines[0].listen()
    assert CONNECTIONS._value.get() == before  # type: ignore[attr-defined]
    listener.close()
    assert CONNECTIONS._value.get() == before  # type: ignore[attr-defined]


def until_rung(listener: Listener, seconds: float = 20.0) -> None:
    """Wait for a ring."""
    deadline = time.monotonic() + seconds
    while not listener.wait(0.2):
        assert time.monotonic() < deadline, "nobody rang"


def test_a_ring_reaches_the_other_machine(machines: tuple[Machine, Machine]) -> None:
    """The worker there is awake in milliseconds; here it wakes once, not again when the word comes back."""
    one, two = machines
    here, there = one.listen(), two.listen()
    one.bell.ring()
    assert there.wait(5)
    assert here.wait(5)
    assert not here.wait(0.3)
    here.close()
    there.close()


def test_many_rings_are_few_messages(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever rings waits for no database, and a thousand rings a second cost the database a few messages."""
    one, two = machines
    there = two.listen()
    sent: list[float] = []
    monkeypatch.setattr(Wire, "send", lambda *_: sent.append(time.monotonic()))
    began = time.monotonic()
    while time.monotonic() < began + 0.3:
        one.bell.ring()
    time.sleep(5 * BREATH)
    assert 1 <= len(sent) <= 0.4 / BREATH
    assert max(sent) > began + 0.2, "the last ring is sent too"
    there.close()


def test_alone_nothing_is_sent_until_another_machine_joins(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that listen here were rung without the database; whoever joins is rung within a few looks for company."""
    monkeypatch.setattr(bell, "ALONE", 0.2)
    sent: list[str] = []
    send = Wire.send

    def noted(of: Wire, word: str) -> None:
        sent.append(word)
        send(of, word)

    monkeypatch.setattr(Wire, "send", noted)
    one, two = machines
    here = one.listen()
    for _ in range(4):
        one.bell.ring()
        assert here.wait(5)
        time.sleep(0.1)
    assert sent == []
    there = two.listen()
    deadline = time.monotonic() + 20
    while not there.wait(0.02):
        assert time.monotonic() < deadline, "nobody rang"
        one.bell.ring()
    assert sent
    here.close()
    there.close()


def test_an_ear_comes_back_by_itself(
    machines: tuple[Machine, Machine], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fail-over it connects again, and what was missed meanwhile counts as one ring."""
    monkeypatch.setattr(wire, "AGAIN", 0.2)
    one, two = machines
    there = two.listen()
    assert postgres.shared().disconnect(url) >= 1
    until_rung(there)
    one.bell.ring()
    one.bell.ring()
    until_rung(there)
    there.close()


def test_without_its_database_a_bell_still_rings_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away at the start: the machine's own rings work, and none raises."""
    monkeypatch.setattr(wire, "AGAIN", 0.05)
    alone = Machine("postgresql://nobody@127.0.0.1:1/nowhere", tmp_path)
    listener = alone.bell.listen()
    alone.bell.ring()
    assert listener.wait(5)
    assert not listener.wait(0.2)
    listener.close()
    alone.close()
    alone.bell.ring()
    assert not any(thread.name == "ringer" for thread in threading.enumerate())
