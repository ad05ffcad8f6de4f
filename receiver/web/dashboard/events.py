"""Events: what was stated, to whom."""

from __future__ import annotations

from flask import Response, request

from receiver.models import EventType
from receiver.web.auth import account, list_turn
from receiver.web.dashboard.frame import cursor_of, link, page, render
from receiver.web.face import runtime

PAGE_SIZE = 25


@page("GET", "/events", nav="Events")
def events() -> Response:
    """Events, newest first."""
    kind = request.args.get("type", "")
    kind = kind if kind in set(EventType) else ""
    cursor = cursor_of("evt")
    with list_turn():
        found = runtime().feed.list_page(account(), [kind] if kind else [], PAGE_SIZE, cursor)
    chosen = {"type": kind} if kind else {}
    return render(
        "events.html",
        page=found,
        kind=kind,
        kinds=[each.value for each in EventType],
        first=cursor is None,
        older=link("events", **chosen, cursor=found.next_cursor) if found.next_cursor else None,
    )


@page("GET", "/events/<id(evt):event_id>", section="events")
def event(event_id: str) -> Response:
    """One event: its body as it is sent, and where it went."""
    found = runtime().feed.get(account(), event_id)
    return render("event.html", event=found, deliveries=runtime().overview.deliveries_of(account(), event_id))
