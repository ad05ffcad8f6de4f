"""Which processes of this machine are certainly dead: each holds a lock, which the kernel frees however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

_KIND = ".life"


class Lifelines:
    """The locks of the processes that share a folder."""

    def __init__(self, folder: Path) -> None:
        """``folder``: that of the bell; made when it is missing, used only when it is ours."""
        self._folder = folder
        self._held: dict[str, int] = {}

    def hold(self, name: str) -> None:
        """Live under this name until ``let_go``, or the end of this process.

        ``name``: one that nobody else ever had. Where no file can be locked, nobody ever takes it for dead.
        """
        for _ in range(3):  # whoever stops meanwhile may take the folder away between making and opening
            with contextlib.suppress(OSError):
                self._folder.mkdir(mode=0o700, exist_ok=True)
                if self._folder.stat().st_uid == os.getuid():
                    path = self._path(name)
                    fresh = path.with_suffix(".fresh")
                    number = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    try:
                        fcntl.flock(number, fcntl.LOCK_EX)
                        fresh.rename(path)  # nobody sees it before it is locked
                    except OSError:
                        os.close(number)
                        fresh.unlink(missing_ok=True)
                        raise
                    self._held[name] = number
                return

    def let_go(self, name: str) -> None:
        """Live under this name no longer, and leave nothing behind; also after the death of another one."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()
        if name in self._held:
            os.close(self._held.pop(name))
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # unless others are there

    def dead(self) -> list[str]:
        """The names of those who have ended without letting go."""
        return [path.stem for path in self._folder.glob(f"*{_KIND}") if _is_free(path)]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_KIND}"


def _is_free(path: Path) -> bool:
    """Whether nobody holds the lock of this file, for certain."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
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
