"""Bodies: read raw within a bound, chunked ones too, and JSON taken strictly (RFC 8259).

A body that is too long or ends early is refused, never cut. JSON is UTF-8, without NaN and infinities,
without repeated names (readers differ on which one counts), and nested a hundred deep at most.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from typing import IO, Any, NoReturn

from flask import Request, request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]  # the library has no types
from werkzeug.exceptions import BadRequest, ClientDisconnected

from receiver.web.errors import Refused, too_large
from receiver.web.face import runtime

MAX_DEPTH = 100


class SpoolingRequest(Request):
    """A request that closes the files its parts were spooled to, those of a body that was refused midway too."""

    def _get_file_stream(self, *args: Any, **kwargs: Any) -> IO[bytes]:
        stream = super()._get_file_stream(*args, **kwargs)
        self._spooled = [*getattr(self, "_spooled", ()), stream]
        return stream

    def _load_form_data(self) -> None:
        try:
            super()._load_form_data()
        except ParseException as error:
            raise BadRequest from error

    def close(self) -> None:
        """Called by Flask when the request is over."""
        super().close()
        for stream in getattr(self, "_spooled", ()):
            stream.close()


_JSON_TYPE = re.compile(r"application/(?:json|[a-z0-9.+_-]+\+json)", re.ASCII)


def read_body() -> bytes:
    """The whole body, at most RECEIVER_MAX_BODY bytes.

    Raises Refused: 413; 415 when it is compressed (it is never inflated, so its size is what was sent);
    400 when it ended early or its chunks are not chunks.
    """
    limit = runtime().settings.max_body
    if not (_plain("Content-Encoding", "identity") and _plain("Transfer-Encoding", "chunked")):
        raise Refused(415, "unsupported-media-type", "Send the body as it is, not compressed.")
    declared = request.content_length
    if declared is not None and declared > limit:
        raise too_large(limit)
    # One byte more than allowed: a reader that stops at the limit could not tell a whole body from a cut one.
    request.max_content_length = limit + 1
    try:
        body = request.get_data(cache=False)
    except (ParseException, ClientDisconnected):
        raise Refused(400, "malformed", "The body ended early, or its chunks cannot be read.") from None
    if len(body) > limit:
        raise too_large(limit)
    if declared is not None and len(body) != declared:
        raise Refused(400, "malformed", f"The body ended after {len(body)} of {declared} bytes.")
    return body


def _plain(header: str, word: str) -> bool:
    return request.headers.get(header, word).strip().lower() in (word, "")


def read_json(*, optional: bool = False) -> Any:
    """The body as JSON; ``optional``: an empty one is ``{}``. Raises Refused: 400, 413 or 415."""
    body = read_body()
    if optional and not body:
        return {}
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if not _JSON_TYPE.fullmatch(request.mimetype) or charset not in ("utf-8", "utf8"):
        raise Refused(415, "unsupported-media-type", "Send the body as JSON, with Content-Type: application/json.")
    return parse_json(body)


class _OddJson(ValueError):
    """JSON that readers differ on, or that no value can hold; says which."""


def parse_json(body: bytes) -> Any:
    """A JSON text as a value. Raises Refused (400) with what is wrong and where."""
    if not body.strip():
        raise _malformed("The body is empty; it must be JSON.")
    if body.startswith(codecs.BOM_UTF8):
        raise _malformed("The body begins with a byte-order mark, which JSON must not have.")
    try:
        value = json.loads(
            body.decode(), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_without_repetition
        )
    except UnicodeDecodeError as error:
        raise _malformed(f"The body is not UTF-8 (byte {error.start}).") from None
    except RecursionError:
        raise _malformed(f"The body is nested deeper than {MAX_DEPTH}.") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except _OddJson as error:
        raise _malformed(f"The body is not JSON that can be taken: {error}.") from None
    except ValueError:  # Python's words would tell how to change Python
        raise _malformed("The body is not JSON that can be taken: a number has thousands of digits.") from None
    if _deeper_than(value, MAX_DEPTH):
        raise _malformed(f"The body is nested deeper than {MAX_DEPTH}.")
    return value


def _no_constant(word: str) -> NoReturn:
    raise _OddJson(f"{word} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _OddJson(f"{digits[:40]} is beyond what a number can hold")
    return number


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in times if times[name] > 1)
        raise _OddJson(f"the name {twice[:80]!r} stands twice in one object")
    return found


def _deeper_than(value: Any, depth: int) -> bool:
    level: list[Any] = [[value]]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def _malformed(detail: str) -> Refused:
    return Refused(400, "malformed", detail)
