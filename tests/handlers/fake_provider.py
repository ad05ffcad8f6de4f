"""A provider on loopback that answers as it is told and remembers every byte it was sent.

Use it as a context manager and give its ``url`` to a handler as ``base_url``::

    with FakeProvider() as provider:
        provider.answer(json_answer({"code": "200"}), Reset())     # in this order, the last repeats
        provider.answer(lambda request: json_answer({"path": request.path}))   # or decide per request
        ...
        provider.requests[0].header("Authorization"), provider.requests[0].body

Beside ``Answer`` (an HTTP answer) it can ``Reset`` the connection after reading the request, ``Hang``
(read it and say nothing), ``Close`` (hang up politely without an answer), ``Cut`` (promise a longer
body than it sends), ``Stall`` (send half the body, then nothing), ``Drip`` (send the body, or the
headers, a few bytes at a time, for ever), ``Flood`` (send something as fast as it is read, for ever) and
send something ``Interim`` before the answer.
``FakeProvider(tls=context)`` speaks TLS.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """One request as it came: the head's spelling is kept, the body is raw."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    raw: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The decoded query parameters."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def header(self, name: str) -> str | None:
        """The value of a header, whatever its spelling, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer with exactly this body; ``hang_up``: without a word of warning afterwards."""

    body: bytes = b"{}"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    hang_up: bool = False

    def head(self, length: int) -> bytes:
        """Status line and headers for a body of this many bytes."""
        lines = [f"HTTP/1.1 {self.status} Whatever", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass(frozen=True)
class Reset:
    """Read the request, then break the connection (RST)."""


@dataclass(frozen=True)
class Hang:
    """Read the request, then say nothing until the provider is shut down."""


@dataclass(frozen=True)
class Close:
    """Read the request, then hang up without an answer."""


@dataclass(frozen=True)
class Cut:
    """Promise the whole body and send half of it, then hang up."""

    answer: Answer


@dataclass(frozen=True)
class Stall:
    """Promise the whole body, send half of it, then say nothing until the provider is shut down."""

    answer: Answer


@dataclass(frozen=True)
class Drip:
    """Promise a large body and send a byte of it (or a header, if ``headers``) every ``pause`` seconds."""

    answer: Answer = field(default_factory=Answer)
    pause: float = 0.02
    headers: bool = False


@dataclass(frozen=True)
class Interim:
    """Send the head of an interim answer (1xx), ``times`` over, and the answer itself ``pause`` seconds later."""

    status: int
    answer: Answer
    pause: float = 0.1
    times: int = 1


@dataclass(frozen=True)
class Flood:
    """Send the beginning of an answer, then this without end."""

    beginning: bytes
    then: bytes


Behaviour = Answer | Reset | Hang | Close | Cut | Stall | Drip | Flood | Interim
Script = Behaviour | Callable[[Request], Behaviour]


def json_answer(value: Any, status: int = 200, **headers: str) -> Answer:
    """An answer with this value as compact JSON; ``retry_after="7"`` gives the header Retry-After."""
    extra = {name.replace("_", "-"): text for name, text in headers.items()}
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return Answer(body, status, {"Content-Type": "application/json", **extra})


HTML_500 = Answer(b"<html><body>Internal Server Error</body></html>", 500, {"Content-Type": "text/html; charset=utf-8"})


def unreachable_url() -> str:
    """The URL of a loopback port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


class FakeProvider:
    """The server. Threads: one accepts, one per connection; all end when the context ends."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Request] = []
        self.accepted = 0  # connections so far
        self.hung_up = threading.Event()  # some connection has ended on our side
        self._script: list[Script] = [Answer()]
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> FakeProvider:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):  # wakes accept()
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        self._listener.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(5)

    def answer(self, *script: Script) -> None:
        """Forget what was asked so far, and answer from now on in this order; the last one repeats."""
        with self._lock:
            self.requests = []
            self._script = list(script)

    @property
    def last(self) -> Request:
        """The newest request."""
        return self.requests[-1]

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._secure(connection)
        finally:
            self.hung_up.set()

    def _secure(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                self._converse(connection)
                return
            with self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
                with self._lock:
                    self._connections.append(secured)
                secured.do_handshake()
                self._converse(secured)

    def _converse(self, connection: socket.socket) -> None:
        while not self._over.is_set() and (request := _read_request(connection)):
            with self._lock:
                self.requests.append(request)
                step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
            if not self._behave(connection, step if not callable(step) else step(request)):
                return

    def _behave(self, connection: socket.socket, step: Behaviour) -> bool:
        """Do it; whether the connection can serve another request."""
        match step:
            case Answer():
                connection.sendall(step.head(len(step.body)) + step.body)
                return not step.hang_up
            case Reset():
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case Hang():
                self._over.wait()
            case Cut(answer):
                connection.sendall(answer.head(len(answer.body)) + answer.body[: len(answer.body) // 2])
            case Stall(answer):
                connection.sendall(answer.head(len(answer.body)) + answer.body[: len(answer.body) // 2])
                self._over.wait()
            case Drip(answer, pause, headers):
                connection.sendall(answer.head(1_000_000)[: -2 if headers else None])
                while not self._over.wait(pause):
                    connection.sendall(b"X-More: 1\r\n" if headers else b" ")
            case Flood(beginning, then):
                connection.sendall(beginning)
                while not self._over.is_set():
                    connection.sendall(then)
            case Interim(status, answer, pause, times):
                connection.sendall(f"HTTP/1.1 {status} Meanwhile\r\nLink: </a>\r\n\r\n".encode() * times)
                self._over.wait(pause)
                connection.sendall(answer.head(len(answer.body)) + answer.body)
                return True
            case Close():
                pass
        return False


def _read_request(connection: socket.socket) -> Request | None:
    """The next request of a connection, or None when the client has hung up."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        part = connection.recv(65536)
        if not part:
            return None
        raw += part
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    while len(body) < length:
        part = connection.recv(65536)
        if not part:
            return None
        body += part
    method, target, _ = first.split(" ", 2)
    return Request(method, target, headers, body, head + b"\r\n\r\n" + body)
