"""One way for all handlers to call their provider: bounded in time and size, honest about failure.

What a failed call means decides whether money may be spent twice, so it is decided here, once:

* not a byte of the request was sent (refused, no such host, connect time-out, no TLS, a certificate that cannot be
  believed, a header that cannot be written) → ``Unavailable``
* HTTP 429 → ``Unavailable`` with the provider's Retry-After; for a call that starts work ``OutcomeUnknown`` where
  the provider's page does not say that nothing was started
* the answer was lost (reset, time-out while waiting) or is HTTP 5xx → ``OutcomeUnknown`` for a
  call that starts work, ``Unavailable`` for one that only reads
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import requests
import urllib3.exceptions as reasons  # of requests' own transport

from handlers._deadline import DeadlineAdapter, TooMuch, begin_call, was_sent, why_not_sent
from handlers._reading import json_object
from handlers._records import ErrorCode, HandlerError, OutcomeUnknown, Rejected, TaskError, Unavailable, record

CONNECT_TIMEOUT = 5.0
"""Seconds for a connection, within those for the whole call."""
TOTAL_TIMEOUT = 20.0
"""Seconds for a whole call, where a handler does not say otherwise."""
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of an answer at most, also once it is unpacked."""
CONNECTIONS = 150
"""Connections to a provider that are kept; calls beyond that open one for themselves."""

THROTTLED = 10.0
"""Seconds without a further call after an HTTP 429 without Retry-After whose call may have taken effect: each further
one could cost another task."""

SHORTEST_SECRET = 6
"""Characters; a shorter text is no secret, and would blank out half of what a provider says."""

PLACES = 256
"""How many URLs are kept as requests would quote them; providers have a few dozen each."""

_USUAL = {**requests.utils.default_headers(), "Accept-Encoding": "identity"}
_GZIP = ("gzip", "x-gzip")
_REFUSALS = {
    401: ErrorCode.AUTHENTICATION,
    403: ErrorCode.PERMISSION,
    404: ErrorCode.NOT_FOUND,
}  # other 4xx: the request itself


