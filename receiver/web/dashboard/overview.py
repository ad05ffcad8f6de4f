"""The overview: is everything well, who is slow, and what fails."""

from __future__ import annotations

import json
from collections.abc import Sequence

from flask import Response, request

import handlers
from handlers import Callbacks
from receiver.models import TaskStatus
from receiver.overview import MOST_FAILING, WINDOWS, Overview, ProviderView
from receiver.stats import WORKER_SEEN
from receiver.store.tasks import Filter
from receiver.web.auth import account
from receiver.web.dashboard.frame import page, render
from receiver.web.face import runtime

WORDS = {"hour": "Last hour", "day": "Last 24 hours", "week": "Last 7 days"}
FIRST_TASK = "receiver submit superapp text2image inputText='a red kite' width=1024 height=768 --wait"
LATE = 60
"""Seconds; what has been due for longer is behind."""


@page("GET", "/", nav="Overview")
def overview() -> Response:
    """What happened in a window of time, and how the service stands now."""
    window = request.args.get("window", "")
    window = window if window in WINDOWS else "hour"
    seen = runtime().overview.read(account(), window)
    now = runtime().stats.lately()
    calling_back = {name for name in handlers.available() if handlers.find(name).callbacks is not Callbacks.NONE}
    return render(
        "overview.html",
        window=window,
        windows=WORDS,
        seen=seen,
        most_failing=MOST_FAILING,
        now=now,
        late=LATE,
        worker_late=WORKER_SEEN / 1000,
        task_age=max((age for *_, age in now.task_ages), default=0.0),
        waiting={status: sum(number for _, one, number in now.tasks if one == status) for status in TaskStatus},
        rescued=sum(rescued(view) for view in seen.providers),
        calling_back=calling_back,
        charts=_charts(seen),
        newcomer=_is_newcomer(seen),
        configured=runtime().providers.names,
        command=FIRST_TASK if "superapp" in runtime().providers.names else "receiver submit --help",
    )


def rescued(view: ProviderView) -> int:
    """Tasks that a poll ended although their operation calls back."""
    operations = handlers.find(view.name).operations
    return sum(number for name, number in view.by_poll.items() if name in operations and operations[name].callbacks)


def _is_newcomer(seen: Overview) -> bool:
    """Whether nobody has done anything here yet."""
    if seen.providers or any(seen.deliveries.values()):
        return False
    return not runtime().tasks.list_page(account(), Filter(), 1, None).items


def _charts(seen: Overview) -> list[tuple[str, str, str]]:
    """(title, summary in words, data as JSON) of each chart; ``charts.js`` draws them."""
    return [
        (
            "Tasks",
            f"{sum(seen.created)} created; of these {sum(seen.succeeded)} succeeded and {sum(seen.failed)} failed.",
            _data(seen, [("created", "busy", seen.created), ("succeeded", "good", seen.succeeded),
                         ("failed", "bad", seen.failed)]),
        ),
        (
            "Deliveries",
            f"{sum(seen.delivered)} delivered, {sum(seen.undelivered)} waiting or given up.",
            _data(seen, [("delivered", "good", seen.delivered), ("not delivered", "bad", seen.undelivered)]),
        ),
    ]  # fmt: skip


def _data(seen: Overview, series: Sequence[tuple[str, str, Sequence[int]]]) -> str:
    times = [(seen.since + place * seen.piece) // 1000 for place in range(len(series[0][2]))]
    lines = [{"name": name, "tone": tone, "values": list(values)} for name, tone, values in series]
    return json.dumps({"times": times, "series": lines}, separators=(",", ":"))
