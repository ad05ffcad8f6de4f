"""Registered webhooks: list, add, look at, change, remove, ping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from receiver.cli import completing
from receiver.cli.api import Api, part, with_api
from receiver.cli.fields import Real, secret_pairs, secret_text
from receiver.cli.mistyped import Group
from receiver.cli.screen import Column, clean, console, show_facts, show_json, show_more, show_table, when, word


class _ListByDefault(Group):
    """A group whose bare name, with or without options, means its command ``list``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``list`` in where no command stands; not for the Tab key, which offers the commands there.

        Nor where a command comes behind options of its own, which is told.
        """
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        options = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        if not args or (options and not self.commands.keys() & set(args)):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's signature
        """Write the commands with whole sentences, over two lines where one is too narrow."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(200)) for name in sorted(self.commands)])


@click.group(cls=_ListByDefault)
def subscribers() -> None:
    """Webhooks that get events. Without a command: the list of them."""


@subscribers.command("list")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many.")
@click.option("--cursor", help="Where the last page ended.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def list_all(api: Api, limit: int, cursor: str | None, as_json: bool) -> None:
    """List subscribers, newest first."""
    answer = api.get("/v1/subscribers", {"limit": limit, "cursor": cursor})
    if as_json:
        show_json(answer.text)
        return
    page = answer.json()
    rows = [
        [
            each["id"],
            word("disabled" if each["disabled"] else "enabled"),
            each["url"],
            ", ".join(each["event_types"]),
            ", ".join(each["providers"] or []) or "all",
            when(each.get("failing_since")),
        ]
        for each in page["data"]
    ]
    columns = [
        Column("id"),
        Column("state"),
        Column("url", drop=4, long=True),
        Column("events", drop=2, long=True),
        Column("providers", drop=1, long=True),
        Column("failing since", drop=3),
    ]
    show_table(columns, rows, "No subscribers; `receiver subscribers add URL` registers one.")
    show_more(page)


@subscribers.command()
@click.argument("webhook", metavar="URL")
@click.option(
    "--events",
    "--event-types",
    "events",
    multiple=True,
    default=("*",),
    show_default=True,
    metavar="TYPE",
    help="An event type, a group like task.*, or * for all; may be repeated.",
)
@click.option(
    "--provider",
    multiple=True,
    shell_complete=completing.providers,
    help="Only events of this provider's tasks; may be repeated.",
)
@click.option("--description", help="For people.")
@click.option(
    "--header",
    multiple=True,
    metavar="NAME=VALUE|@FILE|-",
    help="Sent with every delivery; may be repeated. From a file or standard input: one a line.",
)
@click.option("--rate-limit", type=Real(min=0, min_open=True), help="Deliveries per second at most.")
@click.option(
    "--secret",
    metavar="WHSEC|@FILE|-",
    help="Your own signing secret instead of a made one; better from a file or standard input, where no list of "
    "processes shows it.",
)
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def add(
    api: Api,
    webhook: str,
    events: tuple[str, ...],
    provider: tuple[str, ...],
    header: tuple[str, ...],
    secret: str | None,
    as_json: bool,
    **others: Any,
) -> None:
    """Register a webhook, and show the secret that its deliveries are signed with."""
    body = {"url": webhook, "event_types": list(events), **{name: given for name, given in others.items() if given}}
    if provider:
        body["providers"] = list(provider)
    if header:
        body["headers"] = secret_pairs(header, "--header", "a header")
    if secret is not None:
        body["secret"] = secret_text(secret, "--secret")
    answer = api.call("POST", "/v1/subscribers", body=body)
    if as_json:
        show_json(answer.text)
        return
    made = answer.json()
    show_facts({"subscriber": made["id"], "url": made["url"], "secret": made["secret"]})
    console().print("Verify deliveries with the secret; any library for Standard Webhooks does it.")


@subscribers.command()
@click.argument("subscriber_id", metavar="ID", shell_complete=completing.subscribers)
@click.option("--secret", is_flag=True, help="Show its signing secret too.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON (with --secret: of the secret).")
@with_api
def show(api: Api, subscriber_id: str, secret: bool, as_json: bool) -> None:
    """Show one subscriber."""
    path = f"/v1/subscribers/{part(subscriber_id)}"
    answer = api.get(f"{path}/secret" if secret and as_json else path)
    if as_json:
        show_json(answer.text)
        return
    _show(answer.json(), api.get(f"{path}/secret").json()["secret"] if secret else None)


@subscribers.command()
@click.argument("subscriber_id", metavar="ID", shell_complete=completing.subscribers)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_api
def remove(api: Api, subscriber_id: str, yes: bool) -> None:
    """Remove a subscriber; what was still to be delivered to it ends as dead."""
    if not yes:
        click.confirm(f"Remove {subscriber_id}? What it was still to get is not delivered", abort=True)
    api.call("DELETE", f"/v1/subscribers/{part(subscriber_id)}")
    console().print(f"Subscriber {clean(subscriber_id)} is removed.")


@subscribers.command()
@click.argument("subscriber_id", metavar="ID", shell_complete=completing.subscribers)
@click.option(
    "--overlap",
    type=click.IntRange(0),
    default=86_400,
    show_default=True,
    metavar="SECONDS",
    help="How long the old secret signs beside the new one.",
)
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def rotate(api: Api, subscriber_id: str, overlap: int, as_json: bool) -> None:
    """Give a subscriber a new signing secret."""
    answer = api.call("POST", f"/v1/subscribers/{part(subscriber_id)}/rotate-secret", body={"overlap": overlap})
    if as_json:
        show_json(answer.text)
        return
    show_facts({"new secret": answer.json()["secret"], "old ones": f"sign for {overlap} s more at most"})


@subscribers.command()
@click.argument("subscriber_id", metavar="ID", shell_complete=completing.subscribers)
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def ping(api: Api, subscriber_id: str, as_json: bool) -> None:
    """Send a subscriber a test event."""
    answer = api.call("POST", f"/v1/subscribers/{part(subscriber_id)}/ping")
    if as_json:
        show_json(answer.text)
        return
    delivery = answer.json()["id"]
    console().print(f"On its way as {clean(delivery)}; `receiver delivery {clean(delivery)}` shows what came of it.")


@subscribers.command()
@click.argument("subscriber_id", metavar="ID", shell_complete=completing.subscribers)
@with_api
def enable(api: Api, subscriber_id: str) -> None:
    """Let deliveries go out again; what waited is delivered little by little."""
    _switch(api, subscriber_id, disabled=False)


@subscribers.command()
@click.argument("subscriber_id", metavar="ID", shell_complete=completing.subscribers)
@with_api
def disable(api: Api, subscriber_id: str) -> None:
    """Stop deliveries to a subscriber; they are kept until it is enabled again."""
    _switch(api, subscriber_id, disabled=True)


def _switch(api: Api, subscriber_id: str, *, disabled: bool) -> None:
    api.call("PATCH", f"/v1/subscribers/{part(subscriber_id)}", body={"disabled": disabled})
    console().print(f"Subscriber {clean(subscriber_id)} is {'disabled' if disabled else 'enabled'}.")


def _show(subscriber: Mapping[str, Any], secret: str | None) -> None:
    state = word("disabled" if subscriber["disabled"] else "enabled")
    if subscriber.get("disabled_reason"):
        state.append(f" ({clean(subscriber['disabled_reason'])})", "")
    show_facts(
        {
            "subscriber": subscriber["id"],
            "url": subscriber["url"],
            "state": state,
            "events": ", ".join(subscriber["event_types"]),
            "providers": ", ".join(subscriber["providers"] or []) or "all",
            "description": subscriber["description"] or None,
            "headers": subscriber["headers"] or None,
            "rate limit": subscriber["rate_limit"],
            "failing since": when(subscriber["failing_since"]) if subscriber.get("failing_since") else None,
            "created": when(subscriber["created_at"]),
            "secret": secret,
        }
    )
