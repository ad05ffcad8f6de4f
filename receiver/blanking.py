"""Which headers are secrets, and how they are kept out of what is shown and of what a subscriber answers. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import quote

HIDDEN = "***"
SHORTEST = 6
"""Characters; a shorter text is no secret, and would blank out half of everything."""

MOST_PARTS = 16
"""Of one value, the longest: a text is searched for each, and whoever chose thousands would hold up the others."""

_SENSITIVE = re.compile(
    r"auth|cookie|token|key|secret|passw|passphrase|credential|signature|session"
    r"|(?<![a-z])(?:hmac|jwt|pass|pwd|sig|sign)(?![a-z])",  # short ones as words of their own: design is none
    re.IGNORECASE,
)
_SCHEMES = frozenset({"bearer", "basic", "digest", "apikey", "api-key"})


def is_secret(header: str) -> bool:
    """Whether a header of this name is likely to hold a secret."""
    return _SENSITIVE.search(header) is not None


def shown(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as they may be shown: ``***`` in place of values that are likely to be secrets."""
    return {name: HIDDEN if is_secret(name) else value for name, value in headers.items()}


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """What must not be shown of some headers: values of secret ones, and their parts (``Bearer`` and a token)."""
    values = [value for name, value in headers.items() if is_secret(name)]
    found = {part for value in values for part in (value.strip(), *_longest(re.split(r"[\s;,]+", value)))}
    return [text for text in found if len(text) >= SHORTEST and text.lower() not in _SCHEMES]


def _longest(parts: Iterable[str]) -> list[str]:
    return sorted(parts, key=len, reverse=True)[:MOST_PARTS]


def blanked(text: str, secrets: Iterable[str], *, cut: bool = False) -> str:
    """The text with ``***`` for each secret, plain or as JSON or a URL spells it, also where its bytes were sent back.

    ``cut``: the text may end in the middle of one; then its beginning is blanked out there too.
    """
    spelled = _spelled(tuple(secrets))
    for secret in spelled:
        text = text.replace(secret, HIDDEN)
    if cut:
        end = min((_begins(secret, text) for secret in spelled), default=len(text))
        text = text[:end] + HIDDEN if end < len(text) else text
    return text


def _begins(secret: str, text: str) -> int:
    """Where a beginning of the secret stands that ends with the text; the text's length when none does."""
    place = text.find(secret[:SHORTEST], max(0, len(text) - len(secret) + 1))
    while place >= 0 and not secret.startswith(text[place:]):
        place = text.find(secret[:SHORTEST], place + 1)
    return place if place >= 0 else len(text)


@lru_cache(256)
def _spelled(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """All spellings, the longest first: one may contain another."""
    return tuple(sorted({form for secret in secrets for form in _spellings(secret)}, key=len, reverse=True))


def _spellings(secret: str) -> Iterable[str]:
    # A header goes out in Latin-1, and a body that comes back is read as UTF-8.
    for text in (secret, secret.encode("latin-1", "replace").decode("utf-8", "replace")):
        yield text
        yield from (json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    yield from (quote(secret, safe="", encoding=encoding, errors="replace") for encoding in ("utf-8", "latin-1"))
