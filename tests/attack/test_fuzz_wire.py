"""Generated requests: what the gate lets through, the server's parser can judge without waiting for its sender."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.message import Request
from gunicorn.http.unreader import Unreader
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.web.incoming import HEAD_LIMIT, Arrival, Incoming
from tests.attack.effort import effort
from tests.attack.malformed import HEADS

LIMIT = 200


class Waited(Exception):
    """The parser asked for bytes that have not come."""


class Held(Unreader):
    """What the gate has collected, and nothing after it."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def chunk(self, size_hint: Any = None) -> bytes:
        if not self._data:
            raise Waited
        data, self._data = self._data, b""
        return data


def parse(data: bytes) -> tuple[bytes, bytes]:
    """Read a request and at most one byte more of its body than is allowed, as the application does.

    Gives the body, and what is left for the next request.
    """
    request = Request(Config(), Held(data), ("127.0.0.1", 1))
    declared = dict(request.headers).get("CONTENT-LENGTH")
    body = request.body.read(LIMIT + 1) if declared is None or int(declared) <= LIMIT else b""
    return body, request.unreader.take_buffered()


def verdict(data: bytes) -> tuple[bytes, bytes] | None:
    """What the parser reads, or None when it refuses."""
    try:
        return parse(data)
    except Exception:  # noqa: BLE001  whatever it finds wrong
        return None


