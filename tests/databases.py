"""The two databases that every test of the store runs on: an SQLite file, and a database on a real PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import postgres

KINDS = ("sqlite", "postgresql")

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For a test of what only SQLite does."""
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
"""For a test of what only PostgreSQL does."""


@pytest.fixture(scope="session", params=KINDS)
def database(request: pytest.FixtureRequest) -> str:
    """Which of the two; whatever depends on it runs on both."""
    return str(request.param)


@contextmanager
def empty(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a database without a schema. An SQLite file lies in ``folder``."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/receiver.db"
    else:
        with postgres.fresh_database() as url:
            yield url


def place_of(url: str) -> Path | str:
    """What a driver connects to: the path of an SQLite file, or the URL of a PostgreSQL database as it is."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else url


@dataclass(frozen=True)
class Template:
    """A prepared database, to which nobody is connected."""

    url: str

    @contextmanager
    def copy(self, folder: Path) -> Iterator[str]:
        """The URL of a copy. An SQLite file lies in ``folder``, as ``receiver.db``."""
        if self.url.startswith("sqlite"):
            shutil.copy(self.url.removeprefix("sqlite:///"), folder / "receiver.db")
            yield f"sqlite:///{folder}/receiver.db"
        else:
            with postgres.fresh_database(postgres.name_of(self.url)) as url:
                yield url
