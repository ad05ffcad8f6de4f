"""What every error answer must be."""

from __future__ import annotations

from typing import Any

from werkzeug.test import TestResponse


def assert_problem(answer: TestResponse, status: int, slug: str | None = None) -> Any:
    """Check that an answer is a problem of this status (and kind); gives its body."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    body = answer.json
    assert body is not None
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in answer.text
    if slug is not None:
        assert body["type"] == f"urn:receiver:problem:{slug}"
    return body


def assert_invalid(answer: TestResponse, *fields: str) -> Any:
    """Check that an answer names exactly these fields as invalid."""
    body = assert_problem(answer, 422, "invalid")
    assert sorted(body["errors"]) == sorted(fields), body
    assert all(isinstance(message, str) and message for said in body["errors"].values() for message in said)
    return body
