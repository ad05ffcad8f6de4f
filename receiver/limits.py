"""How often somebody may ask: token buckets by name, in bounded memory. Pure: the clock is passed in."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address, ip_network

FAILED_RATE = 1.0
"""Wrong API keys a second from one address, once the burst is used up."""
FAILED_BURST = 100.0
"""Wrong API keys from one address before it is slowed down."""
BURST_S = 2.0
"""Seconds' worth of requests that an API key may make at once."""
MOST_NAMES = 10_000
"""Names remembered; the one unused for longest is forgotten, and begins with a full bucket again."""


class Buckets:
    """A bucket of tokens for each name: it holds ``burst`` at most and fills by ``rate`` a second. Thread-safe."""

    def __init__(self, rate: float, burst: float, most: int = MOST_NAMES) -> None:
        """``rate``: tokens a second, more than 0. ``burst``: 1 or more. ``most``: names remembered."""
        self._rate = rate
        self._burst = burst
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name → tokens at a time
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        """Whether a token of this name was asked for lately."""
        return name in self._levels

    def take(self, name: str, now: float) -> float:
        """Take a token: 0.0, or the seconds until there is one, and then nothing is taken. ``now``: seconds."""
        with self._lock:
            level = self._level(name, now)
            self._levels[name] = (level - 1 if level >= 1 else level, now)
            self._levels.move_to_end(name)
            if len(self._levels) > self._most:
                self._levels.popitem(last=False)
            return max(0.0, (1 - level) / self._rate)

    def wait(self, name: str, now: float) -> float:
        """Seconds until there is a token, 0.0 when there is one. Takes nothing."""
        with self._lock:
            return max(0.0, (1 - self._level(name, now)) / self._rate)

    def _level(self, name: str, now: float) -> float:
        level, at = self._levels.get(name, (self._burst, now))
        return min(self._burst, level + max(0.0, now - at) * self._rate)


class RequestLimits:
    """What one web process lets through: requests of each API key, and wrong keys of each address."""

    def __init__(self, rate: float) -> None:
        """``rate``: requests a second of each API key; 0 sets no limit to them. Wrong keys always have one."""
        self._keys = Buckets(rate or 1.0, max(1.0, rate * BURST_S) if rate else math.inf)
        self._failures = Buckets(FAILED_RATE, FAILED_BURST)

    def before(self, key_digest: str, address: str, now: float) -> float:
        """Seconds until any key from this address is taken, 0.0 for now.

        After too many wrong keys an address has to wait, so that keys cannot be guessed by trying. A key that was
        right before is taken all the same: behind a proxy everybody comes from one address.
        """
        if key_digest in self._keys:
            return 0.0
        return self._failures.wait(_peer(address), now)

    def wrong(self, address: str, now: float) -> None:
        """Note a wrong key."""
        self._failures.take(_peer(address), now)

    def right(self, key_digest: str, now: float) -> float:
        """Note a right key and count its request: 0.0, or the seconds until its next request is let through."""
        return self._keys.take(key_digest, now)


def _peer(address: str) -> str:
    """The name of a caller: the address, of IPv6 the network /64, which is what one subscriber line gets."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)
