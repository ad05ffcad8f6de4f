"""A subscriber on the loopback interface that behaves as badly as it is told to.

    with Subscriber(answer(500), answer(200)) as subscriber:
        ...POST to subscriber.url...
        subscriber.wait_for(2)[0].verify(secret)

Each request takes the next behaviour of the script; the last one repeats. Everything that was received
is kept raw. Behaviours that wait end when the subscriber is closed, so that no test sleeps.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import TracebackType
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks

from receiver import dialling
from receiver.addresses import AddressPolicy
from receiver.courier import Courier
from receiver.outbound import OutboundRequest, OutboundResult, post


@dataclass(frozen=True)
class Received:
    """One request as it came. ``headers``: names in lower case, in order, repeated ones repeated."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    raw: bytes
    at: float = field(default_factory=time.time)

    def header(self, name: str) -> str | None:
        """The one value of a header, or None; an AssertionError when it came twice."""
        values = [value for known, value in self.headers if known == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def verify(self, secret: str) -> None:
        """Verify the signature with the published libraries; raises their errors."""
        headers = dict(self.headers)
        standardwebhooks.Webhook(secret).verify(self.body.decode(), headers)
        svix.webhooks.Webhook(secret).verify(self.body, headers)

    def is_verified_by(self, secret: str) -> bool:
        """Whether the published libraries take it as signed with this secret."""
        try:
            self.verify(secret)
        except (standardwebhooks.WebhookVerificationError, svix.webhooks.WebhookVerificationError):
            return False
        return True


class Talk:
    """One connection, for a behaviour to spoil."""

    def __init__(self, sock: socket.socket, stopped: threading.Event, record: Callable[[Received], None]) -> None:
        self.sock = sock
        self._stopped = stopped
        self._record = record

    def read(self) -> Received | None:
        """Read and record the whole request; None when it ended early."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            piece = self.sock.recv(65536)
            if not piece:
                return None
            raw += piece
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
        size = int(dict(headers).get("content-length", "0"))
        while len(body) < size:
            piece = self.sock.recv(65536)
            if not piece:
                return None
            raw += piece
            body += piece
        received = Received(method, target, headers, body, raw)
        self._record(received)
        return received

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the subscriber is closed, or so many seconds; whether to go on."""
        return not self._stopped.wait(seconds)

    def pour(self, piece: bytes, every: float = 0.0) -> None:
        """Send a piece again and again until nobody takes it any more."""
        while not self._stopped.is_set():
            self.send(piece)
            if every:
                self._stopped.wait(every)

    def reset(self) -> None:
        """Make closing send a reset instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Behaviour = Callable[[Talk], None]


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer(status: int = 200, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Behaviour:
    """Take the request and answer it properly."""

    def behave(talk: Talk) -> None:
        if talk.read() is not None:
            own = {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
            talk.send(_head(status, own) + body)

    return behave


def redirect(location: str, status: int = 302) -> Behaviour:
    """Send the client elsewhere."""
    return answer(status, {"Location": location})


def slowly(seconds: float, then: Behaviour | None = None) -> Behaviour:
    """Take the connection, wait, and only then behave."""

    def behave(talk: Talk) -> None:
        if talk.wait(seconds):
            (then or answer())(talk)

    return behave


def hang(talk: Talk) -> None:
    """Take the request and never answer."""
    talk.read()
    talk.wait()


def never_read(talk: Talk) -> None:
    """Take the connection, and nothing off it."""
    talk.wait()


def drip_read(talk: Talk) -> None:
    """Take the request a little at a time, never fast enough."""
    while talk.wait(0.02) and talk.sock.recv(4096):
        pass


def close(talk: Talk) -> None:
    """Take the request and close without a word."""
    talk.read()


def reset(talk: Talk) -> None:
    """Take the request and reset the connection."""
    talk.read()
    talk.reset()


def say(data: bytes, *, then_hang: bool = False) -> Behaviour:
    """Take the request and send exactly these bytes: garbage, half an answer, two answers ..."""

    def behave(talk: Talk) -> None:
        talk.read()
        talk.send(data)
        if then_hang:
            talk.wait()

    return behave


def pour(data: bytes, first: bytes = b"", every: float = 0.0) -> Behaviour:
    """Take the request, send ``first``, then ``data`` without end; ``every``: seconds between."""

    def behave(talk: Talk) -> None:
        talk.read()
        talk.send(first)
        talk.pour(data, every)

    return behave


def drip_headers(every: float = 0.02) -> Behaviour:
    """An answer whose headers never end, a few bytes at a time."""
    return pour(b"X: y\r\n", b"HTTP/1.1 200 OK\r\n", every)


def drip_body(every: float = 0.02, size: int = 1000) -> Behaviour:
    """An answer whose body comes a byte at a time."""
    return pour(b".", _head(200, {"Content-Length": str(size)}), every)


def huge_body(size: int = 10 * 1024**3) -> Behaviour:
    """An answer with a body of 10 GB, sent as fast as it is taken."""
    return pour(b"x" * 65536, _head(200, {"Content-Length": str(size)}))


def informational_flood(status: int = 100, every: float = 0.0) -> Behaviour:
    """Interim answers without end."""
    return pour(_head(status, {}), every=every)


class Subscriber:
    """The server: one thread that accepts, one for each connection, all ended by ``close``."""

    def __init__(self, *script: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        """``script``: a behaviour per connection, the last repeats; ``answer(200)`` when there is none."""
        self._script = list(script) or [answer()]
        self._tls = tls
        self._received: list[Received] = []
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)  # a worker dials hundreds at once
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.url = self.origin + "/hook"
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def requests(self) -> list[Received]:
        """All requests so far, in order of arrival."""
        with self._changed:
            return list(self._received)

    def script(self, *behaviours: Behaviour) -> None:
        """From now on behave so: a behaviour per connection, the last repeats."""
        with self._changed:
            self._script = list(behaviours)

    def wait_for(self, count: int, timeout: float = 10.0) -> list[Received]:
        """The requests, as soon as there are at least so many. AssertionError when they do not come."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self._received) >= count, timeout)
            assert came, f"{len(self._received)} of {count} requests came within {timeout:g} s"
            return list(self._received)

    def close(self) -> None:
        """End every connection and thread."""
        self._stopped.set()
        with contextlib.suppress(OSError):  # a connection of our own, so that the accepting thread looks up
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
        self._acceptor.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._stopped.is_set():
                sock.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:  # what breaks here is what the test is about
            sock.settimeout(10)
            if self._tls is None:
                self._behave(sock)
            else:
                with self._tls.wrap_socket(sock, server_side=True) as secured:
                    self._behave(secured)

    def _behave(self, sock: socket.socket) -> None:
        with self._changed:
            behaviour = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        behaviour(Talk(sock, self._stopped, self._record))

    def _record(self, received: Received) -> None:
        with self._changed:
            self._received.append(received)
            self._changed.notify_all()


@contextlib.contextmanager
def refused_port() -> Iterator[int]:
    """A port of the loopback interface that is ours but where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


Way = Callable[[OutboundRequest, AddressPolicy, ssl.SSLContext | None], OutboundResult]


def _alone(request: OutboundRequest, policy: AddressPolicy, tls: ssl.SSLContext | None) -> OutboundResult:
    return post(request, policy, tls=tls)


def carry(courier: Courier, request: OutboundRequest) -> Future[OutboundResult]:
    """Send a request; its result when it comes."""
    came: Future[OutboundResult] = Future()

    def done(result: OutboundResult | None, problem: BaseException | None) -> None:
        if result is None:
            came.set_exception(problem)
        else:
            came.set_result(result)

    courier.send(request, done)
    return came


def _carried(request: OutboundRequest, policy: AddressPolicy, tls: ssl.SSLContext | None) -> OutboundResult:
    courier = Courier("courier", policy, tls)
    try:
        return carry(courier, request).result(request.deadline + 10)
    finally:
        courier.close()


@pytest.fixture(params=[_alone, _carried], ids=["alone", "carried"])
def way(request: pytest.FixtureRequest) -> Way:
    """The two ways in which a request goes out: from the caller's thread, and with others by a courier."""
    chosen: Way = request.param
    return chosen


def stay_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in a test, nothing outside this machine's loopback interface is dialled."""
    real = dialling._connect

    def connect(family: socket.AddressFamily, sockaddr: tuple[Any, ...], timeout: float) -> socket.socket:
        assert ip_address(sockaddr[0]).is_loopback
        return real(family, sockaddr, timeout)

    monkeypatch.setattr(dialling, "_connect", connect)
