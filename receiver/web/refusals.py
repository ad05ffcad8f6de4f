"""The errors of the document: an answer for each status, with an example of every kind of problem that it can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from receiver.web.errors import TITLES

_WHY: Mapping[int, tuple[str, Mapping[str, str]]] = {
    400: (
        "The body cannot be read.",
        {"malformed": "The body is not JSON, ends early, or is nested too deep."},
    ),
    401: ("There is no valid API key.", {"unauthorized": "This API key is not known, or was revoked."}),
    403: ("The API key lacks the scope.", {"forbidden": "This needs an API key with the scope manage."}),
    404: ("There is no such thing, or it belongs to another account.", {"not-found": "There is no such task."}),
    409: ("Not possible in the present state.", {"conflict": "The task has ended already."}),
    413: (
        "The body is larger than what this service takes.",
        {"too-large": "The body is larger than the 1048576 bytes that this service takes."},
    ),
    414: (
        "The address, with its parameters, is longer than 8190 bytes.",
        {"unreadable": "The address is too long."},
    ),
    415: (
        "The Content-Type is not the one documented.",
        {"unsupported-media-type": "Send the body as JSON, with Content-Type: application/json."},
    ),
    422: (
        "Fields, parameters or headers are invalid; `errors` says which and why.",
        {
            "invalid": "The request has invalid fields.",
            "idempotency-mismatch": "This Idempotency-Key was used with another body.",
            "provider-off": "This service has no credentials for the provider.",
        },
    ),
    429: (
        "The API key asks too often, or too many wrong keys came from this address.",
        {"too-many-requests": "This API key makes more requests than it may."},
    ),
    500: ("Something went wrong on our side; the log has more.", {"internal": "Something went wrong on our side."}),
    502: ("The provider refused the call.", {"provider-failed": "The provider does not know the file."}),
    503: (
        "Not now, but later: the database or the provider does not answer, or too many long requests are under way.",
        {
            "busy": "The database does not answer in time; nothing was stored.",
            "provider-unavailable": "The provider does not answer.",
        },
    ),
}
_ERRORS = {
    "invalid": {"input.prompt": ["Missing data for required field."]},
    "provider-off": {"provider": ["This service has no credentials for the provider."]},
}
_CHALLENGE = {"WWW-Authenticate": ("What is needed (RFC 6750).", 'Bearer realm="receiver"')}
_LATER = {"Retry-After": ("Seconds after which to try again.", "5")}
_HEADERS = {401: _CHALLENGE, 403: _CHALLENGE, 429: _LATER, 503: _LATER}


def _response(status: int) -> dict[str, Any]:
    about, kinds = _WHY[status]
    examples = {slug: {"summary": TITLES[slug], "value": _problem(status, slug, kinds[slug])} for slug in kinds}
    said: dict[str, Any] = {
        "description": about,
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
        },
    }
    if status in _HEADERS:
        said["headers"] = {
            name: {"description": text, "schema": {"type": "string"}, "example": example}
            for name, (text, example) in _HEADERS[status].items()
        }
    return said


def _problem(status: int, slug: str, detail: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": f"urn:receiver:problem:{slug}",
        "title": TITLES[slug],
        "status": status,
        "detail": detail,
    }
    return body | ({"errors": _ERRORS[slug]} if slug in _ERRORS else {})


RESPONSES: dict[int, Any] = {status: _response(status) for status in _WHY}
"""By status, for the document's components."""