@record
class Answer:
    """A provider's HTTP answer. ``headers``: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text; NUL and bytes that are not UTF-8 are shown as replacement characters."""
        return self.body.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")

    def json_object(self) -> dict[str, Any] | None:
        """The body as a JSON object that is safe to store, or None when it is anything else.

        A letter that is cut in the middle costs that letter: an id of a task that was bought may stand beside it.
        """
        return json_object(self.text.removeprefix("\ufeff"))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header in its number form, or None (dates are rare at providers)."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def json_body(value: Any) -> bytes:
    """A request's JSON in plain ASCII, so that no charset can change the bytes a signature covers.

    Raises Rejected for what JSON cannot say (a caller's NaN, or nesting without end).
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (ValueError, TypeError, RecursionError) as error:
        problem = TaskError(ErrorCode.INVALID_INPUT, f"the input cannot be written as JSON: {error}")
        raise Rejected(problem) from None


def contradicted(answer: Answer, title: str, *, starts_work: bool) -> HandlerError:
    """The meaning of an answer that says success in the provider's own form, and something else by its HTTP status.

    401 and 403 are believed. Otherwise a call that starts work may have started it, so it must not be made again.
    """
    if not starts_work or answer.status in (401, 403):
        return not_understood(answer, title, starts_work=starts_work)
    return OutcomeUnknown(f"{title} answered HTTP {answer.status}, but with a success")


def not_understood(answer: Answer, title: str, *, starts_work: bool) -> HandlerError:
    """The meaning of an answer that is not in the provider's own form, judged by its HTTP status alone.

    A redirect or a 408 did nothing: Unavailable; but a 303 says where the result of what was done is
    (RFC 9110, section 15.4.4). 401 and 403 are about our credentials: Rejected. Any other 4xx refuses a call that
    starts work (Rejected), and says nothing of a task when it answers a query (Unavailable). The rest is a lost
    answer: OutcomeUnknown or Unavailable.
    """
    message = f"{title} answered HTTP {answer.status} in a form that is not its own"
    if (300 <= answer.status < 400 and answer.status != 303) or answer.status in (408, 425):
        return Unavailable(message)
    if answer.status in (401, 403) or (starts_work and 400 <= answer.status < 500):
        code = _REFUSALS.get(answer.status, ErrorCode.INVALID_INPUT)
        return Rejected(TaskError(code, message, provider_code=f"HTTP {answer.status}"), raw=answer.text)
    return OutcomeUnknown(message) if starts_work else Unavailable(message)


class ProviderSession:
    """Calls to one provider's base URL. Thread-safe. No redirects, no cookies, no proxies of the environment."""

    def __init__(
        self,
        base_url: str,
        title: str,
        total_timeout: float = TOTAL_TIMEOUT,
        *,
        secrets: Iterable[str] = (),
        refusal_is_certain: bool = True,
    ) -> None:
        """``base_url``: every call goes below it. ``total_timeout``: seconds for a whole call.

        ``secrets``: what answers must not give away when they repeat it, as error pages repeat a request's headers.
        ``refusal_is_certain``: whether HTTP 429 certainly means that nothing was started.
        """
        self.base_url = base_url.rstrip("/")
        self.title = title
        self.total_timeout = total_timeout
        self.refusal_is_certain = refusal_is_certain
        self._secrets = _spellings(secrets)
        # The adapter alone: a session of requests would add redirects, cookies and proxies.
        self._adapter = DeadlineAdapter(CONNECTIONS)
        self._verify: bool | str = True  # or the authorities to believe instead of the usual ones

    @property
    def host(self) -> str:
        """The Host header of calls: name, and the port when it is not the scheme's own."""
        parts = urlsplit(self.base_url)
        default = {"http": 80, "https": 443}[parts.scheme]
        name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
        return name if parts.port in (None, default) else f"{name}:{parts.port}"

    def get(
        self, path: str, *, headers: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> Answer:
        """A GET that only reads. Raises Unavailable."""
        return self._call(partial(self._request, "GET", path, headers, params), starts_work=False)

    def post(
        self,
        path: str,
        *,
        starts_work: bool,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A POST of exactly ``body``. ``starts_work``: repeating it could buy something twice.

        Raises Unavailable, or OutcomeUnknown when ``starts_work``.
        """
        return self._call(partial(self._request, "POST", path, headers, body=body), starts_work=starts_work)

    def _call(self, make: Callable[[], requests.PreparedRequest], *, starts_work: bool) -> Answer:
        """Send what ``make`` makes, whose errors are those of a call that was lost."""
        lost: Callable[[str], HandlerError] = OutcomeUnknown if starts_work else Unavailable
        begin_call(time.monotonic() + self.total_timeout)
        try:
            with self._adapter.send(
                make(),
                timeout=(CONNECT_TIMEOUT, self.total_timeout),
                stream=True,
                verify=self._verify,
            ) as response:
                answer = Answer(
                    response.status_code,
                    {name.lower(): value for name, value in response.raw.headers.items()},
                    self._read(response),
                )
        except (requests.RequestException, reasons.HTTPError, OSError, ValueError) as error:
            if not was_sent():
                why = why_not_sent()
                raise Unavailable(f"{self.title} cannot be reached" + (f": {why}" if why else "")) from None
            if isinstance(error, requests.ConnectionError):
                raise lost(f"the connection to {self.title} broke before its answer came") from None
            raise lost(f"the answer of {self.title} was lost ({type(error).__name__})") from None
        except TooMuch as error:
            raise lost(f"the answer of {self.title} {error}") from None
        return self._judge(answer, lost, starts_work=starts_work)

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> requests.PreparedRequest:
        """The request that the library would make; its own way does forms, files, hooks and cookies too, at a price."""
        url, usual = _place(self.base_url + path)
        request = requests.PreparedRequest()
        request.method, request.body = method, body or None
        request.url = f"{url}{'&' if '?' in url else '?'}{urlencode(params)}" if params else url
        request.prepare_headers({**usual, **(headers or {})})
        if body is not None:
            request.headers["Content-Length"] = str(len(body))
        return request

    def _judge(self, answer: Answer, lost: Callable[[str], HandlerError], *, starts_work: bool) -> Answer:
        if answer.status == 429:
            message = f"{self.title} asks for fewer calls (HTTP 429)"
            pause = retry_after(answer.headers)
            if starts_work and not self.refusal_is_certain:
                raise OutcomeUnknown(message, THROTTLED if pause is None else pause)
            raise Unavailable(message, pause)
        if answer.status >= 500 and answer.json_object() is None:
            raise lost(f"{self.title} answered HTTP {answer.status}")
        return answer

    def _read(self, response: requests.Response) -> bytes:
        """The whole body within the size limit; the connection keeps the deadline, however slowly it drips."""
        parts: list[bytes] = []
        size = 0
        while part := response.raw.read1(65536):  # read1: what has come, without waiting for a full buffer
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER:
                raise _too_large()
        body = b"".join(parts)
        if response.raw.headers.get("content-encoding", "").lower() in _GZIP:
            body = self._unpacked(body)
        for secret in self._secrets:
            body = body.replace(secret, b"***")
        return body

    def _unpacked(self, body: bytes) -> bytes:
        """What was packed although nobody asked for it, within the size limit; what cannot be unpacked, as it came."""
        try:
            plain = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, MAX_ANSWER + 1)
        except zlib.error:
            return body
        if len(plain) > MAX_ANSWER:
            raise _too_large()
        return plain


def _too_large() -> TooMuch:
    return TooMuch(f"is larger than {MAX_ANSWER} bytes")


def can_be_called(url: str) -> bool:
    """Whether this URL can be called: its host can be looked up, and is the one that other parsers see."""
    try:
        (urlsplit(requests.Request("GET", url).prepare().url or "").hostname or "").encode("idna")
    except ValueError:  # of either
        return False
    return "\\" not in url


def _spellings(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """Secrets as they are, as JSON and as a URL has them; the longest first, since one may contain another."""
    found: set[str] = set()
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            in_json = json.dumps(secret)[1:-1]
            found |= {secret, in_json, in_json.replace("/", "\\/"), quote(secret, safe="")}
    return tuple(spelled.encode() for spelled in sorted(found, key=len, reverse=True))


@lru_cache(PLACES)
def _place(url: str) -> tuple[str, Mapping[str, str]]:
    """The URL, quoted, and the headers of every call there. Raises requests' errors of URLs."""
    request = requests.Request("GET", url, headers=_USUAL).prepare()
    assert request.url is not None  # it was prepared
    return request.url, dict(request.headers)
