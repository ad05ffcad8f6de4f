"""Answers that come compressed, although every call says that it wants them plain."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest

from handlers import OutcomeUnknown
from handlers import _http as http
from tests.handlers.fake_provider import Answer, FakeProvider


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """The provider's side."""
    with FakeProvider() as provider:
        yield provider


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
def test_an_answer_that_was_packed_unasked_is_read(remote: FakeProvider, coding: str) -> None:
    """The id of what was bought is not lost because something on the way compresses whatever passes."""
    packed = gzip.compress(b'{"id":"t-1"}')
    remote.answer(Answer(packed, headers={"Content-Encoding": coding}))
    assert http.ProviderSession(remote.url, "Somebody").post("/", starts_work=True).json_object() == {"id": "t-1"}
    remote.answer(Answer(b'{"id":"t-1"}', headers={"Content-Encoding": coding}))  # a label that is wrong
    assert http.ProviderSession(remote.url, "Somebody").post("/", starts_work=True).json_object() == {"id": "t-1"}
    for damaged in (packed[:-9], packed[:12] + b"!" + packed[13:], packed + packed):
        remote.answer(Answer(damaged, headers={"Content-Encoding": coding}))
        answer = http.ProviderSession(remote.url, "Somebody").post("/", starts_work=True)
        assert answer.json_object() in (None, {"id": "t-1"})


def test_a_small_answer_that_unpacks_without_end_is_cut_off(
    remote: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of an answer's size holds for what comes out of it, before it is in memory."""
    monkeypatch.setattr(http, "MAX_ANSWER", 1000)
    remote.answer(Answer(gzip.compress(b"x" * 1001), headers={"Content-Encoding": "gzip"}))
    with pytest.raises(OutcomeUnknown, match="larger"):
        http.ProviderSession(remote.url, "Somebody").post("/", starts_work=True)
    remote.answer(Answer(gzip.compress(b"x" * 1000), headers={"Content-Encoding": "gzip"}))
    assert http.ProviderSession(remote.url, "Somebody").get("/").body == b"x" * 1000
