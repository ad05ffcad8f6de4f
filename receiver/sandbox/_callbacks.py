"""Calling back: when, how often, to which address, and what counts as taken.

Providers state the rules (`Notice`); this module keeps the time and makes the calls, on daemon threads.
"""

from __future__ import annotations

import heapq
import http.client
import io
import ipaddress
import itertools
import logging
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

log = logging.getLogger(__name__)

_PERMIT = "SANDBOX_ALLOW_REMOTE_CALLBACKS=true permits it"

_MOST_ANSWER = 65_536
_SHOWN_ANSWER = 2_048


@dataclass(frozen=True)
class Answer:
    """What the called address answered."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Notice:
    """One callback to be sent, with the provider's rules for sending it.

    ``delays``: seconds before each further attempt, before scaling. ``timeout``: seconds for one attempt.
    ``headers`` is asked anew for each attempt. ``accepted`` decides whether an answer ends the attempts.
    """

    provider: str
    task_id: str
    url: str
    body: bytes
    timeout: float
    delays: Sequence[float]
    accepted: Callable[[Answer], bool]
    headers: Callable[[], Mapping[str, str]] = field(default=dict)
    kind: str = "real"


class Agenda:
    """Does things later: one thread keeps the time, a bounded number of threads does the work.

    ``clock`` gives the time that due times are compared with; after it was shifted call `wake()`.
    """

    def __init__(self, clock: Callable[[], float], threads: int) -> None:
        self._clock = clock
        self._threads = threads
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ready: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._started = False
        self._closed = False

    def at(self, due: float, work: Callable[[], None]) -> None:
        """Do the work at a time of the clock, at once if that has passed."""
        with self._changed:
            if self._closed:
                return
            self._start()
            heapq.heappush(self._due, (due, next(self._order), work))
            self._changed.notify()

    def wake(self) -> None:
        """Look at the clock again."""
        with self._changed:
            self._changed.notify()

    def clear(self) -> None:
        """Forget what was to be done."""
        with self._changed:
            self._due.clear()

    def close(self) -> None:
        """Forget everything and let the threads end."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
        for _ in range(self._threads):
            self._ready.put(None)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            threading.Thread(target=self._keep_time, name="sandbox-agenda", daemon=True).start()
            for number in range(self._threads):
                threading.Thread(target=self._work, name=f"sandbox-callback-{number}", daemon=True).start()

    def _keep_time(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                wait = self._due[0][0] - self._clock() if self._due else 60.0
                if wait > 0:
                    self._changed.wait(min(wait, 60.0))
                    continue
                _, _, work = heapq.heappop(self._due)
            self._ready.put(work)

    def _work(self) -> None:
        while (work := self._ready.get()) is not None:
            try:
                work()
            except Exception:
                log.exception("work on the sandbox's agenda failed")


class Callbacks:
    """Sends notices and keeps a record of each attempt."""

    def __init__(
        self,
        agenda: Agenda,
        clock: Callable[[], float],
        *,
        scale: float,
        allow_remote: bool,
        timeout: float,
        kept: int = 20_000,
    ) -> None:
        self._agenda = agenda
        self._clock = clock
        self._scale = scale
        self._allow_remote = allow_remote
        self._timeout = timeout
        self._lock = threading.Lock()
        self._attempts: deque[dict[str, Any]] = deque(maxlen=kept)
        self._told = False

    def send(self, notice: Notice, *, due: float) -> None:
        """Send at a time of the clock, then again as often as the notice's rules ask for."""
        self._agenda.at(due, lambda: self._attempt(notice, 1))

    def send_now(self, notice: Notice) -> None:
        """Make the first attempt before returning; further ones follow later."""
        self._attempt(notice, 1)

    def attempts(self) -> list[dict[str, Any]]:
        """Every attempt so far, oldest first: url, number, status, answer, whether it was accepted."""
        with self._lock:
            return list(self._attempts)

    def clear(self) -> None:
        """Forget the record."""
        with self._lock:
            self._attempts.clear()

    def _tell_once(self) -> None:
        """Log why no callback arrives at another machine; nothing else would tell."""
        with self._lock:
            told, self._told = self._told, True
        if not told:
            log.warning("callbacks to other machines are not sent; %s", _PERMIT)

    def _attempt(self, notice: Notice, number: int) -> None:
        record: dict[str, Any] = {
            "provider": notice.provider,
            "task_id": notice.task_id,
            "kind": notice.kind,
            "url": notice.url,
            "attempt": number,
            "at": self._clock(),
            "status": None,
            "answer": None,
            "accepted": False,
            "error": None,
        }
        again = True
        try:
            if not (self._allow_remote or is_loopback(notice.url)):
                again = False
                self._tell_once()
                raise PermissionError(f"not a loopback address; {_PERMIT}")
            answer = post(notice, self._timeout or notice.timeout)
            record["status"] = answer.status
            record["answer"] = answer.body[:_SHOWN_ANSWER].decode("utf-8", "replace")
            record["accepted"] = notice.accepted(answer)
        except (requests.RequestException, OSError, ValueError, RecursionError) as error:
            record["error"] = f"{type(error).__name__}: {error}"
        record["duration"] = round(self._clock() - record["at"], 3)
        with self._lock:
            self._attempts.append(record)
        log.info(
            "callback of %s to %s: attempt %d, status %s, %s",
            notice.task_id,
            notice.url,
            number,
            record["status"],
            "accepted" if record["accepted"] else "not accepted",
        )
        if again and not record["accepted"] and number <= len(notice.delays):
            due = self._clock() + notice.delays[number - 1] * self._scale
            self._agenda.at(due, lambda: self._attempt(notice, number + 1))


_call = threading.local()  # .until: when the call that this thread makes is over, by time.monotonic()


class _Incoming(io.RawIOBase):
    """What comes over a socket until the call is over; a socket's own time-out begins anew with every byte."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw, self._sock = raw, sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = _call.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer came too slowly")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = io.BufferedReader(_Incoming(self.fp.detach(), sock))


class _Adapter(HTTPAdapter):
    def get_connection_with_tls_context(self, *args: Any, **more: Any) -> Any:
        """The connections to the request's host, which read their answers in time."""
        pool: Any = super().get_connection_with_tls_context(*args, **more)
        pool.ConnectionCls = type("Connection", (pool.ConnectionCls,), {"response_class": _Response})
        return pool


def post(notice: Notice, timeout: float) -> Answer:
    """One POST: no redirects, no proxies of the environment, one deadline for the whole answer.

    Raises requests.RequestException when no whole answer came in time.
    """
    _call.until = time.monotonic() + timeout
    headers = {"Content-Type": "application/json", **notice.headers()}
    with requests.Session() as session:
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter())
        with session.post(
            notice.url, data=notice.body, headers=headers, timeout=timeout, allow_redirects=False, stream=True
        ) as answer:
            body = b""
            for piece in answer.iter_content(4096):
                body += piece
                if len(body) > _MOST_ANSWER:
                    break
            return Answer(answer.status_code, body)


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own, read by the parser that requests connects with."""
    try:
        prepared = requests.Request("POST", url).prepare().url or ""
        host = (parse_url(prepared).host or "").strip("[]")
    except (requests.RequestException, LocationParseError, ValueError):
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
