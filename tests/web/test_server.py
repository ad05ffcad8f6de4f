"""The web under gunicorn, in processes of its own, over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from receiver.config import Settings
from receiver.web.server import options
from tests.databases import Template, empty, on_sqlite
from tests.web.conftest import KEY, SAMPLE, set_environment

pytestmark = pytest.mark.process

LIMIT = 4096
PROGRAM = ["-m", "receiver.cli", "web"]
PATIENCE = 30.0


class Server:
    """A running web."""

    def __init__(self, program: Sequence[str] = PROGRAM, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        more = {"RECEIVER_BIND": f"127.0.0.1:{self.port}", "RECEIVER_MAX_BODY": str(LIMIT), **environment}
        more["RECEIVER_SHUTDOWN_TIMEOUT"] = str(4 * PATIENCE)
        self.process = subprocess.Popen(
            [sys.executable, *program],
            env={**os.environ, **more},
        )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, "the server ended"
            with contextlib.suppress(OSError):
                self.get("/healthz")
                return
            assert time.monotonic() < end
            time.sleep(0.05)

    def get(self, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        """A GET with the key."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
            answer = connection.getresponse()
            return answer, answer.read()

    def raw(self, request: bytes) -> bytes:
        """What comes back for these bytes, until the server hangs up or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            pieces = []
            with contextlib.suppress(OSError):
                while piece := connection.recv(65536):
                    pieces.append(piece)
            return b"".join(pieces)

    def children(self) -> set[int]:
        """The processes that serve now."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {int(pid) for pid in listed.split()}

    def stop(self) -> None:
        """SIGTERM; it has to end by itself, before it gives up slow senders, and long before it would be killed."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE * 2 / 3) == 0


@pytest.fixture
def server(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Two processes on the prepared database."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    running = Server(RECEIVER_WEB_PROCESSES="2")
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def chunked(path: str, body: bytes, *, end: bool = True) -> bytes:
    """A chunked POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + (b"0\r\n\r\n" if end else b"")


def status(answer: bytes) -> int:
    """The status of an answer."""
    return int(answer.split(b" ", 2)[1])


def test_over_real_sockets(server: Server) -> None:
    """No server header; chunked bodies whole or 413; cut bodies 400."""
    answer, _ = server.get("/healthz")
    assert "Server" not in answer.headers
    good = json.dumps(SAMPLE).encode()
    padded = good + b" " * (LIMIT - len(good))
    assert status(server.raw(chunked("/v1/tasks", padded))) == 202
    assert status(server.raw(chunked("/v1/tasks", padded + b" "))) == 413
    assert status(server.raw(chunked("/callbacks/topview/x", b"x" * (LIMIT + 1)))) == 413
    assert status(server.raw(chunked("/v1/tasks", good, end=False))) == 400
    lying = b"POST /callbacks/topview/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{}"
    assert status(server.raw(lying)) == 400


def test_counters_are_those_of_all_processes(server: Server) -> None:
    """Whichever process is asked, it knows what all have done; also those that have ended since."""
    for _ in range(20):
        server.get("/healthz")
    served = server.children()
    for child in served:
        os.kill(child, signal.SIGKILL)
    until = time.monotonic() + PATIENCE
    while len(server.children() - served) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    _, text = server.get("/metrics")
    wanted = 'receiver_http_requests_total{method="GET",route="/healthz",status="200"} '
    (line,) = [line for line in text.decode().splitlines() if line.startswith(wanted)]
    assert float(line.rpartition(" ")[2]) >= 21


