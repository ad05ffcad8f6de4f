"""Errors of the services, in one tree; only these reach a caller, all in one JSON shape.

::

    ReceiverError
    ├── NotFound            no such thing, or not yours (404)
    ├── Invalid             bad input; ``errors`` by field (422)
    ├── Conflict            the thing is in a state that forbids it (409)
    ├── IdempotencyMismatch the key was used with another body (422)
    ├── ProviderOff         the provider has no credentials here (422)
    ├── ProviderFailed      the provider refused or could not be reached (502/503)
    └── Busy                the database does not answer, or takes no writes (503)

A SettingsError is for the operator at start-up and stands apart.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the OSError of a disk that is full."""


class ReceiverError(Exception):
    """Root of the errors with which a service refuses. ``detail``: a sentence for the caller."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotFound(ReceiverError):
    """No such thing, or it belongs to another account: the two look the same."""


class Invalid(ReceiverError):
    """Bad input. ``errors``: messages by field path, e.g. ``{"input.prompt": ["..."]}``."""

    def __init__(self, errors: Mapping[str, Sequence[str]], detail: str = "The request has invalid fields.") -> None:
        super().__init__(detail)
        self.errors = errors


class Conflict(ReceiverError):
    """What was asked is not possible in the present state."""


class IdempotencyMismatch(ReceiverError):
    """The idempotency key has been used with another body."""


class ProviderOff(ReceiverError):
    """The provider is known, but has no credentials here."""


class ProviderFailed(ReceiverError):
    """A provider refused a direct call, or did not answer. ``retry_after``: seconds, if trying again helps."""

    def __init__(self, detail: str, *, temporary: bool, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.temporary = temporary
        self.retry_after = retry_after


class Busy(ReceiverError):
    """The database does not answer, or takes no writes, at the moment; nothing was stored.

    ``uncertain``: it may have been, since the connection broke when it was to be.
    """

    def __init__(self, detail: str, *, uncertain: bool = False) -> None:
        super().__init__(detail)
        self.uncertain = uncertain


class SettingsError(Exception):
    """Settings that cannot work. ``problems``: one plain sentence each, all found at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("The settings cannot work:\n" + "\n".join(f"  - {problem}" for problem in problems))
        self.problems = tuple(problems)


def field_errors(messages: Any, path: str = "") -> dict[str, list[str]]:
    """Marshmallow's nested messages as messages by field path: ``{"input": {"size": ["..."]}}`` → ``input.size``.

    ``path``: what all paths begin with. A message about the whole body stands under ``body``.
    """
    if not isinstance(messages, Mapping):
        found = messages if isinstance(messages, list | tuple) else [messages]
        return {path or "body": [str(message) for message in found]}
    errors: dict[str, list[str]] = {}
    for name, inner in messages.items():
        here = path if name == "_schema" else f"{path}.{name}" if path else str(name)
        for place, said in field_errors(inner, here).items():
            errors.setdefault(place, []).extend(said)
    return errors
