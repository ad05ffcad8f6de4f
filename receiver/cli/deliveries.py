"""Deliveries and their attempts; sending again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from rich.text import Text

from receiver.cli.api import Api, part, with_api
from receiver.cli.fields import MOMENT
from receiver.cli.screen import clean, console, show_facts, show_json, show_more, show_table, when, word
from receiver.models import DeliveryStatus


@click.command()
@click.option("--status", type=click.Choice([status.value for status in DeliveryStatus]), help="Only in this state.")
@click.option("--subscriber", metavar="ID", help="Only to this subscriber.")
@click.option("--task", metavar="ID", help="Only of this task.")
@click.option("--event-type", metavar="TYPE", help="Only of events of this type.")
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
    columns = ["id", "status", "event", "url", "attempts", "created", "next attempt"]
    show_table(columns, rows, "No deliveries.")
    show_more(page)


@click.command()
@click.argument("delivery_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def delivery(api: Api, delivery_id: str, as_json: bool) -> None:
    """Show one delivery with its attempts."""
    answer = api.get(f"/v1/deliveries/{part(delivery_id)}")
    if as_json:
        show_json(answer.text)
        return
    found = answer.json()
    reason = f" ({clean(found['reason'])})" if found["reason"] else ""
    show_facts(
        {
            "delivery": found["id"],
            "status": word(found["status"]).append(reason, ""),
            "event": f"{found['event_type']} {found['event_id']}",
            "task": found["task_id"],
            "subscriber": found["subscriber"] or "the task's callback_url",
            "url": found["url"],
            "next attempt": when(found["next_attempt_at"]) if found["next_attempt_at"] else None,
        }
    )
    for attempt in found["attempts"]:
        _show_attempt(attempt)


@click.command()
@click.argument("delivery_id", metavar="DELIVERY_ID")
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
@click.argument("subscriber_id", metavar="SUBSCRIBER")
@click.option("--since", type=MOMENT, required=True, metavar="TIME", help="RFC 3339, a date, or 30m, 2h, 7d for ago.")
@click.option("--until", type=MOMENT, metavar="TIME", help="As --since; until now when left out.")
@click.option(
    "--status",
    type=click.Choice(["dead", "all"]),
    default="dead",
    show_default=True,
    help="Only what was given up, or all.",
)
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def replay(api: Api, subscriber_id: str, since: str, until: str | None, status: str, as_json: bool) -> None:
    """Deliver again what a subscriber was sent since a time."""
    body = {"since": since, "status": status} | ({} if until is None else {"until": until})
    answer = api.call("POST", f"/v1/subscribers/{part(subscriber_id)}/replay", body=body)
    if as_json:
        show_json(answer.text)
        return
    count = answer.json()["replayed"]
    console().print(f"{count} {'delivery goes' if count == 1 else 'deliveries go'} out again.")


def _show_attempt(attempt: Mapping[str, Any]) -> None:
    """One line for an attempt, and the answer's body below it when it was refused."""
    status, error = attempt["response_status"], attempt["error"]
    arrived = status is not None and 200 <= status < 300 and not error
    line = Text().append(f"  {attempt['number']}. ", "bold").append(f"{when(attempt['started_at'])}  ", "bright_black")
    line.append(clean(status if status is not None else error), "green" if arrived else "red")
    line.append(f"  {attempt['duration_ms']} ms", "")
    if attempt["trigger"] == "manual":
        line.append("  by request", "")
    if attempt.get("message") and not arrived:
        line.append(f"  {clean(attempt['message'])}", "")
    console().print(line)
    if attempt.get("response_body") and not arrived:
        console().print(Text().append(f"     {clean(attempt['response_body'])[:500]}", "bright_black"))
