"""Transactions: ``read()`` sees one moment, ``write()`` commits all or nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from receiver import metrics
from receiver.errors import Busy, Conflict
from receiver.store import dialect, places, silence, troubles
from receiver.store.direct import session_of
from receiver.store.server import hinders_migration
from receiver.store.turns import Turns

_MIGRATIONS = Path(__file__).parent / "migrations"
_AFTERWARDS = "after commit"
_OUT = "out"  # of a connection that somebody has
T = TypeVar("T")
_MIGRATING = threading.Lock()  # Alembic keeps its state in the process

BREATH = 0.005
"""Seconds between two steps of something long."""
REFUSED_FOR = 5.0
"""Seconds of refused writes, without one that was taken, after which the database is said to take none."""
REFUSED_LATELY = 60.0
"""Seconds after the last refused write in which that is said."""


class Store:
    """The database of one process."""

    def __init__(self, url: str, pool: int = 10) -> None:
        """``url``: an SQLAlchemy URL of SQLite or PostgreSQL. ``pool``: connections to PostgreSQL at most."""
        self.url = url
        self.engine = dialect.open_engine(url, pool)
        self._bare = dialect.bare(self.engine)
        self._writer = self.engine.execution_options(writes=True)
        self._hasty_writer = self._writer.execution_options(flushed=False)
        self._file = places.database_file(url)
        self._opened: tuple[int, int] | None = None
        event.listen(self.engine, "connect", self._note_file)
        self._turns = Turns(self._file)
        self._refused: tuple[float, float] | None = None  # when the first and the last were, since one was taken
        event.listen(self.engine, "checkout", _count_out)
        event.listen(self.engine, "checkin", _count_in)
        event.listen(self.engine, "detach", lambda *_: metrics.CONNECTIONS.dec())  # it listens, and does not come back
        self._migrator = self.engine.execution_options(writes=True, migrates=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises Busy when the database cannot be reached."""
        with _busy("the database does not answer"), _transaction(self.engine) as connection:
            yield connection

    def ask(self, query: Callable[[Connection], T]) -> T:
        """The result of a single ``Prepared`` query: it sees one moment without a transaction, which would cost more.

        Raises Busy when the database cannot be reached.
        """
        if self._bare is not None:
            with _busy("the database does not answer"), self._bare.connect() as connection:
                if session_of(connection).lasting:
                    silence.line_of(connection).take(silence.BEGINNING)  # a lock can be waited for below
                    try:
                        return query(connection)
                    except DBAPIError as error:
                        if not troubles.is_gone(error):
                            raise  # else it broke, perhaps while it lay in the pool: see ``_begun``
        with self.read() as connection:
            return query(connection)

    @contextmanager
    def write(self, *, flushed: bool = True) -> Iterator[Connection]:
        """A transaction that may write, committed at the end of the block. Raises Busy: nothing was stored.

        ``flushed``: whether it must survive a power cut. A claim need not: whoever made it is gone as well then, or,
        where the database is on another machine, it is made once more, as after a lease that has passed.

        When the connection breaks during the commit itself, nobody can know (``Busy.uncertain``). Trying
        again is safe all the same: every write that matters carries a key, a state or a fence that it expects.
        """
        afterwards: list[Callable[[], None]] = []
        writer = self._writer if flushed else self._hasty_writer
        committing = False
        try:
            with _busy("the database takes no writes now"), self._turns.taken(), _transaction(writer) as connection:
                self._check_file()
                connection.info[_AFTERWARDS] = afterwards
                yield connection
                committing = True
        except Busy as busy:
            busy.uncertain = committing and troubles.is_gone(busy.__cause__)
            now = time.monotonic()
            first, last = self._refused or (now, now)
            self._refused = (first if now - last <= REFUSED_LATELY else now), now
            raise
        self._refused = None
        for tell in afterwards:
            tell()

    def in_steps(self, step: Callable[[Connection], bool]) -> None:
        """Make steps, each in a transaction of its own, until one says it was the last. Raises Busy: some are made.

        Others write in between: without the pause, whoever looks now and then whether SQLite is free would hardly
        ever find it so.
        """
        done = False
        while not done:
            with self.write() as connection:
                done = step(connection)
            if not done:
                time.sleep(BREATH)

    def takes_writes(self) -> bool:
        """Whether the database takes writes, as far as this process has tried lately.

        A database that answers may take none: its disk is full, it became a standby, somebody holds its locks.
        """
        if (refused := self._refused) is None:
            return True
        first, last = refused
        return last - first < REFUSED_FOR or time.monotonic() - last > REFUSED_LATELY

    def migrate(self) -> None:
        """Bring the schema up to this version of the code. Others that migrate the same database wait.

        A newer schema is left as it is. Raises Busy when the database cannot be reached or written, Conflict when its
        user has not the right to.
        """
        with _busy("the database cannot be migrated now"), _MIGRATING, _transaction(self._migrator) as connection:
            dialect.lock_schema(connection)
            if not _serves(connection):
                if (found := hinders_migration(connection)) is not None:
                    raise Conflict(f"The schema cannot be brought up. {found.text} {found.mend}")
                _upgrade(connection)

    def schema_is_current(self) -> bool:
        """Whether the database's schema serves this code: it is the one it was written for, or a newer one.

        While a new version is rolled out, the old one works on beside it: a migration keeps the code before it alive.
        """
        with self.read() as connection:
            return _serves(connection)

    def ping(self) -> None:
        """Raise Busy unless the database answers."""
        with self.read() as connection:
            self._check_file()
            connection.execute(text("SELECT 1"))

    def _note_file(self, *_: object) -> None:
        if self._opened is None:
            self._opened = _identity(self._file)

    def _check_file(self) -> None:
        """Raise Busy when the file of SQLite is not the one that was opened first.

        Connections to a file that was deleted or replaced go on as if nothing had happened, and what they store is
        gone with the process.
        """
        if self._opened is not None and _identity(self._file) != self._opened:
            raise Busy(f"{self._file} was removed or replaced while it was in use: restart the service")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _count_out(_: object, record: ConnectionPoolEntry, __: object) -> None:
    record.info[_OUT] = True
    metrics.CONNECTIONS.inc()


