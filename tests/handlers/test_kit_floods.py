"""Answers without end, sent as fast as anybody reads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from handlers import OutcomeUnknown, Unavailable, _deadline
from handlers import _http as http
from tests.handlers.fake_provider import Answer, FakeProvider, Flood

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "100": Flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "103": Flood(b"", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" * 1000),
    "chunks": Flood(CHUNKED, b"1\r\nx\r\n" * 1000),
    "extensions of chunks": Flood(CHUNKED, (b"1;" + b"a" * 60_000 + b"\r\nx\r\n") * 10),
    "trailers": Flood(CHUNKED + b"2\r\n{}\r\n0\r\n", b"A: b\r\n" * 1000),
}


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """The provider's side."""
    with FakeProvider() as provider:
        yield provider


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_is_given_up_long_before_the_call_s_time_is_over(remote: FakeProvider, flood: Flood) -> None:
    """A provider that sends without end and without an answer does not keep a processor busy until the deadline."""
    remote.answer(flood)
    caller = http.ProviderSession(remote.url, "Somebody", 600)
    with pytest.raises(OutcomeUnknown, match=r"pieces|bytes"):
        caller.post("/buy", starts_work=True)
    with pytest.raises(Unavailable, match=r"pieces|bytes"):
        caller.get("/ask")


class InChunks(Answer):
    """An answer whose body is chunked already, after some interim ones."""

    def head(self, length: int) -> bytes:
        """All that comes before the body."""
        return b"HTTP/1.1 102 Processing\r\n\r\n" * 50 + CHUNKED


def test_an_answer_in_many_small_chunks_is_read(remote: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest answer that is taken may come in chunks of half a KiB; here all limits are an eighth."""
    monkeypatch.setattr(_deadline, "MOST_STEPS", _deadline.MOST_STEPS // 8)
    monkeypatch.setattr(_deadline, "MOST_BYTES", _deadline.MOST_BYTES // 8)
    count = http.MAX_ANSWER // 8 // 512
    remote.answer(InChunks((b"200\r\n" + b"x" * 512 + b"\r\n") * count + b"0\r\n\r\n"), Answer(b"{}"))
    caller = http.ProviderSession(remote.url, "Somebody")
    assert caller.get("/").body == b"x" * 512 * count
    assert caller.get("/").json_object() == {}
