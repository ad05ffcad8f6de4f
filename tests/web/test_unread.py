"""Answers to what never becomes a request; those that come over a socket are in ``tests/attack/test_wire.py``."""

from __future__ import annotations

import json

import pytest
from gunicorn.http.errors import InvalidResponseHeader  # type: ignore[import-untyped]  # the library has no types

from receiver.web.unread import answer_to


@pytest.mark.parametrize("error", [RuntimeError("hunter2"), InvalidResponseHeader("hunter2")])
def test_what_is_our_fault_is_not_the_callers(error: Exception) -> None:
    """500 with the request's id, by which the log is found, and nothing of the inside."""
    head, _, body = answer_to(error).decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 500 ")
    assert "hunter2" not in head + body
    problem = json.loads(body)
    assert problem["type"] == "urn:receiver:problem:internal"
    (request,) = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("X-Request-Id")]
    assert request in problem["detail"]
