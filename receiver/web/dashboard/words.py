"""What happened to a task, in plain words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handlers import ErrorCode
from receiver.models import Step, Task, Verdict
from receiver.web.dashboard.formatting import duration


@dataclass(frozen=True)
class Advice:
    """An error: what it means, and what to do about it."""

    meaning: str
    step: str


_ADVICE = {
    ErrorCode.INVALID_INPUT: Advice(
        "The provider does not take this input.", "Change the field that its message names, and submit a new task."
    ),
    ErrorCode.AUTHENTICATION: Advice(
        "The provider does not accept our credentials.",
        "Check the provider's credentials in the settings (`receiver check` tries them), then submit again.",
    ),
    ErrorCode.PERMISSION: Advice(
        "Our credentials are good, but may not do this.", "Ask the provider to enable it for the account."
    ),
    ErrorCode.INSUFFICIENT_CREDIT: Advice(
        "The account at the provider does not have enough credit left.",
        "Top it up with the provider, then submit again.",
    ),
    ErrorCode.CONTENT_POLICY: Advice(
        "The provider refuses to make or to show this.", "Change the prompt or the pictures; the same will be refused."
    ),
    ErrorCode.RATE_LIMITED: Advice(
        "The provider is too busy, or is called too often.",
        "Submit again later; lower the provider's SUBMIT_RATE or MAX_IN_FLIGHT when it happens often.",
    ),
    ErrorCode.NOT_FOUND: Advice(
        "The provider does not know something that the input names, or the task itself.",
        "Check ids and links in the input: they may have expired.",
    ),
    ErrorCode.PROVIDER_ERROR: Advice(
        "Something went wrong at the provider.", "If it stays, ask the provider, with its id of the task."
    ),
    ErrorCode.TIMEOUT: Advice(
        "The provider gave up after too long a time.", "Submit again, perhaps something smaller."
    ),
    ErrorCode.EMPTY_RESULT: Advice(
        "The provider says that it succeeded, but gave nothing that can be used.",
        "Look at the provider's answer below: it may say why.",
    ),
    ErrorCode.SUBMISSION_UNKNOWN: Advice(
        "The answer to the submission was lost, and nothing was heard of the task since: it may have run, and been "
        "charged, at the provider.",
        "Look for it with the provider before you submit again: we never do that by ourselves.",
    ),
    ErrorCode.INTERNAL: Advice("Something went wrong on our side.", "Look into the log for the id of the task."),
}
_EXPIRED = Advice(
    "The deadline passed without a result.",
    "Submit again with a later deadline, or ask the provider what became of its task.",
)


def error_of(task: Task) -> dict[str, Any] | None:
    """The error of a task as it is stored, with ``advice``; None when there is none."""
    if task.status == "expired":
        said = {"message": _EXPIRED.meaning, "provider_code": None, "provider_message": None}
        return {"code": "expired", "retryable": True, **said, "advice": _EXPIRED}
    if task.error_json is None:
        return None
    stored = json.loads(task.error_json)
    return {**stored, "advice": _ADVICE.get(stored["code"], _ADVICE[ErrorCode.INTERNAL])}


_VERDICTS = {
    Verdict.BELIEVED: "believed: a signature covers it, or the settings say so",
    Verdict.HINT: "taken as a hint: we ask the provider now",
    Verdict.LATE: "came after the end and says nothing new",
    Verdict.CONTRADICTION: "contradicts the end; nothing was changed",
    Verdict.IGNORED: "not about a task of ours",
}
_UNKNOWN = "the answer was lost: it may have begun there, so it is not sent again blindly"


def told(step: Step) -> tuple[str, str]:
    """A step in words, and its tone: ``good``, ``bad``, ``busy``, ``wait`` or ``calm``."""
    detail: Mapping[str, Any] = step.detail
    match step.kind:
        case "created":
            return "Accepted, to be handed over to the provider", "calm"
        case "submit":
            return _submit(detail)
        case "notice":
            verdict = Verdict(detail["verdict"])
            times = f" {detail['copies']} times" if detail["copies"] > 1 else ""
            tone = {Verdict.BELIEVED: "good", Verdict.HINT: "busy", Verdict.CONTRADICTION: "bad"}.get(verdict, "calm")
            return f"The provider called{times}; {_VERDICTS[verdict]}", tone
        case "poll":
            if "failed" in detail:
                return f"Asked the provider, but: {detail['failed']}", "wait"
            return f"Asked the provider: {detail.get('said')}", "calm"
        case "state":
            return _state(detail)
        case "event":
            return f"Event {detail['type']} written for subscribers", "calm"
        case "attempt":
            status, error = detail["response_status"], detail["error"]
            arrived = error is None and status is not None and 200 <= status < 300
            answer = error.replace("_", " ") if status is None and error else f"{status}"
            return f"Webhook {detail['event_type']}, attempt {detail['number']}: {answer}", "good" if arrived else "bad"
    return step.kind, "calm"


def _submit(detail: Mapping[str, Any]) -> tuple[str, str]:
    why = detail.get("why") or detail.get("code") or ""
    match detail.get("outcome"):
        case "accepted":
            known = detail.get("provider_task_id")
            return "Handed over: the provider took it" + (f" as {known}" if known else ""), "good"
        case "rejected":
            return f"Handed over, but refused: {why}", "bad"
        case "unavailable":
            again = f"; again in {duration(detail['again_in_ms'])}" if "again_in_ms" in detail else ""
            return f"The provider could not be reached: {why}{again}", "wait"
    return f"Handed over, but {_UNKNOWN} ({why})", "wait"


_TONES = {"succeeded": "good", "failed": "bad", "expired": "bad", "running": "busy", "submitting": "busy"}
_BECAME = {"running": "is running", "queued": "waits again", "canceled": "was canceled", "submitting": "is handed over"}


def _state(detail: Mapping[str, Any]) -> tuple[str, str]:
    via = {"callback": " (told by a callback)", "poll": " (found by asking)"}.get(detail.get("via", ""), "")
    error = f": {detail['error'].replace('_', ' ')}" if detail.get("error") else ""
    return f"The task {_BECAME.get(detail['to'], detail['to'])}{error}{via}", _TONES.get(detail["to"], "calm")
