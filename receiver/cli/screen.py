"""What people see: tables, facts, times and states; plain text wherever no terminal shows it.

Texts that came from outside are shown without control characters, so that no provider or subscriber
can move the cursor of whoever looks.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_WIDE = 1000  # columns where there is no terminal: nothing is cut or wrapped for a file or a pipe

COLOURS: Mapping[str, str] = {
    "queued": "bright_black",
    "submitting": "cyan",
    "running": "blue",
    "succeeded": "green",
    "failed": "red",
    "canceled": "yellow",
    "expired": "red",
    "pending": "blue",
    "delivered": "green",
    "dead": "red",
    "disabled": "red",
    "enabled": "green",
    "ok": "green",
    "warning": "yellow",
    "problem": "red",
    "yes": "green",
    "no": "bright_black",
}
"""The colour of each word that says how something stands."""


def console(*, error: bool = False) -> Console:
    """A console on standard output (or error): colours on a terminal only, and not with NO_COLOR.

    Lines are broken by the terminal alone, so that a long address or command can be copied whole.
    """
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else _WIDE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def clean(value: Any) -> str:
    """A value as text for the screen: None as a dash, no control characters."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))


def word(value: Any) -> Text:
    """A state in its colour."""
    text = clean(value)
    return Text().append(text, COLOURS.get(text, ""))


def when(moment: str | None) -> str:
    """An RFC 3339 time as ``2026-11-21 10:00:00`` in UTC."""
    return "–" if not moment else moment[:19].replace("T", " ")


def seconds_between(first: str | None, last: str | None) -> float | None:
    """Seconds from one RFC 3339 time to another; None when either is missing."""
    if not first or not last:
        return None
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def since(moment: str | None) -> float:
    """Seconds from an RFC 3339 time until now, by this machine's clock; 0 when it is missing."""
    return max(0.0, seconds_between(moment, datetime.now(UTC).isoformat()) or 0.0)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table without lines. Cells are texts, or values that are shown by ``clean``."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, no_wrap=column in ("id", "created"), overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
    return made


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], nothing: str) -> None:
    """Print a table, or ``nothing`` (a sentence) when it has no rows."""
    if rows:
        _fit(table(columns, rows))
    else:
        console().print(nothing)


def _fit(made: Table) -> None:
    """Print a table: folded into its columns on a terminal, in whole lines anywhere else."""
    screen = console()
    screen.print(made, soft_wrap=not screen.is_terminal)


def show_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one a line; what is None is left out."""
    shown = {name: value for name, value in facts.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        line = Text().append(f"{name:<{width}}", "bold").append("  ")
        console().print(line.append_text(value if isinstance(value, Text) else Text(clean(value))))


def show_more(page: Mapping[str, Any]) -> None:
    """Say how to see the next page, when there is one (on standard error: it is no data)."""
    if page.get("next_cursor"):
        console(error=True).print(f"There is more: --cursor {clean(page['next_cursor'])}", style="bright_black")


def show_json(text: str) -> None:
    """Print the service's JSON as it came: long numbers and odd texts stay what they were."""
    click.echo(text.strip())
