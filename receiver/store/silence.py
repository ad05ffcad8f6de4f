"""Connections whose other end is there and says nothing: who waits for an answer goes on without it.

The system notices a machine that is gone, and a server ends what takes too long. Neither helps where a pooler or a
proxy stands before a machine that is gone, where a server's disk stands still, or a commit waits for a standby.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import traceback
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.pool.base import _ConnectionRecord

from receiver import logs

LONGEST = 40.0
"""Seconds for which an answer is waited for: longer than a server runs a statement."""
BEGINNING = 5.0
"""Seconds for which a server may be silent at the beginning of a transaction, which takes it no time: whoever waits
has lost nothing, and asks on another connection."""
LATEST = 5.0
"""Seconds between two looks for connections that have been silent for too long, at most: nobody's patience is shorter,
so that the next look comes in time for who has begun to wait since the last one."""
SOONEST = 1.0
"""Seconds between two looks at least. One that comes so much too late tells that this process stood still, and answers
may be here that nobody has read yet."""
SHORT = 0.3
"""Seconds after which it shows that a server which was silent before still is."""
_LINE = "line"  # under which a connection knows its line

log = logs.get("store")


class Line:
    """A connection on which somebody waits for an answer now and then."""

    __slots__ = ("_end", "_patience", "_until")

    def __init__(self, number: int) -> None:
        """``number``: of the connection's socket."""
        self._end: socket.socket | None = None
        with contextlib.suppress(OSError):  # too many open files: then this one is not watched
            self._end = socket.socket(fileno=os.dup(number))  # ours: the number is never that of another one
        self.take()

    def take(self, patience: float | None = None) -> None:
        """Somebody begins to use it, and has so much patience (seconds) with it. None: as usual."""
        self._patience = LONGEST if patience is None else patience
        self.go_on()

    def go_on(self) -> None:
        """Something is asked, or an answer has come: the time begins anew."""
        self._until = time.monotonic() + self._patience

    def rest(self) -> None:
        """Nobody waits for an answer."""
        self._until = float("inf")

    def left(self) -> float:
        """Seconds until the time is over."""
        return self._until - time.monotonic()

    def cut(self) -> None:
        """Whoever waits meets a connection that broke."""
        if self._end is not None:
            with contextlib.suppress(OSError):  # it did by itself
                self._end.shutdown(socket.SHUT_RDWR)
            self._end.close()

    def close(self) -> None:
        """Give back what it holds."""
        if self._end is not None:
            self._end.close()


class Pool(QueuePool):
    """A pool whose waiters go on as soon as one before them could not connect, as they do when one is given back.

    SQLAlchemy's own lets them wait until their time is over, however many places have become free meanwhile.
    """

    def _create_connection(self) -> ConnectionPoolEntry:
        return _ConnectionRecord(self, connect=False)  # it connects as one that broke does: if that fails it goes back


class _Watch:
    def __init__(self) -> None:
        self._lines: set[Line] = set()
        self._lock = threading.Lock()
        self._watching = False
        self._lost = False  # whether the server was silent to whoever asked it last
        self._alone = threading.Lock()  # of the one call that tries to reach a silent server

    def connect(self, dialect: Any, _: Any, arguments: Any, options: Any) -> Any:
        """Open a connection. While the server is silent one at a time tries to; the others are told so soon.

        One that nobody waits for any more is closed at once: the driver's error holds on to it in a circle. Until
        Python looks for circles it would be there, and once the server can be reached again take a place there for a
        minute, of which there may be none left.
        """
        alone = self._lost and self._alone.acquire(timeout=SHORT)
        if self._lost and not alone:
            raise dialect.loaded_dbapi.OperationalError("the server is silent; another call tries to reach it")
        began = time.monotonic()
        try:
            made = dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.Error as error:
            self._lost = time.monotonic() - began > SHORT  # else it said no, or its machine did
            traceback.clear_frames(error.__traceback__)
            raise
        else:
            self._lost = False
            return made
        finally:
            if alone:
                self._alone.release()

    def add(self, line: Line) -> None:
        with self._lock:
            self._lines.add(line)
            if not self._watching:
                with contextlib.suppress(RuntimeError):  # too many threads: the next connection tries again
                    threading.Thread(target=self._run, name="silence", daemon=True).start()
                    self._watching = True

    def remove(self, line: Line) -> None:
        with self._lock:
            self._lines.discard(line)
            line.close()

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            with self._lock:
                first = min((line.left() for line in self._lines), default=LATEST)
            began, pause = time.monotonic(), min(max(first, SOONEST), LATEST)
            time.sleep(pause)
            stood_still = time.monotonic() - began > pause + SOONEST
            with self._lock:
                over = {line for line in self._lines if line.left() < 0 and not stood_still}
                self._lines -= over
                self._lost |= bool(over)
                for line in over:
                    line.cut()
                self._watching = goes_on = bool(self._lines)
            if over:
                log.warning("the database says nothing", connections_given_up=len(over))


def watch(engine: Engine) -> None:
    """Give up connections of this engine that are silent for too long while somebody uses them."""
    watching = _Watch()

    def begin(driver: Any, record: Any) -> None:
        record.info[_LINE] = line = Line(driver.fileno())
        watching.add(line)

    def give_back(_: Any, record: Any) -> None:
        if _LINE in record.info:  # else none could be opened
            record.info[_LINE].rest()

    event.listen(engine, "do_connect", watching.connect)
    event.listen(engine, "connect", begin, insert=True)  # before anything is asked
    event.listen(engine, "checkout", lambda _, record, __: record.info[_LINE].take())
    event.listen(engine, "checkin", give_back)
    for end in ("close", "detach"):  # one that listens may hear nothing for days
        event.listen(engine, end, lambda _, record: watching.remove(record.info[_LINE]))


def line_of(connection: Connection | ConnectionPoolEntry) -> Line:
    """The line of a connection to a server."""
    found: Line = connection.info[_LINE]
    return found
