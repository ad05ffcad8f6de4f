"""One guarded HTTP request to an address that a user chose: a delivery's POST, an upload's PUT.

The only way to subscribers. It holds what a general HTTP client does not:

* A forbidden address is never dialled (``receiver.dialling`` judges and dials). The TLS name and the Host
  header stay the name's. Redirects are not followed; proxies and ``.netrc`` of the environment are never
  looked at.
* One deadline on the wall clock holds for all of it together, a body that drips a byte at a time included.
* An answer is bounded in every direction: 64 KiB of head, 16 KiB of body, never decompressed.

A failure of the network is an answer here, not an exception: the caller records it and tries again.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, BinaryIO, Literal, cast

from receiver.addresses import AddressPolicy, BadUrl, ForbiddenAddress, Target, parse_url
from receiver.dialling import Deadline, Failure, OutboundError, connect

DEADLINE = 15.0
"""Seconds for one request, where the caller does not say otherwise."""
MAX_HEAD = 64 * 1024
"""Bytes of status line and headers, interim answers included."""
MAX_BODY = 16 * 1024
"""Bytes of an answer's body that are read; the connection is closed on the rest."""

_MAX_FRAMING = 256 * 1024  # bytes off the wire for those 16 KiB, however small the chunks they come in
_MAX_HEADER_VALUE = 1024
_PIECE = 64 * 1024
_HEADERS_OF_NOTE = (
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "location",
    "retry-after",
    "server",
    "x-request-id",
)


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """What to send. Raises ValueError for another method, or a file without its size.

    ``headers``: beside Host, Content-Length, Connection and Accept-Encoding, which are ours.
    ``body``: bytes, or a binary file of which the next ``body_size`` bytes are sent.
    ``deadline``: seconds for everything from the look-up of the name to the end of the answer.
    """

    method: Literal["POST", "PUT"]
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | BinaryIO = field(repr=False)
    deadline: float = DEADLINE
    body_size: int | None = None

    def __post_init__(self) -> None:
        if self.method not in ("POST", "PUT"):
            raise ValueError("the method is POST or PUT")
        if not isinstance(self.body, bytes) and self.body_size is None:
            raise ValueError("the body is a file: say how many bytes of it to send in body_size")


@dataclass(frozen=True, slots=True)
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


def post(
    request: OutboundRequest,
    policy: AddressPolicy,
    *,
    trusted_origin: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> OutboundResult:
    """Send one request and give what came of it; a failing network raises nothing. Thread-safe.

    ``policy``: which addresses may be dialled. ``trusted_origin``: one ``scheme://host:port`` that the
    operator has configured and that is dialled wherever it leads. ``tls``: instead of the default
    context (certificates checked against the system's and Mozilla's authorities).
    Raises what reading a body from a file raises, and ValueError when that file is too short.
    """
    started = time.monotonic()
    deadline = Deadline(started + request.deadline)
    answer = _Answer()
    error: OutboundError | None = None
    try:
        target = parse_url(request.url)
        trusted = trusted_origin is not None and parse_url(trusted_origin).origin == target.origin
        head = _head(request, target)
        with connect(target, None if trusted else policy, tls, deadline) as sock:
            _send(sock, _pieces(head, request), deadline)
            _receive(sock, request.method, deadline, answer)
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
        body=_storable(answer.body.decode("utf-8", "replace")),
        error=error,
        message=message,
        duration_ms=round((time.monotonic() - started) * 1000),
    )


class _TooMuch(Exception):
    """The other side sends more than we are willing to read."""


@dataclass(slots=True)
class _Answer:
    """What has come so far; kept also when the rest never comes."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


# --- The request -----------------------------------------------------------------------------------

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_OURS = frozenset(
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


def _head(request: OutboundRequest, target: Target) -> bytes:
    """Request line and headers; nothing that a caller gives can begin a line of its own."""
    size = len(request.body) if isinstance(request.body, bytes) else request.body_size
    lines = [
        f"{request.method} {target.path} HTTP/1.1",
        f"Host: {target.host_header}",
        "Accept-Encoding: identity",
        "Connection: close",
        f"Content-Length: {size}",
    ]
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
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


def _send(sock: socket.socket, pieces: Iterator[bytes], deadline: Deadline) -> None:
    for piece in pieces:
        try:
            rest = memoryview(piece)
            while rest:
                sock.settimeout(deadline.left())
                rest = rest[sock.send(rest) :]
        except TimeoutError:
            raise Failure(OutboundError.TIMEOUT, "The request was not taken before the deadline.") from None
        except OSError:
            return  # it may have answered before it closed (413, say): reading tells


# --- The answer ------------------------------------------------------------------------------------


class _Wire(io.RawIOBase):
    """Reads off a socket no longer than the deadline and no more than ``allowance`` bytes."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self.allowance = MAX_HEAD

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.allowance <= 0:
            raise _TooMuch
        self._sock.settimeout(self._deadline.left())
        count = self._sock.recv_into(buffer)
        self.allowance -= count
        return count


class _Reader(io.BufferedReader):
    """Stands in for a socket where http.client wants one; it and its answers do not close each other."""

    def makefile(self, _mode: str) -> _Reader:
        return self

    def close(self) -> None:
        return


def _receive(sock: socket.socket, method: str, deadline: Deadline, answer: _Answer) -> None:
    """Fill ``answer`` from the socket. Raises Failure."""
    wire = _Wire(sock, deadline)
    reader = _Reader(wire)
    response = _receive_head(reader, method)
    answer.status = response.status
    for name in _HEADERS_OF_NOTE:
        value = response.headers.get(name)
        if value is not None:
            answer.headers[name] = _storable(str(value)[:_MAX_HEADER_VALUE])
    wire.allowance = _MAX_FRAMING
    _receive_body(response, answer.body)


def _receive_head(reader: _Reader, method: str) -> http.client.HTTPResponse:
    try:
        while True:
            response = http.client.HTTPResponse(cast("Any", reader), method=method)
            response.begin()
            if response.status >= 200 or response.status == HTTPStatus.SWITCHING_PROTOCOLS:
                return response
    except TimeoutError:
        raise Failure(OutboundError.TIMEOUT, "No answer before the deadline.") from None
    except _TooMuch:
        raise Failure(
            OutboundError.INVALID_RESPONSE, f"The answer has more than {MAX_HEAD // 1024} KiB of headers."
        ) from None
    except OSError:
        raise Failure(OutboundError.CONNECTION_RESET, "The connection was closed before an answer came.") from None
    except (http.client.HTTPException, ValueError) as problem:
        raise Failure(
            OutboundError.INVALID_RESPONSE, f"The answer is not one of HTTP/1.1 ({type(problem).__name__})."
        ) from None


def _receive_body(response: http.client.HTTPResponse, body: bytearray) -> None:
    expected = response.length  # None: until the last chunk, or until the connection is closed
    try:
        while len(body) < MAX_BODY and (piece := response.read1(MAX_BODY - len(body))):
            body += piece
    except TimeoutError:
        raise Failure(
            OutboundError.BODY_TOO_SLOW,
            f"Answered with HTTP {response.status}, but the body was not complete before the deadline.",
        ) from None
    except _TooMuch:
        return
    except (OSError, http.client.HTTPException, ValueError):
        expected = None
        cut = True
    else:
        cut = expected is not None and len(body) < min(expected, MAX_BODY)
    if cut:
        raise Failure(
            OutboundError.BODY_CUT,
            f"Answered with HTTP {response.status}, but the body broke off.",
        )


def _storable(text: str) -> str:
    """Without NUL, which PostgreSQL refuses to store."""
    return text.replace("\x00", "\ufffd")
