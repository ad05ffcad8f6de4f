"""The whole system, every route and every command: nobody is shown a secret who was not meant to see it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from receiver import logs
from receiver.cli import COMMANDS, main
from receiver.sealing import new_secret_key, parse_secret_keys
from receiver.signing import CallbackTokens, new_secret
from tests.secrets.ledger import Ledger, spellings
from tests.story.samples import ALL, SUPERAPP, TOPVIEW, VOD
from tests.story.system import PROVIDERS, Process, System, free_port, running
from tests.subscriber import Subscriber, Talk, answer
from tests.web.test_auth import ALL as ROUTES

pytestmark = pytest.mark.process

WEBHOOKS = "signing secrets"
CREDENTIALS = {
    "TOPVIEW_API_KEY": "topview-api-key-4417",
    "SUPERAPP_SECRET_KEY": "superapp/secret+key-5528",
    "APSARAVIDEO_VOD_ACCESS_KEY_SECRET": "vod/secret=6639",
    "APSARAVIDEO_VOD_CALLBACK_KEY": "VodCallbackKey7740",
    "IMG_OPEN_ACCESS_KEY_SECRET": "img+open/secret-8851",
}
AUTHORIZATION = "Bearer subscriber-token-9962"
ELSEWHERE = {"run", "web", "worker", "sandbox", "listen"}
"""Commands that run as processes here; their output is their log."""
NOT_TRIED = {"demo"}
"""It starts a system of its own, with published credentials and keys that it makes up and throws away."""


def echo(status: int) -> Callable[[Talk], None]:
    """A subscriber that answers with all that it was sent."""

    def behave(talk: Talk) -> None:
        received = talk.read()
        if received is not None:
            body = json.dumps({"headers": dict(received.headers), "raw": received.raw.decode("latin-1")}).encode()
            mirrored = {"Location": f"/?auth={received.header('authorization')}", "X-Request-Id": "r"}
            talk.send(_head(status, body, mirrored) + body)

    return behave


def _head(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Connection: close"]
    return ("\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items())]) + "\r\n\r\n").encode()


class WholeRun:
    """Does everything that can be done, and notes all that is shown."""

    def __init__(self, system: System, ledger: Ledger, keys: str, api_key: str) -> None:
        self.system = system
        self.ledger = ledger
        self.keys = keys
        self.tasks: list[dict[str, Any]] = []
        system.session.headers["Authorization"] = f"Bearer {api_key}"
        system.session.hooks["response"].append(self._note)

    def _note(self, found: requests.Response, *_: Any, **__: Any) -> None:
        if found.headers.get("Content-Type", "").startswith("text/event-stream"):
            return
        path, method = found.request.path_url.partition("?")[0], found.request.method
        gives = path.endswith(("/secret", "/rotate-secret", "signing-secret", "signing-secret/rotate"))
        gives |= (method, path, found.status_code) == ("POST", "/v1/subscribers", 201)
        shown = f"{found.headers}\n{found.text}"
        self.ledger.show(f"{method} {found.request.path_url}: {found.status_code}", shown, *[WEBHOOKS] if gives else [])
        if gives and found.ok:
            body = found.json()
            for each in [body, *body.get("secrets", [])]:
                self.ledger.keep(WEBHOOKS, each["secret"])

    def any(self, method: str, path: str, **options: Any) -> requests.Response:
        """A call of which any answer is good."""
        return self.system.session.request(method, self.system.url + path, timeout=30, **options)

    def submit_all(self, callback_url: str) -> None:
        """A task of every kind, a failing one of every kind, and the same one twice."""
        for sample in ALL:
            for magic in (("duration=0.5",), ("fail", "duration=0.5")):
                given = sample.given(*magic)
                self.tasks.append(
                    self.system.submit(sample.provider, sample.operation, given, callback_url=callback_url)
                )
        again = {"Idempotency-Key": "same"}
        body = {"provider": "superapp", "operation": "text2image", "input": SUPERAPP.given()}
        for _ in range(2):
            self.tasks.append(self.any("POST", "/v1/tasks", json=body, headers=again).json())
        self.any("POST", "/v1/tasks", json={**body, "metadata": {"a": "b"}}, headers=again)
        self.any("POST", f"/v1/tasks/{self.tasks[-1]['id']}/cancel", json={})

    def keep_tokens(self) -> None:
        """Note the callback tokens of all tasks: they can be made from the keys."""
        tokens = CallbackTokens(parse_secret_keys(self.keys))
        for page in self.pages("tasks"):
            for task in page:
                self.ledger.keep("callback tokens", tokens.make(task["provider"], task["id"]))

    def pages(self, noun: str) -> list[list[dict[str, Any]]]:
        """All of a list."""
        found, cursor = [], ""
        while cursor is not None:
            page = self.system.call("GET", f"/v1/{noun}?limit=100{cursor and f'&cursor={cursor}'}")
            found.append(page["data"])
            cursor = page["next_cursor"]
        return found

    def call_badly(self) -> None:
        """Requests that are refused, some with secrets in the wrong place."""
        for method, path in ROUTES:
            for wrong in (
                {"data": b"{"},
                {"json": {"secret": "whsec_short"}},
                {"headers": {"Authorization": "Basic x"}},
            ):
                self.any(method, path, **wrong)
        self.any("GET", "/nope")
        self.any("PUT", "/v1/tasks")
        tokens = CallbackTokens(parse_secret_keys(self.keys))
        for task in self.tasks[:8]:
            token = tokens.make(task["provider"], task["id"])
            for path in (f"{task['provider']}/{token}", f"{task['provider']}/{token}x", f"topview/{token}"):
                for body in (b"", b"{}", b"[1", b'{"taskId": "x", "uuid": "y"}'):
                    self.any("POST", f"/callbacks/{path}", data=body, headers={"Authorization": ""})
        self.any("POST", "/callbacks/apsaravideo_vod", data=b"{}", headers={"X-VOD-SIGNATURE": "0" * 32})
        hook = {"url": "http://127.0.0.1:9/", "event_types": ["*"]}
        given = self.ledger.keep(WEBHOOKS, new_secret())
        for wrong_body in (
            {**hook, "secret": given[:-1]},
            {**hook, "secret": given.upper()},
            {**hook, "secret": given, "headers": {"Authorization": f"{AUTHORIZATION}\n"}},
            {**hook, "secret": given, "headers": {"Content-Type": AUTHORIZATION}},
            {**hook, "secret": given, "url": "http://169.254.169.254/"},
            {**hook, "secret": given, "more": 1},
        ):
            assert self.any("POST", "/v1/subscribers", json=wrong_body).status_code == 422

    def look_everywhere(self) -> None:
        """Every page there is, of every thing there is."""
        for path in ("/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/v1/providers"):
            self.any("GET", path)
        for provider in PROVIDERS:
            for resource in ("models", "voices", "nothing"):
                self.any("GET", f"/v1/providers/{provider}/{resource}")
        self.any("POST", "/v1/uploads", data={"provider": "topview"}, files={"file": ("a.png", b"\x89PNG")})
        for noun in ("tasks", "subscribers", "events", "deliveries"):
            for page in self.pages(noun):
                for thing in page:
                    self.any("GET", f"/v1/{noun}/{thing['id']}")
                    if noun == "tasks":
                        self.any("GET", f"/v1/tasks/{thing['id']}/timeline")
        with self.system.session.get(
            f"{self.system.url}/v1/events?after=", headers={"Accept": "text/event-stream"}, stream=True, timeout=10
        ) as stream:
            self.ledger.show("the stream of events", next(stream.iter_content(200_000)).decode())

    def use_the_commands(self, subscriber: str, delivery: str) -> None:
        """Every command, as text and as JSON."""
        task = self.tasks[0]["id"]
        lines: list[tuple[str, ...]] = [
            ("migrate",), ("check",), ("keys", "list"), ("reseal",), ("providers",), ("tasks",), ("deliveries",),
            ("task", task), ("task", task, "--timeline"), ("cancel", task), ("delivery", delivery),
            ("retry", delivery), ("replay", subscriber, "--since", "1h"),
            ("subscribers", "list"), ("subscribers", "show", subscriber),
            ("subscribers", "show", subscriber, "--secret"),
            *(("subscribers", verb, subscriber) for verb in ("rotate", "ping", "disable", "enable")),
            ("subscribers", "add", "http://127.0.0.1:9/", "--header", f"Authorization={AUTHORIZATION}"),
            ("submit", "superapp", "text2image", "inputText=x", "width=512", "height=512", "--wait"),
            ("trigger", "subscriber.ping", "--subscriber", subscriber), ("trigger", "task.succeeded"),
            ("export", task), ("purge", "--count"), ("completion", "bash"),
            ("tasks", "--key", "rk_wrong"),
            ("keys", "create", "--scope", "read"), ("keys", "create", "--scope", "wrong"), ("keys", "revoke", "key_x"),
        ]  # fmt: skip
        used = {line[0] for line in lines}
        assert used | ELSEWHERE | NOT_TRIED == set(COMMANDS)
        for line in lines:
            for more in ((), ("--json",)):
                result = CliRunner().invoke(main, [*line, *more])
                for text in set(result.output.split()):
                    bare = text.strip('",{}')
                    if bare.startswith("whsec_"):
                        self.ledger.keep(WEBHOOKS, bare)
                    elif line[:2] == ("keys", "create") and bare.startswith("rk_") and "…" not in bare:
                        self.ledger.keep("made API keys", bare)
                purpose = [WEBHOOKS] if line[0] == "subscribers" and {"--secret", "rotate", "add"} & set(line) else []
                purpose += ["made API keys"] if line[:2] == ("keys", "create") else []
                self.ledger.show(f"receiver {' '.join([*line, *more])}", result.output, *purpose)

    def break_things(self, subscriber: str, delivery: str, database: Path) -> None:
        """Faults of our own: stored secrets and answers that were tampered with, and a provider that is gone."""
        with sqlite3.connect(database, timeout=10) as connection:
            connection.execute("UPDATE subscribers SET secrets_sealed = 'broken' WHERE id = ?", [subscriber])
            connection.execute("UPDATE attempts SET response_headers = 'broken' WHERE delivery_id = ?", [delivery])
        connection.close()
        assert self.any("GET", f"/v1/subscribers/{subscriber}/secret").status_code == 409
        assert self.any("GET", f"/v1/deliveries/{delivery}").status_code == 500
        assert self.any("POST", f"/v1/subscribers/{subscriber}/ping").status_code == 202
        self.system.sandbox.stop()
        gone = [
            self.system.submit(sample.provider, sample.operation, sample.given()) for sample in (VOD, TOPVIEW, SUPERAPP)
        ]
        deadline = time.monotonic() + 15
        while not all(any("submit" in step["kind"] for step in self.system.timeline(task)) for task in gone):
            assert time.monotonic() < deadline, [self.system.timeline(task) for task in gone]
            time.sleep(0.1)
        self.any("GET", "/v1/providers/topview/voices")
        self.any("POST", "/v1/uploads", data={"provider": "topview"}, files={"file": ("a.png", b"\x89PNG")})


def settings_of(api_key: str, keys: str) -> dict[str, str]:
    """The system's environment: secrets that turn up nowhere by chance, logs that tell all."""
    own = {f"SANDBOX_{name}": value for name, value in CREDENTIALS.items()}
    often = {f"{name.upper()}_POLL_SCHEDULE": "0.3" for name in PROVIDERS}
    return {
        "RECEIVER_API_KEY": api_key,
        "RECEIVER_SECRET_KEYS": keys,
        "RECEIVER_LOG_LEVEL": "debug",
        "RECEIVER_RETRY_SCHEDULE": "0.2,0.2",
        "RECEIVER_REQUEST_RATE": "0",
        **CREDENTIALS,
        **own,
        **often,
    }


