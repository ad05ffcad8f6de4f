"""Waking each other over the database, where processes on several machines share one (LISTEN and NOTIFY)."""

from __future__ import annotations

import contextlib
import time

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from receiver.store import dialect
from receiver.store.database import Store

CHANNEL = "receiver"
AGAIN = 2.0
"""Seconds until a broken connection is tried again; meanwhile sleepers look by themselves."""


class Wire:
    """Words to all processes on the same PostgreSQL, and from them."""

    def __init__(self, store: Store) -> None:
        """``store``: on PostgreSQL; on SQLite nothing is ever sent or heard."""
        self._engine = dialect.bare(store.engine)

    @property
    def connected(self) -> bool:
        """Whether there can be anybody on another machine."""
        return self._engine is not None

    def send(self, word: str) -> None:
        """Say a word to whoever listens; lost without a sound when the database is away."""
        if self._engine is not None:
            with contextlib.suppress(SQLAlchemyError), self._engine.connect() as connection:
                dialect.notify(connection, CHANNEL, word)

    def ear(self) -> Ear:
        """One that listens, on a connection of its own; close it at the end."""
        return Ear(self)

    def _open(self) -> Connection | None:
        """A connection that listens, outside the pool; None when it would hear nothing."""
        if self._engine is None:
            return None
        connection = self._engine.connect()
        try:
            if dialect.listen(connection, CHANNEL):
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None


class Ear:
    """Hears the words of others; connects at the first question, and again when the connection breaks."""

    def __init__(self, wire: Wire) -> None:
        """``wire``: which opens the connections."""
        self._wire = wire
        self._connection: Connection | None = None
        self._next_try = 0.0
        self.missed = False
        """Whether ``words`` has to tell of what may have been missed: nobody who polls should sleep first."""

    def fileno(self) -> int | None:
        """What to poll for words; None while there is no connection."""
        if self._connection is None and time.monotonic() >= self._next_try:
            self._connect()
        if self._connection is None:
            return None
        return dialect.socket_of(self._connection)

    def words(self) -> list[str]:
        """What was said since the last question. An empty word stands for all that may have been missed."""
        said = [""] if self.missed else []
        self.missed = False
        if self._connection is None:
            return said
        heard = dialect.heard(self._connection)
        if heard is None:
            self.close()
            self._next_try = time.monotonic() + AGAIN
            return said
        return said + heard

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None

    def _connect(self) -> None:
        try:
            self._connection = self._wire._open()
        except SQLAlchemyError:
            self._next_try = time.monotonic() + AGAIN
        else:
            self.missed = self._connection is not None
            self._next_try = float("inf")  # behind a pooler for good; else ``words`` says when to try again
