"""Answers to what never becomes a request of the application: as the application would give them, and as bytes.

The gate finds such requests (too slow, too large, too many), and gunicorn's parser does, which would answer in HTML.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus

from flask import Response
from gunicorn.http.errors import (  # type: ignore[import-untyped]  # the library has no types
    ConfigurationProblem,
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)

from receiver import logs
from receiver.limits import Buckets
from receiver.web.answers import CARRIED
from receiver.web.errors import broken, problem, too_large
from receiver.web.incoming import Arrival

REFUSED_EVERY = 10.0
"""Seconds between two lines on requests that were refused for one reason: anybody can send them."""

_REFUSALS: Mapping[Arrival, tuple[int, str]] = {
    Arrival.MALFORMED: (400, "The request is not HTTP."),
    Arrival.HEAD_TOO_LARGE: (431, "The headers are too large."),
    Arrival.MORE: (408, "The request did not come in time."),
}
_OF_THE_PARSER: Mapping[type[Exception], tuple[int, str]] = {
    LimitRequestLine: (414, "The address is too long."),
    LimitRequestHeaders: (431, "The headers are too large, or too many."),
    ExpectationFailed: (417, "No expectation is met but 100-continue."),
}
_OURS = (InvalidResponseHeader, InvalidResponseHeaderName, ConfigurationProblem)
_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ \t]*([A-Za-z0-9._-]{1,64})[ \t]*\r\n", re.IGNORECASE)

log = logs.get("web")
_lately = Buckets(1 / REFUSED_EVERY, 1)


def refusal(reason: Arrival, came: bytes, body_limit: int) -> bytes:
    """The answer to a request that the gate refuses. ``came``: how it begins."""
    found = _REQUEST_ID.search(came)
    request = found[1].decode() if found else secrets.token_hex(12)
    log.debug("request refused", why=reason.name.lower(), request=request)
    if reason is Arrival.BODY_TOO_LARGE:
        return _written(too_large(body_limit).response, request)
    if reason is Arrival.CROWDED:
        detail = "Too many requests are under way; nothing was done with this one."
        return _written(problem(503, "busy", detail, {"Retry-After": "1"}), request)
    status, detail = _REFUSALS[reason]
    return _written(problem(status, "unreadable", detail), request)


def answer_to(error: Exception) -> bytes:
    """The answer to a request that gunicorn could not read, or an application's answer that it could not send.

    Of a request only the kind of its fault is logged: its text may hold a callback's token.
    """
    request = secrets.token_hex(12)
    if isinstance(error, _OURS) or not isinstance(error, ParseException | OSError):
        log.error("a request failed", request=request, exc_info=error)
        return _written(broken(request), request)
    why = type(error).__name__
    if _lately.take(why, time.monotonic()) == 0:
        log.warning("request refused", why=why, request=request)
    status, detail = _OF_THE_PARSER.get(type(error), _REFUSALS[Arrival.MALFORMED])
    return _written(problem(status, "unreadable", detail), request)


def _written(answer: Response, request: str) -> bytes:
    status = HTTPStatus(answer.status_code)
    headers = {
        "Date": formatdate(usegmt=True),
        "Connection": "close",
        **dict(answer.headers),
        "X-Request-Id": request,
        **CARRIED,
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.get_data()
