"""What people see: tables, facts, times and states; plain text wherever no terminal shows it.

Texts that came from outside are shown without control characters, so that no provider or subscriber
can move the cursor of whoever looks.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from receiver.cli.controls import escaped, replaced
from receiver.cli.exits import Exit

_WIDE = 1000  # columns where there is no terminal: nothing is cut or wrapped for a file or a pipe
_GAP = 2
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_BREAK = re.compile(r"\s*[\t\n]\s*")
_NARROW = 16
"""Characters that a column of long texts keeps at least."""

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


class _Screen(Console):
    """A console that ends without a word when nobody reads it any more."""

    def on_broken_pipe(self) -> None:
        """Who read our output went away, like ``| head``."""
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise SystemExit(Exit.BROKEN_PIPE) from None


def console(*, error: bool = False) -> Console:
    """A console on standard output (or error): colours on a terminal only, and not with NO_COLOR.

    Lines are broken by the terminal alone, so that a long address or command can be copied whole.
    """
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else _WIDE
    return _Screen(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def clean(value: Any) -> str:
    """A value as text for the screen: None as a dash, no control characters."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    return replaced(str(value))


def in_line(value: Any) -> str:
    """The same where each line says something of its own: nobody else's text begins one."""
    return _BREAK.sub(" ", clean(value)).strip() or "–"


def indented(value: Any, by: int) -> str:
    """The same over several lines, each further one beginning below the first."""
    return clean(value).rstrip().replace("\n", "\n" + " " * by)


def word(value: Any) -> Text:
    """A state in its colour."""
    text = in_line(value)
    return Text().append(text, COLOURS.get(text, ""))


def when(moment: str | None) -> str:
    """An RFC 3339 time as ``2026-11-21 10:00:00``: this machine's own time on a terminal, else UTC with a Z."""
    if not moment:
        return "–"
    if not sys.stdout.isatty():
        return f"{moment[:19].replace('T', ' ')}Z"
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S}"


def seconds_between(first: str | None, last: str | None) -> float | None:
    """Seconds from one RFC 3339 time to another; None when either is missing."""
    if not first or not last:
        return None
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def since(moment: str | None) -> float:
    """Seconds from an RFC 3339 time until now, by this machine's clock; 0 when it is missing."""
    return max(0.0, seconds_between(moment, datetime.now(UTC).isoformat()) or 0.0)


@dataclass(frozen=True)
class Column:
    """A column of a table. ``drop``: its turn to be left out of a narrow terminal, 1 first; 0: never.

    ``long``: for texts of any length; narrowed before anything is left out, and cut (``wrap``: folded) there.
    """

    name: str
    drop: int = 0
    long: bool = False
    wrap: bool = False


def show_table(columns: Sequence[str | Column], rows: Iterable[Sequence[Any]], nothing: str) -> None:
    """Print a table, or ``nothing`` (a sentence) when it has no rows. Cells: texts, or what ``in_line`` shows.

    On a terminal it fits the window, as far as columns may be narrowed or left out; ids are never cut. What must
    be left out is first what says nothing in any row.
    """
    cells = [[cell if isinstance(cell, Text) else Text(in_line(cell)) for cell in row] for row in rows]
    if not cells:
        console().print(nothing)
        return
    named = [Column(column) if isinstance(column, str) else column for column in columns]
    full = [max(cell_len(column.name), *(row[place].cell_len for row in cells)) for place, column in enumerate(named)]
    screen = console()
    room = screen.width if screen.is_terminal else math.inf
    if sum(full) + _GAP * (len(full) - 1) > room:
        said = [any(row[place].plain != "–" for row in cells) for place in range(len(named))]
        told = [place for place, column in enumerate(named) if said[place] or not column.drop]
        named, full = [named[place] for place in told], [full[place] for place in told]
        cells = [[row[place] for place in told] for row in cells]
    widths = fitted(named, full, room)
    made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for place, width in widths.items():
        column = named[place]
        folded = column.wrap and width < full[place]
        made.add_column(column.name, width=width, no_wrap=not folded, overflow="fold" if folded else "ellipsis")
    for row in cells:
        made.add_row(*(row[place] for place in widths))
    needed = sum(widths.values()) + _GAP * len(widths)
    screen.width = max(screen.width, needed)  # where nothing more can go, the terminal breaks lines: no id is cut
    screen.print(made, soft_wrap=False)


def fitted(columns: Sequence[Column], full: Sequence[int], room: float) -> dict[int, int]:
    """Which columns are shown in ``room`` characters: the width of each, by its place.

    ``full``: how wide each would like to be. More than ``room`` only when nothing more may be given up.
    """
    narrow = [min(width, _NARROW) if column.long else width for column, width in zip(columns, full, strict=True)]
    shown: set[int] = set()
    for place in sorted(range(len(columns)), key=lambda place: columns[place].drop or math.inf, reverse=True):
        with_it = sum(narrow[each] + _GAP for each in shown) + narrow[place]
        if not columns[place].drop or with_it <= room:
            shown.add(place)
    widths = {place: narrow[place] for place in sorted(shown)}
    spare = room - sum(widths.values()) - _GAP * (len(widths) - 1)
    for place, width in widths.items():
        given = int(max(0, min(full[place] - width, spare)))
        widths[place], spare = width + given, spare - given
    return widths


def show_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one a line; what is None is left out."""
    shown = {name: value for name, value in facts.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        line = Text().append(f"{name:<{width}}", "bold").append("  ")
        console().print(line.append_text(value if isinstance(value, Text) else Text(indented(value, width + 2))))


def show_more(page: Mapping[str, Any]) -> None:
    """Say how to see the next page, when there is one (on standard error: it is no data)."""
    if page.get("next_cursor"):
        console(error=True).print(f"There is more: --cursor {clean(page['next_cursor'])}", style="bright_black")


def show_json(text: str | Iterable[str]) -> None:
    """Print JSON as it came: long numbers and odd texts stay what they were, but control characters are escaped.

    So is all but ASCII where standard output cannot carry it. A text in pieces is printed as they come.
    """
    for piece in [text.strip(), "\n"] if isinstance(text, str) else text:
        shown = escaped(piece)
        try:
            shown.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            shown = _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], shown)
        click.echo(shown, nl=False)
