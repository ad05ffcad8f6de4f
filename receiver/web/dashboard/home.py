"""Where ``/`` leads."""

from __future__ import annotations

from flask import Response

from receiver.web.dashboard.frame import page, redirect


@page("GET", "/")
def home() -> Response:
    """On to the tasks."""
    return redirect("tasks")
