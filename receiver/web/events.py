"""``/v1/events``: everything that is told to subscribers, for callers that no webhook can reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from flask import Response, request

from receiver.events import dumps, types_of
from receiver.models import Event, Page, Scope
from receiver.web import answers
from receiver.web.api import Answer, Section
from receiver.web.auth import account, admit_again, api_key, list_turn
from receiver.web.face import alarm, runtime
from receiver.web.schemas import EventHeaders, EventQuery
from receiver.web.streaming import stream

T = TypeVar("T")

section = Section("Events", "What subscribers are told, to be read or streamed.")


@section.operation(
    "GET",
    "/events",
    Answer(
        200,
        "EventPage",
        "Events: newest first, or (with `after`) oldest first.",
        streams="Server-sent events: `id` is the event's id, `event` its type, `data` its body on one line. Begins "
        "with what happens from now on, unless `after` or `Last-Event-ID` says where to go on. Ends after ten minutes "
        "at most; a client reconnects with `Last-Event-ID` and misses nothing.",
    ),
    scopes=[Scope.READ],
    query=EventQuery,
    headers=EventHeaders,
)
def list_events(query: Mapping[str, Any], headers: Mapping[str, Any]) -> Response:
    """List events, consume them in order, or stream them.

    Without `after`: newest first, with `cursor` for the next page. With `after=<id>`: those behind that event, oldest
    first, so that giving the id of the last one each time misses none and repeats none; go on until nothing comes,
    since very large ones end a page early. `wait=N` holds the answer while there is none. With
    `Accept: text/event-stream`: a stream.
    """
    after, limit = query.get("after"), query["limit"]
    types = types_of(query["event_type"])
    if request.accept_mimetypes.best_match(["application/json", "text/event-stream"]) == "text/event-stream":
        return stream(api_key(), headers.get("last_event_id") or after, types)
    feed, who = runtime().feed, account()
    if after is None:
        none_up_to: int | None = None

        def look_back() -> Page[Event]:
            nonlocal none_up_to
            if none_up_to is not None:  # history was gone through: only what has come since then can be wanted
                found, seen = feed.behind(who, none_up_to, types, 1)
                if not found:
                    none_up_to = none_up_to if seen is None else seen.seq
                    return Page((), None)
            last = feed.newest(who) if query["wait"] else None
            page = feed.list_page(who, types, limit, query.get("cursor"))
            none_up_to = 0 if last is None else last.seq
            return page

        page = _awaited(query["wait"], look_back, _has_items)
        return answers.listing(map(event_text, page.items), page.next_cursor)
    with list_turn():
        place = feed.place_of(who, after or None)

    def look() -> Sequence[Event]:
        nonlocal place
        found, seen = feed.behind(who, place, types, limit)
        place = place if seen is None else seen.seq
        return found

    return answers.listing(map(event_text, _awaited(query["wait"], look, bool)), None)


def _awaited(seconds: float, look: Callable[[], T], good: Callable[[T], bool]) -> T:
    """What ``look`` gives once it is good, or when the time is over; at once when too many wait already."""

    def in_turn() -> T:
        with list_turn():
            return look()

    if not seconds:
        return in_turn()
    with alarm().seat(account()) as seated:
        found = alarm().until(in_turn, good, seconds if seated else 0)
    admit_again()
    return found


def _has_items(page: Page[Event]) -> bool:
    return bool(page.items)


@section.operation("GET", "/events/<id(evt):event_id>", Answer(200, "Event", "The event."), scopes=[Scope.READ])
def get_event(event_id: str) -> Response:
    """Read an event.

    What is sent as the webhook, byte for byte, with its id put in front.
    """
    return answers.text(event_text(runtime().feed.get(account(), event_id)))


def event_text(event: Event) -> str:
    """An event as callers see it: its id, and what was signed and sent, as it was."""
    return f'{{"id":{dumps(event.id)},{event.body.removeprefix("{")}'
