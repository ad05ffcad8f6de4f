"""The list of tasks, and the page of one."""

from __future__ import annotations

from flask import Response

from receiver.store.tasks import Filter
from receiver.web.auth import account
from receiver.web.dashboard.frame import page, render
from receiver.web.face import runtime


@page("GET", "/tasks", nav="Tasks")
def tasks() -> Response:
    """Tasks, newest first."""
    return render("tasks.html", page=runtime().tasks.list_page(account(), Filter(), 50, None))