def _count_in(_: object, record: ConnectionPoolEntry) -> None:
    if record.info.pop(_OUT, False):  # else it could not be opened, and nobody had it
        metrics.CONNECTIONS.dec()


def _identity(file: Path | None) -> tuple[int, int] | None:
    """Which file it is, whatever its name; None when there is none."""
    try:
        found = None if file is None else file.stat()
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def after_commit(connection: Connection, tell: Callable[[], None]) -> None:
    """Have something told once the transaction of ``write()`` is stored; never when it is rolled back."""
    connection.info[_AFTERWARDS].append(tell)


def _serves(connection: Connection) -> bool:
    """Whether the schema is as new as the code, or newer: revisions are numbers of four digits.

    Asked without Alembic, so that a start that finds nothing to do need not load it.
    """
    if not inspect(connection).has_table("alembic_version"):
        return False
    present: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    needed = max(path.name[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
    return present is not None and present >= needed


def _upgrade(connection: Connection) -> None:
    from alembic import command  # late: see _serves()
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    with _begun(engine) as connection:
        transaction = connection.get_transaction()
        assert transaction is not None  # it was just begun
        with transaction:
            yield connection


def _begun(engine: Engine) -> Connection:
    """A connection in a transaction. One that broke while it lay in the pool shows at the BEGIN.

    Nothing has happened then, so another one is taken: no question before every use, no error after a restart.
    """
    try:
        return _begin(engine)
    except DBAPIError as error:
        if not troubles.is_gone(error):
            raise
        return _begin(engine)  # the first error has emptied the pool: this connection is new


def _begin(engine: Engine) -> Connection:
    connection = engine.connect()
    try:
        connection.begin()
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _busy(sentence: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        why = troubles.trouble(error)
        if why is None:
            raise
        raise Busy(f"{sentence} ({why})") from error
