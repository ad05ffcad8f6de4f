"""What was done to a body on its way is told in words, with and without the original at hand."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote_plus

import pytest

from receiver.verifying.bodies import first_difference, how_changed
from tests.verifying.test_examining import headers, look, text, wrong

SENT = (
    '{"type":"task.succeeded","timestamp":"2026-01-01T00:00:00.000Z",'
    '"data":{"id":"task_1","url":"https://x.test/a?b&c","word":"é","answer":{"z": 1.50, "a":2}}}\n'.encode().strip()
)
COMPACT = json.dumps(json.loads(SENT), separators=(",", ":"), ensure_ascii=False).encode()

ALWAYS = [
    (lambda body: body + b"\n", "newline at the end"),
    (lambda body: body + b"\r\n", "newline at the end"),
    (lambda body: b"\xef\xbb\xbf" + body, "byte order mark"),
    (lambda body: b"  " + body + b"  ", "White space"),
    (lambda body: body.decode("latin-1").encode(), "Latin-1"),
    (lambda body: json.dumps(body.decode()).encode(), "wrapped in quotes"),
    (lambda body: repr(body).encode(), "print bytes"),
    (base64.b64encode, "base64"),
    (lambda body: html.escape(body.decode()).encode(), "HTML"),
    (lambda body: quote_plus(body).encode(), "form"),
]
WITH_THE_ORIGINAL = [
    *[found for found in ALWAYS if found[1] != "White space"],
    (lambda body: json.dumps(json.loads(body)).encode(), "json.dumps"),
    (lambda body: COMPACT, "JSON.stringify"),
    (lambda body: json.dumps(json.loads(body), separators=(",", ":")).encode(), "escapes in place of letters"),
    (lambda body: json.dumps(json.loads(body), indent=2).encode(), "indented"),
    (lambda body: json.dumps(json.loads(body), sort_keys=True).encode(), "keys sorted"),
    (lambda body: json.dumps(json.loads(body), separators=(",", ":")).replace("/", "\\/").encode(), "PHP"),
    (lambda body: COMPACT.replace(b"&", b"\\u0026"), "Go"),
    (lambda body: json.dumps(json.loads(body), indent=3).encode(), "parsed the JSON and wrote it again"),
    (lambda body: json.dumps(json.loads(body)["data"]).encode(), "only the data"),
    (lambda body: body[:50], "was cut: 50 of"),
    (lambda body: body + b"more", "4 bytes were added"),
    (lambda body: body.replace(b"task_1", b"task_2"), "content was changed"),
    (lambda body: b"", "empty"),
]


@pytest.mark.parametrize(("alter", "said"), WITH_THE_ORIGINAL)
def test_what_was_done_is_told_from_both_bodies(alter: Callable[[bytes], bytes], said: str) -> None:
    """With the stored bytes at hand, each frequent change is called by its name and comes with advice."""
    change = how_changed(SENT, alter(SENT))
    assert said in change.what
    assert change.fix or "content was changed" in change.what


@pytest.mark.parametrize(("alter", "said"), ALWAYS)
def test_what_was_done_is_told_from_the_signature_alone(alter: Callable[[bytes], bytes], said: str) -> None:
    """When the event is gone, undoing frequent changes until the signature fits still tells what happened."""
    report = look(headers(body=SENT), alter(SENT), known=())
    assert wrong(report) == ["body"]
    assert said in report.headline


def test_a_body_that_was_written_again_is_told_from_the_signature_alone() -> None:
    """A compact original is found from any other writing of it."""
    report = look(headers(body=COMPACT), json.dumps(json.loads(COMPACT), indent=2).encode(), known=())
    assert "parsed the JSON and wrote it again" in text(report, "body")


def test_changed_line_ends_are_told() -> None:
    """A provider's answer may hold line breaks, which text modes change."""
    sent = b'{"a":\n1}'
    assert "Line ends" in how_changed(sent, sent.replace(b"\n", b"\r\n")).what
    assert "Line ends" in how_changed(sent.replace(b"\n", b"\r\n"), sent).what


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b'{"done": 1, "ok": false}', "content was changed"),
        (b'{"done": true, "ok": 0}', "content was changed"),
        (b'{"done": true, "ok": false }', "wrote it again"),
    ],
)
def test_true_is_not_one(given: bytes, said: str) -> None:
    """A truth value that became a number is a change of content, and is not told as another way to write it."""
    assert said in how_changed(b'{"done": true, "ok": false}', given).what


def test_a_number_in_another_form_is_the_same_number() -> None:
    """1.0 for 1, or an exponent, is what writing JSON again may do."""
    assert "the form of numbers" in how_changed(b'{"n": 100, "m": [0.5]}', b'{"n": 1e2, "m": [5e-1]}').what


@pytest.mark.parametrize(
    ("sent", "given", "place"),
    [(b"abc", b"abd", (2, 1, 3)), (b"a\nbc", b"a\nbd", (3, 2, 2)), (b"ab", b"abc", (2, 1, 3)), (b"ab", b"", (0, 1, 1))],
)
def test_the_first_different_byte(sent: bytes, given: bytes, place: tuple[int, int, int]) -> None:
    """Offset, line and column lead to the byte."""
    found = first_difference(sent, given)
    assert found is not None
    assert (found.offset, found.line, found.column) == place


def test_what_cannot_be_seen_is_spelled_out() -> None:
    """An invisible byte is shown as an escape, and the end of a body by name."""
    found = first_difference(b"a", b"a\r\xff")
    assert found is not None
    assert (found.sent, found.given) == ("(the end)", "\\r\\xff")
    assert first_difference(b"a", b"a") is None
