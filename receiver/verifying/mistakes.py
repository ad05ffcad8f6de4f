"""From a signature that somebody's code computed, or the secret it uses, to the mistake in that code."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator, Sequence

from receiver.signing import SECRET_PREFIX
from receiver.verifying.examining import Signer


def explain_computed(computed: str, keys: Sequence[str], webhook_id: str, timestamp: str, body: bytes) -> str:
    """Which mistake leads from these secrets (``whsec_…``) and parts to the signature computed; a sentence.

    ``webhook_id``, ``timestamp``: as in the headers. ``computed``: with or without ``v1,``, base64 or hexadecimal.
    """
    given = computed.strip().removeprefix("v1,").removeprefix("v1=")
    digest, spelling = _digest_of(given)
    for key in keys:
        for key_bytes, key_mistake in _keys(key):
            for signed, signed_mistake in _contents(webhook_id, timestamp, body):
                for algorithm in ("sha256", "sha512", "sha1"):
                    if hmac.compare_digest(hmac.new(key_bytes, signed, algorithm).digest(), digest):
                        wrong_hash = "" if algorithm == "sha256" else f"it uses {algorithm} in place of sha256"
                        mistakes = [each for each in (key_mistake, signed_mistake, wrong_hash, spelling) if each]
                        return _told(mistakes)
        if hmac.compare_digest(hashlib.sha256(body).digest(), digest):
            return "Your code hashes the body without the secret: use HMAC-SHA256 with the secret as key."
    return (
        "No frequent mistake leads from the secrets of this subscriber to this signature: your code uses another"
        " secret, or other bytes than those pasted here."
    )


def _told(mistakes: Sequence[str]) -> str:
    if not mistakes:
        return "Your code computes the right signature for what is pasted here. Look at how it compares the two."
    return f"Your code computes a signature, but {' and '.join(mistakes)}."


def _digest_of(text: str) -> tuple[bytes, str]:
    """The bytes of a written signature, and what is wrong about how it is written."""
    try:
        if len(text) in (40, 64, 128):
            return bytes.fromhex(text), "it writes it in hexadecimal in place of base64"
        padded = text + "=" * (-len(text) % 4)
        standard = padded.replace("-", "+").replace("_", "/")
        spelling = "" if standard == text else "it writes it in another base64 (standard, with = at the end, is right)"
        return base64.b64decode(standard, validate=True), spelling
    except (ValueError, binascii.Error):
        return b"", ""


def _keys(secret: str) -> Iterator[tuple[bytes, str]]:
    """What code may take as the key, the right one first."""
    encoded = secret.removeprefix(SECRET_PREFIX)
    yield base64.b64decode(encoded), ""
    yield secret.encode(), f"its key is the whole text of the secret: drop {SECRET_PREFIX} and decode base64 first"
    yield encoded.encode(), "its key is the text of the secret: decode it from base64 first"
    yield base64.b64decode(encoded).hex().encode(), "its key is written in hexadecimal: take the bytes themselves"


def _contents(webhook_id: str, timestamp: str, body: bytes) -> Iterator[tuple[bytes, str]]:
    """What code may sign, the right one first."""
    one, stamp = webhook_id.encode(), timestamp.encode()
    right = "sign <webhook-id>.<webhook-timestamp>.<body>"
    yield b".".join((one, stamp, body)), ""
    yield body, f"it signs the body alone: {right}"
    yield b".".join((stamp, body)), f"it leaves out the id: {right}"
    yield b".".join((one, body)), f"it leaves out the timestamp: {right}"
    yield b".".join((stamp, one, body)), f"it has id and timestamp the wrong way round: {right}"
    yield one + stamp + body, f"it leaves out the dots: {right}"
    yield b"\n".join((one, stamp, body)), f"it puts line breaks where dots belong: {right}"
    yield b".".join((one, stamp, body.strip())), "it strips white space from the body: sign the raw bytes"
    yield b".".join((one, stamp, body + b"\n")), "it adds a newline to the body: sign the raw bytes"
    yield b".".join((one, stamp, b"")), "its body is empty: read the request's raw bytes before anything else does"
    yield b".".join((one, stamp, b"{}")), "its body is {}: read the raw bytes, not the parsed form"
    yield b".".join((one, stamp, b"[object Object]")), "its body is [object Object]: sign the raw bytes, not an object"


def explain_secret(given: str, signers: Sequence[Signer]) -> str:
    """What is to say of the secret that somebody's code uses; a sentence. ``signers``: the chosen one's first."""
    text = given.strip().strip("\"'")
    hidden = "" if text == given else " (Beside it stand spaces, line breaks or quotes: take them away.)"
    for signer in signers:
        for form, remark in (
            (signer.key, ""),
            (signer.key.removeprefix(SECRET_PREFIX), f" It lacks {SECRET_PREFIX}, which most libraries want."),
            (signer.key.rstrip("="), " The = at its end is missing."),
        ):
            if hmac.compare_digest(form.encode(), text.encode("utf-8", "backslashreplace")):
                return _whose(signer) + remark + hidden
    return f"Your code uses a secret that nobody here has: copy it again from the subscriber's page.{hidden}"


def _whose(signer: Signer) -> str:
    if signer.ended_at is not None:
        return f"Your code uses an old secret of {signer.owner} that has ended: take the present one."
    if not signer.chosen:
        return f"Your code uses the secret of {signer.owner}, not one of the subscriber chosen here."
    return f"Your code uses a live secret of {signer.owner}, as it should."
