"""The load generator: whole requests over keep-alive connections, from one thread, as cheap as Python allows."""

from __future__ import annotations

import re
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

CONNECTIONS = 32
PATIENCE = 30.0
"""Seconds without any answer after which the rest counts as lost."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Sent:
    """What became of the requests. ``at``: when each was sent (monotonic seconds); ``took``: until its answer."""

    at: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def all_taken(self) -> bool:
        """Whether every request was answered with 200."""
        return self.statuses[200] == len(self.at)


class _Connection:
    def __init__(self, port: int) -> None:
        self.port = port
        self.number: int | None = None
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answer = b""
        self.fresh = True

    def send(self, number: int, request: bytes) -> None:
        self.number = number
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """The status once the whole answer is here; 0 when the connection was closed instead."""
        try:
            piece = self.socket.recv(65536)
        except ConnectionError:
            piece = b""
        if not piece:
            return 0
        self.answer += piece
        end = self.answer.find(b"\r\n\r\n")
        if end < 0:
            return None
        length = _LENGTH.search(self.answer, 0, end + 2)
        if len(self.answer) < end + 4 + (int(length[1]) if length else 0):
            return None
        status, head = int(self.answer[9:12]), self.answer[:end].lower()
        self.answer = b""
        if b"connection: close" in head:
            self.reopen()
        return status

    def reopen(self) -> None:
        self.socket.close()
        self.open()


def fire(port: int, requests: Sequence[bytes], *, rate: float | None = None, connections: int = CONNECTIONS) -> Sent:
    """Send all requests to a port of this machine, in order; return when all are answered.

    ``rate``: so many per second, evenly; None: as fast as answers come. A closed connection is
    opened again and its request counts as status 0: nothing is sent twice. What has no answer
    when nothing was answered for ``PATIENCE`` seconds counts as status -1.
    """
    return _Fire(port, requests, rate, connections).run()


class _Fire:
    """One run of ``fire``."""

    def __init__(self, port: int, requests: Sequence[bytes], rate: float | None, connections: int) -> None:
        self.requests = requests
        self.rate = rate
        self.sent = Sent(at=[0.0] * len(requests), took=[0.0] * len(requests))
        self.poll = select.epoll()
        self.idle: deque[_Connection] = deque()
        self.by_number: dict[int, _Connection] = {}
        self.following = self.answered = 0
        for _ in range(min(connections, len(requests))):
            self.idle.append(_Connection(port))
            self.watch(self.idle[-1])

    def watch(self, connection: _Connection) -> None:
        self.by_number[connection.socket.fileno()] = connection
        self.poll.register(connection.socket, select.EPOLLIN)
        connection.fresh = False

    def run(self) -> Sent:
        self.began = last = time.monotonic()
        while self.answered < len(self.requests):
            self.send()
            ready = self.poll.poll(self.pause())
            for number, _ in ready:
                self.take(number)
            now = time.monotonic()
            if ready:
                last = now
            elif now - last > PATIENCE:
                self.sent.statuses[-1] = len(self.requests) - self.answered
                break
        for connection in self.by_number.values():
            connection.socket.close()
        self.poll.close()
        return self.sent

    def send(self) -> None:
        allowed = len(self.requests)
        if self.rate is not None:
            allowed = min(int((time.monotonic() - self.began) * self.rate) + 1, allowed)
        while self.idle and self.following < allowed:
            self.sent.at[self.following] = time.monotonic()
            self.idle.popleft().send(self.following, self.requests[self.following])
            self.following += 1

    def pause(self) -> float:
        if self.rate is None or self.following == len(self.requests):
            return 1.0
        return max(0.0, self.began + self.following / self.rate - time.monotonic())

    def take(self, number: int) -> None:
        connection = self.by_number[number]
        status = connection.receive()
        if status is None:
            return
        if status == 0:
            connection.reopen()
        if connection.number is not None:
            self.sent.took[connection.number] = time.monotonic() - self.sent.at[connection.number]
            self.sent.statuses[status] += 1
            self.answered += 1
            connection.number = None
            self.idle.append(connection)
        if connection.fresh:  # closing the old socket took it out of the poll; the new one may have its number
            del self.by_number[number]
            self.watch(connection)
