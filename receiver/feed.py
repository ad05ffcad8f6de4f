"""The feed of events as callers read it: one, a page of them, or all of them in order."""

from __future__ import annotations

from collections.abc import Sequence

from receiver.errors import NotFound
from receiver.models import Event, Page
from receiver.store import Store, events
from receiver.store.events import Place


class EventFeed:
    """Reads an account's events. None is skipped: what could still appear before an event holds that event back."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, account_id: str, event_id: str) -> Event:
        """An event. Raises NotFound."""
        with self._store.read() as connection:
            event = events.get(connection, event_id)
        if event is None or event.account_id != account_id:
            raise NotFound("There is no such event.")
        return event

    def list_page(self, account_id: str, types: Sequence[str], limit: int, cursor: str | None) -> Page[Event]:
        """An account's events, newest first; a reader who goes on behind the newest of them misses none."""
        settled = self._settled()
        with self._store.read() as connection:
            return events.list_page(connection, account_id, types, limit, cursor, up_to=settled)

    def place_of(self, account_id: str, event_id: str | None) -> int:
        """The place of an event in the order; 0 for None.

        An event that is not there (any more: retention) counts by the time in its id, so that a reader
        who comes back after a long silence goes on where it stopped.
        """
        if event_id is None:
            return 0
        with self._store.read() as connection:
            event = events.get(connection, event_id)
            if event is not None and event.account_id == account_id:
                return event.seq
            return events.seq_before(connection, account_id, event_id)

    def newest(self, account_id: str) -> Place | None:
        """The place of an account's newest event in the order, or None."""
        settled = self._settled()
        with self._store.read() as connection:
            return events.newest(connection, account_id, up_to=settled)

    def behind(
        self, account_id: str, seq: int, types: Sequence[str], limit: int
    ) -> tuple[Sequence[Event], Place | None]:
        """An account's events behind a place in the order, oldest first; only those before which none can appear.

        And the place up to which this has looked: whoever waits goes on from there, and passes over only once what
        they do not want. None: where they were.
        """
        settled = self._settled()
        with self._store.read() as connection:
            found, more = events.after(connection, account_id, seq, limit, types, up_to=settled)
            if found and (more or not types):
                return found, Place(found[-1].seq, found[-1].id)
            newest = events.newest(connection, account_id, up_to=settled) if types else None
        return found, None if newest is None or newest.seq <= seq else newest

    def _settled(self) -> int | None:
        with self._store.read() as connection:
            return events.settled(connection)
