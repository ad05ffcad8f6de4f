"""The worker process of the web under gunicorn: slow senders wait outside, threads see whole requests only.

gunicorn's own worker gives a connection to one of its few threads as soon as the first byte is there, and
the thread then waits for the rest, however slowly it drips: a handful of slow connections stops the
service. It also waits, in its main loop, for clients that do not hang up after an answer. Here both kinds wait
in the main loop without holding up anybody, within bounds on time, number and memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import select
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from gunicorn.http.unreader import SocketUnreader  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]  # the library has no types

from receiver.web.incoming import HEAD_LIMIT, Arrival, Incoming
from receiver.web.plain import plain_call
from receiver.web.unread import answer_to, refusal

if TYPE_CHECKING:
    from receiver.web.express import Express  # what it needs belongs to the forked process

PATIENCE = 30.0
"""Seconds within which a whole request must come (except a large body, see ``incoming.STREAMED``)."""
SILENCE = 30
"""Seconds without a byte after which a thread gives up a large body, or a client that takes no byte of its answer."""
LINGER = 2.0
"""Seconds that a client has to hang up after the last answer, and when the service stops to finish its request."""
DRAIN = 4 * 1024 * 1024
"""Bytes that are thrown away meanwhile, so that the client gets to read the answer (RFC 9112 §9.6)."""
ROOM = 4
"""One connection in so many is kept free of requests that wait for a thread: those that come later get an answer."""
WAITING_BYTES = 64 * 1024 * 1024
"""Bytes of unfinished requests in one process, or four of the largest bodies if that is more."""
DEFAULT_BODY_LIMIT = 1024 * 1024
_PIECE = 256 * 1024

_SIGN_OF_LIFE = b"GET /healthz HTTP/1."
_AT_A_LIMIT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NO_LISTENER = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Whole(SocketUnreader):  # type: ignore[misc]  # the library has no types
    """A request that is here, for the server's parser: piece by piece, and then whatever else comes.

    The parser copies all that it holds at each read of the application: of the largest body in one piece, half a
    minute's work.
    """

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        super().__init__(sock)
        self._data, self._place = data, 0

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next piece."""
        piece = self._data[self._place : self._place + _PIECE]
        self._place += len(piece)
        if piece:
            return piece
        self._data, self._place = b"", 0
        more: bytes = super().chunk(size_hint)
        return more

    def take_buffered(self) -> bytes:
        """What is here of the next request."""
        rest = self._data[self._place :]
        self._data, self._place = b"", 0
        return bytes(super().take_buffered()) + rest


