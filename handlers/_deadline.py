"""HTTP connections that keep one deadline for a whole answer, headers and a dripping body included.

A socket's own time-out starts anew with every packet, so a provider that sends a byte now and then
could hold a worker for ever, and longer than the lease on its task.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from typing import Any

import urllib3.connection  # of requests' own transport
import urllib3.connectionpool
from requests.adapters import HTTPAdapter

_call = threading.local()  # .deadline: of the call that this thread is making, by time.monotonic()


def set_deadline(deadline: float) -> None:
    """Answers that this thread reads from now on must be complete by then (``time.monotonic()``)."""
    _call.deadline = deadline


class _TimedReader(io.RawIOBase):
    """A socket's incoming bytes, each wait limited to what is left of the call's time."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """A response that reads through a _TimedReader."""

    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock, _call.deadline))


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _TimedResponse


class _TlsConnection(urllib3.connection.HTTPSConnection):
    response_class = _TimedResponse


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class DeadlineAdapter(HTTPAdapter):
    """requests' transport, keeping the deadline of ``set_deadline``."""

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        """Make the pools with our connections."""
        super().init_poolmanager(*args, **more)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
