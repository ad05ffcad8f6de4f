"""Verify a webhook with the library: pip install standardwebhooks."""

from collections.abc import Mapping

from standardwebhooks import Webhook, WebhookVerificationError


def verified(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether we sent this. ``secret``: whsec_…; ``headers``: names in lower case; ``body``: the raw bytes."""
    try:
        Webhook(secret).verify(body, dict(headers))
    except (WebhookVerificationError, ValueError):  # ValueError: a signature header of no known form
        return False
    return True
