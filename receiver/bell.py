"""Waking sleepers in other processes, without a second of waiting.

On one machine every listener owns a Unix datagram socket in one folder; ringing sends a byte to each. Where
machines share a database, its wire carries one more message to the others, from a thread of its own and at most
every few milliseconds; while no other machine listens, that thread sleeps. A lost ring costs one look at the clock,
never work: sleepers ask every second whether anything was written.

A ring says which lanes of the workers there is work for, so that the others sleep on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from receiver import logs

_ANY = "1"  # a word that is no lane's name means every lane, so that versions with other lanes get along
_LONGEST = 90  # a Unix socket's path has about 100 bytes on every system


DELIVER = "deliver"
"""The lane that sends deliveries."""

BREATH = 0.005
"""Seconds between two messages to other machines: rings that come in between become one."""
ALONE = 2.0
"""Seconds without a message to other machines once none listens; one that joins is told of nothing for so long."""

log = logs.get("bell")


def submit_lane(provider: str) -> str:
    """The lane that hands tasks over to a provider."""
    return f"submit-{provider}"


def query_lane(provider: str) -> str:
    """The lane that asks a provider about tasks."""
    return f"query-{provider}"


class Ear(Protocol):
    """Hears what came over a wire."""

    missed: bool
    """Whether something may have been missed, of which ``words`` tells: to be asked before any sleep."""

    def fileno(self) -> int | None:
        """What to poll; None while there is nothing to hear with."""

    def words(self) -> Sequence[str]:
        """What was said since the last question; an empty word stands for any that may have been missed."""

    def close(self) -> None:
        """Give back what it holds."""


class Wire(Protocol):
    """Carries words between the machines that share a database."""

    @property
    def connected(self) -> bool:
        """Whether there can be another machine."""

    def send(self, word: str) -> None:
        """Say a word to all; never raises."""

    def heard_beyond(self, place: str) -> bool:
        """Whether there is an ear at another place; True as well when nobody can tell. Never raises."""

    def ear(self, place: str) -> Ear:
        """A new ear at a place; close it at the end."""


class Bell:
    """Rings for all listeners that share ``place`` (any text: the database's URL)."""

    def __init__(self, place: str, wire: Wire | None = None) -> None:
        """``place``: what listener and ringer have in common. ``wire``: to other machines, if there can be any."""
        digest = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16]  # a path may be no text
        self.folder = Path(tempfile.gettempdir()) / f"receiver-{os.getuid()}-{digest}"
        if len(str(self.folder)) > _LONGEST - 30:
            self.folder = Path("/tmp") / self.folder.name  # noqa: S108  the folder is ours alone: mode 0700, owner checked
        self._wire = wire if wire is not None and wire.connected else None
        self._ringer = None if self._wire is None else _Ringer(self._wire, _here(self.folder))
        self.closed = False

    def ring(self, *lanes: str) -> None:
        """Wake every listener, and tell it for which lanes there is work (none named: perhaps for any).

        Never blocks, never raises.
        """
        if self._ringer is not None:
            self._ringer.ring(lanes)
        said = " ".join(lanes or (_ANY,)).encode()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            with os.scandir(self.folder) as found:
                for entry in found:
                    if entry.name.endswith(".bell"):
                        _send(sender, said, entry.path)

    def listen(self) -> Listener:
        """A new listener of this process; close it at the end."""
        return Listener(self.folder, None if self._wire is None else self._wire.ear(_here(self.folder)))

    def close(self) -> None:
        """Send nothing more to other machines. Who still listens sees it by ``closed``, and need not any more."""
        self.closed = True
        if self._ringer is not None:
            self._ringer.close()


def _send(sender: socket.socket, said: bytes, path: str) -> None:
    try:
        sender.sendto(said, path)
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)  # its process is gone
    except OSError:
        pass  # its buffer is full: it is awake anyway


def _here(folder: Path) -> str:
    """A name for all whom a socket in this folder reaches: one kernel, one file system."""
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        kernel = os.uname().nodename  # other systems than Linux
    place = folder.parent.stat()
    return hashlib.sha256(f"{kernel} {place.st_dev} {place.st_ino} {folder.name}".encode()).hexdigest()[:16]


