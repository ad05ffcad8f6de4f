"""The public door of the handlers: the kit's names, and finding a provider by its file.

Adding ``handlers/<provider>.py`` with one Handler subclass is all the registration there is.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable, Mapping
from functools import cache

from handlers._base import Callbacks, Handler, InputSchema, Operation, Option, Pace
from handlers._deadline import calls_made
from handlers._options import missing_credentials, options_of, parse_options, variable_of
from handlers._reading import json_text
from handlers._records import (
    BadNotice,
    BadSignature,
    ConfigurationError,
    ErrorCode,
    HandlerError,
    JsonObject,
    Malformed,
    Notice,
    NotSupported,
    OutcomeUnknown,
    Output,
    OutputKind,
    OutputStatus,
    Receipt,
    Rejected,
    RemoteStatus,
    RemoteTask,
    Reply,
    Submission,
    TaskError,
    TaskUpdate,
    Unavailable,
    Upload,
    UploadTicket,
    record,
)

__all__ = [
    "BadNotice",
    "BadSignature",
    "Callbacks",
    "ConfigurationError",
    "ErrorCode",
    "Handler",
    "HandlerError",
    "InputSchema",
    "JsonObject",
    "Malformed",
    "NotSupported",
    "Notice",
    "Operation",
    "Option",
    "OutcomeUnknown",
    "Output",
    "OutputKind",
    "OutputStatus",
    "Pace",
    "Receipt",
    "Rejected",
    "RemoteStatus",
    "RemoteTask",
    "Reply",
    "Submission",
    "TaskError",
    "TaskUpdate",
    "Unavailable",
    "Upload",
    "UploadTicket",
    "available",
    "calls_made",
    "find",
    "json_text",
    "load",
    "missing_credentials",
    "options_of",
    "parse_options",
    "record",
    "variable_of",
]


def available() -> tuple[str, ...]:
    """Names of all providers, in alphabetical order: the files here that do not begin with ``_``."""
    return _files_in(tuple(__path__))


@cache  # a folder is read once: some ask with every request
def _files_in(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_")))


@cache
def find(name: str) -> type[Handler]:
    """The handler class in ``handlers/<name>.py``. Raises KeyError for a provider that does not exist."""
    if name not in available():
        raise KeyError(name)
    module = importlib.import_module(f"handlers.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Handler) and value.__module__ == module.__name__:
            value.name = name
            return value
    raise TypeError(f"handlers/{name}.py defines no Handler")


def load(name: str, options: Mapping[str, str], clock: Callable[[], float] = time.time) -> Handler:
    """A handler ready to work. ``options``: texts by option name (see ``options_of``).

    Raises ConfigurationError with every problem, missing credentials included.
    """
    handler = find(name)
    missing = missing_credentials(handler, options)
    if missing:
        raise ConfigurationError([f"{variable} is not set" for variable in missing])
    return handler(parse_options(handler, options), clock)
