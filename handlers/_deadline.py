"""HTTP connections that keep one deadline for a whole answer, headers and a dripping body included.

A socket's own time-out starts anew with every packet, so a provider that sends a byte now and then
could hold a worker for ever, and longer than the lease on its task.

And connections that are not used again after a pause: when a server hangs up at the very moment of a call, the call is
lost, and nobody knows whether it has started anything.

And a request that goes out only when its answer can still be waited for: one whose connection took all of the time
would start work, and nobody would hear of it.

And look-ups of names that end with the call, however long the system's resolver takes.

And answers in a bounded number of pieces: a flood of interim answers, of chunks of a byte each or of trailers would
keep a processor busy until the call's time is over.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from typing import Any

import requests
import urllib3.connection  # of requests' own transport
import urllib3.connectionpool
from requests.adapters import DEFAULT_CA_BUNDLE_PATH, HTTPAdapter
from urllib3.exceptions import NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context

MOST_STEPS = 20_000
"""Lines and reads that an answer can take: 8 MiB in chunks of half a KiB take fewer."""
MOST_BYTES = 16 * 1024 * 1024
"""Bytes that an answer can have on the wire, with all that frames it."""

IDLE = 4.0
"""Seconds without a call after which a connection is closed; servers in wide use (Node.js) hang up after five."""

# .deadline (by time.monotonic()), .sent and .why: of the call that this thread makes; .made: so many so far.
_call = threading.local()


def begin_call(deadline: float) -> None:
    """The call that this thread makes next must be over, its answer complete, by then (``time.monotonic()``)."""
    _call.deadline, _call.sent, _call.why, _call.made = deadline, False, "", calls_made() + 1


def calls_made() -> int:
    """How many calls to providers this thread has made so far: a provider's rate counts each of them."""
    made: int = getattr(_call, "made", 0)
    return made


def was_sent() -> bool:
    """Whether a byte of this thread's last call may have left; if not, it has certainly started nothing."""
    return bool(_call.sent)


def why_not_sent() -> str:
    """Why there was no connection for this thread's last call; empty where that was not the reason."""
    why: str = _call.why
    return why


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, (ssl.SSLZeroReturnError, ssl.SSLEOFError)):
        return "the other side closed the connection"  # instead of a place in the library's source
    said = getattr(error, "verify_message", "") or getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(said or type(error).__name__)


def _left() -> float:
    """Seconds that are left of the call. Raises TimeoutError."""
    left: float = _call.deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


# getaddrinfo cannot be told to stop. So it runs in a daemon thread that is left behind when the call is over; one for
# each place, however many calls wait for it. The guard of subscribers' addresses does so too and limits them, since
# strangers choose its names, and the operator chooses these. It is above the handlers, which import nothing of it.
_lookups: dict[tuple[str, int], Future[list[Any]]] = {}
_lookups_lock = threading.Lock()


def _places(host: str, port: int) -> list[Any]:
    """What the system's resolver says, within what is left of the call's time. Raises OSError and UnicodeError."""
    with _lookups_lock:
        lookup = _lookups.get((host, port))
        if lookup is None:
            lookup = Future()
            threading.Thread(target=_look_up, args=(host, port, lookup), name="look-up", daemon=True).start()
            _lookups[host, port] = lookup  # only now: nobody must wait for one that could not be started
    return lookup.result(_left())


def _look_up(host: str, port: int, lookup: Future[list[Any]]) -> None:
    found: list[Any] = []
    problem: Exception | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except Exception as error:  # noqa: BLE001 - raised again for those who wait for the result
        problem = error
    with _lookups_lock:  # first of all, so that nobody joins a look-up that is over
        del _lookups[host, port]
    if problem is None:
        lookup.set_result(found)
    else:
        lookup.set_exception(problem)


# When an address last failed. The resolver gives the same one first each time, though it may be gone, or behind a
# network that loses large packets: the next call dials the other addresses of its name before it.
_failed: dict[Any, float] = {}


class TooMuch(Exception):
    """An answer is larger, or in more pieces, than any that makes sense; the text goes on from "the answer"."""


class _TimedReader(io.RawIOBase):
    """A socket's incoming bytes, each wait limited to what is left of the call's time. Raises TooMuch."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw, self._sock = raw, sock
        self._steps = self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.count()
        self._sock.settimeout(_left())
        came = self._raw.readinto(buffer)
        self._bytes += came or 0
        if self._bytes > MOST_BYTES:
            raise TooMuch(f"has more than {MOST_BYTES} bytes")
        return came

    def count(self) -> None:
        """One step more towards the end of the answer."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise TooMuch("comes in too many pieces")

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Lines(io.BufferedReader):
    """What an answer is read from: status, headers, sizes of chunks and trailers are lines, and are counted."""

    def readline(self, size: int | None = -1, /) -> bytes:
        self.raw.count()  # type: ignore[attr-defined]  # a _TimedReader
        return super().readline(size)