class _Ringer:
    """Rings on other machines, so that whoever rings here waits for no database."""

    def __init__(self, wire: Wire, place: str) -> None:
        self._wire = wire
        self._place = place
        self._asked = self._alone_until = float("-inf")
        self._lanes: set[str] = set()  # for which there is work
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._closed = False
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self, lanes: Sequence[str]) -> None:
        if time.monotonic() < self._alone_until:
            return
        with self._lock:
            self._lanes.update(lanes or (_ANY,))
        self._wanted.set()
        if self._thread is None:
            with self._starting, contextlib.suppress(RuntimeError):  # too many threads: the next ring tries again
                if self._thread is None and not self._closed:
                    thread = threading.Thread(target=self._run, name="ringer", daemon=True)
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._closed:
                return
            self._wanted.clear()
            try:
                self._send()
            except Exception:  # one ring is lost; all later ones depend on this thread
                log.exception("other machines could not be told")
            time.sleep(BREATH)

    def _send(self) -> None:
        with self._lock:
            lanes, self._lanes = self._lanes, set()
        if lanes and not self._is_alone():
            self._wire.send(" ".join((self._place, *sorted(lanes))))

    def _is_alone(self) -> bool:
        """Whether nobody listens elsewhere; asked now and then."""
        now = time.monotonic()
        if now >= self._asked + ALONE:
            self._asked = now
            if not self._wire.heard_beyond(self._place):
                self._alone_until = now + ALONE
        return now < self._alone_until

    def close(self) -> None:
        with self._starting:
            self._closed = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(5)


class Listener:
    """One sleeper. ``wait`` ends early when the bell rings."""

    def __init__(self, folder: Path, ear: Ear | None = None) -> None:
        """Binds a socket of its own; while there is none (odd file systems, too many open files) it just sleeps.

        ``ear``: for other machines.
        """
        self._ear = ear
        self._here = "" if ear is None else _here(folder)
        self._path = folder / f"{os.getpid()}-{threading.get_ident()}-{id(self)}.bell"
        self._fallback = threading.Event()
        self._lanes: set[str] = set()
        self._socket = self._place()

    def _place(self) -> socket.socket | None:
        """A socket in the folder, which is made where it is missing; None where there can be none."""
        folder = self._path.parent
        for _ in range(3):  # another listener's close may take the folder away between making and binding
            with contextlib.suppress(OSError):
                folder.mkdir(mode=0o700, exist_ok=True)
                return self._bind() if folder.stat().st_uid == os.getuid() else None
        return None

    def _bind(self) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listening.setblocking(False)
            listening.bind(str(self._path))
        except OSError:
            listening.close()
            raise
        return listening

    def wait(self, seconds: float) -> bool:
        """Sleep until the bell rings or the time is over; whether it rang."""
        end = time.monotonic() + max(seconds, 0)
        if self._socket is None:
            self._socket = self._place()
            if self._socket is not None:
                self._lanes.add(_ANY)
                return True  # perhaps, while there was none
        while True:
            left = max(end - time.monotonic(), 0)
            if self._wait_once(left):
                return True
            if left == 0 or self._socket is None:
                return False

    def lanes(self) -> set[str]:
        """For which lanes the bell has rung since the last question; a name that no lane has stands for all."""
        lanes, self._lanes = self._lanes, set()
        return lanes

    def _wait_once(self, seconds: float) -> bool:
        """Sleep until there is anything to hear; whether it was a ring."""
        far = None if self._ear is None else self._ear.fileno()
        if self._socket is None and far is None:
            self._fallback.wait(min(seconds, 0.25))
            return False
        poller = select.poll()
        for heard in (self._socket, far):
            if heard is not None:
                poller.register(heard, select.POLLIN)
        if self._ear is not None and self._ear.missed:
            seconds = 0  # it can hear only from now on: what was missed does not show in a poll
        ready = {number for number, _ in poller.poll(seconds * 1000)}
        said: list[str] = []
        if self._ear is not None:
            places = (word.partition(" ") for word in self._ear.words())
            said += [lanes or _ANY for place, _, lanes in places if place != self._here]  # ours have rung here already
        if self._socket is not None and self._socket.fileno() in ready:
            with contextlib.suppress(OSError):
                while True:
                    said.append(self._socket.recv(4096).decode("ascii", "replace"))
        for lanes in said:
            self._lanes.update(lanes.split() or (_ANY,))
        return bool(said)

    def close(self) -> None:
        """Give the socket back; the last listener takes the folder with it."""
        if self._ear is not None:
            self._ear.close()
        if self._socket is not None:
            self._socket.close()
            self._path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._path.parent.rmdir()
