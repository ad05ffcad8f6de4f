"""What people type, as values: inputs of tasks, pairs, addresses, and moments in time."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def task_input(source: str | None, given: Sequence[str]) -> dict[str, Any]:
    """A task's input from ``--input`` (JSON, ``@file`` or ``-`` for standard input) and the ``key=value`` pairs given.

    Pairs win over equal names of the source. Raises click.UsageError.
    """
    made: dict[str, Any] = {}
    if source is not None:
        try:
            made = json.loads(_read(source, "--input"), object_pairs_hook=_without_repetition)
        except (ValueError, RecursionError) as error:
            meant = f" For the file of this name write @{source}." if _is_file(source) else ""
            raise click.UsageError(f"--input is not JSON: {error}.{meant}") from None
        if not isinstance(made, dict):
            raise click.UsageError('--input must be a JSON object, like \'{"prompt": "a cat"}\'.')
    return made | {name: typed(value) for name, value in pairs(given, "an input field").items()}


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _without_repetition(members: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in members]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in one object")
    return dict(members)


def secret_text(source: str, option: str) -> str:
    """A secret as it is, from ``@file`` or from ``-`` (standard input), where no list of processes shows it.

    White space around it is dropped. ``option`` names it in the click.UsageError for an empty one, or no such file.
    """
    text = _read(source, option).strip()
    if not text:
        raise click.UsageError(f"{option}: there is nothing in it.")
    return text


def secret_pairs(sources: Sequence[str], option: str, what: str) -> dict[str, str]:
    """``name=value`` texts as for ``pairs``; ``@file`` and ``-`` stand for one a line, which no message repeats."""
    texts: list[str] = []
    for source in sources:
        if source != "-" and not source.startswith("@"):
            texts.append(source)
            continue
        lines = [line.strip() for line in secret_text(source, option).splitlines() if line.strip()]
        for line in lines:
            if not line.partition("=")[0].strip() or "=" not in line:
                raise click.UsageError(f"{option}: every line of {source} must look like name=value.")
        texts += lines
    found: dict[str, str] = {}
    for name, value in (split_pair(text, what) for text in texts):
        if name in found:
            raise click.UsageError(f"{option}: {name!r} is given twice.")
        found[name] = value
    return found


def _read(source: str, option: str) -> str:
    if source != "-" and not source.startswith("@"):
        return source
    place = "standard input" if source == "-" else source[1:]
    try:
        return sys.stdin.read() if source == "-" else Path(place).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{option}: {place} cannot be read: {error}") from None


def typed(text: str) -> Any:
    """The value of a pair: what is JSON is that (number, true, null, object, list, "text"), all else is text."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(constant: str) -> None:
    raise ValueError(constant)  # NaN and the like are no JSON: they are words here


def split_pair(pair: str, what: str) -> tuple[str, str]:
    """``name=value`` as its two halves. ``what`` names it in the click.UsageError for anything else."""
    name, sign, value = pair.partition("=")
    if not sign or not name.strip():
        raise click.UsageError(f"{pair!r} is not {what}: it must look like name=value.")
    return name.strip(), value


def pairs(texts: Sequence[str], what: str) -> dict[str, str]:
    """Several ``name=value`` texts as a mapping of texts. Raises click.UsageError for a name that comes twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, value = split_pair(text, what)
        if name in found:
            raise click.UsageError(f"{name!r} is given twice, as {found[name]!r} and {value!r}.")
        found[name] = value
    return found


def is_web_address(text: str) -> bool:
    """Whether a text is an address that can be called: http or https, a host, and a port that exists."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Real(click.FloatRange):
    """A number in a range. NaN, which every comparison lets pass, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or a usage error."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class Moment(click.ParamType[str]):
    """A time as RFC 3339, a date, or how long ago (``90s``, ``30m``, ``2h``, ``7d``); gives RFC 3339 in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The moment, or a usage error that says how to write one."""
        text = str(value).strip()
        ago = _AGO.fullmatch(text)
        try:
            if ago:
                moment = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
            else:
                moment = datetime.fromisoformat(text)
                if moment.tzinfo is None:
                    moment = moment.replace(tzinfo=UTC)
            return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is not a time: write 2026-11-21T10:00:00Z, 2026-11-21 (UTC), or 30m, 2h, 7d for ago.",
                param,
                ctx,
            )


MOMENT = Moment()
