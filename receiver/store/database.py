"""Transactions: ``read()`` sees one moment, ``write()`` commits all or nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, OperationalError

from receiver.errors import Busy
from receiver.store import dialect

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATING = threading.Lock()  # Alembic keeps its state in the process


class Store:
    """The database of one process."""

    def __init__(self, url: str) -> None:
        """``url``: an SQLAlchemy URL of SQLite or PostgreSQL."""
        self.url = url
        self.engine = dialect.open_engine(url)
        self._writer = self.engine.execution_options(writes=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises Busy when the database cannot be reached."""
        try:
            with self.engine.connect() as connection, connection.begin():
                yield connection
        except OperationalError as error:
            raise Busy(f"the database does not answer ({_reason(error)})") from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write, committed at the end of the block. Raises Busy: nothing was stored."""
        try:
            with self._writer.connect() as connection, connection.begin():
                yield connection
        except OperationalError as error:
            raise Busy(f"the database takes no writes now ({_reason(error)})") from error

    def migrate(self) -> None:
        """Bring the schema up to this version of the code. Others that migrate the same database wait.

        Raises Busy when the database cannot be reached or written.
        """
        try:
            with _MIGRATING, self._writer.connect() as connection:
                config = self._config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
        except OperationalError as error:
            raise Busy(f"the database cannot be migrated now ({_reason(error)})") from error

    def schema_is_current(self) -> bool:
        """Whether the database's schema is the one this code was written for."""
        with self.read() as connection:
            present = MigrationContext.configure(connection).get_current_revision()
        return present == ScriptDirectory.from_config(self._config()).get_current_head()

    def ping(self) -> None:
        """Raise Busy unless the database answers."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _config(self) -> Config:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        return config


def _reason(error: OperationalError) -> str:
    return str(error.orig).splitlines()[0] if error.orig else "unknown"


__all__ = ["IntegrityError", "Store"]
