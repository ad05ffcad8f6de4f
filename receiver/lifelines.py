"""Who of this machine is dead for certain: each process holds a lock, which the kernel takes back however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class Lifelines:
    """The locks of the processes that share a folder."""

    def __init__(self, folder: Path) -> None:
        """``folder``: that of the bell; made when it is missing, used only when it is ours."""
        self._folder = folder
        self._held: dict[str, int] = {}

    def hold(self, name: str) -> None:
        """Live under this name until ``let_go``, or the end of this process.

        Where no file can be locked nothing is held, and nobody ever takes this name for dead.
        """
        for _ in range(3):  # whoever stops meanwhile may take the folder away between making and opening
            with contextlib.suppress(OSError):
                self._folder.mkdir(mode=0o700, exist_ok=True)
                if self._folder.stat().st_uid == os.getuid():
                    number = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    self._held[name] = number
                    fcntl.flock(number, fcntl.LOCK_EX)
                return

    def let_go(self, name: str) -> None:
        """Live under this name no longer, and leave nothing behind; also after the death of another one."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()
        if name in self._held:
            os.close(self._held.pop(name))
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # unless others are there

    def is_dead(self, name: str) -> bool:
        """Whether the process that held this name has ended. False for one of another machine."""
        try:
            number = os.open(self._path(name), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(number)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.life"
