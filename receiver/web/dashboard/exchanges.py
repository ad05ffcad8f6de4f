"""The raw exchange behind each step of a task: what went out, and what came back.

All of it is as it was stored: callback tokens, secret headers and what repeats them were left out there.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from receiver.answers import MAX_BODY
from receiver.models import Attempt, Delivery, Event, Step, StoredNotice, Task
from receiver.submissions import KEPT_ANSWER
from receiver.tasks import History
from receiver.web.dashboard import words

MOST_EXCHANGES = 20
"""Attempts whose exchange stands on the page of the task, the newest ones; each may be long."""


@dataclass(frozen=True)
class Message:
    """One half of an exchange. ``cut``: only the beginning was kept. ``body_at``: the step that shows the body."""

    title: str
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    body_at: int | None = None


@dataclass(frozen=True)
class Line:
    """A step on the page. ``number``: its place. ``told_at``: the delivery whose page shows the exchange instead."""

    number: int
    step: Step
    text: str
    tone: str
    facts: Mapping[str, str]
    messages: tuple[Message, ...]
    curl: str | None = None
    told_at: str | None = None


class _Kept:
    """What lies behind the steps, to be looked up: a task may have thousands of each."""

    def __init__(self, history: History, lines: Sequence[Step]) -> None:
        self.task = history.task
        self.places = {step.detail["id"]: number for number, step in enumerate(lines) if step.kind == "event"}
        self.notices: dict[str, StoredNotice] = {each.id: each for each in history.notices}
        self.events: dict[str, Event] = {each.id: each for each in history.events}
        self.deliveries: dict[str, Delivery] = {each.id: each for each in history.deliveries}
        self.attempts: dict[tuple[str, int], Attempt] = {
            (each.delivery_id, each.number): each for each in history.attempts
        }


def lines_of(history: History, url: str) -> list[Line]:
    """Every step with the exchange behind it. ``url``: of this service, for commands."""
    lines = history.lines()
    kept = _Kept(history, lines)
    answered = _last_answered(lines)
    made = [number for number, step in enumerate(lines) if step.kind == "attempt"]
    short = set(made[:-MOST_EXCHANGES])
    return [
        _line(number, step, kept, url, last=step is answered, short=number in short)
        for number, step in enumerate(lines)
    ]


def _last_answered(lines: list[Step]) -> Step | None:
    """The call whose answer is the one kept with the task; none when a callback came after it."""
    told = [step for step in lines if step.kind in ("poll", "submit", "notice") and "failed" not in step.detail]
    return told[-1] if told and told[-1].kind != "notice" else None


def _line(number: int, step: Step, kept: _Kept, url: str, *, last: bool, short: bool) -> Line:
    text, tone = words.told(step)
    facts = {name: str(value) for name, value in step.detail.items() if value is not None and name != "answer"}
    messages: list[Message] = []
    curl = told_at = None
    match step.kind:
        case "submit":
            messages.append(Message("What the provider was given (the input)", kept.task.input_json))
            answer = step.detail.get("answer") or (kept.task.provider_response if last else None)
            if answer:
                messages.append(Message("What the provider answered", answer, cut=len(answer) == KEPT_ANSWER))
        case "poll" if last and kept.task.provider_response is not None:
            messages.append(Message("What the provider answered", kept.task.provider_response))
        case "notice":
            notice = kept.notices[step.detail["id"]]
            body = notice.body.decode("utf-8", "replace")
            messages.append(Message("What the provider sent", body, notice.headers))
        case "event":
            event = kept.events[step.detail["id"]]
            messages.append(Message("What subscribers are told", event.body))
            curl = curl_for("GET", f"{url}/v1/events/{event.id}")
        case "attempt" if short or kept.deliveries[step.detail["delivery"]].event_id not in kept.events:
            told_at = step.detail["delivery"]
        case "attempt":
            messages += _attempt(step, kept)
            curl = curl_for("POST", f"{url}/v1/deliveries/{step.detail['delivery']}/retry")
    return Line(number, step, text, tone, facts, tuple(messages), curl, told_at)


def _attempt(step: Step, kept: _Kept) -> list[Message]:
    delivery = kept.deliveries[step.detail["delivery"]]
    attempt, event = kept.attempts[delivery.id, step.detail["number"]], kept.events[delivery.event_id]
    sent = {
        "content-type": "application/json",
        "webhook-id": event.id,
        "webhook-timestamp": str(attempt.started_at // 1000),
        "webhook-signature": "v1,***",
    }
    messages = [Message(f"What we sent: POST {delivery.url}", "", sent, body_at=kept.places[event.id])]
    if attempt.response_status is None:
        messages.append(Message("No answer", attempt.message))
    else:
        long = len(attempt.response_body.encode()) >= MAX_BODY
        title = f"What came back: {attempt.response_status}, after {attempt.duration_ms} ms"
        messages.append(Message(title, attempt.response_body, attempt.response_headers, cut=long))
    return messages


def curl_for(method: str, address: str, body: str | None = None) -> str:
    """A command line for a shell in which RECEIVER_API_KEY is set; the key itself is never in it."""
    words = ["curl", *(["-X", method] if method != "GET" and body is None else []), shlex.quote(address)]
    line = " ".join(words) + ' \\\n  -H "Authorization: Bearer $RECEIVER_API_KEY"'
    if body is not None:
        line += f" \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
    return line


def submit_curl(task: Task, url: str) -> str:
    """The command that submits the same task once more."""
    members = {
        "provider": json.dumps(task.provider),
        "operation": json.dumps(task.operation),
        "input": task.input_json,
    }
    if task.metadata:
        members["metadata"] = json.dumps(dict(task.metadata), ensure_ascii=False)
    if task.callback_url is not None:
        members["callback_url"] = json.dumps(task.callback_url, ensure_ascii=False)
    body = "{" + ", ".join(f'"{name}": {text}' for name, text in members.items()) + "}"
    return curl_for("POST", f"{url}/v1/tasks", body)
