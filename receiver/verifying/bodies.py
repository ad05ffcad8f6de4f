"""What frameworks, proxies and clipboards do to a body, and how to tell from the outcome."""

from __future__ import annotations

import base64
import binascii
import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus

RAW_BYTES = (
    "Verify the raw bytes of the request before anything parses them: request.get_data() in Flask, await"
    " request.body() in FastAPI, request.body in Django, express.raw({type: '*/*'}) in Express, io.ReadAll(r.Body) in"
    " Go, @RequestBody byte[] in Spring, file_get_contents('php://input') in PHP, request.raw_post in Rails."
)
_BOM = b"\xef\xbb\xbf"
_EXCERPT = 24


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a body, as a sentence, and what its owner can do."""

    what: str
    fix: str = RAW_BYTES


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two bodies part. ``offset``: bytes from the start, 0-based. ``line``, ``column``: 1-based, in bytes.

    ``sent``, ``given``: what stands there in each, ``before``: what stands before it in both; a few bytes, readable.
    """

    offset: int
    line: int
    column: int
    before: str
    sent: str
    given: str


def first_difference(sent: bytes, given: bytes) -> Difference | None:
    """Where the given body first differs from the one sent; None when they are the same."""
    if sent == given:
        return None
    shorter = min(len(sent), len(given))
    offset = next((place for place in range(shorter) if sent[place] != given[place]), shorter)
    line_start = sent.rfind(b"\n", 0, offset) + 1
    return Difference(
        offset=offset,
        line=sent.count(b"\n", 0, offset) + 1,
        column=offset - line_start + 1,
        before=_readable(sent[max(0, offset - _EXCERPT) : offset]),
        sent=_readable(sent[offset : offset + _EXCERPT]),
        given=_readable(given[offset : offset + _EXCERPT]),
    )


def _readable(piece: bytes) -> str:
    """A few bytes as text: control characters and what is not UTF-8 as escapes, nothing at all as such."""
    text = piece.decode("utf-8", "backslashreplace")
    shown = "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)
    return shown or "(the end)"


def how_changed(sent: bytes, given: bytes) -> Change:
    """What was done to ``sent`` on its way to ``given``, which is not the same."""
    if not given:
        return Change(
            "The body is empty: something read the request before your code did.",
            f"Read the body once, keep the bytes, and verify those. {RAW_BYTES}",
        )
    for change, alter in _ALTERATIONS:
        if _tried(alter, sent) == given:
            return change
    value, original = _parsed(given), _parsed(sent)
    if original is not None and value == original:
        return _RESERIALISED
    if isinstance(original, Mapping) and value is not None and value == original.get("data"):
        return Change(
            "This is only the data of the event, not the whole body.",
            f"Sign and compare the whole body, with type and timestamp around data. {RAW_BYTES}",
        )
    if sent.startswith(given):
        return Change(
            f"The body was cut: {len(given)} of {len(sent)} bytes are here.",
            "Raise the limit for request bodies in your framework or proxy, and wait for the whole body.",
        )
    if given.startswith(sent):
        return Change(f"{len(given) - len(sent)} bytes were added at the end.")
    return Change("The body is not the one that was sent for this event: its content was changed.")


def undone(given: bytes) -> Iterator[tuple[Change, bytes]]:
    """What the given body may have been before something frequent was done to it."""
    for change, undo in _UNDOINGS:
        found = _tried(undo, given)
        if found is not None and found != given:
            yield change, found


def _tried(step: Callable[[bytes], bytes], body: bytes) -> bytes | None:
    try:
        return step(body)
    except (ValueError, SyntaxError, RecursionError, binascii.Error):
        return None


def _parsed(body: bytes) -> Any:
    """The JSON value, in which numbers are wrapped: for Python true is 1, and false is 0."""
    try:
        return json.loads(body, parse_int=lambda text: (int(text),), parse_float=lambda text: (float(text),))
    except (ValueError, RecursionError):
        return None


_RESERIALISED = Change(
    "Your framework parsed the JSON and wrote it again: the values are the same, the bytes are not"
    " (spaces, order, escapes or the form of numbers).",
)


def _dumped(**how: Any) -> Callable[[bytes], bytes]:
    return lambda body: json.dumps(json.loads(body), **how).encode()


def _writings() -> Iterator[tuple[Change, Callable[[bytes], bytes]]]:
    """The ways in which libraries write JSON, with the words for each."""
    compact = (",", ":")
    ways: Sequence[tuple[str, dict[str, Any]]] = (
        ("as JSON.stringify does", {"separators": compact, "ensure_ascii": False}),
        ("with \\u escapes in place of letters", {"separators": compact}),
        ("with a space after : and , as Python's json.dumps does", {}),
        ("with a space after : and ,", {"ensure_ascii": False}),
        ("with its keys sorted", {"separators": compact, "ensure_ascii": False, "sort_keys": True}),
        ("with its keys sorted", {"separators": compact, "sort_keys": True}),
        ("with its keys sorted", {"sort_keys": True}),
        ("indented", {"indent": 2, "ensure_ascii": False}),
        ("indented", {"indent": 2}),
        ("indented", {"indent": 4, "ensure_ascii": False}),
        ("indented", {"indent": 4}),
    )
    for how, arguments in ways:
        yield (
            Change(f"Your framework re-serialised the body: it parsed the JSON and wrote it again, {how}."),
            _dumped(**arguments),
        )