def test_no_secret_is_shown_to_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a run over everything, no answer, log, metric, event, record or stored byte holds a secret it should not.

    Secrets are searched for as they are, in base64, in hexadecimal, in URLs, in JSON and as digests. They may be
    where they are given out: when they are made, and where `manage` asks for them.
    """
    ledger = Ledger()
    api_key = ledger.keep("the API key", "rk_bootstrap_key_of_this_run_1104")
    keys = ",".join(ledger.keep("secret keys", new_secret_key()) for _ in range(2))
    for key in parse_secret_keys(keys):
        ledger.secrets["secret keys"] |= {
            key.hex(),
            base64.b64encode(key).decode(),
            base64.urlsafe_b64encode(key).decode(),
        }
    for name, value in CREDENTIALS.items():
        ledger.keep(name, value)
    ledger.keep("a subscriber's header", AUTHORIZATION)
    ledger.keep("a subscriber's header", AUTHORIZATION.removeprefix("Bearer "))
    monkeypatch.setattr(logs, "_secrets", ())
    monkeypatch.setattr(logs, "set_up", lambda *_: None)
    with (
        Subscriber(echo(200)) as echoing,
        Subscriber(echo(500)) as failing,
        Subscriber(answer()) as listening,
        running(tmp_path, **settings_of(api_key, keys)) as system,
        contextlib.ExitStack() as others,
    ):
        run = WholeRun(system, ledger, keys, api_key)
        for name, value in system.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RECEIVER_URL", system.url)
        console = {**system.environment, "RECEIVER_LOG_FORMAT": "console"}
        console_url = f"127.0.0.1:{free_port()}"
        for name, more, arguments in (
            ("console-web", {**console, "RECEIVER_BIND": console_url}, ["web"]),
            ("console-worker", console, ["worker"]),
            ("listen", {"RECEIVER_URL": system.url}, ["listen", "--json", "--after", "", "--forward", listening.url]),
        ):
            process = Process(tmp_path, name, *arguments, environment={**system.environment, **more})
            others.callback(process.stop)
        headers = {"Authorization": AUTHORIZATION, "X-Tenant": "production"}
        own = ledger.keep(WEBHOOKS, new_secret())
        first = system.subscribe(echoing.url, ["*"], headers=headers, secret=own)
        second = system.subscribe(failing.url, ["task.*"], headers=headers)
        run.any("POST", f"/v1/subscribers/{first['id']}/rotate-secret", json={})
        run.any("GET", f"/v1/subscribers/{first['id']}/secret")
        run.any("PATCH", f"/v1/subscribers/{first['id']}", json={"headers": {"X-More": "y"}})
        run.any("GET", "/v1/signing-secret")
        run.any("POST", "/v1/signing-secret/rotate", json={})
        run.submit_all(echoing.origin + "/task")
        run.call_badly()
        for task in run.tasks:
            system.finished(task)
        echoing.wait_for(len(run.tasks))
        deliveries = run.pages("deliveries")[0]
        run.use_the_commands(second["id"], deliveries[0]["id"])
        for record in ("", "calls", "tasks", "callbacks", "starts"):
            held = requests.get(f"{system.sandbox_url}/_sandbox/{record}", timeout=10)
            # It plays the provider, who is given the callback addresses; of credentials it must show none.
            assert held.status_code == 200, (record, held.text)
            assert len(held.text) > 200, record
            ledger.show(f"the sandbox's record {record!r}", held.text, "callback tokens")
        broken = f"/v1/deliveries/{deliveries[1]['id']}"
        run.break_things(first["id"], deliveries[1]["id"], tmp_path / "receiver.db")
        for path, status in (("/v1/tasks", 200), (f"/v1/subscribers/{first['id']}/secret", 409), (broken, 500)):
            found = requests.get(
                f"http://{console_url}{path}", headers={"Authorization": f"Bearer {api_key}"}, timeout=10
            )
            assert found.status_code == status
        run.look_everywhere()
        run.keep_tokens()
        others.close()
        for received in (*echoing.requests, *failing.requests, *listening.requests):
            ledger.show("the body of a webhook", received.body.decode())
    logged = {path.stem: path.read_text() for path in tmp_path.glob("*.log")}
    assert set(logged) == {"sandbox", "service", "console-web", "console-worker", "listen"}
    for name in ("service", "console-web"):
        assert "JSONDecodeError" in logged[name], "a fault of our own is in the log"
        assert "a stored secret does not open" in logged[name]
    for name, text in logged.items():
        ledger.show(f"the log of {name}", text)
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("receiver.db*")).decode("latin-1")
    ledger.show("the database", stored, "the API key", "made API keys")  # their digests are there, and only these
    for name in ("the API key", "made API keys"):
        assert not any(form in stored for form in ledger.secrets[name] if len(form) != 64), name
    assert len(ledger.secrets["callback tokens"]) > 50
    assert len(ledger.shown) > 300
    leaks = sorted(set(ledger.leaks()))
    assert not leaks, "\n".join(leaks)
    assert os.environ["RECEIVER_API_KEY"] == api_key


@pytest.mark.parametrize(
    "text",
    [
        "key=sk/ü 0001;",
        "c2svw7wgMDAwMQ",
        "736b2fc3bc2030303031",
        "?k=sk%2F%C3%BC%200001",
        '{"k": "sk/\\u00fc 0001"}',
    ],
)
def test_the_search_knows_every_usual_spelling(text: str) -> None:
    """The search itself is tried: plain, base64, hexadecimal, URL and JSON are found."""
    ledger = Ledger()
    ledger.keep("a secret", "sk/ü 0001")
    ledger.show("here", f"before {text} after")
    (leak,) = ledger.leaks()
    assert leak.startswith("here: a secret")
    assert not any(form in leak for form in spellings("sk/ü 0001"))