class Visitor(TConn):  # type: ignore[misc]  # the library has no types
    """A connection. ``incoming``: the request that is waited for, None while it is being answered.

    Of a plain callback: ``ahead``: what came behind it; ``goes_on``: whether the connection is kept afterwards.
    ``answered``: whether a request has been, so that another may be on its way.
    """

    def __init__(self, worker: PatientWorker, sock: socket.socket, client: Any, server: Any) -> None:
        super().__init__(worker.cfg, sock, client, server)
        self.incoming: Incoming | None = None
        self.drained = 0
        self.ahead = b""
        self.goes_on = self.answered = False
        self._worker = worker

    def close(self, graceful: bool = False) -> None:
        """Close. ``graceful``: an answer was sent that the client must get to read."""
        if graceful:
            self._worker.linger(self)
        else:
            super().close()


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # the library has no types
    """gunicorn's threads behind a main loop that collects requests. What runs elsewhere than in that loop says so.

    ``body_limit``: RECEIVER_MAX_BODY; ``express``: where plain callbacks go (None: to threads, too). Both are
    set before the first connection.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.body_limit = DEFAULT_BODY_LIMIT
        self.express: Express[Visitor] | None = None
        self.pending_conns: deque[Visitor] = deque()  # by deadline, since all have the same patience
        self._leaving: deque[Visitor] = deque()
        self._waiting_bytes = 0
        self._at_threads = 0  # requests that a thread answers, or that wait for one

    # -- what gunicorn calls -------------------------------------------------------------------------

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """The threads, of which one runs from the beginning: where no other can be started, it serves all.

        And one for signs of life: all others may wait for a database that stands still, which no restart mends.
        """
        pool: ThreadPoolExecutor = super().get_thread_pool()
        pool.submit(int)
        self._aside = ThreadPoolExecutor(1, "signs of life")
        try:
            self._aside.submit(int)
        except RuntimeError:  # no other can be started
            self._aside = pool
        return pool

    def accept(self, listener: socket.socket) -> None:
        """Take a connection in."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in _AT_A_LIMIT:
                self.log.error("%s: connections that wait are closed", os.strerror(error.errno))
                self._make_room()
            elif error.errno in _NO_LISTENER:
                raise
            return  # another process was faster, or that connection alone is broken (accept(2))
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._make_room()
        for wait in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, wait, struct.pack("ll", SILENCE, 0))
        self.enqueue_req(Visitor(self, sock, client, listener.getsockname()))

    def set_accept_enabled(self, enabled: bool) -> None:
        """Take newcomers in, or not. When the service stops: those that the system has taken in are the last.

        Who comes later is told so at once, and can try elsewhere; in a queue that nobody empties, he would wait for
        an answer until the process ends.
        """
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        while self.sockets:  # the library may say so twice
            listener = self.sockets.pop()
            while select.select([listener], [], [], 0)[0] and self.nr_conns < self.worker_connections:
                self.accept(listener)
            listener.close()

    def enqueue_req(self, conn: Visitor) -> None:
        """Wait for a connection's next request; gunicorn means: give it to a thread."""
        if self.cfg.is_ssl:  # not ours to read
            self._serve(conn, self.tpool)
            return
        conn.sock.setblocking(False)
        ahead = conn.parser.unreader.take_buffered() if conn.parser else b""
        self._await(conn, ahead)
        if not ahead and conn.incoming is not None:
            self._read(conn)

    def murder_pending(self) -> None:
        """Called at least once a second: send those away whose time is up."""
        now = time.monotonic()
        due = now if self.alive else now + PATIENCE - LINGER
        while self.pending_conns and self.pending_conns[0].timeout <= due:
            self._refuse(self.pending_conns[0], Arrival.MORE)
        while self._leaving and self._leaving[0].timeout <= now:
            self._end(self._leaving[0], self._leaving)
        if not self.alive:
            for conn in [new for new in self.pending_conns if _untouched(new) and not new.answered]:
                self._end(conn, self.pending_conns)

    def finish_request(self, conn: Visitor, fs: Future[Any]) -> None:
        """Called when a thread has answered a request."""
        self._at_threads -= 1
        super().finish_request(conn, fs)

    def handle_error(self, _: Any, client: socket.socket, __: Any, exc: Exception) -> None:
        """Called in a thread, for what gunicorn cannot read: answer as the application would, not in HTML."""
        with contextlib.suppress(OSError):
            client.sendall(answer_to(exc))

    def _keepalive_after(self, conn: Visitor, keepalive: bool) -> bool:
        """Called in a thread: whether the connection goes on. A body that nobody read and that is not here ends it."""
        if not (keepalive and conn.parser.finish_body(deadline=time.monotonic() + 0.05)):
            return False
        unreader = conn.parser.unreader
        unreader.unread(unreader.take_buffered())  # what follows, all in the place where the library looks for it
        return True

    # -- plain callbacks -----------------------------------------------------------------------------

    def _send_express(self, conn: Visitor) -> bool:
        """Whether the request that is here is a plain callback, and is on its way to its answer."""
        if self.express is None or conn.incoming is None or conn.incoming.chunked:
            return False
        head, body, conn.ahead = conn.incoming.split()
        plain = plain_call(head, body)
        if plain is None:
            return False
        if not self.alive:  # its last: a sender who never pauses would keep a service from stopping
            plain = dataclasses.replace(plain, keep_alive=False)
        conn.goes_on = plain.keep_alive
        self._forget(conn, self.pending_conns)
        self.express.put(conn, plain)
        return True

    def answer(self, answers: Sequence[tuple[Visitor, bytes]]) -> None:
        """Have these answers sent by the main loop. The one method that any thread may call."""
        self.method_queue.defer(self._send_answers, answers)

    def _send_answers(self, answers: Sequence[tuple[Visitor, bytes]]) -> None:
        for conn, answer in answers:
            try:
                sent = conn.sock.send(answer)
            except OSError:
                sent = 0
            if sent == len(answer) > 0 and conn.goes_on:
                conn.answered = True
                self._await(conn, conn.ahead)
            else:  # the last one; or its client is gone, or does not read
                self.nr_conns -= 1
                conn.close(graceful=sent == len(answer))

    # -- waiting -------------------------------------------------------------------------------------

    def _await(self, conn: Visitor, ahead: bytes) -> None:
        """Wait for a connection's next request, of which this has come already."""
        try:
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._read, conn))
        except OSError as error:  # the system watches no more connections
            self.log.error("%s: a connection is closed", error.strerror)
            self.nr_conns -= 1
            conn.close()
            return
        conn.incoming = Incoming(self.body_limit)
        conn.timeout = time.monotonic() + PATIENCE
        self.pending_conns.append(conn)
        if ahead:
            self._take(conn, ahead)

    def _read(self, conn: Visitor, _: object = None) -> None:
        try:
            piece = conn.sock.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end(conn, self.pending_conns)
            return
        if piece:
            self._take(conn, piece)
        elif _untouched(conn):
            self._end(conn, self.pending_conns)
        else:  # it ended early; the parser or the application says so
            self._hand_over(conn)

    def _take(self, conn: Visitor, piece: bytes) -> None:
        assert conn.incoming is not None
        self._waiting_bytes += len(piece)
        before = len(conn.incoming.data)
        arrival = conn.incoming.take(piece)
        self._waiting_bytes += len(conn.incoming.data) - before - len(piece)  # what was left out
        if arrival is Arrival.READY:
            if not self._send_express(conn):
                self._hand_over(conn)
        elif arrival is not Arrival.MORE:
            self._refuse(conn, arrival)
        else:
            if conn.incoming.expects_continue:
                conn.incoming.expects_continue = False
                with contextlib.suppress(OSError):
                    conn.sock.send(_CONTINUE)
            if self._waiting_bytes > max(WAITING_BYTES, 4 * self.body_limit):
                self._refuse(max(self.pending_conns, key=_size), Arrival.MORE)

    def _hand_over(self, conn: Visitor) -> None:
        """To a thread, which finds the whole request in its parser's buffer."""
        assert conn.incoming is not None
        data = conn.incoming.whole()
        # The first on its connection and without a body: to answer it keeps the thread aside waiting for nobody.
        sign_of_life = not conn.initialized and data.startswith(_SIGN_OF_LIFE) and b"\r\ncontent-" not in data.lower()
        if self._at_threads >= self.worker_connections - self.worker_connections // ROOM and not sign_of_life:
            self._refuse(conn, Arrival.CROWDED)
            return
        self._forget(conn, self.pending_conns)
        conn.data_ready = True
        conn.init()
        conn.sock.setblocking(True)
        conn.parser.unreader = Whole(conn.sock, data)
        self._serve(conn, self._aside if sign_of_life and data.endswith(b"\r\n\r\n") else self.tpool)

    def _serve(self, conn: Visitor, threads: ThreadPoolExecutor) -> None:
        """Have a thread answer a request, and the main loop go on with the connection then."""
        self._at_threads += 1
        served: Future[Any] = Future()
        served.add_done_callback(lambda _: self.method_queue.defer(self.finish_request, conn, served))

        def serve() -> None:
            try:
                served.set_result(self.handle(conn))
            except BaseException as error:  # noqa: BLE001 - for the main loop, which closes the connection
                served.set_exception(error)

        try:
            threads.submit(serve)
        except RuntimeError:  # no further thread can be started: those that run will take it
            self.log.warning("Too few threads")

    def _refuse(self, conn: Visitor, reason: Arrival, *, at_once: bool = False) -> None:
        came = bytes(conn.incoming.data[:HEAD_LIMIT]) if conn.incoming is not None else b""
        self._forget(conn, self.pending_conns)
        self.nr_conns -= 1
        if not came:
            conn.close()
            return
        with contextlib.suppress(OSError):
            conn.sock.send(refusal(reason, came, self.body_limit))
        conn.close(graceful=not at_once)

    def _make_room(self) -> None:
        """Close a tenth of the connections, the oldest: of those that should hang up, else of those that are slow."""
        few = max(1, self.worker_connections // 10)
        if self._leaving:
            for conn in list(self._leaving)[:few]:
                self._end(conn, self._leaving)
        else:
            for conn in list(self.pending_conns)[:few]:
                self._refuse(conn, Arrival.MORE, at_once=True)

    # -- leaving -------------------------------------------------------------------------------------

    def linger(self, conn: Visitor) -> None:
        """Say that nothing more comes, and close when the client has hung up or had time to."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        except (OSError, ValueError):  # gone already
            conn.close()
            return
        conn.timeout = time.monotonic() + LINGER
        self.nr_conns += 1
        self._leaving.append(conn)

    def _drain(self, conn: Visitor, _: object = None) -> None:
        try:
            piece = conn.sock.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            piece = b""
        conn.drained += len(piece)
        if not piece or conn.drained > DRAIN:
            self._end(conn, self._leaving)

    def _forget(self, conn: Visitor, where: deque[Visitor]) -> None:
        where.remove(conn)
        self.poller.unregister(conn.sock)
        if conn.incoming is not None:
            self._waiting_bytes -= len(conn.incoming.data)
            conn.incoming = None

    def _end(self, conn: Visitor, where: deque[Visitor]) -> None:
        self._forget(conn, where)
        self.nr_conns -= 1
        conn.close()


def _size(conn: Visitor) -> int:
    return len(conn.incoming.data) if conn.incoming is not None else 0


def _untouched(conn: Visitor) -> bool:
    """Whether not a byte of a request has come."""
    return conn.incoming is not None and not conn.incoming.data
