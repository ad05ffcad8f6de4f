"""The gate's bounds: on time, on connections, on memory, and on how long a stop may take. Times are scaled down."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import select
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]  # the library has no types
from gunicorn.http.parser import RequestParser  # type: ignore[import-untyped]
from sqlalchemy import text

from receiver.web import gate
from receiver.web.gate import PatientWorker, Whole
from tests.attack.conftest import Door
from tests.attack.wire import exchange, post, statuses
from tests.deaf import deafen
from tests.story.samples import TOPVIEW
from tests.web.conftest import KEY
from tests.web.test_server import Server

pytestmark = pytest.mark.process

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
BODY = b"POST /callbacks/topview/x HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"
PATIENCE = 1.0
CONNECTIONS = 40
PROGRAM = f"""
import os
from receiver.config import read_settings
from receiver.web import gate, server
gate.PATIENCE, gate.LINGER, gate.WAITING_BYTES = float(os.environ["GATE_PATIENCE"]), 0.3, 5_000_000
usual = server.options
server.options = lambda settings: usual(settings) | {{"worker_connections": {CONNECTIONS}}}
server.serve(read_settings())
"""
LITTLE_SILENCE = """
from receiver.config import read_settings
from receiver.web import gate, server, streaming
gate.SILENCE, streaming.GONE, streaming.HEARTBEAT = 1, 1, 0.2
server.serve(read_settings())
"""
STREAM = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer {KEY}\r\n\r\n"
FEW_THREADS = """
import threading
start, served = threading.Thread.start, []
def refuse(thread):
    if thread.name.startswith("ThreadPoolExecutor") and served:
        raise RuntimeError("can't start new thread")
    start(thread)
    if thread.name.startswith("ThreadPoolExecutor"):
        served.append(thread)
threading.Thread.start = refuse
from receiver.config import read_settings
from receiver.web import server
server.serve(read_settings())
"""


@pytest.fixture(scope="module")
def small(door: Door) -> Iterator[Server]:
    """One process with little patience, room for forty connections and for 5 MB of unfinished requests."""
    yield from _started(door, PATIENCE)


@pytest.fixture(scope="module")
def patient(door: Door) -> Iterator[Server]:
    """Another one, as patient as usual: it gives nobody up as long as a test lasts, unless for want of room."""
    yield from _started(door, gate.PATIENCE)


def _started(door: Door, patience: float) -> Iterator[Server]:
    assert door
    up = Server(["-c", PROGRAM], RECEIVER_WEB_THREADS="2", RECEIVER_MAX_BODY="1048576", GATE_PATIENCE=str(patience))
    yield up
    if up.process.poll() is None:
        up.stop()


@contextlib.contextmanager
def connections(port: int, count: int, begin: bytes) -> Iterator[list[socket.socket]]:
    """Connections that have sent this."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            opened.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)))
            opened[-1].sendall(begin)
        yield opened


