"""Bytes on a socket, exactly as a test wants them."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Sequence


def exchange(port: int, *pieces: bytes, end: bool = False, patience: float = 10.0) -> bytes:
    """Send the pieces, one after the other, and give back all that comes until the server hangs up.

    ``end``: say that nothing more follows. AssertionError when the server keeps the connection open and silent
    for ``patience`` seconds.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = []
        try:
            for number, piece in enumerate(pieces):
                if number:
                    time.sleep(0.02)
                connection.sendall(piece)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received.append(piece)
        except ConnectionError:  # it hung up while we were still sending
            with contextlib.suppress(OSError):
                while piece := connection.recv(65536):
                    received.append(piece)
        except TimeoutError:
            raise AssertionError(f"the server neither ended nor hung up: {b''.join(received)[:300]!r}") from None
        return b"".join(received)


def statuses(received: bytes) -> list[int]:
    """The statuses of all answers in it."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", received)]


def post(path: str, body: bytes, headers: Sequence[str] = (), version: str = "1.1") -> bytes:
    """A whole request with a declared length, after which the connection is to be closed."""
    lines = [f"POST {path} HTTP/{version}", "Host: x", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunks(path: str, *parts: bytes, headers: Sequence[str] = (), last: bytes = b"0\r\n\r\n") -> bytes:
    """A whole chunked request, after which the connection is to be closed."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Connection: close", "Transfer-Encoding: chunked", *headers]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body + last
