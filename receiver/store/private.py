"""The file of a local database, and its folder, for nobody but their owner: tasks and results are in there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any


def make_folder(folder: Path | None) -> None:
    """Make a folder, unless it is there: then it stays as it is. None: the database is not a file."""
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the mode is that of the last one


def make_file(_: Any, __: Any, where: list[str], options: dict[str, Any]) -> None:
    """Make the file that SQLite is about to open, if it is not there; SQLite gives those beside it the same mode.

    Called by SQLAlchemy (``do_connect``). What cannot be made, SQLite says in its own words.
    """
    if not options.get("uri"):
        with contextlib.suppress(OSError):
            os.close(os.open(where[0], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
