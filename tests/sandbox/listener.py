"""A tiny receiver of callbacks on the loopback interface, answering as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Heard:
    """One callback as it came."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.raw)
        return decoded


Reply = Callable[[Heard, int], tuple[int, bytes]]
"""From a callback and its number, counted from 1, to status and body of the answer."""


def ok(_: Heard, __: int) -> tuple[int, bytes]:
    """Take everything, as Img Open wants it answered; by HTTP 200, as VOD does."""
    return 200, b'{"code":"200"}'


class Listener:
    """Keeps every callback; `reply` may be changed at any time. Use it in a ``with`` block."""

    def __init__(self, reply: Reply = ok) -> None:
        self.reply = reply
        self.heard: list[Heard] = []
        self._changed = threading.Condition()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                heard = Heard(self.path, {k.lower(): v for k, v in self.headers.items()}, raw)
                with listener._changed:
                    listener.heard.append(heard)
                    number = len(listener.heard)
                    listener._changed.notify_all()
                status, body = listener.reply(heard, number)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", listener.url + "/moved")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def wait_for(self, number: int, seconds: float = 10) -> list[Heard]:
        """The callbacks once there are so many; an AssertionError when they do not come."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.heard) >= number, seconds)
        assert came, f"{len(self.heard)} of {number} callbacks came"
        return list(self.heard)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def until(probe: Callable[[], Any], seconds: float = 10) -> Any:
    """What a probe gives once it is true; an AssertionError when it never is."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
    return found
