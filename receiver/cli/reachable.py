"""Whether the public URL leads to us, whether providers take our credentials, and what time they have."""

from __future__ import annotations

import http.client
import secrets
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import handlers
from handlers import ErrorCode, HandlerError, Rejected, RemoteTask
from receiver.addresses import parse_url
from receiver.cli.findings import Finding, Level
from receiver.config import Settings

PATIENCE = 5.0
MOST_SKEW = 60.0
"""Seconds that a clock may be off before signatures that carry a time are refused (providers allow minutes)."""
_NOBODYS = "receiver-check"
"""The name of a task that nobody has."""


def providers_online(settings: Settings) -> Iterator[Finding]:
    """Connect to each configured provider's base URL, and ask it about a task that it never had: that buys nothing.

    The time in the first answer that has one is held beside this machine's.
    """
    compared = False
    for name, given in settings.providers.items():
        handler = handlers.find(name)
        base = given.get("base_url", handler.base_url)
        try:
            theirs = _date_of(base)
        except ssl.SSLError as error:
            yield Finding(
                Level.PROBLEM,
                name,
                f"{base} cannot be trusted: {getattr(error, 'verify_message', '') or error.reason}.",
                "See that the certificates of this machine are up to date, and that no proxy is in between.",
            )
        except OSError as error:
            yield Finding(
                Level.PROBLEM,
                name,
                f"{base} cannot be reached: {_reason(error)}.",
                f"See that this machine may call it, and that {name.upper()}_BASE_URL is right.",
            )
        else:
            yield Finding(Level.OK, name, f"{base} can be reached")
            yield _credentials(name, given)
            if theirs is not None and not compared:
                compared = True
                yield clock_beside(handler.title, theirs, time.time())


def clock_beside(provider: str, theirs_s: float, ours_s: float) -> Finding:
    """This machine's clock beside a provider's (epoch seconds both)."""
    off = ours_s - theirs_s
    if abs(off) <= MOST_SKEW:
        return Finding(Level.OK, "clock", f"agrees with {provider}'s within {max(1, round(abs(off)))} s")
    return Finding(
        Level.PROBLEM,
        "clock",
        f"is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} {provider}'s: "
        "signatures that carry a time will be refused.",
        "Set the clock; let NTP keep it.",
    )


def _credentials(name: str, given: Mapping[str, str]) -> Finding:
    """Whether a provider takes our credentials: it is asked about a task that does not exist."""
    handler = handlers.load(name, given)
    asked = RemoteTask(_NOBODYS, next(iter(handler.operations)), _NOBODYS, {}, {}, 3600.0)
    try:
        update = handler.query([asked]).get(_NOBODYS)
        error = None if update is None else update.error
    except Rejected as refused:
        error = refused.error
    except HandlerError as failure:
        return Finding(
            Level.WARNING, name, f"whether the credentials are right cannot be told now: {failure}.", "Try again later."
        )
    if error is None or error.code not in (ErrorCode.AUTHENTICATION, ErrorCode.PERMISSION):
        return Finding(Level.OK, name, "the credentials are taken")
    needed = " and ".join(handlers.variable_of(name, option) for option in handler.options if option.credential)
    return Finding(Level.PROBLEM, name, f"the credentials are refused: {error.message}", f"Correct {needed}.")


def public_url_online(settings: Settings) -> Iterator[Finding]:
    """Call our own callback address through RECEIVER_PUBLIC_URL, as a provider would; the token is nobody's.

    The service refuses such a token, and names the request's id as we chose it: so it is really this service
    that answers.
    """
    about, mark = "public URL", f"check-{secrets.token_hex(8)}"
    url = f"{settings.public_url}/callbacks/{handlers.available()[0]}/{_NOBODYS}"
    try:
        status, echoed = _call(url, mark)
    except OSError as error:
        yield Finding(
            Level.PROBLEM,
            about,
            f"{settings.public_url} cannot be reached from this machine: {_reason(error)}.",
            "See that the service runs, that the name leads to it or to its proxy, and that the certificate is right.",
        )
        return
    if status == HTTPStatus.FORBIDDEN and echoed == mark:
        text = "leads to this service, seen from here; whether the internet gets that far too, only a provider can tell"
        yield Finding(Level.OK, about, text)
    else:
        yield Finding(
            Level.PROBLEM,
            about,
            f"at {settings.public_url}/callbacks/ something else answers (HTTP {status}).",
            "/callbacks/ must lead to this service unchanged: no sign-in, no redirect, no other path.",
        )


def _call(url: str, mark: str) -> tuple[int, str | None]:
    """POST nothing; the status, and the id of the request as the answer names it. Raises OSError."""
    connection = _open(url)
    try:
        connection.request(
            "POST", parse_url(url).path, b"{}", {"X-Request-Id": mark, "Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        return answer.status, answer.getheader("X-Request-Id")
    except http.client.HTTPException as error:
        raise OSError(f"what answers there speaks no HTTP ({type(error).__name__})") from None
    finally:
        connection.close()


def _open(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=PATIENCE)


def _date_of(url: str) -> float | None:
    """The Date of the answer to a HEAD in epoch seconds, None without a readable one. Raises OSError."""
    connection = _open(url)
    try:
        connection.connect()
        try:
            connection.request("HEAD", urlsplit(url).path or "/")
            date = connection.getresponse().getheader("Date")
            return None if date is None else parsedate_to_datetime(date).timestamp()
        except (OSError, http.client.HTTPException, ValueError):
            return None  # it was reached; what it says to an empty call does not matter
    finally:
        connection.close()


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "its name is not known here"
    if isinstance(error, TimeoutError):
        return f"no connection within {PATIENCE:g} s"
    return error.strerror or str(error)
