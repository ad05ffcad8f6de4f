"""The answer to one request, read off a connection: strict, and bounded in every direction.

Follows RFC 9112 (HTTP/1.1 messages). What it leaves open is read generously and costs only the reuse of the
connection, which goes on with the next request after an answer whose end is beyond doubt and nowhere else.
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus

from receiver import reactor
from receiver.dialling import Failure, OutboundError
from receiver.tls import Tls

MAX_HEAD = 64 * 1024
"""Bytes of status line and headers, interim answers included."""
MAX_BODY = 16 * 1024
"""Bytes of an answer's body that are read; the connection is closed on the rest."""

_MAX_FRAMING = 256 * 1024  # bytes off the wire for those 16 KiB, however small the chunks they come in
_PIECE = 16 * 1024
_MAX_HEADER_VALUE = 1024
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

_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: [^\n]*)?")
_HEAD_END = re.compile(rb"(?:\A|\n)\r?\n")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?")


@dataclass(slots=True)
class Answer:
    """What has come so far; kept also when the rest never comes.

    ``headers``: those of note, names in lower case, values cut to 1 KiB. ``reusable``: it has ended where
    it said it would, and the connection is ready for another request.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    reusable: bool = False


class NothingCame(Failure):
    """The connection, or TLS, ended before the first byte of an answer."""


class _TooMuch(Exception):
    """The other side sends more than we are willing to read."""


class _Cut(Exception):
    """The other side has ended before it was to."""


class _Wire:
    """What comes over a connection, until a time and within an allowance of bytes, as they are on the wire."""

    __slots__ = ("_sock", "_tls", "_until", "allowance", "held", "silent")

    def __init__(self, sock: socket.socket, tls: Tls | None, until: float) -> None:
        self._sock = sock
        self._tls = tls
        self._until = until
        self.allowance = MAX_HEAD
        self.held = bytearray()  # and not used yet
        self.silent = True

    async def more(self) -> bool:
        """Hold more; False at the end. Raises TimeoutError, OSError, _TooMuch."""
        piece = self._tls.decrypt(b"") if self._tls is not None else b""  # what came together with the handshake
        while piece == b"":
            if self.allowance <= 0:
                raise _TooMuch
            came = await reactor.receive(self._sock, min(_PIECE, self.allowance), self._until)
            if not came:
                return False
            self.allowance -= len(came)
            piece = came if self._tls is None else await self._decrypted(self._tls, came)
        if piece is None:
            return False
        self.silent = False
        self.held += piece
        return True

    async def _decrypted(self, tls: Tls, came: bytes) -> bytes | None:
        piece = tls.decrypt(came)
        if reply := tls.to_send():  # new keys, say
            await reactor.send(self._sock, reply, self._until)
        return piece

    @property
    def failure(self) -> type[Failure]:
        """The kind of failure that an end now is."""
        return NothingCame if self.silent else Failure

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left over, and more can come."""
        return not self.held and (self._tls is None or not self._tls.over)

    async def line(self) -> bytes:
        """The next line, without its end. Raises _Cut when the connection ends before that does."""
        seen = 0
        while (end := self.held.find(b"\n", seen)) < 0:
            seen = len(self.held)
            if not await self.more():
                raise _Cut
        found = bytes(self.held[:end]).removesuffix(b"\r")
        del self.held[: end + 1]
        return found


async def receive(sock: socket.socket, tls: Tls | None, until: float, answer: Answer) -> None:
    """Fill ``answer`` from the socket, which does not block. Raises Failure.

    ``until``: on the clock of ``time.monotonic``.
    """
    wire = _Wire(sock, tls, until)
    fields, version = await _receive_head(wire, answer)
    for name in _HEADERS_OF_NOTE:
        if name in fields:
            answer.headers[name] = fields[name][0][:_MAX_HEADER_VALUE].replace("\x00", "\ufffd")
    wire.allowance = _MAX_FRAMING
    try:
        complete = await _receive_body(wire, answer, fields)
    except TimeoutError:
        raise Failure(
            OutboundError.BODY_TOO_SLOW,
            f"Answered with HTTP {answer.status}, but the body was not complete before the deadline.",
        ) from None
    except _TooMuch:
        return
    except (OSError, _Cut):
        raise Failure(OutboundError.BODY_CUT, f"Answered with HTTP {answer.status}, but the body broke off.") from None
    kept = version >= 1 and not any("close" in value.lower() for value in fields.get("connection", ()))
    answer.reusable = complete and kept and wire.at_rest and answer.status != HTTPStatus.SWITCHING_PROTOCOLS


