"""What lies outside the service in every benchmark: the subscriber, and the provider that is asked.

    python -m tests.benchmarks.outside

One process, the same for all systems measured. It prints two ports as JSON and serves until its standard
input is closed. The subscriber verifies every signature and notes when each key first came, and how often
a delivery came again. A key is the provider's id of a task (``bench-…``), which every system's webhook
contains. The provider answers a query for a TopView task with its success.

Control, on the subscriber's port: ``POST /begin`` (a JSON ``{"secret", "failures", "seconds"}``: the secret
to verify with, the share of requests answered with 500, and how long an answer takes) forgets all;
``GET /count`` gives the number of keys that came since, ``GET /report`` all.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import re
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

from tests.benchmarks.callbacks import KEY, result_of

_HEADER = re.compile(rb"\r\n(webhook-[a-z]+): *([^\r\n]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(KEY)


class Receipts:
    """What a subscriber was sent since ``begin``."""

    def __init__(self, secret: str = "", failures: float = 0.0, seconds: float = 0.0) -> None:
        self.key = base64.b64decode(secret.removeprefix("whsec_"))
        self.failures = failures
        self.seconds = seconds
        self.arrivals: dict[str, float] = {}
        self.taken: Counter[str] = Counter()
        self.refused = 0
        self.forged = 0

    def take(self, head: bytes, body: bytes) -> bool:
        """Note a webhook; whether it is answered with success."""
        now = time.monotonic()
        given = {name.lower(): value for name, value in _HEADER.findall(head)}
        signed = b"%s.%s.%s" % (given.get(b"webhook-id", b""), given.get(b"webhook-timestamp", b""), body)
        expected = base64.b64encode(hmac.new(self.key, signed, hashlib.sha256).digest())
        found = _KEY.search(body)
        if found is None or not hmac.compare_digest(given.get(b"webhook-signature", b""), b"v1," + expected):
            self.forged += 1
            return False
        if self.failures and random.random() < self.failures:
            self.refused += 1
            return False
        key = found[0].decode()
        self.arrivals.setdefault(key, now)
        self.taken[key] += 1
        return True

    def report(self) -> dict[str, Any]:
        """All of it, as JSON. ``again``: deliveries that came although they had been answered with success."""
        again = {key: count - 1 for key, count in self.taken.items() if count > 1}
        return {"arrivals": self.arrivals, "again": again, "refused": self.refused, "forged": self.forged}


class Http(ABC, asyncio.Protocol):
    """Just enough of HTTP/1.1 for clients that keep connections alive and announce their lengths."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # of a TCP server it is always this kind

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            length = _LENGTH.search(head)
            until = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < until:
                return
            body, self.buffer = self.buffer[end + 4 : until], self.buffer[until:]
            self.handle(head, body)

    @abstractmethod
    def handle(self, head: bytes, body: bytes) -> None:
        """Answer a request, each side in its own way."""

    def answer(self, status: bytes, body: bytes = b"") -> None:
        line = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        if not self.transport.is_closing():
            self.transport.write(line + body)


class SubscriberSide(Http):
    """The subscriber and its control."""

    receipts = Receipts()

    def handle(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET /count"):
            self.answer(b"200 OK", b"%d" % len(self.receipts.arrivals))
        elif head.startswith(b"GET /report"):
            self.answer(b"200 OK", json.dumps(self.receipts.report()).encode())
        elif head.startswith(b"POST /begin"):
            SubscriberSide.receipts = Receipts(**json.loads(body))
            self.answer(b"204 No Content")
        else:
            status = b"204 No Content" if self.receipts.take(head, body) else b"500 Internal Server Error"
            if self.receipts.seconds:
                asyncio.get_running_loop().call_later(self.receipts.seconds, self.answer, status)
            else:
                self.answer(status)


class ProviderSide(Http):
    """TopView's query: the task asked for has succeeded."""

    def handle(self, head: bytes, body: bytes) -> None:
        found = _KEY.search(head)
        if found is None:
            self.answer(b"404 Not Found")
            return
        answer = {"code": "200", "message": "Success", "result": result_of(found[0].decode())}
        self.answer(b"200 OK", json.dumps(answer).encode())


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(side, "127.0.0.1", 0, backlog=1024) for side in (SubscriberSide, ProviderSide)]
    sink, provider = (server.sockets[0].getsockname()[1] for server in servers)
    sys.stdout.write(json.dumps({"sink": sink, "provider": provider}) + "\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
