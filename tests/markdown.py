"""The project's Markdown files, taken apart just enough to be compared with the code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parent.parent

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_ROW = re.compile(r"^\| (.+) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One Markdown file. ``name``: its path from the project's root."""

    name: str
    text: str

    @cached_property
    def fences(self) -> list[tuple[str, str]]:
        """(language, text) of every fenced block."""
        return [(found[2], found[3]) for found in _FENCE.finditer(self.text)]

    @cached_property
    def prose(self) -> str:
        """The text without fenced blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def spans(self) -> list[str]:
        """What stands between single backticks."""
        return _SPAN.findall(self.prose)

    @cached_property
    def code(self) -> list[str]:
        """Every piece of code: spans, and the lines of fenced blocks."""
        return [*self.spans, *(line for _, block in self.fences for line in block.splitlines())]

    @cached_property
    def anchors(self) -> set[str]:
        """The headings as they are linked to on GitHub."""
        return {_slug(found[2]) for found in _HEADING.finditer(self.prose)}

    @cached_property
    def links(self) -> list[str]:
        """Targets of all links that are not addresses on the web."""
        found = _LINK.findall(self.prose)
        return [target for target in found if not re.match(r"[a-z]+:", target)]

    def section(self, heading: str) -> Page:
        """The part under a heading, up to the next one of the same or a higher level."""
        start = next(found for found in _HEADING.finditer(self.text) if found[2] == heading)
        later = (found for found in _HEADING.finditer(self.text, start.end()) if len(found[1]) <= len(start[1]))
        end = next((found.start() for found in later), len(self.text))
        return Page(f"{self.name}: {heading}", self.text[start.end() : end])

    @cached_property
    def rows(self) -> list[list[str]]:
        """The cells of all table rows, heads and rules left out."""
        rows: list[list[str]] = []
        lines = self.prose.splitlines()
        for number, line in enumerate(lines):
            following = lines[number + 1] if number + 1 < len(lines) else ""
            if _ROW.fullmatch(line) and not line.startswith("| ---") and not following.startswith("| ---"):
                rows.append([cell.strip() for cell in line[2:-2].split(" | ")])
        return rows

    @cached_property
    def terms(self) -> list[str]:
        """What stands in backticks in the first column of the tables."""
        return [term for row in self.rows for term in _SPAN.findall(row[0])]


def _slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def page(name: str) -> Page:
    """The file of this path from the root."""
    return Page(name, (ROOT / name).read_text(encoding="utf-8"))


def pages() -> list[Page]:
    """All Markdown files of the project."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    found += (ROOT / "handlers").glob("*.md")
    return [page(str(path.relative_to(ROOT))) for path in sorted(found)]
