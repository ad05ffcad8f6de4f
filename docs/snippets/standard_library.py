"""Verify a webhook with Python's standard library alone."""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping


def verified(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether we sent this. ``secret``: whsec_…; ``headers``: names in lower case; ``body``: the raw bytes."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    if not key:
        raise ValueError("the secret is empty: anybody could sign with it")
    try:
        webhook_id, stamp = headers["webhook-id"], headers["webhook-timestamp"]
        if abs(time.time() - int(stamp)) > 300:  # an old request, sent again by somebody else
            return False
        signed = f"{webhook_id}.{stamp}.".encode() + body
        tokens = headers["webhook-signature"].encode().split(b" ")
    except (KeyError, ValueError, OverflowError):
        return False
    expected = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    # Any of them may fit: while a secret is being rotated, there are two.
    return any(hmac.compare_digest(token, expected) for token in tokens)
