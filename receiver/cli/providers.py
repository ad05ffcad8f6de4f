"""What the providers can do, as the service tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from rich.text import Text

from receiver.cli import completing
from receiver.cli.api import Api, with_api
from receiver.cli.screen import Column, clean, console, show_facts, show_json, show_table, word


@click.command()
@click.argument("name", required=False, shell_complete=completing.providers)
@click.option("--operation", help="Only this operation of the provider, with what its fields mean.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON (always of all providers).")
@with_api
def providers(api: Api, name: str | None, operation: str | None, as_json: bool) -> None:
    """List providers, or show the operations and fields of one."""
    answer = api.get("/v1/providers")
    if as_json:
        show_json(answer.text)
        return
    known = {provider["name"]: provider for provider in answer.json()["data"]}
    if name is None:
        rows = [
            [each["name"], each["title"], word(each["configured"]), each["callbacks"], len(each["operations"])]
            for each in known.values()
        ]
        columns = [
            Column("name"),
            Column("title", drop=2, long=True),
            Column("configured"),
            Column("callbacks", drop=3),
            Column("operations", drop=1),
        ]
        show_table(columns, rows, "No providers.")
        return
    if name not in known:
        raise click.UsageError(f"There is no provider {name!r}; known are {', '.join(known)}.")
    _show_provider(known[name], operation)


def _show_provider(provider: Mapping[str, Any], operation: str | None) -> None:
    chosen = [each for each in provider["operations"] if operation in (None, each["name"])]
    if not chosen:
        names = ", ".join(each["name"] for each in provider["operations"])
        raise click.UsageError(f"{provider['name']} has no operation {operation!r}; it has {names}.")
    if operation is None:
        show_facts(
            {
                "provider": f"{provider['name']} ({provider['title']})",
                "configured": word(provider["configured"]),
                "callbacks": provider["callbacks"],
                "documentation": provider["docs"],
            }
        )
    for each in chosen:
        above = "\n" if operation is None else ""
        title = Text(above).append(clean(each["name"]), "bold").append(f"  {clean(each['title'])}", "")
        if each.get("experimental"):
            title.append("  (as far as documented; not tried)", style="yellow")
        console().print(title)
        _show_fields(each["input"], described=operation is not None)


def _show_fields(schema: Mapping[str, Any], *, described: bool) -> None:
    """The fields of an input, required ones first: in one line, or described one by one."""
    required = schema.get("required", [])
    fields = sorted(schema.get("properties", {}).items(), key=lambda field: field[0] not in required)
    if not described:
        names = [f"{name}*" if name in required else name for name, _ in fields]
        console().print(Text("  " + (", ".join(names) or "no fields are known; all are passed on")))
        return
    rows = [
        [f"{name}*" if name in required else name, _kind(field), field.get("description")] for name, field in fields
    ]
    columns = [
        Column("field (* required)"),
        Column("type", long=True, wrap=True),
        Column("meaning", long=True, wrap=True),
    ]
    show_table(columns, rows, "  No fields are known; all are passed on.")


def _kind(field: Mapping[str, Any]) -> str:
    """What a field takes, from its JSON Schema: a type, and its limits or choices."""
    if "enum" in field:
        return " | ".join(clean(choice) for choice in field["enum"])
    kind = field.get("type", "any")
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None or high is not None:
        text += f" {'' if low is None else low}..{'' if high is None else high}"
    return text
