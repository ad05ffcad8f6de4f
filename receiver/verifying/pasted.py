"""Headers as a person pastes them: from a log, from curl, from a debugger."""

from __future__ import annotations

import json
import re
import string

_LINE = re.compile(
    r"""^[\s><*,{"'-]*            # curl's arrows, a list's dash, quotes
        (?:H\s*["'])?             # curl's option
        ([A-Za-z][A-Za-z0-9_-]*)  # the name
        ["']?\s*(?:=>|:|=)\s*     # as in a request, a hash, a dict, an environment
        (.*)                      # the value, and the rest of a quoted line
    """,
    re.VERBOSE,
)
_ENDING = string.whitespace + "\xa0\"',;}\\"


def read_headers(text: str) -> dict[str, str]:
    """The headers in a pasted text, names in lower case with hyphens; lines that are none are passed over.

    Understands ``Name: value`` lines (also with the arrows of ``curl -v``), a JSON object, a printed dict or hash,
    and the names that CGI and WSGI make of headers (``HTTP_WEBHOOK_ID``). The last of several wins.
    """
    found: dict[str, str] = {}
    for name, value in _from_json(text) or _from_lines(text):
        found[_plain(name)] = value
    return found


def _from_json(text: str) -> list[tuple[str, str]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(value, dict):
        return []
    firsts = {name: each[0] if isinstance(each, list) and each else each for name, each in value.items()}
    return [(_storable(name), _storable(str(each))) for name, each in firsts.items()]


def _from_lines(text: str) -> list[tuple[str, str]]:
    lines = (_LINE.match(line) for line in text.splitlines())
    return [(found[1], found[2].rstrip(_ENDING).lstrip("\"'")) for found in lines if found is not None]


def _storable(text: str) -> str:
    r"""The text as UTF-8 can hold it: half a character, which JSON can spell, stays spelled (``\ud800``)."""
    return text.encode("utf-8", "backslashreplace").decode()


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("http-")
