"""The demo's subscriber: a program as a user would write it, which believes only what is signed."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from receiver.signing import BadWebhook, verify


@dataclass(frozen=True, slots=True)
class Arrival:
    """One webhook as it arrived. ``problem``: why it was not believed, empty when it was."""

    event_type: str
    task_id: str
    problem: str


class DemoSubscriber:
    """Collects webhooks at ``url``; answers 204 to what is signed with ``secret``, 401 to all else."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.secret = ""
        self._arrivals: list[Arrival] = []
        self._lock = threading.Lock()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Judge one webhook; the status to answer."""
        problem = ""
        try:
            verify([self.secret] if self.secret else [], headers, body, time.time())
        except BadWebhook as error:
            problem = str(error)
        try:
            event = json.loads(body)
            arrival = Arrival(str(event["type"]), str(event["data"].get("id", "")), problem)
        except (ValueError, KeyError, AttributeError, TypeError):
            arrival = Arrival("", "", problem or "the body is not an event")
        with self._lock:
            self._arrivals.append(arrival)
        return 401 if arrival.problem else 204

    def arrived(self, task_id: str) -> list[Arrival]:
        """What arrived about a task so far, in order."""
        with self._lock:
            return [arrival for arrival in self._arrivals if arrival.task_id == task_id]

    def refused(self) -> list[Arrival]:
        """What was not believed so far."""
        with self._lock:
            return [arrival for arrival in self._arrivals if arrival.problem]


@contextlib.contextmanager
def demo_subscriber() -> Iterator[DemoSubscriber]:
    """A subscriber on a free port of this machine, for the length of a ``with`` block."""

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(subscriber.take(dict(self.headers.items()), body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """The demo tells what arrives itself."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    subscriber = DemoSubscriber(f"http://127.0.0.1:{server.server_port}/webhooks")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="demo-subscriber", daemon=True)
    thread.start()
    try:
        yield subscriber
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
