"""A task's timeline, told in one short line for each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from receiver.cli.screen import COLOURS, in_line

_STYLES = {"created": "bright_black", "submit": "cyan", "notice": "magenta", "poll": "blue", "event": "yellow"}

_VERDICTS = {
    "believed": "believed: a signature covers it, or the settings say so",
    "hint": "it is asked now",
    "late": "after the end, says nothing new",
    "contradiction": "contradicts the end, changes nothing",
    "ignored": "not about a task",
}


def told(step: Mapping[str, Any]) -> Text:
    """A step (``{"kind", "detail"}``) as its kind and what happened, in colour where there is a terminal."""
    kind, detail = str(step["kind"]), step.get("detail") or {}
    line = Text().append(f"{_NAMES.get(kind, in_line(kind)):<9}", _STYLES.get(kind, ""))
    said = _SAID[kind](detail) if kind in _SAID else Text(in_line(detail))
    return line.append_text(said)


def _created(_: Mapping[str, Any]) -> Text:
    return Text("accepted, to be handed over")


def _submit(detail: Mapping[str, Any]) -> Text:
    outcome = str(detail.get("outcome"))
    if outcome == "accepted":
        known = detail.get("provider_task_id")
        return Text("taken by the provider" + (f" as {in_line(known)}" if known else ""))
    why = detail.get("why") or detail.get("code")
    said = Text().append(f"{in_line(outcome)}: {in_line(why)}", "red" if outcome == "rejected" else "yellow")
    if detail.get("again_in_ms") is not None:
        said.append(f", again in {float(detail['again_in_ms']) / 1000:.1f} s")
    return said


def _notice(detail: Mapping[str, Any]) -> Text:
    verdict = str(detail.get("verdict"))
    copies = int(detail.get("copies") or 1)
    times = f", {copies} times" if copies > 1 else ""
    return Text(f"the provider called{times}; {_VERDICTS.get(verdict, in_line(verdict))}")


def _poll(detail: Mapping[str, Any]) -> Text:
    if "failed" in detail:
        return Text().append(f"asked, but: {in_line(detail['failed'])}", "yellow")
    return Text(f"asked: {in_line(detail.get('said'))}")


def _state(detail: Mapping[str, Any]) -> Text:
    to = in_line(detail.get("to"))
    said = Text().append(to, f"bold {COLOURS.get(to, '')}".strip())
    if detail.get("via"):
        said.append(f" by {in_line(detail['via'])}", style="")
    if detail.get("error"):
        said.append(f": {in_line(detail['error'])}")
    return said


def _event(detail: Mapping[str, Any]) -> Text:
    return Text(in_line(detail.get("type")))


def _attempt(detail: Mapping[str, Any]) -> Text:
    status, error = detail.get("response_status"), detail.get("error")
    arrived = status is not None and 200 <= int(status) < 300 and not error
    answer = in_line(error) if status is None else f"{status}" + (f", {in_line(error)}" if error else "")
    said = Text(f"{in_line(detail.get('event_type'))} to {in_line(detail.get('url'))}: ")
    return said.append(answer, style="green" if arrived else "red")


_NAMES = {"attempt": "webhook", "notice": "callback", "state": "now"}
_SAID = {
    "created": _created,
    "submit": _submit,
    "notice": _notice,
    "poll": _poll,
    "state": _state,
    "event": _event,
    "attempt": _attempt,
}
