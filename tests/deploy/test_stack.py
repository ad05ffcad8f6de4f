"""What deploy/ describes, run for real on loopback: nginx, two web processes and two workers on PostgreSQL.

Containers and units cannot be started in a test; these are their commands with their settings. The traces go to
a collector of the test's own.
"""

from __future__ import annotations

import http.server
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from receiver import tracing
from receiver.cli.emulation import sandbox_environment
from receiver.sandbox import SandboxSettings
from receiver.sealing import new_secret_key
from tests import postgres
from tests.story.samples import TOPVIEW
from tests.story.system import free_port
from tests.subscriber import Subscriber, answer

ROOT = Path(__file__).parents[2]
KEY = "rk_stack_key_0123456789"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
pytestmark = pytest.mark.process


class Collector:
    """Takes spans as an OpenTelemetry collector does (OTLP over HTTP)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        found = self.spans

        class Takes(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in sent.resource_spans:
                    role = {each.key: each.value.string_value for each in resource.resource.attributes}["receiver.role"]
                    found.extend((role, span) for scope in resource.scope_spans for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Takes)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def ids_of(self, name: str) -> set[str]:
        """The ids of all spans with this name, as far as they have come."""
        return {span.span_id.hex() for _, span in self.spans if span.name == name}

    def of_trace(self, trace: int) -> dict[str, tuple[str, Any]]:
        """Name → (role of the process, span) of one trace, as far as it has come."""
        return {span.name: (role, span) for role, span in self.spans if int.from_bytes(span.trace_id) == trace}


def until(happened: Callable[[], Any], seconds: float = 90.0) -> Any:
    """What the function gives as soon as it gives something true."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def answers(url: str) -> bool:
    """Whether somebody answers there with 200."""
    try:
        return requests.get(url, timeout=10).status_code == 200
    except requests.RequestException:  # on a machine under load it may take longer than that
        return False