def rest(connection: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize("begin", [b"", b"P", b"GET / HTTP/1.1\r\nX: ", BODY + b"{"])
def test_a_request_that_does_not_come_in_time_is_given_up(small: Server, begin: bytes) -> None:
    """After the patience, dripping or silent: 408 for what had begun, and the connection is closed."""
    began = time.monotonic()
    with connections(small.port, 2, begin) as (silent, dripping):
        while time.monotonic() - began < PATIENCE * 0.7:
            dripping.sendall(b"x" if begin else b"")
            time.sleep(0.1)
        answers = [rest(silent), rest(dripping)]
    assert time.monotonic() - began > PATIENCE * 0.9
    for answer in answers:
        assert statuses(answer) == ([408] if begin else [])
        assert not answer or b"application/problem+json" in answer


def test_a_client_that_never_hangs_up_is_hung_up_on(small: Server) -> None:
    """After an answer that ends the connection, whether the client goes on sending or not."""
    with connections(small.port, 2, HEALTH) as (silent, sending):
        assert statuses(rest(silent)) == [200]
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 20:
                sending.sendall(b"x" * 1000)
                time.sleep(0.05)
        assert time.monotonic() - began < 20


def is_seated(stream: socket.socket) -> bool:
    """Whether a stream goes on; one without a seat ends at once."""
    came, end = b"", time.monotonic() + 1
    while time.monotonic() < end and not came.endswith(b"\r\n0\r\n\r\n"):
        came += stream.recv(65536)
    return not came.endswith(b"\r\n0\r\n\r\n")


def test_a_reader_that_is_gone_without_a_word_gives_its_seat_back(door: Door) -> None:
    """A stream whose packets nobody takes any more ends after the silence, not after the ten minutes of a stream."""
    assert door
    up = Server(["-c", LITTLE_SILENCE], RECEIVER_WEB_THREADS="2")  # one seat
    try:
        with connections(up.port, 1, STREAM.encode()) as (gone,):
            assert is_seated(gone)
            with connections(up.port, 1, STREAM.encode()) as (other,):
                assert not is_seated(other)
            deafen(gone.fileno())
            end = time.monotonic() + 20
            while time.monotonic() < end:
                with connections(up.port, 1, STREAM.encode()) as (other,):
                    if is_seated(other):
                        return
                time.sleep(0.2)
            pytest.fail("the seat is still taken")
    finally:
        up.stop()


def test_a_reader_that_pauses_gets_its_whole_answer(door: Door) -> None:
    """Nobody waits for a client that takes what has left us at its own pace, and may stand still for a while."""
    assert door
    up = Server(["-c", LITTLE_SILENCE])
    try:
        with contextlib.closing(socket.socket()) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", up.port))
            slow.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            came = slow.recv(1024)
            length = int(re.search(rb"(?i)content-length: (\d+)", came)[1])  # type: ignore[index]
            time.sleep(5)
            while more := slow.recv(65536):
                came += more
        assert len(came.partition(b"\r\n\r\n")[2]) == length
    finally:
        up.stop()


def test_more_requests_than_can_wait_are_told_so(door: Door, patient: Server) -> None:
    """A rush while the threads stand still: the rest is answered 503 at once, signs of life too, and none is lost."""
    body = json.dumps({"provider": TOPVIEW.provider, "operation": TOPVIEW.operation, "input": TOPVIEW.input}).encode()
    submit = post("/v1/tasks", body, [f"Authorization: Bearer {KEY}", "Content-Type: application/json"])
    kept = CONNECTIONS - CONNECTIONS // gate.ROOM
    with contextlib.ExitStack() as rush:
        with door.runtime.store.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE tasks IN EXCLUSIVE MODE"))
            crowd = rush.enter_context(connections(patient.port, kept + 3, submit))
            refused: list[socket.socket] = []
            while len(refused) < 3:
                refused = select.select(crowd, [], [], 5)[0]
                assert refused, "nobody is answered"
                time.sleep(0.05)
            assert statuses(exchange(patient.port, HEALTH)) == [200]
        for one in refused:
            answer = rest(one)
            assert statuses(answer) == [503]
            assert b"\r\nRetry-After: 1\r\n" in answer
        assert [statuses(rest(one)) for one in crowd if one not in refused] == [[202]] * kept


def test_newcomers_get_in_when_it_is_full(patient: Server) -> None:
    """More silent connections than there is room for: the oldest make room, long before their time is over."""
    with connections(patient.port, CONNECTIONS + 5, b"GET / HTTP/1.1\r\nX: ") as crowd:
        assert statuses(exchange(patient.port, HEALTH)) == [200]
        assert statuses(rest(crowd[0])) in ([408], [])


def test_unfinished_requests_share_a_bounded_memory(small: Server) -> None:
    """Large bodies that never end: beyond the bound the largest are given up; the process does not grow."""
    with connections(small.port, 30, BODY + b"x" * 890_000):
        assert statuses(exchange(small.port, HEALTH)) == [200]
        status = Path(f"/proc/{_worker_of(small)}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    assert int(peak[1]) < 200_000


def test_what_waits_is_counted_as_what_is_held() -> None:
    """Chunks that come in tiny pieces leave nothing behind in the account; else it would be full one day, for good."""
    ours, theirs = socket.socketpair()
    with ours, theirs, selectors.DefaultSelector() as poller:
        worker = PatientWorker.__new__(PatientWorker)
        worker.poller, worker.pending_conns = poller, deque()
        worker.body_limit, worker._waiting_bytes = 1000, 0
        visitor: Any = SimpleNamespace(sock=ours, incoming=None)
        worker._await(visitor, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            worker._take(visitor, b"1\r\nx\r\n")
        assert worker._waiting_bytes == len(visitor.incoming.data)
        worker._forget(visitor, worker.pending_conns)
        assert worker._waiting_bytes == 0


def _worker_of(server: Server) -> int:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return int(children[-1])


def test_a_stop_does_not_wait_for_slow_senders(patient: Server) -> None:
    """Silent connections and unfinished requests do not hold it up, for which it would else have time.

    The last test with this server, since it stops it.
    """
    with connections(patient.port, 5, b""), connections(patient.port, 5, BODY + b"{"):
        assert statuses(exchange(patient.port, post("/callbacks/topview/x", b"{}"))) == [403]
        patient.stop()


def test_a_limit_of_threads_cuts_no_connection(door: Door) -> None:
    """Where no further thread can be started, requests wait for those that run, and the process goes on."""
    assert door
    few = Server(["-c", FEW_THREADS], RECEIVER_WEB_THREADS="4")
    try:
        waiting = f"GET /v1/events?wait=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
        with (
            connections(few.port, 1, b"GET /healthz HTTP/1.1\r\n") as (slow,),
            connections(few.port, 2, waiting) as held,
        ):
            time.sleep(0.3)  # the one thread has taken the first of them
            slow.sendall(b"Host: x\r\n\r\n")
            assert [each.recv(12) for each in (slow, *held)] == [b"HTTP/1.1 200"] * 3
    finally:
        few.stop()


@pytest.mark.parametrize("number", [errno.ENFILE, errno.ENOBUFS, errno.EAGAIN, errno.EPROTO, errno.EHOSTUNREACH])
def test_what_accepting_meets_ends_nothing(number: int) -> None:
    """Limits of the machine, and faults of one connection that is just being made, leave the others open."""

    def accept() -> None:
        raise OSError(number, os.strerror(number))

    worker, listener = idle_worker(), cast("socket.socket", SimpleNamespace(accept=accept))
    worker.accept(listener)
    assert worker.nr_conns == 0


def test_a_connection_that_cannot_be_watched_is_closed_alone() -> None:
    """The system bounds how many a user may watch: beyond it newcomers go, and the process with all others stays."""

    def register(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    worker = idle_worker()
    worker.poller = SimpleNamespace(register=register)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        client.settimeout(10)
        worker.accept(listener)
        assert client.recv(1) == b""
    assert worker.nr_conns == 0
    assert not worker.pending_conns


@contextlib.contextmanager
def parsed(data: bytes) -> Iterator[SimpleNamespace]:
    """A connection whose requests are all here, as the main loop hands it to a thread."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        parser = RequestParser(Config(), ours, ("127.0.0.1", 1))
        parser.unreader = Whole(ours, data)
        yield SimpleNamespace(parser=parser, sock=ours)


def request_of(body: bytes) -> bytes:
    """A request with a body of a declared length."""
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_a_large_body_is_not_copied_at_each_read() -> None:
    """One of 64 MB would keep a thread busy for half a minute: the parser copies all that it holds at each of them."""
    body = os.urandom(4 * 1024 * 1024)
    with parsed(request_of(body)) as conn:
        stream = next(conn.parser).body
        read = []
        while piece := stream.read(65536):
            read.append(piece)
            assert len(conn.parser.unreader.buf.getvalue()) < 1024 * 1024
    assert b"".join(read) == body


@pytest.mark.parametrize(("size", "read"), [(10, False), (10, True), (300_000, True)])
def test_a_request_behind_a_body_is_answered(size: int, read: bool) -> None:
    """It is here already: nothing more comes that would wake somebody for it, also when nobody read that body."""
    following = request_of(b"y" * size)
    with parsed(request_of(b"x" * size) + following) as conn:
        stream = next(conn.parser).body
        assert not read or stream.read() == b"x" * size
        worker = SimpleNamespace()
        assert PatientWorker._keepalive_after(cast("PatientWorker", worker), cast("Any", conn), keepalive=True)
        assert conn.parser.unreader.buf.getvalue() == following
        assert conn.parser.unreader.take_buffered() == following


def idle_worker() -> PatientWorker:
    """The main loop's side of a process that has no connections yet."""
    worker = PatientWorker.__new__(PatientWorker)
    worker.cfg, worker.log = Config(), logging.getLogger("test")
    worker.nr_conns, worker.worker_connections = 0, 10
    worker.pending_conns, worker._leaving = deque(), deque()
    return worker


def test_a_stop_before_it_listens_is_an_orderly_one() -> None:
    """A process that is told to stop while it starts opens its door and closes it, once, however often it is told."""
    with socket.create_server(("127.0.0.1", 0)) as listener, selectors.DefaultSelector() as poller:
        worker = PatientWorker.__new__(PatientWorker)
        worker.sockets, worker.poller = [listener], poller
        worker.alive = worker._accepting = False
        worker.nr_conns, worker.worker_connections = 0, 1
        for enabled in (True, False, False):
            worker.set_accept_enabled(enabled)
        assert listener.fileno() == -1
        assert not poller.get_map()
