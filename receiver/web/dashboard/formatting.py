"""How times, lengths and ids are written on pages. Times are ms since the epoch, shown in the visitor's zone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from flask import g, request
from markupsafe import Markup

from receiver.events import rfc3339
from receiver.web.face import runtime

ZONE_COOKIE = "zone"
"""Holds an IANA name; a script sets it to the browser's zone when nothing was chosen."""
MOST_INDENTED = 256 * 1024
"""Characters; a longer text is shown as it came: to lay it out costs seconds, on a live page again and again."""
_DASH = Markup('<span class="quiet">–</span>')
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


@cache
def zones() -> tuple[str, ...]:
    """The names that can be chosen."""
    return tuple(sorted(name for name in available_timezones() if "/" in name or name == "UTC"))


def zone_name() -> str:
    """The visitor's time zone: of the cookie, or UTC."""
    chosen = request.cookies.get(ZONE_COOKIE, "")
    return chosen if chosen in zones() else "UTC"


def zone() -> tzinfo:
    """The visitor's time zone, looked up once a request."""
    if "zone" not in g:
        name = zone_name()
        g.zone = UTC if name == "UTC" else ZoneInfo(name)
    found: tzinfo = g.zone
    return found


def local(at: int) -> datetime:
    """A time in the visitor's zone; in UTC where that zone's calendar has no more days for it."""
    try:
        return datetime.fromtimestamp(at / 1000, zone())
    except (ValueError, OverflowError):  # "never", as the last second of the year 9999
        return datetime.fromtimestamp(at / 1000, UTC)


def typed_time(text: str) -> int | None:
    """A time as a browser's field gives it (``2026-11-22T10:00``), in the visitor's zone; None for anything else."""
    try:
        return round(datetime.fromisoformat(text).replace(tzinfo=zone()).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None


def field_time(at: int) -> str:
    """A time as a browser's field takes it, in the visitor's zone, to the minute."""
    return local(at).strftime("%Y-%m-%dT%H:%M")


def moment(at: int | None, *, ms: bool = False) -> Markup:
    """``22 Nov 10:00:05``, with the year when it is another one; the whole when pointed at. ``ms``: to the ms."""
    if at is None:
        return _DASH
    here = local(at)
    year = "" if here.year == local(runtime().clock()).year else " %Y"
    shown = here.strftime(f"%-d %b{year} %H:%M:%S") + (f".{at % 1000:03}" if ms else "")
    whole = here.strftime("%A %-d %B %Y, %H:%M:%S") + f".{at % 1000:03} {here.strftime('%Z')}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(rfc3339(at), whole, shown)


def ago(at: int | None) -> Markup:
    """``3 min ago`` or ``in 12 s``, the exact time when pointed at."""
    if at is None:
        return _DASH
    gap = runtime().clock() - at
    rough = _rough(abs(gap))
    shown = "now" if abs(gap) < 1000 else f"{rough} ago" if gap > 0 else f"in {rough}"
    whole = local(at).strftime("%A %-d %B %Y, %H:%M:%S %Z")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(rfc3339(at), whole, shown)


def duration(ms: float | None) -> str:
    """``350 ms``, ``1.2 s``, ``3 min 5 s``, ``2 h 10 min``, ``3 d 4 h``; – for None."""
    if ms is None:
        return "–"
    if ms < 1000:
        return f"{round(ms)} ms"
    if ms < 10_000:
        return f"{ms / 1000:.1f} s"
    left = round(ms / 1000) * 1000
    parts: list[str] = []
    for size, name in _UNITS:
        whole, left = divmod(left, size)
        if whole or parts:
            parts.append(f"{int(whole)} {name}" if whole else "")
    return " ".join(part for part in parts[:2] if part)


def _rough(ms: int) -> str:
    """The largest unit alone."""
    size, name = next(((size, name) for size, name in _UNITS if ms >= size), (1000, "s"))
    return f"{ms // size} {name}"


def short(identity: str | None) -> str:
    """An id that fits into a table: its prefix and its last eight characters."""
    if identity is None:
        return "–"
    prefix, _, rest = identity.rpartition("_")
    return f"{prefix}_…{rest[-8:]}" if prefix and len(rest) > 12 else identity


def pretty(text: str | None) -> str:
    """JSON text with its members on lines of their own, digits as they came; others, and long ones, as they are."""
    if not text:
        return ""
    if len(text) > MOST_INDENTED:
        return text
    try:
        # Numbers stay the texts they were: 1.10 and 2**70 must not change on their way to the eye.
        return _indented(json.loads(text, parse_int=_Digits, parse_float=_Digits), "\n")
    except (ValueError, RecursionError):
        return text


class _Digits(str):
    """A number as it was written."""


def _indented(value: Any, line: str) -> str:
    """JSON text; ``line`` begins a new line at the present depth."""
    inner = line + "  "
    match value:
        case _Digits():
            return str(value)
        case dict() if value:
            members = (
                f"{json.dumps(name, ensure_ascii=False)}: {_indented(item, inner)}" for name, item in value.items()
            )
            return "{" + inner + f",{inner}".join(members) + line + "}"
        case list() if value:
            return "[" + inner + f",{inner}".join(_indented(item, inner) for item in value) + line + "]"
    return json.dumps(value, ensure_ascii=False)


def count(number: int) -> str:
    """``12 345``: with narrow spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def pair(name: str, value: str) -> str:
    """``name=value`` as the filter of the list of tasks reads it: what divides pairs is escaped in both."""
    name, value = (text.replace("%", "%25").replace("&", "%26") for text in (name, value))
    return f"{name.replace('=', '%3D')}={value}"


FILTERS: dict[str, Any] = {
    "moment": moment,
    "ago": ago,
    "duration": duration,
    "short": short,
    "pretty": pretty,
    "count": count,
    "pair": pair,
}
