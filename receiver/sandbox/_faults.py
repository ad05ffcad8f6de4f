"""The knobs: magic tokens inside a task's input, and faults queued for the next calls."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote_plus

from ._fields import whole

TOKENS: Mapping[str, str] = {
    "fail": "the task fails; a value is the provider's code or status for it",
    "empty": "the task succeeds without any result",
    "partial": "the first of the results is missing or failed (providers with several results)",
    "blocked": "a result is held back by moderation, or the task fails for it",
    "no-face": "TopView: the picture shows no face, so that a video of it takes the mode avatar2 only",
    "expired-url": "links of results have expired already",
    "duration": "seconds the task takes",
    "stuck": "the task never finishes",
    "unknown-status": "while it runs, the task's status is a word or number that nobody documented",
    "no-callback": "no callback is sent",
    "late-callback": "the callback comes this many seconds after the task has finished",
    "early-callback": "the task is done at once, and its callback is sent before the submit is answered",
    "duplicate-callbacks": "this many equal callbacks are sent in parallel",
    "forged-callback": "while the task runs, a callback claims success with an attacker's link",
    "drop": "the task is accepted, then the connection is cut without an answer",
    "drop-before": "the connection is cut before the task is accepted",
    "slow": "seconds before the submit is looked at",
    "code": "the submit is refused with this provider code; 4007*2: only the first 2 times",
    "http": "the submit is refused with this HTTP status; 503*2: only the first 2 times; with code: both",
    "query-code": "queries of the task are refused with this provider code; *N: only the first N",
    "query-http": "queries of the task are refused with this HTTP status; *N: only the first N; with query-code: both",
    "query-drop": "queries of the task are cut without an answer; a value N: only the first N",
    "key": "a name under which starts of this task are counted",
}
"""Every magic token and what it does."""

MOST = 1_000_000_000
"""The largest number that a token can hold."""

QUEUED = {"code", "http", "slow", "drop", "drop-before", "rate-limit", "malformed"}
"""Faults that can be queued for the next calls."""

_TOKEN = re.compile(r"\[sandbox:([a-z-]+)(?:=([^\]]*))?\]")


@dataclass(frozen=True)
class Token:
    """One magic token: its value (empty without one) and the text that it stood in."""

    value: str
    source: str


class Directives:
    """The magic tokens of one task; of equal names the last one counts."""

    def __init__(self, tokens: Mapping[str, Token]) -> None:
        self._tokens = tokens

    def __contains__(self, name: str) -> bool:
        return name in self._tokens

    def names(self) -> list[str]:
        """The tokens' names, sorted."""
        return sorted(self._tokens)

    def unknown(self) -> list[str]:
        """Names that mean nothing: most likely misspelled."""
        return [name for name in self.names() if name not in TOKENS]

    def text(self, name: str, default: str = "") -> str:
        """The value of a token, or the default when it is absent or has no value."""
        token = self._tokens.get(name)
        return token.value if token is not None and token.value else default

    def number(self, name: str, default: float) -> float:
        """The value of a token, which counts something; the default when absent or no such number."""
        try:
            number = float(self.text(name))
        except ValueError:
            return default
        return number if 0 <= number <= MOST else default

    def limited(self, name: str) -> tuple[str, int | None, str] | None:
        """A token of the form ``value*times``: value, times (None: always), and what to count it under."""
        token = self._tokens.get(name)
        if token is None:
            return None
        value, star, times = token.value.partition("*")
        return value, whole(times) if star else None, f"{name}\n{token.source}"


def read_directives(*values: object) -> Directives:
    """The magic tokens in any string of the values, at any depth; also percent-encoded ones in links."""
    tokens: dict[str, Token] = {}
    for value in values:
        for text in _strings(value):
            plain = text if "%5" not in text else unquote_plus(text)
            for match in _TOKEN.finditer(plain):
                tokens[match[1]] = Token(match[2] or "", plain)
    return Directives(tokens)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, Iterable) and not isinstance(value, bytes):
        for inner in value:
            yield from _strings(inner)


@dataclass
class QueuedFault:
    """A fault for the next ``times`` calls that match; ``operation`` may hold ``*``."""

    fault: str
    value: str
    times: int
    provider: str | None = None
    operation: str | None = None

    def matches(self, provider: str, operation: str) -> bool:
        """Whether a call to this operation of this provider is meant."""
        return (self.provider in (None, provider)) and (
            self.operation is None or fnmatchcase(operation, self.operation)
        )


class FaultQueue:
    """Faults waiting for calls, and the counts of the limited tokens. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: list[QueuedFault] = []
        self._spent: Counter[str] = Counter()

    def add(self, fault: QueuedFault) -> None:
        """Queue a fault behind the others."""
        with self._lock:
            self._queue.append(fault)

    def take(self, provider: str, operation: str) -> QueuedFault | None:
        """The first fault meant for this call, one of its times used up; None if there is none."""
        with self._lock:
            for fault in self._queue:
                if fault.matches(provider, operation):
                    fault.times -= 1
                    if fault.times < 1:
                        self._queue.remove(fault)
                    return fault
        return None

    def spend(self, name: str, times: int | None) -> bool:
        """Whether a limited token still works; each True uses one of its times up."""
        if times is None:
            return True
        with self._lock:
            if self._spent[name] >= times:
                return False
            self._spent[name] += 1
            return True

    def waiting(self) -> list[QueuedFault]:
        """The faults that are still queued."""
        with self._lock:
            return list(self._queue)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._queue.clear()
            self._spent.clear()
