"""Deliveries and their attempts; sending again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import click
from rich.text import Text

from receiver.cli import completing
from receiver.cli.api import Api, ApiProblem, part, with_api
from receiver.cli.exits import Exit, Problem
from receiver.cli.fields import MOMENT
from receiver.cli.mistyped import Listing
from receiver.cli.progress import progress
from receiver.cli.screen import (
    Column,
    clean,
    console,
    in_line,
    indented,
    show_facts,
    show_json,
    show_more,
    show_table,
    when,
    word,
)
from receiver.models import DeliveryStatus

_LOOK = 0.5
_STUCK = 60.0
"""Seconds without any attempt after which a replay is waited for no longer."""


@click.command(cls=Listing)
@click.option("--status", type=click.Choice([status.value for status in DeliveryStatus]), help="Only in this state.")
@click.option("--subscriber", metavar="ID", shell_complete=completing.subscribers, help="Only to this subscriber.")
@click.option("--task", metavar="ID", shell_complete=completing.tasks, help="Only of this task.")
@click.option("--event-type", metavar="TYPE", help="Only of events of this type (or task.*).")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many.")
@click.option("--cursor", help="Where the last page ended.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def deliveries(api: Api, as_json: bool, **filters: Any) -> None:
    """List deliveries, newest first."""
    answer = api.get("/v1/deliveries", filters)
    if as_json:
        show_json(answer.text)
        return
    page = answer.json()
    rows = [
        [
            each["id"],
            word(each["status"]),
            each["event_type"],
            each["url"],
            each["attempt_count"],
            when(each["created_at"]),
            when(each["next_attempt_at"]),
        ]
        for each in page["data"]
    ]
    columns = [
        Column("id"),
        Column("status"),
        Column("event", drop=5),
        Column("url", drop=4, long=True),
        Column("attempts", drop=1),
        Column("created", drop=2),
        Column("next attempt", drop=3),
    ]
    show_table(columns, rows, "No deliveries.")
    show_more(page)


@click.command()
@click.argument("delivery_id", metavar="ID", shell_complete=completing.deliveries)
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def delivery(api: Api, delivery_id: str, as_json: bool) -> None:
    """Show one delivery with its attempts."""
    answer = api.get(f"/v1/deliveries/{part(delivery_id)}")
    if as_json:
        show_json(answer.text)
        return
    found = answer.json()
    reason = f" ({in_line(found['reason'])})" if found["reason"] else ""
    show_facts(
        {
            "delivery": found["id"],
            "status": word(found["status"]).append(reason, ""),
            "event": f"{found['event_type']} {found['event_id']}",
            "task": found["task_id"],
            "subscriber": found["subscriber"] or "the task's callback_url",
            "url": found["url"],
            "next attempt": _next_attempt(api, found),
        }
    )
    for attempt in found["attempts"]:
        _show_attempt(attempt)


@click.command()
@click.argument("delivery_id", metavar="DELIVERY_ID", shell_complete=completing.deliveries)
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def retry(api: Api, delivery_id: str, as_json: bool) -> None:
    """Attempt a delivery again now."""
    answer = api.call("POST", f"/v1/deliveries/{part(delivery_id)}/retry")
    if as_json:
        show_json(answer.text)
    else:
        console().print(f"Delivery {clean(delivery_id)} is attempted again now.")


@click.command()
@click.argument("subscriber_id", metavar="SUBSCRIBER", shell_complete=completing.subscribers)
@click.option("--since", type=MOMENT, required=True, metavar="TIME", help="RFC 3339, a date, or 30m, 2h, 7d for ago.")
@click.option("--until", type=MOMENT, metavar="TIME", help="As --since; until now when left out.")
@click.option(
    "--status",
    type=click.Choice(["dead", "all"]),
    default="dead",
    show_default=True,
    help="Only what was given up, or all.",
)
@click.option("--count", "only_count", is_flag=True, help="Only say how many it would be.")
@click.option(
    "--wait", is_flag=True, help="Wait until each was attempted, with progress; the exit code says how it went."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_api
def replay(
    api: Api,
    subscriber_id: str,
    since: str,
    until: str | None,
    status: str,
    only_count: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Deliver again what a subscriber was sent since a time.

    Safe to repeat: what waits already, or was just sent again, is left alone. With --wait the exit code is 0 only if
    everything that was sent again arrived, and nothing else failed and is to be tried again.
    """
    path = f"/v1/subscribers/{part(subscriber_id)}/replay"
    span = {"since": since, "status": status} | ({} if until is None else {"until": until})
    if only_count:
        answer = api.get(path, span)
        count = answer.json()["replayable"]
        _say(as_json, answer.text, f"{_deliveries(count)} would go out again.")
        return
    answer = api.call("POST", path, body=span)
    count = answer.json()["replayed"]
    if not wait:
        _say(as_json, answer.text, f"{_deliveries(count)} {'goes' if count == 1 else 'go'} out again.")
        return
    sent, left = _drained(api, path, {**span, "status": "dead"}, count)
    trouble = left["retrying"] + left["replayable"]
    said = f"{_deliveries(sent)} went out again; " + (
        f"{left['retrying']} to be tried again later, {left['replayable']} dead." if trouble else "everything arrived."
    )
    found = {"replayed": count, "waiting": left["waiting"], "retrying": left["retrying"], "dead": left["replayable"]}
    _say(as_json, json.dumps(found), said)
    if trouble:
        raise SystemExit(Exit.FAILED)


