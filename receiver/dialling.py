"""A connection to an address that a user chose, or the reason why there is none.

Every address that a name resolves to is judged before any of them is dialled, and what is dialled is the
judged address itself: names that change their address between two look-ups, or mix a good address with a
forbidden one, find no way. One deadline holds for look-up, connecting and TLS together.
"""

from __future__ import annotations

import functools
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, TypeAlias

import certifi

from receiver.addresses import AddressPolicy, ForbiddenAddress, Target

_MAX_DIALLED = 8  # addresses of one name that are tried
_MAX_LOOKUPS = 64  # at once; names, not requests

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


class Failure(Exception):
    """Ends a request and becomes its result. The text is one sentence for people."""

    def __init__(self, error: OutboundError, sentence: str) -> None:
        super().__init__(sentence)
        self.error = error


class Deadline:
    """The one deadline of a request."""

    def __init__(self, end: float) -> None:
        """``end``: on the clock of ``time.monotonic``."""
        self._end = end

    def left(self) -> float:
        """Seconds, more than 0. Raises TimeoutError at the deadline."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


@functools.cache
def _default_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # slim images come without a list of their own
    return context


def connect(
    target: Target, policy: AddressPolicy | None, tls: ssl.SSLContext | None, deadline: Deadline
) -> socket.socket:
    """A connection to one of the target's addresses, with TLS for https.

    ``policy``: None for a target that may lead anywhere. ``tls``: None for the default context, which
    checks certificates against the system's and Mozilla's authorities.
    Raises ForbiddenAddress before anything is dialled, and Failure for everything that a network does.
    """
    try:
        places = _places(target, deadline)
    except TimeoutError:
        raise Failure(
            OutboundError.DNS_TIMEOUT, f"The name server gave no address of {target.host} before the deadline."
        ) from None
    except (OSError, UnicodeError) as problem:
        reason = f" ({problem.strerror})" if isinstance(problem, OSError) and problem.strerror else ""
        raise Failure(OutboundError.DNS_FAILURE, f"{target.host} has no address{reason}.") from None
    if policy is not None:
        _judge(target, places, policy)
    sock = _dial(target, places[:_MAX_DIALLED], deadline)
    if target.scheme == "http":
        return sock
    try:
        return _secure(sock, target.host, tls or _default_tls(), deadline)
    except BaseException:
        sock.close()
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


def _dial(target: Target, places: list[_Place], deadline: Deadline) -> socket.socket:
    """A connection to the first address that takes one; each gets its share of the time left."""
    first: Failure | None = None  # the resolver gives the most promising address first
    for number, (family, sockaddr) in enumerate(places):
        try:
            return _connect(family, sockaddr, deadline.left() / (len(places) - number))
        except TimeoutError:
            failure = Failure(OutboundError.TIMEOUT_CONNECT, f"No connection to {target.host} before the deadline.")
        except ConnectionRefusedError:
            failure = Failure(
                OutboundError.CONNECTION_REFUSED, f"{target.host} refuses connections to port {target.port}."
            )
        except OSError as problem:
            failure = Failure(OutboundError.CONNECTION_FAILED, f"{target.host} cannot be reached ({problem.strerror}).")
        first = first or failure
    raise first or Failure(OutboundError.DNS_FAILURE, f"{target.host} has no address.")


def _connect(family: socket.AddressFamily, sockaddr: tuple[Any, ...], timeout: float) -> socket.socket:
    """The one place that dials. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect(sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _secure(sock: socket.socket, host: str, tls: ssl.SSLContext, deadline: Deadline) -> ssl.SSLSocket:
    try:
        sock.settimeout(deadline.left())
        return tls.wrap_socket(sock, server_hostname=host)
    except TimeoutError:
        raise Failure(OutboundError.TIMEOUT_CONNECT, f"{host} did not begin TLS before the deadline.") from None
    except ssl.SSLCertVerificationError as problem:
        reason = problem.verify_message.rstrip(".")
        raise Failure(OutboundError.TLS_FAILURE, f"The certificate of {host} is not valid: {reason}.") from None
    except (ssl.SSLError, ValueError) as problem:
        reason = getattr(problem, "reason", None) or "no reason given"
        raise Failure(OutboundError.TLS_FAILURE, f"TLS with {host} failed ({reason}).") from None
    except OSError:
        raise Failure(
            OutboundError.CONNECTION_RESET, f"{host} closed the connection instead of beginning TLS."
        ) from None


# --- The look-up -----------------------------------------------------------------------------------

# getaddrinfo cannot be told to stop. So it runs in a daemon thread that is left behind at the deadline;
# one thread per name, so that a name whose servers hang costs one however many requests ask for it.
_lookups: dict[tuple[str, int], Future[list[_Place]]] = {}
_lookups_changed = threading.Condition()


def _places(target: Target, deadline: Deadline) -> list[_Place]:
    """Where a target can be dialled. Raises OSError, TimeoutError at the deadline."""
    if target.address is not None:
        family = socket.AF_INET if target.address.version == 4 else socket.AF_INET6
        return [(family, (str(target.address), target.port))]
    key = (target.host, target.port)
    with _lookups_changed:
        if not _lookups_changed.wait_for(lambda: key in _lookups or len(_lookups) < _MAX_LOOKUPS, deadline.left()):
            raise TimeoutError
        lookup = _lookups.get(key)
        if lookup is None:
            lookup = Future()
            threading.Thread(target=_run_look_up, args=(key, lookup), name="look-up", daemon=True).start()
            _lookups[key] = lookup
    return lookup.result(deadline.left())


def _run_look_up(key: tuple[str, int], lookup: Future[list[_Place]]) -> None:
    places: list[_Place] = []
    problem: Exception | None = None
    try:
        places = _look_up(*key)
    except Exception as error:  # noqa: BLE001 - raised again for those who wait for the result
        problem = error
    with _lookups_changed:  # first of all, so that nobody joins a look-up that is over
        del _lookups[key]
        _lookups_changed.notify_all()
    if problem is None:
        lookup.set_result(places)
    else:
        lookup.set_exception(problem)


def _look_up(host: str, port: int) -> list[_Place]:
    """Ask the system's resolver. Raises OSError, or UnicodeError for what cannot be a name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [(family, sockaddr) for family, _, _, _, sockaddr in found]
