"""Many requests at once, in one thread, over connections that stay open for the next request to the same place."""

from __future__ import annotations

import select
import ssl
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from receiver.addresses import AddressPolicy, Target
from receiver.outbound import Connection, Connections, OutboundRequest, OutboundResult, exchange
from receiver.reactor import READ, Reactor

IDLE = 30.0
"""Seconds that a connection stays open without a request; shorter than firewalls take to forget it."""
AGE = 60.0
"""Seconds after which a connection serves no further request, so that changes of a name's address are followed."""
QUIET = 0.005
"""Seconds for which nothing may have come over a connection before it serves again: a server that answers a request
twice mostly does so at once, and all its later answers would be taken for those to other requests."""
IDLE_EACH = 32
"""Idle connections to one place, for one owner, at most."""
IDLE_ALL = 256
"""Idle connections at most."""

_Place: TypeAlias = tuple[str, str, str, int]
"""Owner, scheme, host and port."""
Done: TypeAlias = Callable[[OutboundResult | None, BaseException | None], None]


class _Kept(Connections):
    """Connections that stay open; used in the reactor's thread only.

    An address is judged when its connection is made, and the connection leads there for as long as it lives.
    """

    kept = True

    def __init__(self, policy: AddressPolicy, tls: ssl.SSLContext | None, reactor: Reactor) -> None:
        super().__init__(policy, tls)
        self._reactor = reactor
        self._idle: dict[_Place, deque[Connection]] = {}
        self._count = 0

    def idle(self, owner: str, target: Target) -> Connection | None:
        """The one that has been silent longest, of those on which nothing came meanwhile."""
        place = _place(owner, target)
        while waiting := self._idle.get(place):
            connection = waiting[0]
            if time.monotonic() - connection.idle_since < QUIET:
                return None
            self._take_out(place, connection)
            if not _has_news(connection):
                return connection
            connection.close()
        return None

    def give_back(self, owner: str, target: Target, connection: Connection) -> None:
        """Keep it, unless it is old or there are many."""
        place = _place(owner, target)
        connection.idle_since = time.monotonic()
        until = min(connection.idle_since + IDLE, connection.opened + AGE)
        many = len(self._idle.get(place, ())) >= IDLE_EACH or self._count >= IDLE_ALL
        if many or until <= connection.idle_since:
            connection.close()
            return
        self._idle.setdefault(place, deque()).append(connection)
        self._count += 1
        # What comes unasked is the end, or nothing that another request may take for its answer.
        self._reactor.watch(connection.sock, READ, until, lambda _: self._drop(place, connection))

    def give_up(self, owner: str, target: Target) -> None:
        """Hang up on those that do nothing: one after the other, each would cost an attempt."""
        self._hang_up(_place(owner, target))

    def close(self) -> None:
        """Hang up on all."""
        for place in list(self._idle):
            self._hang_up(place)

    def _hang_up(self, place: _Place) -> None:
        for connection in list(self._idle.get(place, ())):
            self._drop(place, connection)

    def _take_out(self, place: _Place, connection: Connection) -> None:
        waiting = self._idle[place]
        waiting.remove(connection)
        if not waiting:
            del self._idle[place]
        self._count -= 1
        self._reactor.unwatch(connection.sock)

    def _drop(self, place: _Place, connection: Connection) -> None:
        self._take_out(place, connection)
        connection.close()


def _has_news(connection: Connection) -> bool:
    """Whether something came unasked that the reactor has not seen yet: no answer to what is about to be asked."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _place(owner: str, target: Target) -> _Place:
    return owner, target.scheme, target.host, target.port


class Courier:
    """Carries requests; ``send`` may be called from any thread and never waits."""

    def __init__(self, name: str, policy: AddressPolicy, tls: ssl.SSLContext | None = None) -> None:
        """``name``: of its thread. ``policy``, ``tls``: as for ``receiver.outbound.post``."""
        self._reactor = Reactor(name)
        self._connections = _Kept(policy, tls, self._reactor)

    def send(self, request: OutboundRequest, done: Done) -> None:
        """Send one request; its body is bytes. ``done``: called in the courier's thread, with the result.

        A failing network is a result. What is raised beside it is a mistake of ours, and given in place of one.
        """
        self._reactor.start(partial(exchange, request, self._connections), done)

    def close(self) -> None:
        """Stop, and hang up on everybody."""
        self._reactor.close()
        self._connections.close()
