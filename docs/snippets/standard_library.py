"""Verify a webhook with Python's standard library alone."""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping


def verified(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether we sent this. ``secret``: whsec_…; ``headers``: names in lower case; ``body``: the raw bytes."""
    try:
        webhook_id, stamp = headers["webhook-id"], headers["webhook-timestamp"]
        if abs(time.time() - int(stamp)) > 300:  # an old request, sent again by somebody else
            return False
        tokens = headers["webhook-signature"].split(" ")
    except (KeyError, ValueError, OverflowError):
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{webhook_id}.{stamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    # Any of them may fit: while a secret is being rotated, there are two.
    return any(hmac.compare_digest(token.encode(), expected.encode()) for token in tokens)
