"""Waking each other over the database, where processes on several machines share one (LISTEN and NOTIFY).

Whoever listens holds a shared lock that bears the number of its machine, so that others can see whether anybody
hears them.
"""

from __future__ import annotations

import contextlib
import time
import zlib

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from receiver.store import dialect
from receiver.store.database import Store
from receiver.store.direct import session_of

CHANNEL = "receiver"
AGAIN = 2.0
"""Seconds until a broken connection is tried again; meanwhile sleepers look by themselves."""
_PRESENT = 0x7265_6376  # "recv"; the first half of the locks of those who listen, the second is their place
_SAY = text("SELECT pg_notify(:channel, :word)")
_HERE = text("SELECT pg_advisory_lock_shared(:present, :place)")
_ELSEWHERE = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid = :present"
    " AND objid <> :place AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)


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
                connection.execute(_SAY, {"channel": CHANNEL, "word": word})

    def heard_beyond(self, place: str) -> bool:
        """Whether anybody listens at another place than this; True as well when nobody can tell."""
        if self._engine is None:
            return False
        try:
            with self._engine.connect() as connection:
                return bool(connection.execute(_ELSEWHERE, _lock_of(place)).scalar_one())
        except SQLAlchemyError:
            return True

    def ear(self, place: str) -> Ear:
        """One that listens at a place, on a connection of its own; close it at the end."""
        return Ear(self, place)

    def _open(self, place: str) -> Connection | None:
        """A connection that listens, outside the pool; None behind a pooler, where it would hear nothing."""
        if self._engine is None:
            return None
        connection = self._engine.connect()
        try:
            if session_of(connection).lasting:
                connection.exec_driver_sql(f"LISTEN {CHANNEL}")
                connection.execute(_HERE, _lock_of(place))
                connection.detach()
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None


def _lock_of(place: str) -> dict[str, int]:
    return {"present": _PRESENT, "place": zlib.crc32(place.encode()) >> 1}  # positive in 32 bits


class Ear:
    """Hears the words of others; connects at the first question, and again when the connection breaks."""

    def __init__(self, wire: Wire, place: str) -> None:
        """``wire``: which opens the connections. ``place``: where it is."""
        self._wire = wire
        self._place = place
        self._connection: Connection | None = None
        self._next_try = 0.0
        self.missed = False
        """Whether something may have been missed, of which ``words`` tells: to be asked before any sleep."""

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
            self._connection = self._wire._open(self._place)
        except SQLAlchemyError:
            self._next_try = time.monotonic() + AGAIN
        else:
            self.missed = self._connection is not None
            self._next_try = float("inf")  # behind a pooler for good; else ``words`` says when to try again
