"""The settings that every handler has, and the parsers handlers use for their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from handlers._base import Handler, Option
from handlers._http import can_be_called
from handlers._records import ConfigurationError


def boolean(text: str) -> bool:
    """``true`` or ``false`` (also 1/0, yes/no, on/off)."""
    word = text.strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


LONGEST = 31 * 86_400
"""Seconds that a time of a provider's settings can be, at most: as long as a caller may let a task live."""


def seconds(most: float = LONGEST) -> Callable[[str], float]:
    """A parser of a time above zero. ``most``: seconds at most."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= most:
            raise ValueError(f"must be a number of seconds above 0, {most:.15g} at most")
        return value

    return parse


def rate(text: str) -> float:
    """Calls per second."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.000001 <= value <= 1_000_000:
        raise ValueError("must be a number from 0.000001 to 1000000")
    return value


def visible(text: str) -> str:
    """What a header can carry: visible ASCII characters, without spaces."""
    if not re.fullmatch("[!-~]+", text):
        raise ValueError("must be visible ASCII characters, without spaces")
    return text


def whole(text: str) -> int:
    """A whole number of at least 1."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError("must be a whole number of at least 1")
    return int(text)


def seconds_list(text: str) -> tuple[float, ...]:
    """Comma-separated times, e.g. ``5,10,30``."""
    try:
        return tuple(map(seconds(), text.split(",")))
    except ValueError:
        raise ValueError("must be a comma-separated list of seconds, each above 0 and at most 31 days") from None


def http_url(text: str) -> str:
    """An absolute http(s) URL without credentials, query or fragment; a trailing slash is dropped.

    One that could never be called is refused here, or every submission would be lost on the way.
    """
    text = text.strip()
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or not can_be_called(text):
        raise ValueError("must be a URL like https://host or http://host:port")
    if set(text) & set("?#"):  # also an empty one
        raise ValueError("must not have a query or a fragment")
    if parts.port == 0:  # reading it also refuses what is no port at all
        raise ValueError("must not have the port 0")
    return text.rstrip("/")


def one_of(*words: str) -> Callable[[str], str]:
    """A parser that takes exactly these words."""

    def parse(text: str) -> str:
        if text.strip() not in words:
            raise ValueError("must be one of " + ", ".join(words))
        return text.strip()

    return parse


def options_of(handler: type[Handler]) -> tuple[Option, ...]:
    """All settings of a handler: the common ones with its defaults, then its own."""
    plan = ",".join(f"{seconds:g}" for seconds in handler.poll_schedule)
    return (
        Option("base_url", f"where {handler.title} is reached", handler.base_url, http_url),
        Option("poll_schedule", f"seconds between queries of a task; the last repeats (default {plan}, "
               "unless the operation has its own)", None, seconds_list),
        Option("task_deadline", "seconds after which a task expires", handler.task_deadline, seconds()),
        Option("submit_rate", "submits per second, over all workers together", handler.submit_rate, rate),
        Option("query_rate", "queries per second, over all workers together", handler.query_rate, rate),
        Option("max_in_flight", "tasks at the provider at once; the rest wait as queued", None, whole),
        Option("confirm_notices", "ask the provider before believing a notice whose body no signature covers",
               True, boolean),
        *handler.options,
    )  # fmt: skip


def parse_options(handler: type[Handler], given: Mapping[str, str]) -> dict[str, Any]:
    """Values by option name from texts by option name; an empty text counts as not given.

    Raises ConfigurationError that names every problem, never the value of a secret.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for option in options_of(handler):
        text = given.get(option.name, "")
        if not text.strip():
            values[option.name] = option.default
            continue
        try:
            values[option.name] = option.parse(text)
        except ValueError as error:
            variable = variable_of(handler.name, option)
            shown = "" if option.secret or option.credential else f" (it is {text!r})"
            problems.append(f"{variable} {error}{shown}")
    if problems:
        raise ConfigurationError(problems)
    return values


def variable_of(provider: str, option: Option) -> str:
    """The environment variable of a handler's option."""
    return f"{provider}_{option.name}".upper()


def missing_credentials(handler: type[Handler], given: Mapping[str, str]) -> Sequence[str]:
    """Names of the environment variables that the provider cannot work without and that are empty."""
    return [
        variable_of(handler.name, option)
        for option in handler.options
        if option.credential and not given.get(option.name, "").strip()
    ]
