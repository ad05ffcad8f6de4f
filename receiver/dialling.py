"""A connection to an address that a user chose, or the reason why there is none.

Every address that a name resolves to is judged before any of them is dialled, and what is dialled is the
judged address itself: names that change their address between two look-ups, or mix a good address with a
forbidden one, find no way. One deadline holds for look-up, connecting and TLS together.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import ssl
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, TypeAlias

import certifi

from receiver.addresses import AddressPolicy, ForbiddenAddress, Target
from receiver.reactor import WRITE, ready, receive, send, settled
from receiver.tls import Tls

_MAX_DIALLED = 8  # addresses of one name that are tried
_MAX_LOOKUPS = 256  # at once; names, not requests. More than the seats that failing subscribers may have
_RESERVED = 4  # one place in so many is kept for names that were found the last time
_FOUND = 4096  # names of which that is known
_FAILED = 4096  # addresses and ports that are known to have failed
_MAX_HANDSHAKE = 256 * 1024  # bytes of a server; its certificates may be 100 KiB
_HANDSHAKES = 4  # at once
_PIECE = 16 * 1024
_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EADDRNOTAVAIL})

_Place: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]


class OutboundError(StrEnum):
    """Why a request has failed without a complete answer."""

    INVALID_REQUEST = "invalid_request"  # the URL or a header cannot be sent: again cannot help
    FORBIDDEN_ADDRESS = "forbidden_address"  # nothing was dialled
    DNS_FAILURE = "dns_failure"
    DNS_TIMEOUT = "dns_timeout"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_FAILED = "connection_failed"  # no route, network down ...
    TIMEOUT_CONNECT = "timeout_connect"  # no connection, or no TLS session, before the deadline
    TLS_FAILURE = "tls_failure"
    CONNECTION_RESET = "connection_reset"  # closed before an answer
    TIMEOUT = "timeout"  # connected, but no complete head of an answer before the deadline
    INVALID_RESPONSE = "invalid_response"  # an answer, but not one of HTTP/1, or too large a head
    BODY_CUT = "body_cut"  # a status, but the body ended early
    BODY_TOO_SLOW = "body_too_slow"  # a status, but the body was still coming at the deadline


def at_limit(problem: BaseException | None) -> bool:
    """Whether this machine has no file, port or thread left: nothing was dialled, and no other side is at fault."""
    if isinstance(problem, OSError):
        return problem.errno in _LIMITS
    return isinstance(problem, RuntimeError) and str(problem) == "can't start new thread"


class Failure(Exception):
    """Ends a request and becomes its result. The text is one sentence for people."""

    def __init__(self, error: OutboundError, sentence: str) -> None:
        super().__init__(sentence)
        self.error = error


@functools.cache
def _default_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # some systems leave that to a file that anybody may have changed
    context.load_verify_locations(certifi.where())  # slim images come without a list of their own
    # Before TLS 1.3 a server could choose a group of 10,000 bits for Diffie-Hellman without curves: most of a second of
    # processor for each connection. No browser offers that any more.
    known = context.get_ciphers()
    context.set_ciphers(":".join(cipher["name"] for cipher in known if not cipher["kea"].startswith("kx-dhe")))
    return context


async def connect(
    target: Target, policy: AddressPolicy | None, tls: ssl.SSLContext | None, until: float
) -> tuple[socket.socket, Tls | None]:
    """A connection to one of the target's addresses, with a TLS session for https; it does not block.

    ``policy``: None for a target that may lead anywhere. ``tls``: None for the default context, which
    checks certificates against the system's and Mozilla's authorities. ``until``: on the clock of
    ``time.monotonic``. Raises ForbiddenAddress before anything is dialled, Failure for everything
    that a network does, and what ``at_limit`` knows.
    """
    try:
        places = await _places(target, until)
    except TimeoutError:
        raise Failure(
            OutboundError.DNS_TIMEOUT, f"The name server gave no address of {target.host} before the deadline."
        ) from None
    except (OSError, UnicodeError) as problem:
        socket.socket().close()  # raises at the limit of open files, where the resolver finds no name at all
        reason = f" ({problem.strerror})" if isinstance(problem, OSError) and problem.strerror else ""
        raise Failure(OutboundError.DNS_FAILURE, f"{target.host} has no address{reason}.") from None
    if policy is not None:
        _judge(target, places, policy)
    sock, place = await _dial(target, sorted(places, key=_last_failure)[:_MAX_DIALLED], until)
    if target.scheme == "http":
        return sock, None
    try:
        return sock, await _secure(sock, target.host, tls or _default_tls(), until)
    except BaseException as problem:
        sock.close()
        if isinstance(problem, Failure):
            _note_failure(place)
        raise


def _judge(target: Target, places: list[_Place], policy: AddressPolicy) -> None:
    """Raise ForbiddenAddress if any address is forbidden: a name that mixes them is up to something.

    The sentence does not tell which address: what internal names resolve to is nobody's business.
    """
    for _, sockaddr in places:
        address = ip_address(sockaddr[0])
        if not policy.permits(address):
            raise ForbiddenAddress(
                f"{target.host} leads to an address that is private, local or reserved."
                " Whoever runs this service can open it with RECEIVER_ALLOWED_NETWORKS."
            )
        if target.scheme == "http" and not policy.permits_http(address):
            raise ForbiddenAddress(f"{target.host} can be reached over https only: plain http is not allowed.")


# When an address last failed, the latest last. The resolver gives the same one first each time, though it may be gone,
# or behind a network that loses large packets: the next attempt dials the other addresses of its name before it.
_failed: dict[tuple[Any, ...], float] = {}
_failed_lock = threading.Lock()


def _last_failure(place: _Place) -> float:
    return _failed.get(place[1], 0.0)


def _note_failure(place: _Place) -> None:
    with _failed_lock:
        _failed.pop(place[1], None)
        _failed[place[1]] = time.monotonic()
        if len(_failed) > _FAILED:
            del _failed[next(iter(_failed))]


async def _dial(target: Target, places: list[_Place], until: float) -> tuple[socket.socket, _Place]:
    """A connection to the first address that takes one, and which that is; each gets its share of the time left."""
    first: Failure | None = None  # of the most promising address
    for number, place in enumerate(places):
        family, sockaddr = place
        try:
            sock = await _connect(family, sockaddr, (until - time.monotonic()) / (len(places) - number))
        except TimeoutError:
            failure = Failure(OutboundError.TIMEOUT_CONNECT, f"No connection to {target.host} before the deadline.")
        except ConnectionRefusedError:
            failure = Failure(
                OutboundError.CONNECTION_REFUSED, f"{target.host} refuses connections to port {target.port}."
            )
        except OSError as problem:
            if at_limit(problem):
                raise
            failure = Failure(OutboundError.CONNECTION_FAILED, f"{target.host} cannot be reached ({problem.strerror}).")
        else:
            return sock, place
        _note_failure(place)
        first = first or failure
    raise first or Failure(OutboundError.DNS_FAILURE, f"{target.host} has no address.")


async def _connect(family: socket.AddressFamily, sockaddr: tuple[Any, ...], timeout: float) -> socket.socket:
    """The one place that dials. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        problem = sock.connect_ex(sockaddr)
        if problem == errno.EINPROGRESS:
            await ready(sock, WRITE, time.monotonic() + timeout)
            problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem == errno.EADDRNOTAVAIL and not _has_source(family, sockaddr):
            problem = errno.ENETUNREACH
        if problem:
            raise OSError(problem, os.strerror(problem))
    except BaseException:
        sock.close()
        raise
    return sock


