"""One guarded HTTP request to an address that a user chose: a delivery's POST, an upload's PUT.

The only way to subscribers. It holds what a general HTTP client does not:

* A forbidden address is never dialled (``receiver.dialling`` judges and dials). The TLS name and the Host
  header stay the name's. Redirects are not followed; proxies and ``.netrc`` of the environment are never
  looked at.
* One deadline on the wall clock holds for all of it together, a body that drips a byte at a time included.
* An answer is bounded in every direction (``receiver.answers``), and never decompressed.

A failure of the network is an answer here, not an exception: the caller records it and tries again.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO, Literal

from handlers import record
from receiver.addresses import AddressPolicy, BadUrl, ForbiddenAddress, Target, parse_url
from receiver.answers import Answer, NothingCame, receive
from receiver.dialling import Failure, OutboundError, connect
from receiver.reactor import run, send
from receiver.tls import Tls

DEADLINE = 15.0
"""Seconds for one request, where the caller does not say otherwise."""

_PIECE = 64 * 1024
_target_of = lru_cache(1024)(parse_url)


@record
class OutboundRequest:
    """What to send. Raises ValueError for another method, or a file without its size.

    ``headers``: beside Host, Content-Length, Connection and Accept-Encoding, which are ours.
    ``body``: bytes, or a binary file of which the next ``body_size`` bytes are sent.
    ``deadline``: seconds for everything from the look-up of the name to the end of the answer.
    ``owner``: for whom it is sent. An open connection serves one owner only: what a server says once too often
    could be taken for the answer to the next request.
    """

    method: Literal["POST", "PUT"]
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | BinaryIO = field(repr=False)
    deadline: float = DEADLINE
    body_size: int | None = None
    owner: str = ""

    def __post_init__(self) -> None:
        if self.method not in ("POST", "PUT"):
            raise ValueError("the method is POST or PUT")
        if not isinstance(self.body, bytes) and self.body_size is None:
            raise ValueError("the body is a file: say how many bytes of it to send in body_size")


@record
class OutboundResult:
    """What came of a request.

    ``status``: of the answer, 100 to 999, or None when none came. ``headers``: a few of note, names in
    lower case, values cut to 1 KiB. ``body``: the first 16 KiB as text; what is not UTF-8, and NUL, which
    no database takes, shows as replacement characters. ``error``: None when the answer came complete (or
    past 16 KiB); whether its status is good is for the caller to say. ``message``: one sentence for people.
    """

    status: int | None
    headers: Mapping[str, str]
    body: str
    error: OutboundError | None
    message: str
    duration_ms: int


@dataclass(slots=True, eq=False)
class Connection:
    """A connection to a target. ``tls``: None for http. ``opened``, ``idle_since``: on ``time.monotonic``'s clock."""

    sock: socket.socket
    tls: Tls | None
    opened: float
    idle_since: float = 0.0

    def close(self) -> None:
        """Hang up."""
        self.sock.close()


class Connections:
    """Where requests get their connections: here a new one for each, closed behind it."""

    kept = False
    """Whether a connection may serve another request; the other side is told when not."""

    def __init__(self, policy: AddressPolicy, tls: ssl.SSLContext | None, trusted_origin: str | None = None) -> None:
        """``policy``, ``tls``, ``trusted_origin``: as for ``post``."""
        self._policy = policy
        self._tls = tls
        self._trusted = trusted_origin

    async def dial(self, target: Target, until: float) -> Connection:
        """A new connection. Raises ForbiddenAddress and Failure."""
        trusted = self._trusted is not None and parse_url(self._trusted).origin == target.origin
        sock, tls = await connect(target, None if trusted else self._policy, self._tls, until)
        return Connection(sock, tls, time.monotonic())

    def idle(self, _owner: str, _target: Target) -> Connection | None:
        """A connection that is open already and does nothing, or None."""
        return None

    def give_back(self, _owner: str, _target: Target, connection: Connection) -> None:
        """An exchange over this connection has ended cleanly."""
        connection.close()

    def give_up(self, _owner: str, _target: Target) -> None:
        """A connection to this place has gone silent, and those that do nothing may be dead as well."""