async def _receive_head(wire: _Wire, answer: Answer) -> tuple[dict[str, list[str]], int]:
    """The headers of the final answer, and the minor version of its HTTP/1."""
    try:
        while True:
            version, status = await _status_line(wire)
            fields = await _fields(wire)
            if status >= 200 or status == HTTPStatus.SWITCHING_PROTOCOLS:
                answer.status = status
                return fields, version
    except TimeoutError:
        raise Failure(OutboundError.TIMEOUT, "No answer before the deadline.") from None
    except _TooMuch:
        raise Failure(
            OutboundError.INVALID_RESPONSE,
            f"More than {MAX_HEAD // 1024} KiB came before the end of the answer's headers.",
        ) from None
    except ssl.SSLError as problem:  # in TLS 1.3 also: the certificate that we do not have
        reason = problem.reason or "no reason given"
        raise wire.failure(OutboundError.TLS_FAILURE, f"TLS failed before an answer came ({reason}).") from None
    except (OSError, _Cut):
        raise wire.failure(OutboundError.CONNECTION_RESET, "The connection was closed before an answer came.") from None


async def _status_line(wire: _Wire) -> tuple[int, int]:
    """Minor version and status. Raises Failure for what is no answer of HTTP/1, as soon as its first line is there."""
    try:
        line = await wire.line()
    except _Cut:
        if not wire.held:
            raise
        line = bytes(wire.held)  # somebody who speaks something else, and hangs up
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise Failure(OutboundError.INVALID_RESPONSE, "The answer is not one of HTTP/1.1.")
    return int(found[1]), int(found[2])


async def _fields(wire: _Wire) -> dict[str, list[str]]:
    """The headers up to the empty line: names in lower case, each with its values. Other lines are passed over."""
    seen = 0
    while (end := _HEAD_END.search(wire.held, seen)) is None:
        seen = max(len(wire.held) - 2, 0)
        if not await wire.more():
            raise _Cut
    text = wire.held[: end.start()].decode("latin-1")
    del wire.held[: end.end()]
    fields: dict[str, list[str]] = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon and not name[:1].isspace():
            fields.setdefault(name.strip().lower(), []).append(value.strip())
    return fields


async def _receive_body(wire: _Wire, answer: Answer, fields: dict[str, list[str]]) -> bool:
    """The body, as far as it is wanted; whether it came to the end that it said it would have.

    Raises TimeoutError, OSError, _TooMuch, and _Cut when it ends before that.
    """
    body = answer.body
    if answer.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED, HTTPStatus.SWITCHING_PROTOCOLS):
        # They have no body. Who announces one may send it all the same.
        return set(fields.get("content-length", ["0"])) == {"0"} and "transfer-encoding" not in fields
    if [value.lower() for value in fields.get("transfer-encoding", ())] == ["chunked"]:
        return await _receive_chunks(wire, body) and "content-length" not in fields
    lengths = [length.strip() for value in fields.get("content-length", ()) for length in value.split(",")]
    length = next(iter(lengths), "")  # of several that differ the first, and the connection ends with it
    if _LENGTH.fullmatch(length):
        await _receive_exactly(wire, body, int(length))
        return int(length) <= MAX_BODY and len(set(lengths)) == 1 and "transfer-encoding" not in fields
    while len(body) < MAX_BODY:  # without a length: all until the connection is closed
        body += wire.held[: MAX_BODY - len(body)]
        wire.held.clear()
        if len(body) < MAX_BODY and not await wire.more():
            break
    return False


async def _receive_exactly(wire: _Wire, body: bytearray, count: int) -> None:
    """So many bytes more, or what there is still room for."""
    count = min(count, MAX_BODY - len(body))
    while count > 0:
        if not wire.held and not await wire.more():
            raise _Cut
        piece = wire.held[:count]
        del wire.held[:count]
        body += piece
        count -= len(piece)


async def _receive_chunks(wire: _Wire, body: bytearray) -> bool:
    """Chunks up to the last one, or as far as there is room; whether it came to that and to the end of its trailers."""
    while True:
        size = _CHUNK_SIZE.fullmatch(await wire.line())
        if size is None:
            raise _Cut
        count = int(size[1], 16)
        if count == 0:
            break
        await _receive_exactly(wire, body, count)
        if len(body) >= MAX_BODY:
            return False
        if await wire.line():
            raise _Cut
    try:
        while await wire.line():
            pass
    except _Cut:
        return False  # all of the body has come
    return True
