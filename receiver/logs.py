"""Structured logs: one line an event, JSON or coloured text, with known secrets blanked out."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import select
import stat
import sys
import threading
from collections.abc import Iterable
from typing import Any, TextIO

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


UNREAD = 1.0
"""Seconds for which a line waits for who reads a pipe; later ones do not, until there is room again."""


class _Pipe:
    """Standard error where it is a pipe, whose reader may stand still: it then loses lines, and says how many.

    It is opened anew, so as not to change it for others who write to it. The text given is whole lines.
    """

    def __init__(self, number: int) -> None:
        """``number``: of the file. Raises OSError where it is none that can be opened anew."""
        if not stat.S_ISFIFO(os.fstat(number).st_mode):
            raise OSError("no pipe")
        self._number = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._room = select.poll()
        self._room.register(self._number, select.POLLOUT)
        self._lock = threading.Lock()
        self._rest = b""  # of a line that was begun
        self._lost = 0

    def __del__(self) -> None:
        """Give the file back."""
        with contextlib.suppress(AttributeError):  # it was never opened
            os.close(self._number)

    def write(self, text: str) -> None:
        """Write lines, or lose them."""
        with self._lock:
            if not self._go_on():
                self._lost += 1
                return
            if self._lost:
                lost = {"level": "warning", "event": "log lines lost", "why": "nobody read them", "lines": self._lost}
                text = f"{_ENCODER.encode(lost)}\n{text}"
                self._lost = 0
            self._rest = text.encode(errors="backslashreplace")
            self._go_on()

    def flush(self) -> None:
        """Nothing: each line goes out at once."""

    def _go_on(self) -> bool:
        """Write what is left of the last line; whether nothing is."""
        while self._rest:
            try:
                self._rest = self._rest[os.write(self._number, self._rest) :]
            except BlockingIOError:
                if self._lost or not self._room.poll(1000 * UNREAD):
                    return False
        return True


def _standard_error() -> TextIO | _Pipe:
    try:
        return _Pipe(sys.stderr.fileno())
    except (OSError, AttributeError):  # the last one: there is none
        return sys.stderr


class _Printer(structlog.WriteLogger):
    """Writes lines, each in one piece with its end: other processes write to the same place in between.

    One that cannot be written (a full disk, a reader that is gone or stands still) must not stop the work that it
    tells of.
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
    place: Any = _standard_error()
    structlog.configure(
        processors=[*shared, renderer, _blank_line],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Printer(place),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(place)
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
