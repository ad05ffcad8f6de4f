"""One request on its way in: whether all of it is here, so that a thread that takes it never waits for its sender.

Only framing is read (RFC 9112 §2, §6, §7), and only to know how much is still to come. What is wrong with a
request is for the server's own parser to say: anything odd counts as ready, unless that parser would have to
wait for more before it could refuse it.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from gunicorn.http.body import CHUNK_EXT_RE  # type: ignore[import-untyped]  # the library has no types

HEAD_LIMIT = 64 * 1024
"""Bytes of request line and headers (and of trailers). Nobody honest comes near it."""
STREAMED = re.compile(rb"(?:\r\n)*POST /v1/uploads[ ?]")
"""Requests whose bodies may be of any size: they are read by a thread, once their key has been checked."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([^\r\n]*)", re.IGNORECASE)
_CODED = re.compile(rb"\r\ntransfer-encoding:([^\r\n]*)", re.IGNORECASE)
_EXPECTATION = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]+)((?:[ \t]*;.*)?)", re.DOTALL)
_LINE_LIMIT = 8192  # of a chunk's size and extensions
_MOST_DIGITS = 4300  # beyond this, Python and so the parser refuse to read a number


class Arrival(Enum):
    """What is known of a request so far. The last four are its end; their names are the reason."""

    MORE = auto()
    READY = auto()
    MALFORMED = auto()
    HEAD_TOO_LARGE = auto()
    BODY_TOO_LARGE = auto()
    CROWDED = auto()  # too many wait before it


