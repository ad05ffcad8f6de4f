"""Calls to a provider that a caller waits for: uploads, and reads of its lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from handlers import ErrorCode, NotSupported, OutcomeUnknown, Rejected, Unavailable, Upload, UploadTicket
from receiver.addresses import AddressPolicy
from receiver.dialling import at_limit
from receiver.errors import Invalid, NotFound, ProviderFailed
from receiver.outbound import OutboundRequest, post
from receiver.providers import Providers

UPLOAD_TIMEOUT = 120.0
"""Seconds for the PUT of a file, however large it is."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that a provider has. ``details``: what else the provider says of it."""

    provider: str
    file_id: str
    filename: str
    size: int
    details: Mapping[str, Any] = field(default_factory=dict)


class DirectCalls:
    """Makes these calls. A file goes where the provider says, through the address guard."""

    def __init__(self, providers: Providers, policy: AddressPolicy) -> None:
        """``policy``: which addresses a provider's answer may send us to."""
        self._providers = providers
        self._policy = policy

    def upload(self, provider: str, upload: Upload, content: BinaryIO) -> Uploaded:
        """Get a credential, put the bytes, let the provider check. Raises Invalid, ProviderOff, ProviderFailed."""
        try:
            handler = self._providers.get(provider)
        except NotFound as error:
            raise Invalid({"provider": [error.detail]}) from None
        if not handler.takes_uploads:
            raise Invalid({"provider": [f"{handler.title} takes no uploads; give its tasks public URLs instead."]})
        try:
            ticket = handler.begin_upload(upload)
            self._put(ticket, upload, content, handler.settings["base_url"], handler.title)
            details = handler.finish_upload(ticket)
        except Rejected as error:
            raise _refused(handler.title, error, "file") from None
        except (Unavailable, OutcomeUnknown) as error:
            raise _away(handler.title, error) from None
        return Uploaded(provider, ticket.file_id, upload.filename, upload.size, details)

    def _put(self, ticket: UploadTicket, upload: Upload, content: BinaryIO, base_url: str, title: str) -> None:
        request = OutboundRequest("PUT", ticket.url, ticket.headers, content, UPLOAD_TIMEOUT, upload.size)
        try:
            result = post(request, self._policy, trusted_origin=base_url)
        except (OSError, RuntimeError) as problem:
            if not at_limit(problem):
                raise
            raise ProviderFailed(f"{title}'s storage cannot be reached now: {problem}", temporary=True) from None
        if result.error is not None or result.status is None or not 200 <= result.status < 300:
            raise ProviderFailed(f"{title}'s storage did not take the file: {result.message}", temporary=True)

    def fetch(self, provider: str, resource: str, params: Mapping[str, str]) -> Any:
        """Read one of a provider's lists. Raises NotFound, ProviderOff, Invalid, ProviderFailed."""
        handler = self._providers.get(provider)
        if resource not in handler.resources:
            known = ", ".join(sorted(handler.resources)) or "none"
            raise NotFound(f"{handler.title} has no resource {resource!r}; it has {known}.")
        try:
            return handler.fetch(resource, params)
        except Rejected as error:
            raise _refused(handler.title, error, "parameters") from None
        except NotSupported as error:
            raise NotFound(str(error)) from None
        except (Unavailable, OutcomeUnknown) as error:
            raise _away(handler.title, error) from None


def _refused(title: str, error: Rejected, about: str) -> ProviderFailed | Invalid:
    """The refusal: the caller's fault when the input is said to be wrong. ``about``: the field that was."""
    if error.error.code is ErrorCode.INVALID_INPUT:
        return Invalid({about: [error.error.message]})
    said = f" ({error.error.provider_code})" if error.error.provider_code else ""
    return ProviderFailed(f"{title} refused{said}: {error.error.message}", temporary=False)


def _away(title: str, error: Unavailable | OutcomeUnknown) -> ProviderFailed:
    wait = error.retry_after if isinstance(error, Unavailable) else None
    return ProviderFailed(f"{title} does not answer now: {error}", temporary=True, retry_after=wait)
