"""Errors as callers see them: problem details (RFC 9457) everywhere, with nothing of the inside in them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from receiver import logs, watching
from receiver.errors import (
    Busy,
    Conflict,
    IdempotencyMismatch,
    Invalid,
    NotFound,
    ProviderFailed,
    ProviderOff,
    ReceiverError,
)
from receiver.events import dumps
from receiver.models import id_pattern
from receiver.sealing import SealBroken

TYPE = "application/problem+json"
log = logs.get("web")

TITLES = {
    "unauthorized": "No valid API key",
    "forbidden": "The API key may not do this",
    "not-found": "Not found",
    "invalid": "Invalid request",
    "malformed": "The body cannot be read",
    "conflict": "Not possible now",
    "idempotency-mismatch": "Idempotency-Key used with another body",
    "provider-off": "Provider not configured",
    "provider-failed": "The provider refused",
    "provider-unavailable": "The provider does not answer",
    "bad-notice": "Notice refused",
    "busy": "Try again in a moment",
    "too-large": "Body too large",
    "unreadable": "The request cannot be read",
    "unsupported-media-type": "Wrong Content-Type",
    "method-not-allowed": "Method not allowed",
    "too-many-requests": "Too many requests",
    "internal": "Internal error",
}


class Refused(Exception):
    """A request that a face turns down by itself. ``slug``: one of the known problems."""

    def __init__(self, status: int, slug: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.response = problem(status, slug, detail, headers)


def problem(
    status: int,
    slug: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Mapping[str, Sequence[str]] | None = None,
) -> Response:
    """A problem as an answer. ``errors``: messages by field path."""
    body: dict[str, object] = {
        "type": f"urn:receiver:problem:{slug}",
        "title": TITLES.get(slug) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors is not None:
        body["errors"] = {field: list(messages) for field, messages in errors.items()}
    return Response(f"{dumps(body)}\n", status, headers, content_type=TYPE)


def too_large(limit: int) -> Refused:
    """What a request with a body of more than ``limit`` bytes is turned down with."""
    return Refused(413, "too-large", f"The body is larger than the {limit} bytes that this service takes.")


def broken(request_id: str | None) -> Response:
    """The problem of a mistake of ours."""
    detail = f"Something went wrong on our side. The log has more, under the request {request_id}."
    return problem(500, "internal", detail)


def answer(error: Exception) -> Response:
    """Any error as a problem."""
    match error:
        case Refused():
            return error.response
        case ReceiverError():
            return _from_service(error)
        case HTTPException():
            return _from_http(error)
        case SealBroken():
            return _sealed(error)
        case _:
            return _unexpected(error)


def register(app: Flask) -> None:
    """Let the application answer every error as a problem."""
    app.register_error_handler(HTTPException, answer)  # Flask asks for these apart from the rest
    app.register_error_handler(Exception, answer)


def _from_service(error: ReceiverError) -> Response:
    match error:
        case NotFound():
            return problem(404, "not-found", error.detail)
        case Invalid():
            return problem(422, "invalid", error.detail, errors=error.errors)
        case Conflict():
            return problem(409, "conflict", error.detail)
        case IdempotencyMismatch():
            return problem(422, "idempotency-mismatch", error.detail)
        case ProviderOff():
            return problem(422, "provider-off", error.detail, errors={"provider": [error.detail]})
        case ProviderFailed(temporary=True):
            wait = max(1, math.ceil(error.retry_after or 1))
            return problem(503, "provider-unavailable", error.detail, {"Retry-After": str(wait)})
        case ProviderFailed():
            return problem(502, "provider-failed", error.detail)
        case Busy():
            return _busy(error)
        case _:
            return _unexpected(error)


def _sealed(error: SealBroken) -> Response:
    log.error("a stored secret does not open", path=request.path, request=g.get("request_id"), error=str(error))
    mend = "Put the key back and restart, or rotate with an overlap of 0, which makes a new secret."
    return problem(409, "conflict", f"This secret cannot be shown: {error}. {mend}")


_MISSING = re.compile(r"no such table|no such column")
"""How it is said that the schema is older than this code; see ``receiver/store/troubles.py``."""


def _busy(error: Busy) -> Response:
    watching.request_put_off(error.detail, g.get("request_id"))
    detail = "The database does not answer in time; nothing was stored."
    if error.uncertain:
        detail = (
            "The connection to the database broke while this was being stored: it may be stored, or not. Repeat a "
            "submission with the Idempotency-Key that it had, or look first whether it is there."
        )
    if _MISSING.search(error.detail):
        detail = "The database's schema is not up to date: run receiver migrate. Nothing was stored."
    return problem(503, "busy", detail, {"Retry-After": "1"})


_SLUGS = {
    400: "malformed",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
}
_DETAILS = {
    404: "There is nothing at this address.",
    405: "This address does not take this method.",
    413: "The body is larger than what this service takes.",
}


def _from_http(error: HTTPException) -> Response:
    """What Flask and werkzeug raise: unknown addresses, wrong methods, cut bodies."""
    ready = error.get_response()
    status = error.code or ready.status_code
    if status < 400:
        return Response(ready.get_data(), status, ready.headers)  # a redirect is no error
    slug = _SLUGS.get(status, HTTPStatus(status).phrase.lower().replace(" ", "-"))
    kept = {name: value for name, value in ready.headers if name.lower() in ("allow", "retry-after")}
    said = no_such_id(request.path) if status == 404 else None
    return problem(status, slug, said or _DETAILS.get(status) or HTTPStatus(status).description, kept)


_THINGS = {"tasks": ("task", "task"), "subscribers": ("subscriber", "sub"),
           "deliveries": ("delivery", "dlv"), "events": ("event", "evt")}  # fmt: skip
_ONE = re.compile(rf"/v1/({'|'.join(_THINGS)})/([^/]+)(?:/.*)?", re.DOTALL)


def no_such_id(path: str) -> str | None:
    """What is wrong with an address whose id cannot be one (cut short, or of another kind); None for any other."""
    found = _ONE.fullmatch(path)
    if found is None:
        return None
    noun, prefix = _THINGS[found[1]]
    if re.fullmatch(id_pattern(prefix), found[2]):
        return None
    return f"There is no such {noun}: the id of one is {prefix}_ and 26 letters and digits."


def _unexpected(error: Exception) -> Response:
    log.error("a request failed", method=request.method, path=request.path, request=g.get("request_id"), exc_info=error)
    return broken(g.get("request_id"))