def _slashes_escaped(body: bytes) -> bytes:
    return _dumped(separators=(",", ":"))(body).replace(b"/", b"\\/")


def _angles_escaped(body: bytes) -> bytes:
    text = _dumped(separators=(",", ":"), ensure_ascii=False)(body)
    return text.replace(b"&", b"\\u0026").replace(b"<", b"\\u003c").replace(b">", b"\\u003e")


_NEWLINE = Change(
    "There is a newline at the end that was not sent.",
    "If your code receives it so, something adds it: verify the raw bytes. If only your paste has it, leave it out"
    " (an editor or echo adds one).",
)
_CRLF = Change("Line ends were changed (CRLF and LF).", f"Read the body as bytes, not as text. {RAW_BYTES}")
_BOM_ADDED = Change(
    "A byte order mark stands before the body.", f"Do not write the body through a text file. {RAW_BYTES}"
)
_STRIPPED = Change("White space at the ends of the body was stripped or added.")
_LATIN = Change(
    "The body was read as Latin-1 (or Windows-1252) and not as UTF-8: letters with accents have become two.",
    f"Take the bytes as they are, or decode and encode them as UTF-8. {RAW_BYTES}",
)
_QUOTED = Change("The body is wrapped in quotes, as a string in JSON.", f"Take the body itself. {RAW_BYTES}")
_PRINTED = Change(
    "This is Python's way to print bytes (b'…'), not the bytes.", "Paste what print(body.decode()) shows."
)
_BASE64 = Change(
    "The body is encoded in base64, as API Gateway does when isBase64Encoded is true.",
    "Decode it to bytes first, then verify those.",
)
_HTML = Change(
    "Characters of the body were escaped for HTML (&quot;).", f"Verify before anything is escaped. {RAW_BYTES}"
)
_FORM = Change("The body was read as a form, or escaped like a URL (%7B).", f"Take it as application/json. {RAW_BYTES}")

_ALTERATIONS: Sequence[tuple[Change, Callable[[bytes], bytes]]] = (
    (_NEWLINE, lambda body: body + b"\n"),
    (_NEWLINE, lambda body: body + b"\r\n"),
    (_BOM_ADDED, lambda body: _BOM + body),
    (_CRLF, lambda body: body.replace(b"\r\n", b"\n")),
    (_CRLF, lambda body: body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")),
    (_STRIPPED, bytes.strip),
    (_LATIN, lambda body: body.decode("latin-1").encode()),
    (_LATIN, lambda body: body.decode("cp1252").encode()),
    *_writings(),
    (
        Change("Your framework re-serialised the body, with \\/ for slashes, as PHP's json_encode does."),
        _slashes_escaped,
    ),
    (Change("Your framework re-serialised the body, with \\u0026 for &, as Go's encoding/json does."), _angles_escaped),
    (_QUOTED, lambda body: json.dumps(body.decode(), ensure_ascii=False).encode()),
    (_QUOTED, lambda body: json.dumps(body.decode()).encode()),
    (_PRINTED, lambda body: repr(body).encode()),
    (_BASE64, base64.b64encode),
    (_HTML, lambda body: html.escape(body.decode()).encode()),
    (_HTML, lambda body: html.escape(body.decode(), quote=False).encode()),
    (_FORM, lambda body: quote_plus(body).encode()),
    (_FORM, lambda body: quote(body).encode()),
)
"""What may have been done to what was sent. The most frequent first."""


def _unquoted(body: bytes) -> bytes:
    text = json.loads(body)
    if not isinstance(text, str):
        raise ValueError("not a string")
    return text.encode()


def _unprinted(body: bytes) -> bytes:
    text = body.strip()
    if not (text.startswith((b"b'", b'b"')) and text.endswith(text[1:2])):
        raise ValueError("not printed bytes")
    return text[2:-1].decode().encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")


_UNDOINGS: Sequence[tuple[Change, Callable[[bytes], bytes]]] = (
    (_NEWLINE, lambda body: body.rstrip(b"\r\n")),
    (_STRIPPED, bytes.strip),
    (_BOM_ADDED, lambda body: body.removeprefix(_BOM)),
    (_CRLF, lambda body: body.replace(b"\r\n", b"\n")),
    (_CRLF, lambda body: body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")),
    (_LATIN, lambda body: body.decode().encode("latin-1")),
    (_RESERIALISED, _dumped(separators=(",", ":"), ensure_ascii=False)),
    (_RESERIALISED, _dumped(separators=(",", ":"))),
    (_QUOTED, _unquoted),
    (_PRINTED, _unprinted),
    (_BASE64, lambda body: base64.b64decode(body.strip(), validate=True)),
    (_HTML, lambda body: html.unescape(body.decode()).encode()),
    (_FORM, lambda body: unquote_plus(body.decode()).encode()),
)
"""What to try when what was sent is not known any more."""
