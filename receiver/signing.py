"""Signatures: webhooks out (Standard Webhooks, symmetric), the rotation of their secrets, callback tokens.

Pure: clocks are passed in, nothing is stored. Source of the webhook scheme: the Standard Webhooks
specification, "Signature scheme" and "Webhook headers" (standardwebhooks.com).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets as randomness
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache

from itsdangerous import BadSignature, Signer
from itsdangerous.encoding import base64_decode, base64_encode

SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix, not a secret
MAX_LIVE_SECRETS = 10
"""Signatures in one header; each subscriber checks them all on every delivery."""


class BadWebhook(Exception):
    """A webhook that must not be believed: unsigned, wrongly signed, or from another time."""


class BadToken(Exception):
    """A callback token that we did not make for this provider."""


class SecretInUse(ValueError):
    """The secret that shall sign from now on is one of those that sign already."""


# --- Secrets ---------------------------------------------------------------------------------------


def new_secret() -> str:
    """A fresh secret of 32 random bytes: ``whsec_`` and base64."""
    return SECRET_PREFIX + base64.b64encode(randomness.token_bytes(32)).decode("ascii")


def check_secret(text: str) -> None:
    """Raise ValueError, with a sentence for its owner, unless the text is ``whsec_`` and base64 of 24 to 64 bytes."""
    _key(text)


def _key(secret: str) -> bytes:
    """The bytes of a secret. Raises ValueError; its text never contains the secret."""
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f"A signing secret begins with {SECRET_PREFIX}.")
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        key = b""
    if base64.b64encode(key).decode("ascii") != encoded or not key:
        raise ValueError(f"What follows {SECRET_PREFIX} in a signing secret is standard base64, with its = at the end.")
    if not 24 <= len(key) <= 64:
        raise ValueError(f"A signing secret holds 24 to 64 bytes; this one holds {len(key)}.")
    return key


@dataclass(frozen=True, slots=True)
class Secret:
    """One signing secret of a subscriber or account.

    ``key``: ``whsec_…``. ``created_at``, ``expires_at``: epoch milliseconds; it signs until
    ``expires_at``, or for good when that is None.
    """

    key: str = field(repr=False)
    created_at: int
    expires_at: int | None = None


def live(secrets: Iterable[Secret], now: int) -> tuple[Secret, ...]:
    """The secrets that still sign at ``now`` (epoch milliseconds), in the order given."""
    return tuple(secret for secret in secrets if secret.expires_at is None or secret.expires_at > now)


def rotate(secrets: Iterable[Secret] | None, new: str, now: int, overlap_s: int) -> tuple[Secret, ...]:
    """Put a new secret first and let the others sign for ``overlap_s`` more seconds at most.

    ``secrets``: None when they cannot be read any more. ``now``: epoch milliseconds. An overlap of 0 ends all
    others at once. Those that have expired are left out of the answer. Raises SecretInUse, or ValueError when
    the new secret is not a valid one, the overlap is negative, more than 10 would sign together, or others
    that cannot be read are to sign on.
    """
    check_secret(new)
    if overlap_s < 0:
        raise ValueError("The overlap is a number of seconds from 0 on.")
    if secrets is None:
        if overlap_s:
            raise ValueError(
                "No secret key at hand opens the present secret, so it cannot sign on: put its key back into "
                "RECEIVER_SECRET_KEYS, or rotate with an overlap of 0."
            )
        secrets = ()
    end = now + overlap_s * 1000
    others = live(
        (
            replace(secret, expires_at=end if secret.expires_at is None else min(secret.expires_at, end))
            for secret in secrets
        ),
        now,
    )
    if any(hmac.compare_digest(secret.key, new) for secret in others):
        raise SecretInUse("This signing secret is in use already; choose a new one.")
    if len(others) >= MAX_LIVE_SECRETS:
        raise ValueError(f"At most {MAX_LIVE_SECRETS} secrets can sign together; rotate with an overlap of 0, or wait.")
    return (Secret(new, now), *others)


def dump_secrets(secrets: Iterable[Secret]) -> str:
    """Secrets as JSON text for the store (seal it: the keys are in it)."""
    return json.dumps([asdict(secret) for secret in secrets], separators=(",", ":"))


def load_secrets(text: str) -> tuple[Secret, ...]:
    """What ``dump_secrets`` wrote. Raises ValueError for anything else, without quoting it."""
    try:
        found = tuple(Secret(**each) for each in json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise ValueError("The stored signing secrets cannot be read.") from None
    for secret in found:
        times_fit = isinstance(secret.created_at, int) and isinstance(secret.expires_at, int | None)
        if not (isinstance(secret.key, str) and times_fit):
            raise ValueError("The stored signing secrets cannot be read.")
    return found


# --- Webhooks --------------------------------------------------------------------------------------


def sign(secret: str, webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """The signature of one webhook: ``v1,`` and base64 of HMAC-SHA256 over id, timestamp and body.

    ``timestamp_s``: epoch seconds of this attempt. ``body``: exactly the bytes that are sent.
    Raises ValueError for a secret that is not valid.
    """
    signed = b"%s.%d.%s" % (webhook_id.encode("utf-8", "backslashreplace"), timestamp_s, body)
    digest = hmac.digest(_key(secret), signed, "sha256")
    return "v1," + base64.b64encode(digest).decode("ascii")


def signature_header(secrets: Sequence[str], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of ``webhook-signature``: one signature per secret, single spaces between.

    Raises ValueError when there is no secret, so that nothing goes out unsigned.
    """
    if not secrets:
        raise ValueError("There is no live secret to sign with.")
    return " ".join(sign(secret, webhook_id, timestamp_s, body) for secret in secrets)