class Stack:
    """All the processes."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.collector = Collector()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.url, sandbox = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        self.web, self.metrics = [free_port(), free_port()], [free_port(), free_port()]
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "RECEIVER_DATABASE_URL": database,
            "RECEIVER_SECRET_KEYS": new_secret_key(),
            "RECEIVER_API_KEY": KEY,
            "RECEIVER_PUBLIC_URL": self.url,
            "RECEIVER_LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            **sandbox_environment(sandbox, self.url, SandboxSettings.from_environment({"SANDBOX_DURATION": "0.5"}), {}),
            "SANDBOX_DURATION": "0.5",
        }
        self.sandbox = sandbox

    def go(self) -> None:
        """Start everything in its order, and wait until all of it answers."""
        self.start("sandbox", "--port", self.sandbox.rpartition(":")[2])
        self.run("migrate")
        for port in self.web:
            self.start("web", RECEIVER_BIND=f"127.0.0.1:{port}")
        for port in self.metrics:
            self.start("worker", RECEIVER_WORKER_METRICS_BIND=f"127.0.0.1:{port}")
        self.start_nginx()
        until(lambda: all(answers(f"http://127.0.0.1:{port}/readyz") for port in self.web))
        until(lambda: all(answers(f"http://127.0.0.1:{port}/metrics") for port in self.metrics))
        until(lambda: answers(f"{self.url}/healthz"))

    def run(self, *command: str) -> None:
        """Run a command of the service to its end."""
        subprocess.run([sys.executable, "-m", "receiver.cli", *command], cwd=ROOT, env=self.environment, check=True)

    def start(self, *command: str, **settings: str) -> None:
        """Start a role."""
        with (self.folder / f"{len(self.processes)}-{command[0]}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "receiver.cli", *command], cwd=ROOT,
                    env={**self.environment, **settings}, stdout=log, stderr=log,
                )
            )  # fmt: skip

    def start_nginx(self) -> None:
        """Nginx with the file of the containers, in front of both web processes."""
        assert NGINX is not None
        text = (ROOT / "deploy" / "nginx.compose.conf").read_text()
        text = text.replace("server web:8000;", "".join(f"server 127.0.0.1:{port};" for port in self.web))
        text = text.replace("listen 80;", f"listen {self.url.removeprefix('http://')};")
        text = text.replace("/var/log/nginx/access.log", str(self.folder / "access.log"))
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        main = self.folder / "nginx.conf"
        main.write_text(
            f"daemon off; user root; pid {self.folder}/pid; error_log {self.folder}/error.log; "
            f"events {{}} http {{ {places} {text} }}"
        )
        self.processes.append(subprocess.Popen([NGINX, "-c", str(main), "-e", str(self.folder / "error.log")]))

    def stop(self) -> list[int]:
        """Stop all of them in order; their exit codes."""
        for process in reversed(self.processes):
            process.terminate()
        codes = []
        for process in self.processes:
            try:
                codes.append(process.wait(40))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append(process.wait())
        self.collector.server.shutdown()
        self.collector.server.server_close()
        return codes

    def logs(self) -> str:
        """What all of them logged."""
        return "".join(path.read_text() for path in self.folder.glob("*.log"))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """The stack; all of it ends with code 0."""
    if NGINX is None:
        pytest.skip("nginx is not installed: sh tests/attack/ensure_nginx.sh")
    with postgres.fresh_database() as database:
        up = Stack(tmp_path, database)
        try:
            up.go()
            yield up
        finally:
            codes = up.stop()
        assert codes == [0] * len(codes), up.logs()


def scraped(ports: list[int], pattern: str) -> float:
    """The sum of a series over processes."""
    texts = [requests.get(f"http://127.0.0.1:{port}/metrics", timeout=20).text for port in ports]
    return sum(float(value) for text in texts for value in re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE))


def test_the_stack_works_and_tells_what_it_does(stack: Stack) -> None:
    """A task goes in through nginx and comes out signed; metrics, logs and one trace over all processes tell of it."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {KEY}"
    with Subscriber(answer(204)) as subscriber:
        task = session.post(
            f"{stack.url}/v1/tasks",
            json={"provider": "topview", "operation": TOPVIEW.operation, "callback_url": subscriber.url,
                  "input": TOPVIEW.given()},
            headers={"X-Request-Id": "stack-1"}, timeout=30,
        )  # fmt: skip
        assert task.status_code == 202, task.text
        task_id = task.json()["id"]
        until(lambda: session.get(f"{stack.url}/v1/tasks/{task_id}", timeout=20).json()["status"] == "succeeded")
        until(lambda: len(subscriber.requests) >= 2)
        told = [dict(request.headers)["traceparent"] for request in subscriber.requests]
    trace = tracing.trace_id(task_id)
    expected = {
        "POST /v1/tasks": "web", "POST /callbacks/<provider>/<token>": "web", "submit topview": "worker",
        "query topview": "worker", "settle running": "worker", "settle succeeded": "worker",
        "delivery attempt": "worker", f"task topview {TOPVIEW.operation}": "worker",
    }  # fmt: skip
    until(lambda: stack.collector.of_trace(trace).keys() >= expected.keys())  # each process sends its own, now and then
    spans = stack.collector.of_trace(trace)
    assert {one.split("-")[1] for one in told} == {f"{trace:032x}"}
    until(lambda: {one.split("-")[2] for one in told} <= stack.collector.ids_of("delivery attempt"))
    assert {name: role for name, (role, _) in spans.items()} == expected
    assert (
        scraped(stack.metrics, r'receiver_provider_calls_total\{call="submit",outcome="accepted",provider="topview"\}')
        == 1
    )
    assert scraped(stack.metrics, r'receiver_delivery_attempts_total\{result="2xx"\}') >= 2
    assert scraped(stack.metrics, r'receiver_deliveries_ended_total\{reason="none",status="delivered"\}') >= 2
    assert scraped(stack.metrics, "receiver_event_to_attempt_seconds_count") >= 2
    assert scraped(stack.web, r'receiver_notices_total\{provider="topview",verdict="hint"\}') >= 1
    assert scraped(stack.web[:1], "receiver_workers") == 2
    logs = stack.logs()
    assert "/callbacks/topview/***" in (stack.folder / "access.log").read_text()
    for line in ('"event": "task accepted"', '"request": "stack-1"', '"event": "notice"', '"event": "attempt"'):
        assert line in logs
    assert requests.get(f"{stack.url}/metrics", timeout=20).status_code == 200  # from this machine
