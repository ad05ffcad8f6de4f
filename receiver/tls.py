"""TLS between bytes in memory: what comes off a socket is handed in, what is to go out is handed back.

OpenSSL on a socket of its own works through all that waits there before it gives anything back, and a server can let
megabytes of its housekeeping (new keys, for one) wait. Here it sees what it is given, and the giver counts it.
"""

from __future__ import annotations

import ssl

_RECORD = 16 * 1024  # the most plain bytes that one record holds


class Tls:
    """The client's side of one session. One thread at a time; never waits."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        """``host``: whose certificate it has to be. Raises ValueError for what cannot be a name."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._end: Exception | None = None
        self._go_on()  # as far as the greeting

    def shake_hands(self, came: bytes) -> bool:
        """Go on with the handshake; whether it is complete. ``came``: empty at the connection's end.

        Raises ssl.SSLError. Whatever happens, there may be something ``to_send``.
        """
        if came:
            self._incoming.write(came)
        else:
            self._incoming.write_eof()
        return self._go_on()

    def to_send(self) -> bytes:
        """What TLS has to say on its own account, mostly nothing."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def encrypt(self, plain: bytes) -> bytes:
        """What to send for these bytes, which are one or more."""
        rest, made = memoryview(plain), []
        try:
            while rest:
                rest = rest[self._session.write(rest) :]  # a record, mostly
                made.append(self._outgoing.read())
        except ssl.SSLError as problem:  # also in the middle of a handshake that the server has begun anew
            self._end = problem
            raise
        return b"".join(made)

    def decrypt(self, came: bytes) -> bytes | None:
        """The plain bytes in what came, as far as they are complete; None when the other side has said its last.

        Raises ssl.SSLError once all plain bytes before what is wrong were given.
        """
        if self._end is None:
            self._incoming.write(came)
            plain = self._read()
            if plain or self._end is None:
                return plain
        if isinstance(self._end, EOFError):
            return None
        raise self._end

    @property
    def over(self) -> bool:
        """Whether nothing more can come, or go."""
        return self._end is not None

    def _go_on(self) -> bool:
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _read(self) -> bytes:
        found = []
        try:
            while piece := self._session.read(_RECORD):
                found.append(piece)
            self._end = EOFError()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as problem:
            self._end = problem
        return b"".join(found)