def test_a_disk_that_fills_up_later_kills_no_process_that_serves(settings: Settings, tmp_path: Path) -> None:
    """Each has files of its own to count in, whoever named the folder, and takes their room when it starts."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    server = Server(RECEIVER_WEB_PROCESSES="2", PROMETHEUS_MULTIPROC_DIR=str(folder))
    files: list[os.stat_result] = []
    until = time.monotonic() + PATIENCE
    while len(files) < 2 * 4:
        assert time.monotonic() < until
        time.sleep(0.05)
        files = [path.stat() for child in server.children() for path in folder.glob(f"*_{child}.db")]
    server.get("/healthz")
    server.stop()
    assert all(file.st_blocks * 512 >= file.st_size for file in files), files


def test_a_parent_that_was_killed_leaves_no_counters_behind(settings: Settings, tmp_path: Path) -> None:
    """Those that it had forked end by themselves, and take the folder with them that they count in."""
    server = Server(RECEIVER_WEB_PROCESSES="2", TMPDIR=str(tmp_path))
    assert list(tmp_path.glob("receiver-metrics-*"))
    server.process.kill()
    server.process.wait()
    until = time.monotonic() + PATIENCE
    while list(tmp_path.glob("receiver-metrics-*")):
        assert time.monotonic() < until
        time.sleep(0.05)


@on_sqlite
def test_a_process_lives_while_its_threads_wait_for_the_database(settings: Settings, tmp_path: Path) -> None:
    """A database that stands still is no reason to restart: a sign of life is given though no thread is free."""
    server = Server(RECEIVER_WEB_THREADS="2")
    writer = sqlite3.connect(tmp_path / "receiver.db", isolation_level=None)
    with contextlib.closing(writer), ThreadPoolExecutor(8) as callers:
        writer.execute("BEGIN IMMEDIATE")
        answers = [callers.submit(server.raw, post_of(SAMPLE)) for _ in range(8)]
        time.sleep(1)
        assert server.get("/healthz")[0].status == 200
        assert not any(answer.done() for answer in answers)
        writer.execute("ROLLBACK")
        assert {status(answer.result()) for answer in answers} == {202}
    server.stop()


def post_of(task: dict[str, Any]) -> bytes:
    """A task as a request."""
    body = json.dumps(task).encode()
    head = f"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_a_stop_is_quick_even_with_waiting_callers(server: Server) -> None:
    """SIGTERM: streams and waits are answered and end at once, not when they are killed, and the exit is clean."""
    request = f"GET /v1/events{{}} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nAccept: {{}}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        callers: list[socket.socket] = []
        for query, accept in (("?after=&wait=60", "*/*"), ("", "text/event-stream")):
            caller = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            callers.append(stack.enter_context(caller))
            caller.sendall(request.format(query, accept).encode())
        assert callers[1].recv(100).startswith(b"HTTP/1.1 200")
        time.sleep(0.2)
        server.stop()
        received = b""
        while piece := callers[0].recv(65536):
            received += piece
        assert received.startswith(b"HTTP/1.1 200")
        assert b'"data":[]' in received


@pytest.mark.parametrize("head", [b"", b"TE: trailers\r\n"], ids=["plain", "odd"])
def test_senders_that_never_pause_do_not_keep_it_from_stopping(server: Server, head: bytes) -> None:
    """SIGTERM amid callbacks on kept connections: all that came is answered, the last with ``close``, and soon."""
    request = b"POST /callbacks/topview/x HTTP/1.1\r\nHost: x\r\n%sContent-Length: 2\r\n\r\n{}" % head
    with ThreadPoolExecutor(7) as pool, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        senders = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(6)]
        last = [pool.submit(_go_on, sender, request) for sender in senders]
        time.sleep(0.5)
        stopped = pool.submit(server.stop)
        assert all(b"connection: close" in answer.result().lower() for answer in last)
        with pytest.raises(ConnectionRefusedError):
            _dial(address)
        stopped.result()


def _dial(address: tuple[str, int]) -> None:
    """Dial for as long as somebody answers: of two processes one is the last to hear that it is to stop."""
    while True:
        socket.create_connection(address, timeout=PATIENCE).close()


def _go_on(sender: socket.socket, request: bytes) -> bytes:
    """Send a request as soon as the one before is answered; the last of what came before the connection ended."""
    answer = b""
    while True:
        try:
            sender.sendall(request)
            received = sender.recv(65536)
        except ConnectionError:
            received = b""
        if not received:
            return answer
        answer = (answer + received)[-1000:]


def test_two_idempotency_keys_are_not_taken_for_one(server: Server) -> None:
    """422 for two headers; one key may hold a comma."""
    body = json.dumps(SAMPLE)
    start = f"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    for keys, wanted in ((["x1", "x2"], 422), (["x1", "x1"], 422), (["x1,x2"], 202)):
        lines = "".join(f"Idempotency-Key: {key}\r\n" for key in keys)
        answer = server.raw(f"{start}{lines}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        assert status(answer) == wanted
        assert (b"Must be given once" in answer) is (wanted == 422)


@pytest.mark.usefixtures("settings")
def test_the_servers_own_lines_are_like_ours(capfd: pytest.CaptureFixture[str]) -> None:
    """In the format of the settings. Of a refused request they name the kind of its fault, and not each time."""
    server = Server()
    for _ in range(10):
        server.raw(b"GET /callbacks/topview/hunter1 HTTP/1.1\r\nNo name: hunter2\r\n\r\n")
    os.kill(min(server.children()), signal.SIGKILL)
    said, end = "", time.monotonic() + PATIENCE
    while "SIGKILL" not in said:
        assert time.monotonic() < end
        time.sleep(0.05)
        said += capfd.readouterr().err
    server.stop()
    lines = [json.loads(line) for line in said.splitlines()]
    assert {line["role"] for line in lines} == {"web"}
    assert [line["why"] for line in lines if line["event"] == "request refused"] == ["InvalidHeaderName"]
    assert "hunter" not in said


def test_a_start_is_told_and_what_it_lacks(
    database: str, template: tuple[Template, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Where it listens; and, once for all processes, that the schema is not up to date, with what to run."""
    with empty(database, tmp_path) as url:
        set_environment(monkeypatch, url, template[1])
        server = Server(RECEIVER_WEB_PROCESSES="2")
        said, end = "", time.monotonic() + PATIENCE
        while "schema" not in said:
            assert time.monotonic() < end
            time.sleep(0.05)
            said += capfd.readouterr().err
        server.stop()
    lines = [json.loads(line) for line in (said + capfd.readouterr().err).splitlines()]
    (started,) = [line for line in lines if line["event"] == "web started"]
    assert (started["address"], started["processes"]) == (f"http://127.0.0.1:{server.port}", 2)
    (warning,) = [line for line in lines if line["level"] == "warning"]
    assert "run receiver migrate" in warning["event"]


