"""Why a delivery failed, in words: what it means, and what its owner can do."""

from __future__ import annotations

from receiver.dialling import OutboundError
from receiver.models import Delivery, DeliveryStatus, Subscriber
from receiver.overview import LastAttempt

REASONS = {
    "exhausted": "Every attempt of the schedule failed.",
    "gone": "The subscriber answered 410 Gone, and was disabled.",
    "not_retried": "A progress report that failed is not repeated: the next one replaces it.",
    "subscriber_deleted": "The subscriber was deleted.",
}
"""Why a delivery was given up."""

_ERRORS: dict[str, tuple[str, str]] = {
    OutboundError.FORBIDDEN_ADDRESS: (
        "The name leads to an address that must not be reached; nothing was dialled.",
        "Use a public address, or let the operator open the network with RECEIVER_ALLOWED_NETWORKS.",
    ),
    OutboundError.DNS_FAILURE: ("The name could not be resolved.", "Check the host name in the URL."),
    OutboundError.DNS_TIMEOUT: ("The name was not resolved in time.", "Check the name servers of the domain."),
    OutboundError.CONNECTION_REFUSED: (
        "Nobody listens there: the connection was refused.", "Start the program at that address, or correct the port.",
    ),
    OutboundError.CONNECTION_FAILED: ("No connection could be made.", "Check address, port, routes and firewalls."),
    OutboundError.CONNECTION_RESET: (
        "The connection was closed before an answer came.", "Look into the log of the subscriber or its proxy.",
    ),
    OutboundError.TIMEOUT_CONNECT: (
        "No connection in time.", "A firewall may drop our packets: let the addresses of this service through.",
    ),
    OutboundError.TLS_FAILURE: (
        "The certificate is not valid for this name, or TLS failed otherwise.",
        "Renew the certificate, serve its whole chain, and check it with: openssl s_client -connect HOST:443",
    ),
    OutboundError.TIMEOUT: (
        "Connected, but no answer came in time.", "Answer 2xx at once, and do the work afterwards.",
    ),
    OutboundError.BODY_CUT: ("A status came, but the body broke off.", "Send an empty body; it is not needed."),
    OutboundError.BODY_TOO_SLOW: ("A status came, but the body was too slow.", "Send an empty body; it is not needed."),
    OutboundError.INVALID_RESPONSE: (
        "What came back is not HTTP.", "Check the port: TLS on one side only looks like this.",
    ),
    OutboundError.INVALID_REQUEST: ("The URL or a header cannot be sent.", "Edit the subscriber."),
}  # fmt: skip

_STATUSES: dict[int, tuple[str, str]] = {
    400: ("The subscriber does not take the request.", "Look at its answer: it may expect another body."),
    401: (
        "The subscriber refuses the signature, or wants credentials.",
        "Check its secret on the page Verify; set headers it needs on the subscriber.",
    ),
    403: ("The subscriber, or a firewall before it, refuses us.", "Check its secret, and the rules of its firewall."),
    404: ("There is nothing at this path.", "Correct the URL of the subscriber."),
    405: ("POST is not allowed at this path.", "Correct the URL, or let the route take POST."),
    410: ("The subscriber says that it is gone for good.", "Enable it again if that was a mistake."),
    413: ("The body is too large for the subscriber.", "Raise its limit for request bodies."),
    415: ("The subscriber does not take application/json.", "Let its route take this content type."),
    429: ("The subscriber asks us to slow down.", "Set how many a second it gets at most: edit the subscriber."),
}


def explained(status: int | None, error: str | None) -> tuple[str, str]:
    """(what it means, what to do) for the outcome of an attempt that failed; two empty texts for one that did not."""
    if error is None:
        return "", ""
    if error in _ERRORS:
        return _ERRORS[error]
    if status in _STATUSES:
        return _STATUSES[status]
    if status is not None and 300 <= status < 400:
        return "The subscriber redirects, which is not followed.", "Register the final address."
    if status is not None and status >= 500:
        return "The subscriber's program failed.", "Look into its log at that time."
    return "The subscriber did not answer with 2xx.", "Answer 2xx once the event is taken."


def why(delivery: Delivery, last: LastAttempt | None) -> str:
    """Why a delivery is not delivered, as one sentence or two; empty when there is nothing to say."""
    parts = []
    if delivery.status is DeliveryStatus.DEAD:
        parts.append(REASONS.get(delivery.reason or "", delivery.reason or ""))
    if last is not None and last.error is not None and delivery.status is not DeliveryStatus.DELIVERED:
        answered = f"Answered {last.response_status}: " if last.response_status is not None else ""
        parts.append(answered + explained(last.response_status, last.error)[0])
    return " ".join(parts)


def next_attempt(delivery: Delivery, receiver: Subscriber | None) -> int | None:
    """When a pending delivery can be attempted (ms): not before its subscriber is; None: not until that is resumed.

    ``receiver``: who gets it, with its pauses after failures; None when that is not known any more.
    """
    if receiver is None:
        return delivery.due_at
    return None if receiver.disabled else max(delivery.due_at or 0, receiver.ready_at)
