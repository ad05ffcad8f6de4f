"""The bell: sleepers wake at once, and a lost ring harms nobody."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import pytest

from receiver.bell import DELIVER, Bell, Listener, query_lane


@pytest.fixture
def bell(tmp_path: Path) -> Bell:
    """A bell of this test alone."""
    return Bell(f"sqlite:///{tmp_path}/x.db")


def test_a_ring_wakes_all_listeners_of_the_same_place(bell: Bell, tmp_path: Path) -> None:
    """However many there are; those of another place sleep on."""
    listeners = [bell.listen() for _ in range(3)]
    stranger = Bell("elsewhere" + str(tmp_path)).listen()
    bell.ring()
    assert [listener.wait(5) for listener in listeners] == [True] * 3
    assert not stranger.wait(0)
    assert not listeners[0].wait(0), "one ring wakes once"
    for listener in (*listeners, stranger):
        listener.close()


def test_a_ring_before_the_sleep_is_not_lost(bell: Bell) -> None:
    """Whoever looks, finds nothing and goes to sleep is woken by what came in between."""
    listener = bell.listen()
    for _ in range(5000):
        bell.ring()
    assert listener.wait(5)
    assert not listener.wait(0), "many rings are one"
    listener.close()


def test_another_process_can_ring(bell: Bell, tmp_path: Path) -> None:
    """The web wakes the worker, which would have slept on for a minute."""
    listener = bell.listen()
    rang: list[bool] = []
    thread = threading.Thread(target=lambda: rang.append(listener.wait(60)))
    thread.start()
    code = f"from receiver.bell import Bell; Bell('sqlite:///{tmp_path}/x.db').ring()"
    subprocess.run([sys.executable, "-c", code], check=True)
    thread.join(30)
    assert rang == [True]
    listener.close()


def test_listeners_that_died_are_cleared_away(bell: Bell) -> None:
    """A process that was killed leaves its socket behind; the next ring removes it and wakes the others."""
    dead, alive = bell.listen(), bell.listen()
    assert dead._socket is not None
    dead._socket.close()
    bell.ring()
    assert alive.wait(5)
    assert len(list(bell.folder.glob("*.bell"))) == 1
    alive.close()
    assert list(bell.folder.glob("*.bell")) == []
    bell.ring()


def test_a_place_that_is_no_text_is_a_place() -> None:
    """A database in a folder whose name is not UTF-8 has a bell like any other."""
    latin, text = Bell("/caf\udce9/receiver.db"), Bell("/café/receiver.db")
    assert latin.folder != text.folder
    assert latin.folder == Bell("/caf\udce9/receiver.db").folder


def test_without_a_socket_it_just_sleeps(tmp_path: Path) -> None:
    """On a file system without sockets, or in a folder of somebody else, waiting is only looking again soon."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    listener = Listener(blocked / "below")
    assert not listener.wait(0.01)
    listener.close()


def test_who_found_no_socket_is_not_deaf_for_good(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made while no file could be opened, it hears from the first wait on at which one can; what rang may be missed."""
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", mock.Mock(side_effect=OSError(24, "Too many open files")))
        listener = bell.listen()
        assert not listener.wait(0)
    bell.ring(DELIVER)
    assert listener.wait(0)
    assert listener.lanes() == {"1"}
    assert not listener.wait(0)
    bell.ring(DELIVER)
    assert listener.wait(5)
    assert listener.lanes() == {"deliver"}
    listener.close()


def test_the_folder_is_ours_alone(bell: Bell) -> None:
    """Nobody else on the machine can listen or ring."""
    listener = bell.listen()
    assert bell.folder.stat().st_mode & 0o777 == 0o700
    listener.close()


def test_the_last_listener_leaves_nothing_behind(tmp_path: Path) -> None:
    """Listeners come and go, and no folder of theirs piles up."""
    bell = Bell(f"sqlite:///{tmp_path}/x.db")
    first, second = bell.listen(), bell.listen()
    first.close()
    bell.ring()
    assert second.wait(2)
    second.close()
    assert not bell.folder.exists()
    third = bell.listen()
    bell.ring()
    assert third.wait(2)
    third.close()


def test_a_ring_says_which_lanes_have_work() -> None:
    """Rings of one sleep add up; one that names nobody, as older versions ring, means every lane."""
    bell = Bell("test: lanes")
    listener = bell.listen()
    try:
        bell.ring(DELIVER)
        bell.ring(query_lane("toy"), DELIVER)
        assert listener.wait(5)
        assert listener.lanes() == {"deliver", "query-toy"}
        assert listener.lanes() == set()
        bell.ring()
        assert listener.wait(5)
        assert listener.lanes() == {"1"}
    finally:
        listener.close()


def test_another_machine_hears_which_lanes_have_work() -> None:
    """The word on the wire begins with who rings; one without names, of an older version, means every lane."""
    wire = _Said()
    bell = Bell("test: far lanes", wire)
    try:
        bell.ring(DELIVER)
        (word,) = wire.sent.get(timeout=5).split()[1:]
        assert word == "deliver"
        listener = bell.listen()
        for said, lanes in (("far deliver submit-toy", {"deliver", "submit-toy"}), ("far", {"1"}), ("", {"1"})):
            wire.heard = [said]
            assert listener.wait(0)
            assert listener.lanes() == lanes
        listener.close()
    finally:
        bell.close()


def test_no_failure_ends_the_ringing_on_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring never raises; no thread that could not be started, and no failure of one ring, costs the later ones."""
    wire = _Said()
    bell = Bell("test: failures", wire)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", mock.Mock(side_effect=RuntimeError("can't start new thread")))
            bell.ring(DELIVER)
        with monkeypatch.context() as patch:
            asked = threading.Event()
            patch.setattr(wire, "send", lambda _: asked.set() or 1 / 0)
            bell.ring(DELIVER)
            assert asked.wait(5)
        bell.ring("later")
        assert wire.sent.get(timeout=5).endswith(" later")
    finally:
        bell.close()


class _Said:
    """A wire, and its ear: what was sent, and what is to be heard."""

    connected = True
    missed = False

    def __init__(self) -> None:
        self.sent: queue.Queue[str] = queue.Queue()
        self.heard: list[str] = []

    def send(self, word: str) -> None:
        self.sent.put(word)

    def heard_beyond(self, _: str) -> bool:
        return True

    def ear(self, _: str) -> _Said:
        return self

    def fileno(self) -> None:
        return None

    def words(self) -> list[str]:
        heard, self.heard = self.heard, []
        return heard

    def close(self) -> None:
        """Nothing to give back."""