NAMES = st.sampled_from(
    [b"Content-Length", b"content-LENGTH", b"Transfer-Encoding", b"Expect", b"Host", b"X", b"X_Y", b"", b"\xff", b" "]
)
VALUES = st.one_of(
    st.sampled_from(
        [b"0", b"5", b"05", b"10", b"200", b"201", b"-1", b"+5", b"5, 5", b"\xb2", b"5 ", b"chunked", b"Chunked",
         b"gzip, chunked", b"chunked, gzip", b"identity", b"100-continue", b"", b"\x0b5", b"9" * 30]
    ),
    st.binary(max_size=6),
)  # fmt: skip
COLON = st.sampled_from([b": ", b":", b":\t", b" :", b"", b": \r\n "])
BREAK = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b""])
CHUNK_SIZE = st.sampled_from(
    [b"0", b"1", b"5", b"00", b"a", b"5 ", b"5;x=1", b"5 ;x", b"-1", b"0x5", b"", b"ffff", b"g"]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, mostly lawful, with a fault here and there."""
    method = draw(st.sampled_from([b"POST", b"GET", b"PUT", b"post", b"", b"\r\nPOST"]))
    path = draw(st.sampled_from([b"/callbacks/topview/x", b"/v1/tasks", b"*", b"/\xff", b""]))
    data = method + b" " + path + b" HTTP/" + draw(st.sampled_from([b"1.1"] * 6 + [b"1.0", b"2.0", b"x"]))
    for _ in range(draw(st.integers(0, 4))):
        data += draw(BREAK) + draw(NAMES) + draw(COLON) + draw(VALUES)
    data += draw(BREAK) + draw(BREAK)
    for _ in range(draw(st.integers(0, 4))):
        size = draw(CHUNK_SIZE)
        content = b"x" * int(size.split(b";")[0] or b"0", 16) if size in (b"1", b"5", b"a", b"5;x=1") else b""
        data += size + draw(BREAK) + content + draw(BREAK)
    return data + draw(st.one_of(st.just(b""), st.just(b"0\r\n\r\n"), st.binary(max_size=12)))


def collect(data: bytes, cuts: list[int]) -> tuple[Arrival, bytes, bytes]:
    """What the gate says at the end, what it has collected by then, and what has not been looked at."""
    incoming, arrival, start = Incoming(LIMIT), Arrival.MORE, 0
    for end in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        if end > start and arrival is Arrival.MORE:
            arrival = incoming.take(data[start:end])
            start = end
    return arrival, incoming.whole(), data[start:]


@effort(400)
@given(requests(), st.lists(st.integers(0, 10_000), max_size=5))
@example(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 8300 + b"5\r\nxx", [])
@example(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nxxxxx", [30, 60])
def test_a_thread_never_waits_for_a_sender(data: bytes, cuts: list[int]) -> None:
    """Whatever is let through is whole, or wrong in a way that shows: the parser asks for nothing more."""
    arrival, held, _ = collect(data, cuts)
    if arrival is Arrival.READY:
        try:
            parse(held)
        except Waited:
            raise AssertionError(f"the parser waits after {held!r}") from None
        except (NoMoreData, StopIteration):
            raise AssertionError(f"the parser finds no request in {held!r}") from None
        except Exception:  # noqa: BLE001  # it refuses, which is an answer
            return


@effort(400)
@given(requests(), st.lists(st.integers(0, 10_000), max_size=5))
def test_what_is_let_through_is_read_as_it_came(data: bytes, cuts: list[int]) -> None:
    """Putting chunks together changes no body and no end of a request, and makes nothing lawful that was not."""
    arrival, held, unseen = collect(data, cuts)
    if arrival is Arrival.READY:
        assert verdict(held + unseen) == verdict(data)


def test_chunks_of_a_byte_each_reach_the_parser_as_one() -> None:
    """It would copy all the rest for each of them, and one request would keep it busy for minutes."""
    incoming = Incoming(100_000)
    begin = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    end = b"0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    assert incoming.take(begin + b"1\r\nx\r\n" * 10_000 + b"1;a=b") is Arrival.MORE
    assert incoming.take(b"\r\ny\r\n" + b"1\r\nx\r\n" * 10_000 + end) is Arrival.READY
    assert incoming.whole() == begin + b"4e21\r\n" + b"x" * 10_000 + b"y" + b"x" * 10_000 + b"\r\n" + end


def test_chunks_of_an_upload_that_came_with_its_head_reach_the_parser_as_one() -> None:
    """Nobody waits for the others, and who expects a go-ahead gets it from the server, which checks the key first."""
    begin = b"POST /v1/uploads HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    incoming = Incoming(LIMIT)
    assert incoming.take(begin) is Arrival.READY
    assert (incoming.whole(), incoming.expects_continue) == (begin, False)
    incoming = Incoming(100_000)
    assert incoming.take(begin + b"1\r\nx\r\n" * 10_000 + b"1\r\n") is Arrival.READY
    assert incoming.whole() == begin + b"2710\r\n" + b"x" * 10_000 + b"\r\n" + b"1\r\n"


@effort(300)
@given(requests(), st.lists(st.integers(0, 10_000), max_size=8))
def test_it_does_not_matter_how_a_request_is_cut(data: bytes, cuts: list[int]) -> None:
    """In one piece or in many, byte by byte even: it is let through, waited for or refused alike."""
    whole, in_pieces = collect(data, [])[0], collect(data, cuts)[0]
    byte_by_byte = collect(data, list(range(len(data))))[0]
    # A piece may bring the end of one request and the beginning of a faulty next one: then the first counts.
    assert in_pieces == whole
    assert byte_by_byte == whole


@effort(200)
@given(st.sampled_from(sorted(HEADS)), st.lists(st.integers(0, 10_000), max_size=4))
def test_malformed_requests_are_judged_or_refused(name: str, cuts: list[int]) -> None:
    """None of the known malformed requests is waited for without end or makes a thread wait."""
    data = HEADS[name].replace(b"PATH", b"/callbacks/topview/x").replace(b"SECOND", b"")
    arrival, held, _ = collect(data, cuts)
    if arrival is Arrival.READY:
        try:
            parse(held)
        except Waited:
            raise AssertionError(f"the parser waits after {held!r}") from None
        except Exception:  # noqa: BLE001  # it refuses, which is an answer
            return
    assert arrival is not Arrival.MORE or len(held) <= HEAD_LIMIT + 2 * LIMIT


@pytest.mark.parametrize(
    "coding", [b"gzip", b"identity", b"chunked, gzip", b"chunked\r\nTransfer-Encoding: gzip", b"x"]
)
def test_a_body_whose_end_nothing_tells_is_not_waited_for(coding: bytes) -> None:
    """Codings whose last is not ``chunked`` (RFC 9112 §6.3) are refused as soon as the head is here."""
    head = b"POST /callbacks/topview/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    arrival, held, _ = collect(head, [])
    assert arrival is Arrival.READY
    with pytest.raises(ParseException):
        parse(held)


def test_memory_is_bounded_whatever_comes() -> None:
    """Endless heads, endless chunk sizes, endless chunks, endless trailers: refused after a bounded number of bytes."""
    chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for begin, endless in (
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
        (b"", b"x"),
        (chunked, b"1\r\nx\r\n"),
        (chunked, b"0"),
        (chunked + b"0\r\n", b"X: y\r\n"),
        (chunked + b"ffffffffff\r\n", b"x"),
    ):
        incoming = Incoming(LIMIT)
        arrival, count = incoming.take(begin), 0
        while arrival is Arrival.MORE:
            arrival, count = incoming.take(endless * 10), count + 1
            assert len(incoming.data) < 3 * HEAD_LIMIT, begin
        assert arrival in (Arrival.HEAD_TOO_LARGE, Arrival.BODY_TOO_LARGE, Arrival.MALFORMED)
