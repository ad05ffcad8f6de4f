"""Sealing of secrets at rest: AES-256-GCM under keys derived from the service's own secret keys.

A sealed text is bound to the row it belongs to; moved to another row it does not open. Sources:
NIST SP 800-38D (GCM; random nonces of 96 bits), RFC 5869 (HKDF).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
MAKE_ONE = 'python3 -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"'
"""The command that prints a fresh secret key, for those who have to set one; it needs nothing of ours."""
_NONCE_BYTES = 12
_SEALED = re.compile(r"v1\.([0-9a-f]{8})\.([A-Za-z0-9_-]+)")


class SealBroken(Exception):
    """A sealed text that does not open: changed, of another row, or sealed with a key we do not have."""


def new_secret_key() -> str:
    """A fresh secret key of 32 random bytes in URL-safe base64, as ``RECEIVER_SECRET_KEYS`` takes it."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode("ascii")


def parse_secret_keys(text: str) -> tuple[bytes, ...]:
    """Comma-separated secret keys, each 32 bytes in URL-safe base64 (the final = may be missing).

    Raises ValueError with a sentence that tells which key is wrong, never what is in it.
    """
    keys: list[bytes] = []
    for number, part in enumerate(text.split(","), start=1):
        encoded = part.strip()
        if not encoded:
            raise ValueError(f"Secret key {number} is empty.")
        key = _decode(encoded.rstrip("="))
        if key is None:
            raise ValueError(
                f"Secret key {number} is not URL-safe base64 (letters, digits, - and _). To make one: {MAKE_ONE}"
            )
        if len(key) != KEY_BYTES:
            raise ValueError(
                f"Secret key {number} holds {len(key)} bytes; it must hold {KEY_BYTES} random ones. "
                f"To make one: {MAKE_ONE}"
            )
        if key in keys:
            raise ValueError(f"Secret key {number} is there twice.")
        keys.append(key)
    return tuple(keys)


class Sealer:
    """Seals with the first of the secret keys and opens with any of them. Thread-safe."""

    def __init__(self, secret_keys: Sequence[bytes]) -> None:
        """``secret_keys``: 32 bytes each, the current one first. Raises ValueError when there is none."""
        if not secret_keys:
            raise ValueError("Sealing needs a secret key.")
        self._ciphers = {_key_id(key): AESGCM(_derive(key, b"cipher", KEY_BYTES)) for key in secret_keys}
        self._current = _key_id(secret_keys[0])

    @property
    def beginning(self) -> str:
        """What begins everything that the current key seals, and nothing else."""
        return f"v1.{self._current}."

    def seal(self, plain: str, bound_to: str) -> str:
        """``v1.<key id>.<base64>`` of any text. ``bound_to``: the id of the row that will hold it."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._ciphers[self._current].encrypt(nonce, plain.encode(), bound_to.encode())
        return self.beginning + _encode(sealed)

    def open(self, sealed: str, bound_to: str) -> str:
        """The text that was sealed for ``bound_to``. Raises SealBroken."""
        parts = _SEALED.fullmatch(sealed)
        data = _decode(parts[2]) if parts else None
        if parts is None or data is None:
            raise SealBroken("this is not a sealed text")
        cipher = self._ciphers.get(parts[1])
        if cipher is None:
            raise SealBroken("the secret key that sealed this is no longer in RECEIVER_SECRET_KEYS")
        nonce, ciphertext = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, ciphertext, bound_to.encode()).decode()
        except (InvalidTag, ValueError):  # ValueError: cut so short that no nonce is left
            raise SealBroken("this sealed text was changed or belongs elsewhere") from None

    def opened(self, sealed: str, bound_to: str) -> str | None:
        """As ``open``; None for what does not open, which can still be shown as such and set anew."""
        try:
            return self.open(sealed, bound_to)
        except SealBroken:
            return None


def _derive(key: bytes, purpose: bytes, length: int) -> bytes:
    """A key for one purpose only, so that no two uses of a secret key can meet."""
    return HKDF(SHA256(), length, salt=None, info=b"callback receiver sealing v1 " + purpose).derive(key)


def _key_id(key: bytes) -> str:
    """Names a key in what it sealed without telling anything of it."""
    return _derive(key, b"key id", 4).hex()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes | None:
    """URL-safe base64 without padding; None for any other text, other spellings of the same bytes included."""
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return data if _encode(data) == text else None