_EPOCH_SECONDS = re.compile(r"[0-9]{1,12}")


def verify(
    secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now_s: float, tolerance: float = 300
) -> None:
    """Believe a webhook or raise BadWebhook, whatever the headers and the body hold.

    ``secrets``: any of them may have signed. ``headers``: names in any case. ``body``: the raw bytes.
    ``now_s``: epoch seconds. ``tolerance``: seconds that the timestamp may be off, either way.
    Raises ValueError only for a secret of ours that is not valid.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        webhook_id, stamp, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as missing:
        raise BadWebhook(f"the header {missing.args[0]} is missing") from None
    if not _EPOCH_SECONDS.fullmatch(stamp):
        raise BadWebhook("the header webhook-timestamp is not a number of seconds")
    if abs(now_s - int(stamp)) > tolerance:
        raise BadWebhook("the header webhook-timestamp is too far from the time here")
    # Every secret against every signature, so that the time taken tells nothing.
    tokens = [token.encode("utf-8", "backslashreplace") for token in signatures.split(" ")]
    matches = 0
    for secret in secrets:
        expected = sign(secret, webhook_id, int(stamp), body).encode("ascii")
        matches += sum(hmac.compare_digest(token, expected) for token in tokens)
    if not matches:
        raise BadWebhook("no signature in the header webhook-signature fits the body")


# --- Callback tokens -------------------------------------------------------------------------------

_TASK_PREFIX = "task_"
_TASK_BODY = r"[0-9a-hjkmnp-tv-z]{26}"  # Crockford's base32, lower case
_TASK_ID = re.compile(_TASK_PREFIX + _TASK_BODY)
_TOKEN = re.compile(rf"({_TASK_BODY})\.([A-Za-z0-9_-]{{43}})")
# Not from the middle of a word, so that long texts are gone through once; after a / spelled %2f, %252f or \u002f, too.
_TOKEN_END = re.compile(r"\.[A-Za-z0-9_-]{43}")
_TOKEN_INSIDE = re.compile(rf"(?:(?<![0-9a-z])|(?<=2f)){_TOKEN.pattern}")


def without_tokens(text: str) -> str:
    """The text with ``***`` for each callback token, or what looks like one.

    A provider that repeats our callback URL in its answers must not give the token away to who may read them.
    """
    # Most texts hold none, and the end of one is found fast.
    return _TOKEN_INSIDE.sub("***", text) if _TOKEN_END.search(text) else text


class CallbackTokens:
    """Makes and reads the last part of a callback URL: it names a task and cannot be guessed."""

    def __init__(self, secret_keys: Sequence[bytes]) -> None:
        """``secret_keys``: the first signs, all verify. Raises ValueError when there is none."""
        if not secret_keys:
            raise ValueError("Callback tokens need a secret key.")
        self._keys = list(reversed(secret_keys))  # itsdangerous signs with the last of a list
        self._signer = lru_cache(maxsize=64)(self._signer_for)

    def make(self, provider: str, task_id: str) -> str:
        """The URL-safe token (70 characters) for one task at one provider.

        Raises ValueError for an id that is not ``task_`` and 26 characters of lower-case base32.
        """
        if not _TASK_ID.fullmatch(task_id):
            raise ValueError("A callback token is made for a task id only.")
        return self._signer(provider).sign(task_id.removeprefix(_TASK_PREFIX)).decode("ascii")

    def read(self, provider: str, token: str) -> str:
        """The task id that a token names. Raises BadToken unless we made exactly it for this provider."""
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            raise BadToken("this is not a callback token")
        # Base64 has spare bits at its end: only the spelling that we write is taken.
        if base64_encode(base64_decode(parts[2])) != parts[2].encode("ascii"):
            raise BadToken("this is not a callback token")
        try:
            self._signer(provider).unsign(token)
        except BadSignature:
            raise BadToken("this callback token is not signed by us for this provider") from None
        return _TASK_PREFIX + parts[1]

    def _signer_for(self, provider: str) -> Signer:
        """A signer whose keys are derived once: left to derive them, it does so for every token that it reads."""
        salt = f"callback token of {provider}"
        derived = [
            Signer(key, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256).derive_key()
            for key in self._keys
        ]
        return Signer(derived, salt=salt, key_derivation="none", digest_method=hashlib.sha256)