def post(
    request: OutboundRequest,
    policy: AddressPolicy,
    *,
    trusted_origin: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> OutboundResult:
    """Send one request and give what came of it; a failing network raises nothing. Thread-safe; blocks.

    ``policy``: which addresses may be dialled. ``trusted_origin``: one ``scheme://host:port`` that the
    operator has configured and that is dialled wherever it leads. ``tls``: instead of the default
    context (certificates checked against the system's and Mozilla's authorities).
    Raises what reading a body from a file raises, and ValueError when that file is too short.
    """
    return run(exchange(request, Connections(policy, tls, trusted_origin)))


async def exchange(request: OutboundRequest, connections: Connections) -> OutboundResult:
    """The steps of one request, for ``receiver.reactor``; gives and raises what ``post`` does."""
    started = time.monotonic()
    until = started + request.deadline
    answer = Answer()
    error: OutboundError | None = None
    try:
        target = _target_of(request.url)
        head = _head(request, target, kept=connections.kept)
        await _converse(request, target, head, connections, until, answer)
        message = f"Answered with HTTP {answer.status}."
    except BadUrl as problem:
        error, message = OutboundError.INVALID_REQUEST, str(problem)
    except ForbiddenAddress as problem:
        error, message = OutboundError.FORBIDDEN_ADDRESS, str(problem)
    except Failure as failure:
        error, message = failure.error, str(failure)
    return OutboundResult(
        status=answer.status,
        headers=answer.headers,
        body=answer.body.decode("utf-8", "replace").replace("\x00", "\ufffd"),
        error=error,
        message=message,
        duration_ms=round((time.monotonic() - started) * 1000),
    )


async def _converse(
    request: OutboundRequest, target: Target, head: bytes, connections: Connections, until: float, answer: Answer
) -> None:
    """Fill ``answer``, over a connection that is open already where there is one."""
    idle = connections.idle(request.owner, target)
    if idle is not None:
        try:
            await _ask(request, target, head, connections, idle, until, answer)
        except NothingCame:
            pass  # it was closed while it did nothing, as any server may: the request begins anew
        else:
            return
    fresh = await connections.dial(target, until)
    await _ask(request, target, head, connections, fresh, until, answer)


async def _ask(
    request: OutboundRequest,
    target: Target,
    head: bytes,
    connections: Connections,
    connection: Connection,
    until: float,
    answer: Answer,
) -> None:
    try:
        try:
            await _send(connection, _pieces(head, request), until)
        except Failure as untaken:
            await _receive_early(connection, until, answer, untaken)
        else:
            await receive(connection.sock, connection.tls, until, answer)
    except BaseException as problem:
        connection.close()
        if isinstance(problem, Failure) and problem.error is OutboundError.TIMEOUT:
            connections.give_up(request.owner, target)
        raise
    if answer.reusable:
        connections.give_back(request.owner, target, connection)
    else:
        connection.close()


async def _receive_early(connection: Connection, until: float, answer: Answer, untaken: Failure) -> None:
    """What was answered without reading all of the request, which was not taken. Raises Failure."""
    try:
        await receive(connection.sock, connection.tls, until, answer)
    except Failure:
        if answer.status is None:
            raise untaken from None
        raise
    answer.reusable = False


# --- The request -----------------------------------------------------------------------------------

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of one connection (RFC 9110, section 7.6.1), and what the sender alone can know; no caller sets them."""


def _head(request: OutboundRequest, target: Target, *, kept: bool) -> bytes:
    """Request line and headers; nothing that a caller gives can begin a line of its own."""
    size = len(request.body) if isinstance(request.body, bytes) else request.body_size
    lines = [
        f"{request.method} {target.path} HTTP/1.1",
        f"Host: {target.host_header}",
        "Accept-Encoding: identity",
        *(() if kept else ("Connection: close",)),
        f"Content-Length: {size}",
    ]
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in OURS:
            raise Failure(OutboundError.INVALID_REQUEST, f"The header {name!r} cannot be set.")
        if not _VALUE.fullmatch(value):
            raise Failure(
                OutboundError.INVALID_REQUEST,
                f"The value of the header {name} has characters that a header cannot carry.",
            )
        lines.append(f"{name}: {value}")
    if not any(name.lower() == "accept" for name in request.headers):
        lines.append("Accept: */*")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _pieces(head: bytes, request: OutboundRequest) -> Iterator[bytes]:
    """Head and body in pieces; what fits goes out together with the head, in one packet."""
    if isinstance(request.body, bytes):
        yield head + request.body[:_PIECE]
        for start in range(_PIECE, len(request.body), _PIECE):
            yield request.body[start : start + _PIECE]
        return
    yield head
    left = request.body_size or 0
    while left:
        piece = request.body.read(min(left, _PIECE))
        if not piece:
            raise ValueError("the file ended before body_size bytes were read")
        left -= len(piece)
        yield piece


async def _send(connection: Connection, pieces: Iterator[bytes], until: float) -> None:
    sock, tls = connection.sock, connection.tls
    for piece in pieces:
        try:
            if time.monotonic() >= until:
                raise TimeoutError
            await send(sock, piece if tls is None else tls.encrypt(piece), until)
        except TimeoutError:
            raise Failure(OutboundError.TIMEOUT, "The request was not taken before the deadline.") from None
        except OSError:
            return  # it may have answered before it closed (413, say): reading tells
