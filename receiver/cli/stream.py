"""Server-sent events: bytes as they come in, events out.

Source: the HTML standard, "Server-sent events", section "Interpreting an event stream".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its id (empty when the stream gave none yet), its type and its data, byte for byte."""

    id: str
    type: str
    data: bytes


class EventReader:
    """Takes the bytes of a stream in pieces of any size. ``last_id``: of the last event, for a reconnection."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_ms: int | None = None
        self._rest = b""
        self._type = ""
        self._id = last_id
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """The events that this piece completes."""
        self._rest += piece
        held = b""
        if self._rest.endswith(b"\r"):  # perhaps the first half of a line's end
            self._rest, held = self._rest[:-1], b"\r"
        lines = self._rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + held
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._type = value.decode(errors="replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode(errors="replace")
            case b"retry" if value.isdigit():
                self.retry_ms = int(value)
        return None

    def _dispatch(self) -> ServerEvent | None:
        """An empty line ends an event; one without data is none, but its id counts."""
        self.last_id = self._id
        kind, data = self._type or "message", self._data
        self._type, self._data = "", []
        return ServerEvent(self.last_id, kind, b"\n".join(data)) if data else None
