"""A stand-in for the running service: answers by route, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request as it came. ``query``: the first value of each parameter; ``headers``: names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Said:
    """An answer. ``body``: sent as JSON unless it is text or bytes. ``cut``: leave the connection before the end."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


class FakeService:
    """Answers each route with the answers it was given, one after the other; the last one repeats."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[Said | Callable[[Asked], Said]]] = {}
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                said = fake.answer(Asked(self.command, parts.path, query, headers, body))
                raw = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
                self.send_response(said.status)
                kind = "application/problem+json" if said.status >= 400 else "application/json"
                for name, value in {"Content-Type": kind, **said.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw) + (10 if said.cut else 0)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815  http.server's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def on(self, method: str, path: str, *answers: Any) -> None:
        """Answer this route so: with a Said, a callable that makes one, or the body of a 200."""
        given = [each if isinstance(each, Said) or callable(each) else Said(each) for each in answers]
        self._answers[method, path] = given

    def answer(self, asked: Asked) -> Said:
        with self._lock:
            self.asked.append(asked)
            answers = self._answers.get((asked.method, asked.path))
            if not answers:
                return Said({"title": "Not Found", "detail": "There is no such thing.", "status": 404}, 404)
            chosen = answers.pop(0) if len(answers) > 1 else answers[0]
        return chosen(asked) if callable(chosen) else chosen

    def to(self, method: str, path: str) -> list[Asked]:
        """What was asked of one route."""
        with self._lock:
            return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]

    def __enter__(self) -> FakeService:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def task(**changes: Any) -> dict[str, Any]:
    """A task as the API shows it."""
    return {
        "id": "task_01kahx3mt5k0c4z7d6q8r9w2ve",
        "provider": "superapp",
        "operation": "text2image",
        "status": "queued",
        "input": {"inputText": "a boat", "width": 512, "height": 512},
        "metadata": {},
        "callback_url": None,
        "provider_task_id": None,
        "progress": None,
        "outputs": [],
        "error": None,
        "completed_via": None,
        "created_at": "2026-11-21T10:00:00.000Z",
        "submitted_at": None,
        "finished_at": None,
        "deadline_at": "2026-11-21T11:00:00.000Z",
        "provider_response": None,
        **changes,
    }


def output(**changes: Any) -> dict[str, Any]:
    """An output as the API shows it."""
    return {
        "kind": "image",
        "url": "https://cdn.example/1.png",
        "text": None,
        "data": None,
        "name": None,
        "status": "ok",
        "expires_at": None,
        "details": {},
        **changes,
    }


SUCCEEDED = task(
    status="succeeded",
    outputs=[output()],
    completed_via="callback",
    finished_at="2026-11-21T10:00:03.500Z",
    provider_task_id="p-1",
)
FAILED = task(
    status="failed",
    error={
        "code": "content_policy",
        "message": "The provider refused the prompt.",
        "retryable": False,
        "provider_code": "E-17",
        "provider_message": "unsafe",
    },
    finished_at="2026-11-21T10:00:01.000Z",
)
TIMELINE = {
    "data": [
        {"at": "2026-11-21T10:00:00.000Z", "kind": "created", "detail": {"provider": "superapp"}},
        {
            "at": "2026-11-21T10:00:00.100Z",
            "kind": "submit",
            "detail": {"outcome": "accepted", "provider_task_id": "p-1"},
        },
        {"at": "2026-11-21T10:00:00.100Z", "kind": "state", "detail": {"from": "submitting", "to": "running"}},
        {"at": "2026-11-21T10:00:02.000Z", "kind": "poll", "detail": {"said": "running"}},
        {"at": "2026-11-21T10:00:03.000Z", "kind": "notice", "detail": {"id": "ntc_1", "verdict": "hint", "copies": 2}},
        {
            "at": "2026-11-21T10:00:03.500Z",
            "kind": "state",
            "detail": {"from": "running", "to": "succeeded", "via": "callback"},
        },
        {"at": "2026-11-21T10:00:03.500Z", "kind": "event", "detail": {"id": "evt_1", "type": "task.succeeded"}},
        {
            "at": "2026-11-21T10:00:03.700Z",
            "kind": "attempt",
            "detail": {
                "delivery": "dlv_1",
                "event_type": "task.succeeded",
                "url": "https://a.example/hook",
                "number": 1,
                "response_status": 204,
                "error": None,
            },
        },
    ]
}