AT_REST = """
import gc
from receiver.config import read_settings
from receiver.web import server
given = server._post_worker_init
def told(worker):
    given(worker)
    print("looked through", len(gc.get_objects()), "spared", gc.get_freeze_count(), flush=True)
server._post_worker_init = told
server.serve(read_settings())
"""


@pytest.mark.usefixtures("settings")
def test_what_a_process_starts_with_is_not_looked_through_for_garbage(capfd: pytest.CaptureFixture[str]) -> None:
    """Going through all modules each time would stop every request for 25 ms and more, every few thousand of them."""
    Server(["-c", AT_REST]).stop()
    found = re.search(r"looked through (\d+) spared (\d+)", capfd.readouterr().out)
    assert found is not None
    assert int(found[2]) > 10 * int(found[1])


@pytest.mark.parametrize(
    ("bind", "shown"), [(("127.0.0.1", 8000), "127.0.0.1:8000"), (("::1", 80), "[::1]:80"), (("", 1), ":1")]
)
def test_the_options_follow_the_settings(settings: Settings, bind: tuple[str, int], shown: str) -> None:
    """Address, processes, threads and patience follow the settings, and nothing else that is installed or runs."""
    found = options(replace(settings, bind=bind, web_processes=3, web_threads=5, shutdown_timeout=7.4))
    assert (found["bind"], found["workers"], found["threads"], found["graceful_timeout"]) == ([shown], 3, 5, 7)
    assert (found["control_socket_disable"], found["http_parser"]) == (True, "python")


def test_the_file_for_gunicorn_gives_the_same_options(settings: Settings) -> None:
    """``deploy/gunicorn.conf.py`` does not drift away."""
    path = Path(__file__).parents[2] / "deploy" / "gunicorn.conf.py"
    found: dict[str, Any] = {"__name__": "conf"}
    exec(compile(path.read_text(), str(path), "exec"), found)
    assert {name: found[name] for name in options(settings)} == options(settings)
