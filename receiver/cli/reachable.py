"""Whether providers' addresses answer, and what time they believe it is."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import handlers
from receiver.cli.checks import Finding, Level, clock_beside
from receiver.config import Settings

PATIENCE = 5.0


def providers_online(settings: Settings) -> Iterator[Finding]:
    """Connect to each configured provider's base URL; no credential is sent and nothing is bought.

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
            if theirs is not None and not compared:
                compared = True
                yield clock_beside(handler.title, theirs, time.time())


def _date_of(url: str) -> float | None:
    """The Date of the answer to a HEAD in epoch seconds, None without a readable one. Raises OSError."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=PATIENCE)
    try:
        connection.connect()
        try:
            connection.request("HEAD", parts.path or "/")
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
