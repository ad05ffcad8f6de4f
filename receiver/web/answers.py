"""Answers: JSON texts, passed on as they are, so that what a provider said survives to the last digit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Response

from receiver.events import dumps

STANDING: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every answer."""
API_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""The Content-Security-Policy of what is no page."""
CARRIED: Mapping[str, str] = {**STANDING, "Content-Security-Policy": API_POLICY, "Cache-Control": "no-store"}
"""Headers of an answer that is no page and no file."""


def text(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of JSON text. It ends its line, so that a terminal's prompt does not stand behind it."""
    return Response(f"{body}\n", status, headers, mimetype="application/json")


def value(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of a JSON value."""
    return text(dumps(body), status, headers)


def listing(items: Iterable[str], next_cursor: str | None) -> Response:
    """A piece of a list, from the JSON texts of its items."""
    return text(f'{{"data":[{",".join(items)}],"next_cursor":{dumps(next_cursor)}}}')


def nothing() -> Response:
    """204: done, and nothing to say."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response