def _has_source(family: socket.AddressFamily, sockaddr: tuple[Any, ...]) -> bool:
    """Whether this machine has an address to dial from at all, so that it is ports that are used up. Sends nothing."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(sockaddr) != errno.EADDRNOTAVAIL


async def _secure(sock: socket.socket, host: str, context: ssl.SSLContext, until: float) -> Tls:
    try:
        tls = Tls(context, host)
        await _shake_hands(sock, tls, until)
    except TimeoutError:
        raise Failure(OutboundError.TIMEOUT_CONNECT, f"{host} did not begin TLS before the deadline.") from None
    except ssl.SSLCertVerificationError as problem:
        reason = problem.verify_message.rstrip(".")
        raise Failure(OutboundError.TLS_FAILURE, f"The certificate of {host} is not valid: {reason}.") from None
    except (ssl.SSLError, ValueError) as problem:
        reason = getattr(problem, "reason", None) or str(problem)
        raise Failure(OutboundError.TLS_FAILURE, f"TLS with {host} failed ({reason}).") from None
    except OSError:
        raise Failure(
            OutboundError.CONNECTION_RESET, f"{host} closed the connection instead of beginning TLS."
        ) from None
    return tls


async def _shake_hands(sock: socket.socket, tls: Tls, until: float) -> None:
    """Raises TimeoutError, and OSError, which ssl.SSLError is."""
    left, complete = _MAX_HANDSHAKE, False
    while True:
        await send(sock, tls.to_send(), until)
        if complete:
            return
        if left <= 0:
            raise ssl.SSLError("the server's part of the handshake has no end")
        came = await receive(sock, min(_PIECE, left), until)
        left -= len(came)
        try:
            complete = await settled(_handshakers().submit(tls.shake_hands, came), until)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise ConnectionResetError from None
        except ssl.SSLError:
            with contextlib.suppress(OSError):  # an alert tells the server what is wrong with it
                sock.send(tls.to_send())
            raise


@functools.cache
def _handshakers() -> ThreadPoolExecutor:
    """Where handshakes are reckoned: a server can choose a group (ffdhe8192) that takes a tenth of a second."""
    return ThreadPoolExecutor(_HANDSHAKES, "handshake")


# --- The look-up -----------------------------------------------------------------------------------

# getaddrinfo cannot be told to stop. So it runs in a daemon thread that is left behind at the deadline;
# one thread per name, so that a name whose servers hang costs one however many requests ask for it, and
# not all threads for new names, so that any number of those that hang leave room for the names that do not.
_lookups: dict[str, Future[list[_Place]]] = {}
_found: dict[str, None] = {}  # names whose last look-up gave an address, the latest last
_turned_away: list[Future[None]] = []  # told when a look-up ends, and with it a place becomes free
_lookups_lock = threading.Lock()


async def _places(target: Target, until: float) -> list[_Place]:
    """Where a target can be dialled. Raises OSError, TimeoutError at ``until``."""
    if target.address is not None:
        family = socket.AF_INET if target.address.version == 4 else socket.AF_INET6
        return [(family, (str(target.address), target.port))]
    while True:
        turn: Future[None] = Future()
        lookup = _join_look_up(target.host, target.port, turn)
        if lookup is not None:
            places = await settled(lookup, until)  # with the port of whoever began it
            return [(family, (address, target.port, *rest)) for family, (address, _, *rest) in places]
        await settled(turn, until)


def _join_look_up(host: str, port: int, turn: Future[None]) -> Future[list[_Place]] | None:
    """The look-up of a name, begun now unless it runs already; None, and later a word to ``turn``, at the limit."""
    with _lookups_lock:
        lookup = _lookups.get(host)
        if lookup is not None:
            return lookup
        if len(_lookups) >= _MAX_LOOKUPS - (0 if host in _found else _MAX_LOOKUPS // _RESERVED):
            _turned_away.append(turn)
            return None
        lookup = Future()
        threading.Thread(target=_run_look_up, args=(host, port, lookup), name="look-up", daemon=True).start()
        _lookups[host] = lookup  # only now: nobody must wait for one that could not be started
        _found.pop(host, None)  # until it is found again
        return lookup


def _run_look_up(host: str, port: int, lookup: Future[list[_Place]]) -> None:
    places: list[_Place] = []
    problem: Exception | None = None
    try:
        places = _look_up(host, port)
    except Exception as error:  # noqa: BLE001 - raised again for those who wait for the result
        problem = error
    with _lookups_lock:  # first of all, so that nobody joins a look-up that is over
        del _lookups[host]
        if places:
            _found[host] = None
            if len(_found) > _FOUND:
                del _found[next(iter(_found))]
        waiting = _turned_away.copy()
        _turned_away.clear()
    for turn in waiting:
        turn.set_result(None)
    if problem is None:
        lookup.set_result(places)
    else:
        lookup.set_exception(problem)


def _look_up(host: str, port: int) -> list[_Place]:
    """Ask the system's resolver. Raises OSError, or UnicodeError for what cannot be a name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [(family, sockaddr) for family, _, _, _, sockaddr in found]