class _TimedResponse(http.client.HTTPResponse):
    """A response that reads through a _TimedReader."""

    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = _Lines(_TimedReader(self.fp.detach(), sock))

    def begin(self) -> None:
        """Read status and headers; interim ones (1xx) are passed over, of which http.client knows 100 alone.

        Taken for the answer, one would leave the real answer to whoever calls next on the same connection.
        """
        super().begin()
        while 101 < self.status < 200:
            self.headers = None  # type: ignore[assignment]  # with which it begins anew
            super().begin()
        self.will_close |= self.status < 200  # 101: what follows is no answer to anything


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _TimedResponse
    answered = 0.0
    address: Any = None  # that was dialled last

    def send(self, data: Any) -> None:
        """Send a part of the request within what is left of the call's time, connecting first where need be.

        urllib3 would give each part the time for connecting.
        """
        if self.sock is None:
            self.connect()
        self.sock.settimeout(_left())
        _call.sent = True
        super().send(data)

    def _new_conn(self) -> socket.socket:
        """A connection to the first address that takes one; each gets its share of the time for connecting.

        urllib3 would give each of them all of it.
        """
        try:
            places = _places(self._dns_host.strip("[]"), self.port)
        except (OSError, UnicodeError, RuntimeError) as error:  # the last one: no thread can be started
            _call.why = f"its name could not be looked up ({_reason(error)})"
            raise NewConnectionError(self, f"{self.host} has no address: {error}") from error
        allowed: Any = self.timeout
        until = time.monotonic() + allowed  # from here on: a name server that does not answer takes seconds of its own
        first: OSError | None = None  # of the most promising address
        places = sorted(places, key=lambda place: _failed.get(place[4], 0.0))
        for number, (family, kind, protocol, _, self.address) in enumerate(places):
            share = (until - time.monotonic()) / (len(places) - number)
            try:
                return self._dial(socket.socket(family, kind, protocol), self.address, share)
            except OSError as error:
                _failed[self.address] = time.monotonic()
                first = first or error
        _call.why = "there is nowhere to connect to" if first is None else f"no connection ({_reason(first)})"
        raise NewConnectionError(self, f"no address of {self.host} takes a connection: {first}")

    def _dial(self, sock: socket.socket, address: Any, seconds: float) -> socket.socket:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(max(seconds, 0.001))
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        sock.settimeout(self.timeout)  # for TLS
        return sock

    def getresponse(self) -> Any:
        """The response; when it came is noted."""
        response = super().getresponse()
        self.answered = time.monotonic()
        return response


class _TlsConnection(_Connection, urllib3.connection.HTTPSConnection):
    def connect(self) -> None:
        """Connect, and begin TLS; an address where that fails is dialled last by the next call."""
        try:
            super().connect()
        except Exception as error:
            if self.sock is not None:  # there was a connection
                _failed[self.address] = time.monotonic()
                _call.why = f"TLS failed ({_reason(error)})"
            raise


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls: Any = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        # What an answer had too much is no answer to the next call; of what TLS has read already urllib3 knows nothing.
        more = isinstance(connection.sock, ssl.SSLSocket) and connection.sock.pending() > 0
        if more or time.monotonic() - connection.answered > IDLE:
            connection.close()  # it is opened anew when it is used
        return connection


class _TlsPool(_Pool, urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


@functools.cache
def _usual_trust() -> ssl.SSLContext:
    """Believes whom the system believes, and Mozilla's list, which slim images need; requests knows the list alone."""
    context = create_urllib3_context()
    context.load_default_certs()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context


class DeadlineAdapter(HTTPAdapter):
    """requests' transport to a provider, keeping the deadline of ``begin_call``.

    What requests works out anew for every call, since one may go through a proxy or need cookies, is known here.
    """

    def __init__(self, connections: int) -> None:
        """``connections``: so many are kept; calls beyond that open one for themselves."""
        super().__init__(pool_maxsize=connections)
        # By scheme, host and whom to believe; requests' type for them says little.
        self._pools: dict[tuple[str, bool | str | None], Any] = {}

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        """Make the pools with our connections."""
        super().init_poolmanager(*args, **more)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: bool | str | None, proxies: Any = None, cert: Any = None
    ) -> Any:
        """The connections to the request's host, those with these authorities to believe."""
        assert request.url is not None  # it was made with one
        place = request.url[: request.url.index("/", len("https://"))], verify
        pool = self._pools.get(place)
        if pool is None:
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            super().cert_verify(pool, request.url, verify, cert)  # type: ignore[no-untyped-call]  # theirs
            if verify is True and isinstance(pool, _TlsPool):
                pool.ca_certs, pool.conn_kw["ssl_context"] = None, _usual_trust()
            self._pools[place] = pool
        return pool

    def cert_verify(self, *_: Any) -> None:
        """Nothing: the connections know whom to believe from the beginning."""

    def request_url(self, request: requests.PreparedRequest, _: Any) -> str:
        """Path and query, as is right without a proxy."""
        return request.path_url

    def build_response(self, _: Any, resp: Any) -> requests.Response:
        """The status, and the rest as it came (``raw``): no cookies, no encoding, no second copy of the headers."""
        response = requests.Response()
        response.status_code, response.raw = resp.status, resp
        return response
