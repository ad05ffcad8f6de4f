"""Markdown for what was measured: tables, and one line for each goal."""

from __future__ import annotations

from collections.abc import Sequence

GOAL = "- **"
"""Every line with a goal begins with this; the report gathers them into one table."""


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines, its columns aligned; figures to the right."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        aligned = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        return "| " + " | ".join(aligned) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return [line(head), rule, *(line(row) for row in rows), ""]


def goal(what: str, wanted: str, measured: str, met: bool) -> list[str]:
    """One goal and whether it was met, as a line that the report finds again."""
    return [f"{GOAL}{'met' if met else 'NOT met'}** · {what} · goal {wanted} · measured {measured}"]
