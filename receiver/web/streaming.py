"""Events as they happen, over server-sent events (the HTML standard's chapter of that name)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

from flask import Response, request

from receiver.errors import Busy
from receiver.models import ApiKey, Event, EventType, first_id
from receiver.web.face import alarm, runtime

HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that nobody on the way takes the connection for dead."""
LONGEST = 600.0
"""Seconds after which a stream ends; the client reconnects and goes on where it was."""
GONE = 30.0
"""Seconds without a sign of a reader's machine, or without room there, after which its stream is over."""
RETRY_MS = 2000
"""What a client is told to wait before it reconnects."""
_BATCH = 100  # events read at once


def stream(key: ApiKey, after: str | None, types: Sequence[EventType]) -> Response:
    """The events of a key's account, of some types, as they happen, behind an event (None: from now on).

    It ends when the key is revoked, and tells nothing that happens after that.
    The place is sent at the start and when nothing happens, as an id without data, so that a client whose connection
    breaks before an event that it wants still reconnects to where it was.
    """
    feed, accounts, sleepers, account_id = runtime().feed, runtime().accounts, alarm(), key.account_id
    if after is None:
        last = feed.newest(account_id)
        after, place = (first_id("evt", 0), 0) if last is None else (last.id, last.seq)
    else:
        place = feed.place_of(account_id, after)

    waiting = ExitStack()
    seated = waiting.enter_context(sleepers.seat(account_id))

    def lines(start: str, place: int) -> Iterator[str]:
        def look() -> Sequence[Event]:
            nonlocal start, place
            found, seen = feed.behind(account_id, place, types, _BATCH)
            if seen is not None:
                start, place = seen.id, seen.seq
            return found

        yield f"retry: {RETRY_MS}\nid: {start}\n\n"
        end = time.monotonic() + LONGEST
        while True:
            quiet_until = min(time.monotonic() + HEARTBEAT, end)
            try:
                found = sleepers.until(look, bool, max(quiet_until - time.monotonic(), 0) if seated else 0)
                if accounts.living_key(key.id) is None:
                    return
            except Busy:
                return  # the client reconnects to where it was, and is told how long to wait
            yield "".join(map(_frame, found)) or f": still here\nid: {start}\n\n"
            if not seated or sleepers.stopping or time.monotonic() >= end:
                return

    response = Response(lines(after, place), mimetype="text/event-stream")
    response.call_on_close(waiting.close)
    if seated:  # without a seat it is over at once, and nginx collects it from us for a client that may read slowly
        _give_up_when_gone()
        response.headers["X-Accel-Buffering"] = "no"
    return response


def _give_up_when_gone() -> None:
    """A reader that is gone without a word keeps its seat for a minute: the system alone would try for a quarter hour.

    Streams only: it also ends those that stand still for so long, and one that reads an answer slowly is to get it all.
    """
    with suppress(AttributeError, KeyError, OSError):  # other systems than Linux, other servers, a Unix socket
        request.environ["gunicorn.socket"].setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * GONE))


def _frame(event: Event) -> str:
    # Line breaks in JSON stand only between its parts, where a blank means the same.
    data = event.body.replace("\r", " ").replace("\n", " ")
    return f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n"
