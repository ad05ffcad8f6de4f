"""Structured logs: one line an event, JSON or coloured text, with known secrets blanked out."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from receiver.signing import without_tokens

_secrets: tuple[str, ...] = ()
_TOKEN = re.compile(r"(whsec_|rk_)[A-Za-z0-9+/=_-]{8,}|(/callbacks/[a-z0-9_]+/)[A-Za-z0-9._-]+")


def keep_out(values: Iterable[str]) -> None:
    """Register texts (credentials) that must never appear in a log line, whoever logs it."""
    global _secrets  # noqa: PLW0603  one list for the process, replaced whole: other threads may be logging
    known = {*_secrets, *(value for value in values if len(value) >= 6)}
    _secrets = tuple(sorted(known, key=len, reverse=True))  # the longest first: one may contain another


def blank(text: str) -> str:
    """The text without registered secrets, signing secrets, API keys and callback tokens."""
    for secret in _secrets:
        text = text.replace(secret, "***")
    return without_tokens(_TOKEN.sub(lambda found: f"{found[1] or found[2]}***", text))


def _redact(_: Any, __: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: _blank_all(value) for key, value in entry.items()}


def _blank_all(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return blank(value)
        case Mapping():
            return {blank(str(name)): _blank_all(inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_blank_all(inner) for inner in value]
    return blank(str(value))


def set_up(log_format: str, log_level: str, role: str) -> None:
    """Configure logging of this process, once. ``log_format``: ``console``, ``json`` or empty for by terminal."""
    as_text = log_format == "console" or (not log_format and sys.stderr.isatty())

    def name_role(_: Any, __: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        entry["role"] = role
        return entry

    shared: list[structlog.typing.Processor] = [
        name_role,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # the pretty one shows variables, secrets among them
        )
        if as_text
        else structlog.processors.JSONRenderer()
    )
    level = getattr(logging, log_level.upper())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger; ``name`` says which part speaks."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return logger
