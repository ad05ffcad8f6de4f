"""Statements given to the database's driver itself, past SQLAlchemy; on PostgreSQL past the driver's cursor, too.

That cursor finds out with each execution what its values are and how they go best, which costs several times what the
library beneath it needs to send them. Here each value goes in the one form that always fits.
"""

from __future__ import annotations

import select
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from receiver.store.silence import Line

SESSION = "session"
"""Under which a connection of SQLAlchemy's to PostgreSQL knows its ``Session``."""
T = TypeVar("T")

_SIZE = struct.Struct(">i")
_HEAD = struct.Struct(">iiIii")  # dimensions, whether there may be NULLs, the elements' type, how many, from 1 on
_NULL = _SIZE.pack(-1)


def _sized(data: bytes) -> bytes:
    return _SIZE.pack(len(data)) + data


def _fixed(form: str, size: int) -> Callable[[Any], bytes]:
    pack = struct.Struct(f">i{form}").pack
    return lambda value: pack(size, value)


# PostgreSQL's numbers (pg_type) for each of Python's types and for arrays of it, and how a value is written. It
# narrows integers itself.
_KINDS: dict[type, tuple[int, int, Callable[[Any], bytes]]] = {
    str: (25, 1009, lambda value: _sized(value.encode())),
    bytes: (17, 1001, _sized),
    int: (20, 1016, _fixed("q", 8)),
    float: (701, 1022, _fixed("d", 8)),
    bool: (16, 1000, _fixed("?", 1)),
}


class Array:
    """Values of one type, to be given to a statement. ``data``: as it goes out; ``oid``: the number of its type."""

    __slots__ = ("data", "oid")

    def __init__(self, kind: type, values: Iterable[Any]) -> None:
        """``kind``: str, bytes, int, float or bool. ``values``: of that type, or None."""
        element, array, written = _KINDS[kind]
        parts = [_NULL if value is None else written(value) for value in values]
        self.oid = array
        self.data = _HEAD.pack(1, 1, element, len(parts), 1) + b"".join(parts)


_TEXT, _BINARY = 0, 1
_FORMS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    str: (_BINARY, str.encode),  # in the other form it would end at its first NUL, which the server refuses in this one
    bytes: (_BINARY, bytes),
    int: (_TEXT, lambda value: b"%d" % value),
    float: (_TEXT, lambda value: repr(value).encode()),
    bool: (_TEXT, lambda value: b"t" if value else b"f"),
    Array: (_BINARY, lambda value: value.data),
}


