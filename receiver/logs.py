"""Structured logs: one line an event, JSON or coloured text, with known secrets blanked out."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
from collections.abc import Iterable
from typing import Any

import structlog

from receiver.signing import without_tokens

_secrets: tuple[str, ...] = ()
_TOKEN = re.compile(r"(whsec_|rk_)[A-Za-z0-9+/=_-]{8,}|(/callbacks/[a-z0-9_]+/)[A-Za-z0-9._-]+")


def keep_out(values: Iterable[str]) -> None:
    """Register texts (credentials) that must never appear in a log line, whoever logs it."""
    global _secrets  # noqa: PLW0603  one list for the process, replaced whole: other threads may be logging
    # A line is searched as it is written: in JSON, where a text may be spelled otherwise.
    known = {*_secrets, *(form for value in values if len(value) >= 6 for form in (value, json.dumps(value)[1:-1]))}
    _secrets = tuple(sorted(known, key=len, reverse=True))  # the longest first: one may contain another


def blank(text: str) -> str:
    """The text without registered secrets, signing secrets, API keys and callback tokens."""
    for secret in _secrets:
        text = text.replace(secret, "***")
    if "whsec_" in text or "rk_" in text or "/callbacks/" in text:  # far cheaper than the search
        text = _TOKEN.sub(lambda found: f"{found[1] or found[2]}***", text)
    return without_tokens(text)


def _blank_line(_: Any, __: str, line: Any) -> str:  # the renderer in front of it gives text
    return blank(line)


_ENCODER = json.JSONEncoder(default=repr)  # made once: to make one costs as much as to write a line with it


def _one_line(entry: structlog.typing.EventDict, **_: Any) -> str:
    return _ENCODER.encode(entry)


class _Printer(structlog.WriteLogger):
    """Writes lines, each in one piece with its end: other processes write to the same place in between.

    One that cannot be written (a full disk, a reader that is gone) must not stop the work that it tells of.
    """

    def msg(self, message: str) -> None:
        """Write a line, if that is possible."""
        with contextlib.suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


def set_up(log_format: str, log_level: str, role: str) -> None:
    """Configure logging of this process, once. ``log_format``: ``console``, ``json`` or empty for by terminal."""
    as_text = log_format == "console" or (not log_format and sys.stderr.isatty())

    def name_role(_: Any, __: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        entry["role"] = role
        return entry

    shared: list[structlog.typing.Processor] = [
        name_role,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        if as_text
        else structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if as_text:
        shared.append(_for_people)
    renderer: structlog.typing.Processor = _console() if as_text else structlog.processors.JSONRenderer(_one_line)
    level = getattr(logging, log_level.upper())
    structlog.configure(
        processors=[*shared, renderer, _blank_line],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Printer(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer, _blank_line],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _for_people(_: Any, __: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Without what says nothing on a terminal (which part speaks, values that are not there), or would command it."""
    shown = {key: value for key, value in entry.items() if value is not None and key != "part"}
    return shown | {key: _readable(str(shown[key])) for key in ("event", "exception") if key in shown}


def _readable(text: str) -> str:
    """The text with escapes for what cannot be seen; line breaks and tabs stay."""
    return "".join(mark if mark.isprintable() or mark in "\n\t" else repr(mark)[1:-1] for mark in text)


def _console() -> structlog.dev.ConsoleRenderer:
    """Lines in columns: time, level, role, what happened, and what belongs to it, the task first."""
    return structlog.dev.ConsoleRenderer(
        columns=[
            structlog.dev.Column("timestamp", _padded("timestamp", 8)),
            structlog.dev.Column("level", _padded("level", 7)),
            structlog.dev.Column("role", _padded("role", 6)),
            structlog.dev.Column("event", _padded("event", 16)),
            structlog.dev.Column("task", _named("task")),
            structlog.dev.Column("", _named("")),
        ],
        exception_formatter=structlog.dev.plain_traceback,  # the pretty one shows variables, secrets among them
    )


_DIM, _BOLD, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"
_COLOURS = {"debug": _DIM, "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_STYLES = {"timestamp": _DIM, "role": _DIM, "event": _BOLD}


def _coloured(style: str, text: str) -> str:
    return f"{style}{text}{_PLAIN}" if style and sys.stderr.isatty() else text


def _padded(column: str, width: int) -> structlog.dev.ColumnFormatter:
    """A value by itself, in a column of its own."""

    def show(key: str, value: object) -> str:
        style = _COLOURS.get(str(value), "") if key == "level" else _STYLES[column]
        return _coloured(style, f"{value!s:<{width}}")

    return show


def _named(fixed: str) -> structlog.dev.ColumnFormatter:
    """A value with its name; quoted where its end, or something in it, could not be seen."""

    def show(key: str, value: object) -> str:
        text = str(value)
        quoted = repr(text) if not text or " " in text or not text.isprintable() else text
        return f"{_coloured(_DIM, (fixed or key) + '=')}{quoted}"

    return show


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger; ``name`` says which part speaks."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return logger