class Incoming:
    """Collects one request, and what may follow it on the same connection."""

    def __init__(self, body_limit: int) -> None:
        """``body_limit``: bytes of a body that is waited for; the application refuses what declares more."""
        self.data = bytearray()
        self.expects_continue = False
        """The sender waits for ``100 Continue`` before it sends the body. Who sends that sets it to False."""
        self._limit = body_limit
        self._head: int | None = None
        # With a declared length: where the body ends.
        self._until = 0
        # With chunks: where the next one begins, right behind the contents of those that have come; whether a thread
        # reads the rest, so that the last one is not waited for; and how many bytes were sizes and line ends.
        self._chunk: int | None = None
        self._streamed = False
        self._overhead = 0

    def take(self, piece: bytes) -> Arrival:
        """More bytes, as they came."""
        searched = len(self.data)
        self.data += piece
        if self._head is None:
            arrival = self._look_for_head(searched)
            if arrival is not Arrival.READY:
                return arrival
        if self._chunk is not None:
            arrival = self._look_for_last_chunk()
            return Arrival.READY if self._streamed else arrival
        return Arrival.READY if len(self.data) >= self._until else Arrival.MORE

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self._chunk is not None

    def whole(self) -> bytes:
        """All that has come, for the server's parser: chunks that were complete are one.

        That parser copies what is left of a request once for each chunk; of a byte each, a megabyte of them would
        keep it busy for minutes.
        """
        if self._head is None or self._chunk is None or self._chunk == self._head:
            return bytes(self.data)
        size = b"%x\r\n" % (self._chunk - self._head)
        head, body, rest = self.data[: self._head], self.data[self._head : self._chunk], self.data[self._chunk :]
        return b"".join((head, size, body, b"\r\n", rest))

    def split(self) -> tuple[bytes, bytes, bytes]:
        """Of a request that is here: head, body by its declared length, and what follows it. Not for a chunked one."""
        assert self._head is not None
        data = bytes(self.data)
        return data[: self._head], data[self._head : self._until], data[self._until :]

    def _look_for_head(self, searched: int) -> Arrival:
        while self.data.startswith(b"\r\n"):  # empty lines before a request are to be ignored
            del self.data[:2]
            searched = max(0, searched - 2)
        end = self.data.find(b"\r\n\r\n", max(0, searched - 3))
        length = end + 4 if end >= 0 else len(self.data)
        if _BARE_LF.search(self.data, searched, length):
            return Arrival.MALFORMED
        if length > HEAD_LIMIT:
            return Arrival.HEAD_TOO_LARGE
        if end < 0:
            return Arrival.MORE
        self._head = length
        self._read_framing(bytes(self.data[:length]))
        return Arrival.READY

    def _read_framing(self, head: bytes) -> None:
        lengths = _LENGTH.findall(head)
        self._until = len(head)
        if codings := _CODED.findall(head):
            chunked = codings[-1].rpartition(b",")[2].strip(b" \t").lower() == b"chunked"
            if chunked and not lengths:  # both together are refused at once, and so is a body whose end nothing tells
                self._chunk = len(head)
                self._streamed = STREAMED.match(head) is not None
        elif len(lengths) == 1:
            text = lengths[0].rstrip(b" \t")
            if text.isdigit() and len(text) <= _MOST_DIGITS and int(text) <= self._limit:
                self._until += int(text)
        if not self._streamed and (self._chunk is not None or self._until > len(self.data)):
            self._take_expectation(head)

    def _take_expectation(self, head: bytes) -> None:
        """The body is waited for here, so the go-ahead must be given here, and not again by the server."""
        found = _EXPECTATION.search(head)
        if found is None or b"HTTP/1.1\r\n" not in head:
            return
        self.expects_continue = True
        size = found.end() - found.start()
        del self.data[found.start() : found.end()]
        self._head = len(head) - size
        self._until -= size
        if self._chunk is not None:
            self._chunk -= size

    def _look_for_last_chunk(self) -> Arrival:
        """Go through the chunks that have come, and put the contents of those that are whole in their place."""
        assert self._head is not None
        assert self._chunk is not None
        contents: list[bytes] = []
        place, decoded = self._chunk, self._chunk - self._head
        arrival: Arrival | None = None
        while arrival is None:
            arrival, content, place = self._look_at_chunk(place, decoded)
            decoded += len(content)
            contents.append(content)
        self.data[self._chunk : place] = b"".join(contents)
        self._chunk = self._head + decoded
        return arrival

    def _look_at_chunk(self, place: int, decoded: int) -> tuple[Arrival | None, bytes, int]:
        """What the chunk at this place says of the request (None: look at the next), its content, and its end."""
        line_end = self.data.find(b"\r\n", place, place + _LINE_LIMIT)
        if line_end < 0:
            more = len(self.data) < place + _LINE_LIMIT
            return (Arrival.MORE if more else Arrival.MALFORMED), b"", place
        line = _CHUNK_LINE.fullmatch(self.data, place, line_end)
        if line is None or not CHUNK_EXT_RE.fullmatch(line[2]):
            return Arrival.READY, b"", place
        size = int(line[1], 16)
        if size == 0:
            return self._look_for_trailers(line_end + 2), b"", place
        begin, end = line_end + 2, line_end + 2 + size
        overhead = self._overhead + begin - place + 2
        if decoded + size > self._limit or overhead > self._limit + HEAD_LIMIT:
            return Arrival.BODY_TOO_LARGE, b"", place
        if len(self.data) < end + 2:
            return Arrival.MORE, b"", place
        if not self.data.startswith(b"\r\n", end):
            return Arrival.READY, b"", place
        self._overhead = overhead
        return None, bytes(self.data[begin:end]), end + 2

    def _look_for_trailers(self, start: int) -> Arrival:
        if self.data[start : start + 2] == b"\r\n":
            return Arrival.READY
        end = self.data.find(b"\r\n\r\n", start)
        if _BARE_LF.search(self.data, start, end if end >= 0 else len(self.data)):
            return Arrival.MALFORMED
        if (end if end >= 0 else len(self.data)) - start > HEAD_LIMIT:
            return Arrival.HEAD_TOO_LARGE
        return Arrival.READY if end >= 0 else Arrival.MORE
