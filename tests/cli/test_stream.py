"""Server-sent events: bytes in, events out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.cli.stream import EventReader, ServerEvent

STREAM = (
    b"retry: 2000\nid: evt_0\n\n"
    b": still here\n\n"
    b'id: evt_1\nevent: task.succeeded\ndata: {"a": "\xe2\x80\xa8 \xc3\xbc"}\n\n'
    b"id: evt_2\r\nevent: task.failed\r\ndata:x\r\ndata:  y\r\n\r\n"
    b"event: lonely\n\n"
    b"data: no type\r\r"
    b"id: evt_3\ndata: never ended"
)
EVENTS = [
    ServerEvent("evt_1", "task.succeeded", '{"a": "\u2028 ü"}'.encode()),
    ServerEvent("evt_2", "task.failed", b"x\n y"),
    ServerEvent("evt_2", "message", b"no type"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_the_cuts_between_pieces_do_not_matter(cuts: list[int]) -> None:
    """However the bytes arrive, the same events come out, byte for byte."""
    reader = EventReader()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        found += reader.feed(STREAM[start:end])
    assert found == EVENTS
    assert reader.retry_ms == 2000


def test_the_place_is_kept_for_a_reconnection() -> None:
    """An id without data says where the stream is; one whose event was cut off does not count."""
    reader = EventReader("evt_before")
    assert reader.last_id == "evt_before"
    reader.feed(b"id: evt_0\n\n")
    assert reader.last_id == "evt_0"
    reader.feed(b"id: evt_1\ndata: {")
    assert reader.last_id == "evt_0"


@pytest.mark.parametrize("line", [b"id: a\0b", b"retry: soon", b"unknown: x", b"nonsense"])
def test_lines_that_mean_nothing_are_passed_over(line: bytes) -> None:
    """What the standard says to ignore is ignored."""
    reader = EventReader("evt_before")
    assert reader.feed(line + b"\ndata: x\n\n") == [ServerEvent("evt_before", "message", b"x")]
    assert reader.retry_ms is None
