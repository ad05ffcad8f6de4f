"""HMAC and digest helpers: bytes in, lower-case hexadecimal or base64 out, comparisons in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote


def hmac_sha1_hex(key: str, message: bytes) -> str:
    """HMAC-SHA1 as 40 lower-case hexadecimal characters; the key as UTF-8."""
    return hmac.new(key.encode(), message, hashlib.sha1).hexdigest()


def hmac_sha256_hex(key: str, message: bytes) -> str:
    """HMAC-SHA256 as 64 lower-case hexadecimal characters; the key as UTF-8."""
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


def sha256_hex(message: bytes) -> str:
    """SHA-256 as 64 lower-case hexadecimal characters."""
    return hashlib.sha256(message).hexdigest()


def md5_hex(text: str) -> str:
    """MD5 of the UTF-8 text as 32 lower-case hexadecimal characters (some providers sign with it)."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def base64_text(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode()


def same(given: str, expected: str) -> bool:
    """Whether two texts are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode("utf-8", "surrogateescape"))


def percent(text: str) -> str:
    """RFC 3986 percent-encoding of UTF-8: everything but ``A-Z a-z 0-9 - _ . ~``."""
    return quote(text, safe="~")


def canonical_query(params: Mapping[str, str]) -> str:
    """Parameters sorted by name, percent-encoded, as ``name=value`` joined by ``&``."""
    return "&".join(f"{percent(name)}={percent(value)}" for name, value in sorted(params.items()))
