"""Waking sleepers in other processes of this machine, without a second of waiting.

Every listener owns a Unix datagram socket in one folder; ringing sends a byte to each. A lost
ring costs one look at the clock, never work: sleepers look by themselves every second.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import tempfile
import threading
from pathlib import Path

_LONGEST = 90  # a Unix socket's path has about 100 bytes on every system


class Bell:
    """Rings for all listeners that share ``place`` (any text: the database's URL)."""

    def __init__(self, place: str) -> None:
        """``place``: what listener and ringer have in common."""
        digest = hashlib.sha256(place.encode()).hexdigest()[:16]
        self.folder = Path(tempfile.gettempdir()) / f"receiver-{os.getuid()}-{digest}"
        if len(str(self.folder)) > _LONGEST - 30:
            self.folder = Path("/tmp") / self.folder.name  # noqa: S108  the folder is ours alone: mode 0700, owner checked

    def ring(self) -> None:
        """Wake every listener; never blocks, never raises."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for path in self.folder.glob("*.bell"):
                try:
                    sender.sendto(b"1", str(path))
                except ConnectionRefusedError:
                    path.unlink(missing_ok=True)  # its process is gone
                except OSError:
                    continue  # its buffer is full: it is awake anyway

    def listen(self) -> Listener:
        """A new listener of this process; close it at the end."""
        return Listener(self.folder)


class Listener:
    """One sleeper. ``wait`` ends early when the bell rings."""

    def __init__(self, folder: Path) -> None:
        """Binds a socket of its own; without one (odd file systems) it just sleeps."""
        self._socket: socket.socket | None = None
        self._path = folder / f"{os.getpid()}-{threading.get_ident()}-{id(self)}.bell"
        self._fallback = threading.Event()
        for _ in range(3):  # another listener's close may take the folder away between making and binding
            with contextlib.suppress(OSError):
                folder.mkdir(mode=0o700, exist_ok=True)
                if folder.stat().st_uid == os.getuid():
                    self._socket = self._bind()
                return

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
        if self._socket is None:
            self._fallback.wait(min(seconds, 0.25))
            return False
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        ready = poller.poll(max(seconds, 0) * 1000)
        with contextlib.suppress(OSError):
            while ready:
                self._socket.recv(16)
        return bool(ready)

    def close(self) -> None:
        """Give the socket back; the last listener takes the folder with it."""
        if self._socket is not None:
            self._socket.close()
            self._path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._path.parent.rmdir()
