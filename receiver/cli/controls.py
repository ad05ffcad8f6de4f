"""What would move the cursor, colour or reverse a terminal's text, and how it is shown instead. Pure."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def replaced(text: str) -> str:
    """The text with a replacement character for each of them; tabs and line breaks stay."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def escaped(json_text: str) -> str:
    r"""JSON text of the same value, without any of them as it is: JSON itself escapes those below 32 only."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)
