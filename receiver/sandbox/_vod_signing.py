"""ApsaraVideo VOD's two ways of signing a request, checked over what was received.

Written from the provider's pages and its published examples: V3 (``ACS3-HMAC-SHA256``, in headers) and RPC
(``SignatureVersion`` 1.0, HMAC-SHA1, in parameters). Assumed: the gateway's error names for a stale
timestamp, a used nonce and an incomplete signature, and the window of 15 minutes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote

from ._world import Refusal

ALGORITHM = "ACS3-HMAC-SHA256"
VERSION = "2017-03-21"
MOST_NONCES = 50_000

_STAMP = "%Y-%m-%dT%H:%M:%SZ"
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM}\s+Credential=(?P<key>[^,\s]+),\s*SignedHeaders=(?P<names>[^,\s]+),\s*Signature=(?P<given>[0-9a-fA-F]+)"
)


@dataclass(frozen=True)
class Received:
    """A request as it came in. Header names in lower case; ``query`` is the raw query string."""

    method: str
    headers: Mapping[str, str]
    query: str
    body: bytes

    def parameters(self) -> list[tuple[str, str]]:
        """All parameters, decoded: those of the query string, then those of a form in the body."""
        pairs = parse_qsl(self.query, keep_blank_values=True)
        if self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            pairs += parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True)
        return pairs


def encode(text: str) -> str:
    """Percent-encoding by RFC 3986 over UTF-8: a space is ``%20``, only ``A-Za-z0-9-_.~`` stay."""
    return quote(text, safe="-_.~")


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    """Parameters sorted by name and encoded anew, however they were encoded on the wire."""
    return "&".join(f"{encode(name)}={encode(value)}" for name, value in sorted(pairs))


def v3_string_to_sign(received: Received, names: Sequence[str]) -> str:
    """The text that V3 signs: algorithm and the hash of the canonical request, with the path ``/``."""
    headers = "".join(f"{name}:{received.headers.get(name, '').strip()}\n" for name in names)
    payload = hashlib.sha256(received.body).hexdigest()
    query = canonical_query(parse_qsl(received.query, keep_blank_values=True))
    canonical = "\n".join((received.method, "/", query, headers, ";".join(names), payload))
    return f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"


def v3_signature(received: Received, names: Sequence[str], secret: str) -> str:
    """The V3 signature in lower-case hexadecimal; the key is the bare secret."""
    text = v3_string_to_sign(received, names)
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def rpc_string_to_sign(method: str, pairs: Iterable[tuple[str, str]]) -> str:
    """The text that RPC signs: every parameter but ``Signature``, empty ones too."""
    query = canonical_query(pair for pair in pairs if pair[0] != "Signature")
    return f"{method}&%2F&{encode(query)}"


def rpc_signature(method: str, pairs: Iterable[tuple[str, str]], secret: str) -> str:
    """The RPC signature in base64; the key is the secret and an ampersand."""
    text = rpc_string_to_sign(method, pairs)
    return base64.b64encode(hmac.new(f"{secret}&".encode(), text.encode(), hashlib.sha1).digest()).decode()


class Nonces:
    """Nonces that were used; beyond MOST_NONCES the oldest are forgotten. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, None] = OrderedDict()

    def use(self, nonce: str) -> bool:
        """Use a nonce up; False if it was used before."""
        with self._lock:
            if nonce in self._seen:
                return False
            self._seen[nonce] = None
            if len(self._seen) > MOST_NONCES:
                self._seen.popitem(last=False)
            return True


class Gate:
    """Checks who calls. Raises Refusal with the provider's codes; a nonce is used up only by a good signature."""

    def __init__(self, key_id: str, secret: str, window: float) -> None:
        self._key_id = key_id
        self._secret = secret
        self._window = window
        self._nonces = Nonces()

    def check(self, received: Received, now: float) -> None:
        """Let a request pass, by whichever of the two generations it is signed; ``now`` seconds, epoch."""
        if "authorization" in received.headers or "x-acs-signature-nonce" in received.headers:
            self._check_v3(received, now)
        else:
            self._check_rpc(received, now)

    def _check_v3(self, received: Received, now: float) -> None:
        headers = received.headers
        for name in ("x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"):
            if not headers.get(name):
                raise Refusal("MissingParameter", f"The header {name} is mandatory.")
        match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        if match is None:
            raise Refusal("IncompleteSignature", "The Authorization header does not conform to the standard.")
        names = match["names"].split(";")
        mandatory = {"host", *(name for name in headers if name.startswith("x-acs-"))}
        unsigned = sorted(mandatory - set(names))
        if unsigned or names != sorted(names):
            raise Refusal("IncompleteSignature", f"Headers not signed or not in order: {', '.join(unsigned)}")
        self._known(match["key"])
        self._timely(headers["x-acs-date"], now)
        if headers["x-acs-content-sha256"] != hashlib.sha256(received.body).hexdigest():
            raise Refusal("SignatureDoesNotMatch", "x-acs-content-sha256 is not the hash of the body.")
        if not hmac.compare_digest(v3_signature(received, names, self._secret), match["given"]):
            text = v3_string_to_sign(received, names)
            raise Refusal("SignatureDoesNotMatch", f"server string to sign is: {text!r}")
        self._fresh(headers["x-acs-signature-nonce"])

    def _check_rpc(self, received: Received, now: float) -> None:
        pairs = received.parameters()
        given = dict(pairs)
        if not given.get("Signature"):
            raise Refusal("IncompleteSignature", "The request is not signed.")
        for name in ("AccessKeyId", "SignatureMethod", "SignatureVersion", "SignatureNonce", "Timestamp", "Version"):
            if not given.get(name):
                raise Refusal("MissingParameter", f"The parameter {name} is mandatory.")
        if (given["SignatureMethod"], given["SignatureVersion"]) != ("HMAC-SHA1", "1.0"):
            raise Refusal("InvalidParameter", "SignatureMethod must be HMAC-SHA1, SignatureVersion 1.0.")
        self._known(given["AccessKeyId"])
        self._timely(given["Timestamp"], now)
        expected = rpc_signature(received.method, pairs, self._secret)
        if not hmac.compare_digest(expected.encode(), given["Signature"].encode()):
            text = rpc_string_to_sign(received.method, pairs)
            raise Refusal("SignatureDoesNotMatch", f"server string to sign is: {text}")
        self._fresh(given["SignatureNonce"])

    def _known(self, key_id: str) -> None:
        if not hmac.compare_digest(key_id.encode(), self._key_id.encode()):
            raise Refusal("InvalidAccessKeyId.NotFound", "Specified access key is not found.")

    def _timely(self, stamp: str, now: float) -> None:
        try:
            then = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC).timestamp()
        except ValueError as error:
            raise Refusal("InvalidTimeStamp.Format", "The time stamp is not well formed.") from error
        if abs(now - then) > self._window:
            raise Refusal("InvalidTimeStamp.Expired", "The time stamp is too far from the server's time.")

    def _fresh(self, nonce: str) -> None:
        if not self._nonces.use(nonce):
            raise Refusal("SignatureNonceUsed", "The signature nonce has been used before.")
