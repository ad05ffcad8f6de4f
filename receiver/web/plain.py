"""Plain callbacks: what providers usually send, told from everything else that may come over a connection.

A POST to the callback address of a task, small, its length declared, no header twice. Anything else, whatever is
odd about it, is not judged here.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import field

from handlers import record

LARGEST = 64 * 1024
"""Bytes of a body that is plain: to read it must not hold up the others who wait."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A caller's own id of a request, if it is to be taken."""

_HEAD = re.compile(
    rb"POST /callbacks/([a-z0-9_]{1,64})/([A-Za-z0-9._-]{1,128}) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9-]{1,64}:[\x20-\x7e\x80-\xff]{0,4096}\r\n){1,64})\r\n"
)
_SCHEMES = {"x-forwarded-proto", "x-forwarded-protocol", "x-forwarded-ssl"}  # two of them may contradict each other
_ODD = {"transfer-encoding", "content-encoding", "expect", "upgrade", "trailer", "te", "http2-settings"}


@record
class Plain:
    """A plain call. ``headers``: names in lower case. ``keep_alive``: whether its sender wants to go on.

    ``began``: ``time.monotonic()`` when all of it was here.
    """

    provider: str
    token: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool
    request_id: str
    began: float = field(default_factory=time.monotonic)


def plain_call(head: bytes, body: bytes) -> Plain | None:
    """A request as a plain call, or None when it is anything else. ``head``: with the empty line that ends it."""
    found = _HEAD.fullmatch(head)
    if found is None or len(body) > LARGEST:
        return None
    headers: dict[str, str] = {}
    lines = found[3].decode("latin-1").split("\r\n")[:-1]
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip(" ")
    connection = headers.get("connection", "keep-alive").lower()
    whole = headers.get("content-length", "0") == str(len(body))
    odd = headers.keys() & _ODD or len(headers.keys() & _SCHEMES) > 1 or connection not in ("keep-alive", "close")
    if odd or not whole or len(headers) < len(lines):
        return None
    given = headers.get("x-request-id", "")
    request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(12)
    return Plain(found[1].decode(), found[2].decode(), headers, body, connection == "keep-alive", request_id)
