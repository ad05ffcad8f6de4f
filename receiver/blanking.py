"""Which headers of a subscriber are secrets, and how they are kept out of what the subscriber answers. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

HIDDEN = "***"
SHORTEST = 6
"""Characters; a shorter text is no secret, and would blank out half of everything."""

_SENSITIVE = re.compile(
    r"auth|cookie|token|key|secret|passw|passphrase|credential|signature|session"
    r"|(?<![a-z])(?:hmac|jwt|pass|pwd|sig|sign)(?![a-z])",  # short ones as words of their own: design is none
    re.IGNORECASE,
)
_SCHEMES = frozenset({"bearer", "basic", "digest", "apikey", "api-key"})


def is_secret(header: str) -> bool:
    """Whether a header of this name is likely to hold a secret."""
    return _SENSITIVE.search(header) is not None


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """What must not be shown of some headers: values of secret ones, and their parts (``Bearer`` and a token)."""
    values = [value for name, value in headers.items() if is_secret(name)]
    found = {part for value in values for part in (value.strip(), *re.split(r"[\s;,]+", value))}
    return [text for text in found if len(text) >= SHORTEST and text.lower() not in _SCHEMES]


def blanked(text: str, secrets: Iterable[str], *, cut: bool = False) -> str:
    """The text with ``***`` for each secret, plain or as JSON or a URL spells it.

    ``cut``: the text may end in the middle of one; then its beginning is blanked out there too.
    """
    spelled = {form for secret in secrets for form in _spellings(secret)}
    for secret in sorted(spelled, key=len, reverse=True):  # the longest first: one may contain another
        text = text.replace(secret, HIDDEN)
    if cut:
        ends = (secret[:length] for secret in spelled for length in range(len(secret) - 1, SHORTEST - 1, -1))
        longest = max((end for end in ends if text.endswith(end)), key=len, default="")
        text = text.removesuffix(longest) + HIDDEN if longest else text
    return text


def _spellings(secret: str) -> tuple[str, ...]:
    as_json = (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    return (secret, *as_json, quote(secret, safe=""))