def _drained(api: Api, path: str, span: Mapping[str, Any], replayed: int) -> tuple[int, Mapping[str, Any]]:
    """How many were sent again, those of earlier replays that waited still among them; what is left once all were.

    Raises Problem when nothing happens for long.
    """
    backlog: Mapping[str, Any] = api.get(path, span).json()
    moved, least = time.monotonic(), backlog["replaying"]
    count = max(replayed, least)
    with progress("Delivering again", count) as done:
        while True:
            waiting = backlog["replaying"]
            if not waiting:
                return count, backlog
            if waiting < least:
                moved, least = time.monotonic(), waiting
            elif time.monotonic() - moved > _STUCK:
                raise Problem(
                    f"{_deliveries(waiting)} of {count} wait still, and none was attempted for {_STUCK:g} s. Is the "
                    "subscriber disabled, or does no worker run? `receiver check` says.",
                    Exit.UNFINISHED,
                )
            done(count - waiting)
            time.sleep(_LOOK)
            backlog = api.get(path, span).json()


def _deliveries(count: int) -> str:
    return "1 delivery" if count == 1 else f"{count} deliveries"


def _say(as_json: bool, text: str, sentence: str) -> None:
    if as_json:
        show_json(text)
    else:
        console().print(sentence)


def _next_attempt(api: Api, delivery: Mapping[str, Any]) -> str | None:
    """When a delivery is attempted next, or why it is not; None for one that has ended."""
    if not delivery["next_attempt_at"]:
        return None
    if delivery["subscriber"]:
        try:
            if api.get(f"/v1/subscribers/{part(delivery['subscriber'])}").json()["disabled"]:
                return f"none while its subscriber is disabled: receiver subscribers enable {delivery['subscriber']}"
        except ApiProblem:
            pass  # deleted meanwhile, or the service is busy: the time is shown all the same
    return when(delivery["next_attempt_at"])


def _show_attempt(attempt: Mapping[str, Any]) -> None:
    """One line for an attempt, and the answer's body below it when it was refused."""
    status, error = attempt["response_status"], attempt["error"]
    arrived = status is not None and 200 <= status < 300 and not error
    line = Text().append(f"  {attempt['number']}. ", "bold").append(f"{when(attempt['started_at'])}  ", "bright_black")
    line.append(in_line(status if status is not None else error), "green" if arrived else "red")
    line.append(f"  {attempt['duration_ms']} ms", "")
    if attempt["trigger"] == "manual":
        line.append("  by request", "")
    if attempt.get("message") and not arrived:
        line.append(f"  {in_line(attempt['message'])}", "")
    console().print(line)
    if attempt.get("response_body") and not arrived:
        console().print(Text().append(f"     {indented(attempt['response_body'][:500], 5)}", "bright_black"))
