"""The web: the API, callbacks of providers, health, metrics and their documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from receiver.runtime import Runtime

__all__ = ["create_app"]


def create_app(runtime: Runtime | None = None) -> Flask:
    """The application. ``runtime``: ready to use; without one it is built from the environment's settings.

    Starts no thread, opens no connection, and does not bring the schema up. Raises SettingsError.
    """
    from receiver.web.app import build  # late: several processes must agree on where they count before metrics load

    return build(runtime)
