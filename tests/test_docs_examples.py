"""Every example in the documentation is true: it can be typed, sent and verified as it stands."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shlex
import time
from typing import Any

import pytest

import handlers
from receiver import events, signing
from receiver.cli import main as command_line
from receiver.cli.fields import task_input
from receiver.models import EventType, Task, TaskStatus
from tests.markdown import ROOT, page, pages
from tests.test_docs import commands

EVERYWHERE = {found.name: found for found in pages()}


def test_tasks_in_examples_are_taken() -> None:
    """Every task that an example submits is one that its provider can do, with all the input it needs."""
    texts = ["\n".join(found.code) for found in EVERYWHERE.values()]
    texts += [command.help or "" for _, command in commands(command_line)]
    bodies = [json.loads(body) for text in texts for body in re.findall(r"-d '(\{.*?\})'", text, re.DOTALL)]
    tasks = [(body["provider"], body["operation"], body["input"]) for body in bodies if "input" in body]
    whole = (re.sub(r"\s*\\\n\s*", " ", text) for text in texts)  # lines that go on in the next one
    for line in (line for text in whole for line in re.findall(r"receiver submit ([a-z].*)", text)):
        provider, operation, *words = shlex.split(line)
        if "--input" not in words:
            tasks.append((provider, operation, task_input(None, [word for word in words if "=" in word])))
    assert len(tasks) > 3
    for provider, operation, given in tasks:
        handlers.find(provider).operations[operation].schema().load(given)


def test_the_example_of_a_webhook_has_the_members_of_a_task() -> None:
    """The bodies that the documentation shows have exactly the members that are sent."""
    task = Task(
        "task_x", "acct_x", "superapp", "text2image", TaskStatus.QUEUED, "{}", {}, None, 0, 0, None
    )  # fmt: skip
    members = list(json.loads(events.task_json(task)))
    shown = [json.loads(text) for kind, text in page("docs/webhooks.md").fences if kind == "json"]
    assert [list(body["data"]) for body in shown] == [members]
    assert list(shown[0]) == list(json.loads(events.event_body(EventType.TASK_RUNNING, 0, "{}")))


@pytest.mark.parametrize("name", [found.name for found in pages()])
def test_examples_of_json_are_json(name: str) -> None:
    """What is shown as JSON can be read as JSON."""
    for kind, text in page(name).fences:
        if kind == "json":
            json.loads(text)


def signed(secret: str, body: bytes) -> dict[str, str]:
    """The headers of a webhook sent now."""
    now = int(time.time())
    signature = signing.signature_header([signing.new_secret(), secret], "evt_1", now, body)
    return {"webhook-id": "evt_1", "webhook-timestamp": str(now), "webhook-signature": signature}


def snippets(word: str) -> list[str]:
    """Python examples of all pages that hold a word."""
    return [text for found in EVERYWHERE.values() for kind, text in found.fences if kind == "python" and word in text]


def test_the_verification_by_hand_believes_our_webhooks_and_no_others() -> None:
    """Whoever copies the documented function verifies signatures rightly, also during a rotation."""
    secret, body = signing.new_secret(), '{"type":"task.running","data":"\u00fc"}'.encode()
    headers = signed(secret, body)
    found = [
        text for text in snippets("def verified(") if "import HTTPServer" not in text and "serve_forever" not in text
    ]
    assert found
    for text in found:
        space: dict[str, Any] = {}
        exec(compile(text, "docs", "exec"), space)
        assert space["verified"](secret, headers, body)
        assert not space["verified"](secret, headers, body + b" ")
        assert not space["verified"](signing.new_secret(), headers, body)
        old = {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 3600)}
        key = base64.b64decode(secret.removeprefix("whsec_"))
        digest = hmac.new(key, f"evt_1.{old['webhook-timestamp']}.".encode() + body, hashlib.sha256).digest()
        old["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
        assert not space["verified"](secret, old, body)


def test_the_verification_by_hand_is_the_snippet() -> None:
    """What the page on webhooks shows is the file that is tested against forgeries in every way."""
    snippet = (ROOT / "docs" / "snippets" / "standard_library.py").read_text()
    assert snippet in [text for kind, text in page("docs/webhooks.md").fences if kind == "python"]


def test_every_snippet_is_linked() -> None:
    """Each language's function is in the list of them, and the page on webhooks leads there."""
    files = {path.name for path in (ROOT / "docs" / "snippets").iterdir() if path.is_file()} - {"README.md"}
    assert set(page("docs/snippets/README.md").links) >= files
    assert "snippets/README.md" in page("docs/webhooks.md").links


def test_the_verification_by_library_believes_our_webhooks_and_no_others() -> None:
    """Whoever copies the documented Flask view takes our webhooks and refuses forged ones."""
    secret, body = signing.new_secret(), b'{"type":"task.running","data":{"id":"task_1"}}'
    found = snippets("standardwebhooks")
    assert found
    for text in found:
        space: dict[str, Any] = {"__name__": "docs"}
        exec(compile(text.replace("whsec_...", secret), "docs", "exec"), space)
        client = space["app"].test_client()
        assert client.post("/hooks", data=body, headers=signed(secret, body)).status_code == 204
        assert client.post("/hooks", data=body, headers=signed(signing.new_secret(), body)).status_code == 401
        assert client.post("/hooks", data=body).status_code == 401
        odd = {**signed(secret, body), "webhook-signature": "odd"}
        assert client.post("/hooks", data=body, headers=odd).status_code == 401