class Session:
    """A connection to PostgreSQL, for one thread at a time. All errors are the driver's."""

    def __init__(self, driver: Any, line: Line, *, lasting: bool) -> None:
        """``driver``: psycopg's connection, in UTF-8. ``lasting``: whether one server process answers to the end.

        ``line``: on which it is watched for silence.
        """
        from psycopg import errors  # late: only who has PostgreSQL needs its driver
        from psycopg.adapt import Transformer
        from psycopg.pq import ConnStatus, ExecStatus

        self._library = driver.pgconn
        self._line = line
        self.lasting = lasting
        self._reader = Transformer(driver)
        self._names: dict[str, bytes] = {}  # of the statements that the server knows
        self._waiting: list[_Ready] = []
        self._good = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)
        self._all_here = ExecStatus.PIPELINE_SYNC
        self._broken = ConnStatus.BAD
        self._errors = errors

    def begin(self, words: str) -> None:
        """Have statements without values executed, in one message."""
        self._checked(self._library.exec_(words.encode()))

    def go_on(self) -> None:
        """Something is asked: its answer is waited for from now on."""
        self._line.go_on()

    def later(self, statement: str, each: Sequence[Sequence[Any]]) -> None:
        """Have a statement executed with each of these values, before the next one. Its errors come with that.

        Behind a pooler it is executed at once.
        """
        if self.lasting:
            self._waiting += [self._ready(statement, values) for values in each]
        else:
            self.count(statement, each)

    def forget(self) -> None:
        """Drop what waits: its transaction is over."""
        self._waiting.clear()

    def land(self) -> None:
        """Have what waits executed now."""
        if self._waiting:
            self._fly()

    def commit(self) -> None:
        """End the transaction; all of it is stored then."""
        if self._waiting:
            self._waiting.append(self._ready("COMMIT", ()))
            ended = self._fly()
        else:
            ended = self._checked(self._library.exec_(b"COMMIT"))
        if ended.command_status != b"COMMIT":  # the server's word for a transaction in which something had failed
            raise self._errors.InFailedSqlTransaction("the transaction was rolled back, since a statement had failed")

    def rows(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows that a query gives. ``values``: for ``$1`` …: str, bytes, int, float, bool, None or Array."""
        result = self._result(statement, values)
        self._reader.set_pgresult(result)
        found: list[tuple[Any, ...]] = self._reader.load_rows(0, result.ntuples, tuple)
        return found

    def count(self, statement: str, each: Sequence[Sequence[Any]]) -> int:
        """How many rows a statement has touched, executed with each of these values."""
        return sum(self._result(statement, values).command_tuples or 0 for values in each)

    def _result(self, statement: str, values: Sequence[Any]) -> Any:
        if not self.lasting:
            given, forms = _written(values)
            return self._checked(self._library.exec_params(statement.encode(), given, _types_of(values), forms))
        ready = self._ready(statement, values)
        if not self._waiting:
            return self._checked(self._library.exec_prepared(*ready))
        self._waiting.append(ready)
        return self._fly()

    def _ready(self, statement: str, values: Sequence[Any]) -> _Ready:
        return self._names.get(statement) or self._prepare(statement, values), *_written(values)

    def _fly(self) -> Any:
        """Send all that waits in one flight; the last one's result. After the first that fails none is executed."""
        library, waiting = self._library, self._waiting
        self._waiting = []
        library.enter_pipeline_mode()
        for ready in waiting:
            library.send_query_prepared(*ready)
        library.pipeline_sync()
        results = self._arriving()
        library.exit_pipeline_mode()
        for result in results:
            self._checked(result)
        return results[-1]

    def _arriving(self) -> list[Any]:
        """The results of a flight. The library's own way to wait would stop all other threads meanwhile."""
        library = self._library
        results: list[Any] = []
        socket = select.poll()
        socket.register(library.socket, select.POLLIN | select.POLLOUT)
        while library.flush():  # more than the socket takes at once
            socket.poll()
            library.consume_input()
        socket.modify(library.socket, select.POLLIN)
        while True:
            while library.is_busy():
                socket.poll()
                library.consume_input()
            result = library.get_result()
            if result is None and library.status == self._broken:
                raise self._errors.OperationalError(library.get_error_message())
            if result is not None and result.status == self._all_here:
                return results
            if result is not None:  # None ends each statement's results
                results.append(result)

    def _prepare(self, statement: str, values: Sequence[Any]) -> bytes:
        name = b"receiver_%d" % len(self._names)
        self._checked(self._library.prepare(name, statement.encode(), _types_of(values)))
        self._names[statement] = name
        return name

    def _checked(self, result: Any) -> Any:
        self._line.go_on()
        if result.status in self._good:
            return result
        if self._library.status == self._broken:
            raise self._errors.OperationalError(result.get_error_message())
        raise self._errors.error_from_result(result)


_Ready = tuple[bytes, list[bytes | None], list[int]]
"""A statement's name, its values as they go out, and their forms."""


def _written(values: Sequence[Any]) -> tuple[list[bytes | None], list[int]]:
    """Values as they go out, and the form of each."""
    forms, given = [], []
    for value in values:
        form, written = _form_of(value)
        forms.append(form)
        given.append(written)
    return given, forms


def _form_of(value: Any) -> tuple[int, bytes | None]:
    if value is None:
        return _TEXT, None
    found = _FORMS.get(type(value))
    if found is None:
        kinds = [kind for kind in _FORMS if isinstance(value, kind)]  # words of ours are enumerations
        if not kinds:
            raise TypeError(f"no column takes {type(value).__name__}")
        found = _FORMS[kinds[0]]
    form, written = found
    return form, written(value)


def _types_of(values: Sequence[Any]) -> list[int]:
    """The numbers of their types; 0 is left to the server, which knows what it compares or assigns it to."""
    return [value.oid if isinstance(value, Array) else 0 for value in values]


class File:
    """A connection to SQLite, for one thread at a time, with what a ``Session`` can."""

    def __init__(self, driver: Any) -> None:
        """``driver``: of sqlite3."""
        self._cursor = driver.cursor()

    def rows(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows that a query gives. ``values``: for each ``?``."""
        found: list[tuple[Any, ...]] = self._cursor.execute(statement, values).fetchall()
        return found

    def count(self, statement: str, each: Sequence[Sequence[Any]]) -> int:
        """How many rows a statement has touched, executed with each of these values."""
        self.later(statement, each)
        touched: int = self._cursor.rowcount
        return touched

    def later(self, statement: str, each: Sequence[Sequence[Any]]) -> None:
        """Have a statement executed with each of these values: at once."""
        self._cursor.executemany(statement, each)


def forget(info: Mapping[str, Any]) -> None:
    """Drop what a transaction that was rolled back has left: the next single query would send it, and store it.

    ``info``: of a connection that goes back to the pool.
    """
    if SESSION in info:
        info[SESSION].forget()


def session_of(connection: Connection) -> Session:
    """The session of a connection to PostgreSQL."""
    found: Session = connection.info[SESSION]
    return found


def directly(connection: Connection, sql: str, work: Callable[[Session | File], T]) -> T:
    """Do something with the ``Session`` or ``File`` of a connection.

    Errors are those that SQLAlchemy raises, a broken connection included. ``sql``: of which they tell.
    """
    session: Session | None = connection.info.get(SESSION)
    if session is not None:
        session.go_on()
    try:
        return work(session or File(connection.connection.dbapi_connection))
    except BaseException as error:  # noqa: BLE001  raised again by what it is handed to
        # What SQLAlchemy itself does then: name the error, see whether the connection broke, empty the pool. It
        # offers no other door to it. Values stay out of the error's text.
        connection._handle_dbapi_exception(error, sql, (), None, None)
