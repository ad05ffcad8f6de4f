"""The web's fixtures: an application on a prepared database, callers with keys of several accounts."""

from __future__ import annotations

from tests.web.conftest import (
    api,
    app,
    build,
    caller,
    client,
    clock,
    key,
    progress,
    runtime,
    settings,
    stranger,
    template,
)

__all__ = [
    "api",
    "app",
    "build",
    "caller",
    "client",
    "clock",
    "key",
    "progress",
    "runtime",
    "settings",
    "stranger",
    "template",
]
