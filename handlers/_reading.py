"""Reading what a provider sent without trusting its shape.

What comes out can be stored and sent on anywhere: no NUL characters and no lone surrogates in texts
(databases refuse them), no infinite numbers, no nesting that would exhaust the stack. Numbers keep
the digits that came: ``json_text`` writes them unrounded.
"""

from __future__ import annotations

import json
import math
import re
import threading
from datetime import datetime
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, NoReturn
from urllib.parse import unquote, unquote_plus, urlsplit

from handlers._records import Notice, OutputKind

MAX_DEPTH = 64
_ENDINGS = {
    OutputKind.IMAGE: (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif"),
    OutputKind.VIDEO: (".mp4", ".mov", ".webm", ".avi", ".m4v"),
    OutputKind.AUDIO: (".mp3", ".wav", ".m4a", ".aac", ".ogg"),
}
_COMPACT_TIME = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_EXPIRY = re.compile(r"(?:^|&)(x-(?:amz|oss)-(?:date|expires)|expires)=([^&]+)", re.IGNORECASE)
EXACT = 2**53  # whole numbers below are themselves as a float
_END_OF_TIME = 253_402_300_799  # seconds; the last second of the year 9999


class Numeral(float):
    """A number as it was written: a float to reckon with (perhaps rounded, perhaps infinite), and its digits."""

    __slots__ = ("digits",)
    digits: str

    def __new__(cls, digits: str) -> Numeral:
        """``digits``: a number of JSON."""
        self = super().__new__(cls, digits)
        self.digits = digits
        return self

    def __reduce__(self) -> tuple[type[Numeral], tuple[str]]:
        return Numeral, (self.digits,)


def json_object(body: bytes | str) -> dict[str, Any] | None:
    """The JSON object in these bytes (UTF-8) or this text, made safe to store; None for anything else.

    Of a name that stands twice in one object the last counts. A number beyond what can be reckoned
    with (1e400) is None here; the raw answer, which is kept beside, still has it.
    """
    try:
        text = body.decode("utf-8-sig") if isinstance(body, bytes) else body
        value = _READER.decode(text)
        if not (text.isascii() and "\\u" not in text and text.count("{") + text.count("[") <= MAX_DEPTH):
            value = _safe(value, 0)  # anything else has nothing in it that could be unsafe
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def notice_object(notice: Notice) -> dict[str, Any] | None:
    """``json_object`` of a notice's body, not to be changed. Parsed once for who asks several times in a row."""
    if getattr(_last, "notice", None) is not notice:
        _last.found = json_object(notice.body)
        _last.notice = notice
    found: dict[str, Any] | None = _last.found
    return found


def json_exactly(text: str) -> Any:
    """JSON text as a value with nothing in it changed: ``json_text`` writes it as it came. Not safe to store."""
    return _EXACTLY.decode(text)


def json_text(value: Any) -> str:
    """Compact JSON text of a value, its numbers with the digits that came. Raises ValueError for other infinities."""
    if isinstance(value, str):
        return _quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Numeral):
        return value.digits
    if isinstance(value, dict):
        return "{" + ",".join([f"{_quoted(name)}:{json_text(item)}" for name, item in value.items()]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([json_text(item) for item in value]) + "]"
    return int.__repr__(value) if isinstance(value, int) else _PLAINLY.encode(value)


def text_of(value: Any) -> str | None:
    """A text that is not blank, or a whole number as text; None for anything else.

    Also for 2.0, which some JSON libraries make of 2; beyond what they can hold exactly it would be another number.
    """
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list, in order; an empty list when it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def unpacked(value: Any) -> Any:
    """What a text says when it is JSON; any other value, and a text that is none, as it is."""
    if not isinstance(value, str):
        return value
    wrapped = json_object('{"it":' + value + "}")  # only objects come out made safe to store
    return value if wrapped is None else wrapped["it"]


def url_of(value: Any) -> str | None:
    """An http(s) URL with a host, or None."""
    text = text_of(value)
    try:
        parts = urlsplit(text or "")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return None
    return text if usable else None


def url_expiry(url: str) -> int | None:
    """When a pre-signed URL ends, in milliseconds since the epoch, or None when it does not say.

    Understood: ``X-Amz-Date`` with ``X-Amz-Expires`` (S3), ``x-oss-date`` with ``x-oss-expires``
    (OSS), ``Expires`` in seconds since the epoch (both, older, and CloudFront).
    """
    try:
        given = {name.lower(): unquote_plus(value) for name, value in _EXPIRY.findall(urlsplit(url).query)}
        for family in ("x-amz", "x-oss"):
            if f"{family}-date" in given:
                seconds = _compact_time(given[f"{family}-date"]) + int(given[f"{family}-expires"])
                break
        else:
            seconds = int(given["expires"])
    except (ValueError, KeyError):
        return None
    return seconds * 1000 if 0 < seconds <= _END_OF_TIME else None


def _compact_time(text: str) -> int:
    """Seconds since the epoch of ``20260101T000000Z``. Raises ValueError for anything else."""
    if not _COMPACT_TIME.fullmatch(text):
        raise ValueError(f"{text} is not a time")
    return int(datetime.fromisoformat(text).timestamp())


def name_of_url(url: str) -> str:
    """The last part of a URL's path, decoded; empty when the path ends in a slash."""
    return unquote(urlsplit(url).path).rsplit("/", 1)[-1]


def kind_of_url(url: str, otherwise: OutputKind) -> OutputKind:
    """Image, video or audio by the ending of the URL's path, else what the caller expects."""
    name = name_of_url(url).lower()
    return next((kind for kind, endings in _ENDINGS.items() if name.endswith(endings)), otherwise)


def _quoted(text: str) -> str:
    safe = text.isascii() or _safe_text(text) == text
    return encode_basestring(text) if safe else encode_basestring_ascii(text)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _finite(digits: str) -> Numeral | None:
    number = Numeral(digits)
    return number if math.isfinite(number) else None


# Made once: to make one costs more than to read or write a short text with it.
_PLAINLY = json.JSONEncoder(allow_nan=False)
_EXACTLY = json.JSONDecoder(parse_constant=_refuse, parse_float=Numeral)
_READER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_last = threading.local()  # .notice and .found: what this thread parsed last


def _safe(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return _safe_text(value)
    if isinstance(value, dict):
        return {_safe_text(name): _safe(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_safe(item, depth + 1) for item in value]
    return value


def _safe_text(text: str) -> str:
    if text.isascii() and "\0" not in text:
        return text
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
