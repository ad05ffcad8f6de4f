"""Where a database is, as its URL says; nothing is opened but a file, to see whose it is."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

_SQLITE = b"SQLite format 3\0"  # what its files begin with


def database_file(url: str) -> Path | None:
    """The absolute path of a SQLite file, or None for any other database."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    path = Path(parsed.database)
    return path.resolve().parent / path.name


def is_in_use(url: str) -> bool:
    """Whether it is a SQLite file, and something has been written to it."""
    file = database_file(url)
    return file is not None and file.is_file() and file.stat().st_size > 0 and not is_foreign(file)


def is_foreign(file: Path) -> bool:
    """Whether a file is there that SQLite did not make (source: SQLite's page on its file format, section 1.3)."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(_SQLITE)) not in (b"", _SQLITE)
    except OSError:
        return False  # not there, or not ours to read: others tell that better


def database_folder(url: str) -> Path | None:
    """The folder of a SQLite file, or None for any other database."""
    file = database_file(url)
    return None if file is None else file.parent


def place_of(url: str) -> str:
    """What all processes that share a database call it: the absolute path of a SQLite file, else the URL."""
    file = database_file(url)
    return url if file is None else str(file)


def password_of(url: str) -> str:
    """The password in a database URL; empty when there is none."""
    return str(make_url(url).password or "")
