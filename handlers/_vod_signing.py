"""The two ways the gateway of Alibaba Cloud accepts a signed call: header signing (V3) and RPC signing.

Both follow the provider's "Signature method" pages; the published examples are kept as tests.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from handlers._signatures import canonical_query, hmac_sha256_hex, percent, sha256_hex

ACS3 = "ACS3-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An AccessKey pair; ``security_token`` belongs to a temporary pair (STS)."""

    access_key_id: str
    access_key_secret: str
    security_token: str | None = None


def stamp(seconds: float) -> str:
    """Seconds since the epoch as ``yyyy-MM-ddTHH:mm:ssZ`` in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def acs3_canonical_request(
    method: str, params: Mapping[str, str], headers: Mapping[str, str], payload_hash: str
) -> str:
    """The canonical request of V3: every header given is signed; the path is ``/``.

    ``payload_hash``: lower-case hexadecimal SHA-256 of the body.
    """
    signed = sorted((name.lower(), value.strip()) for name, value in headers.items())
    lines = "".join(f"{name}:{value}\n" for name, value in signed)
    names = ";".join(name for name, _ in signed)
    return f"{method}\n/\n{canonical_query(params)}\n{lines}\n{names}\n{payload_hash}"


def acs3_authorization(
    credentials: Credentials,
    method: str,
    params: Mapping[str, str],
    headers: Mapping[str, str],
    payload_hash: str,
) -> str:
    """The value of the Authorization header that signs these parameters and headers."""
    request = acs3_canonical_request(method, params, headers, payload_hash)
    to_sign = f"{ACS3}\n{sha256_hex(request.encode())}"
    names = ";".join(sorted(name.lower() for name in headers))
    signature = hmac_sha256_hex(credentials.access_key_secret, to_sign.encode())
    return f"{ACS3} Credential={credentials.access_key_id},SignedHeaders={names},Signature={signature}"


def acs3_headers(
    credentials: Credentials,
    host: str,
    action: str,
    version: str,
    params: Mapping[str, str],
    *,
    now: float,
    nonce: str,
) -> dict[str, str]:
    """All headers of a V3 call by POST with an empty body, Authorization included.

    ``now``: seconds since the epoch. ``nonce``: unique per call. Host and every ``x-acs-*`` are signed.
    """
    payload_hash = sha256_hex(b"")
    headers = {
        "host": host,
        "x-acs-action": action,
        "x-acs-version": version,
        "x-acs-date": stamp(now),
        "x-acs-signature-nonce": nonce,
        "x-acs-content-sha256": payload_hash,
    }
    if credentials.security_token:
        headers["x-acs-accesskey-id"] = credentials.access_key_id
        headers["x-acs-security-token"] = credentials.security_token
    headers["Authorization"] = acs3_authorization(credentials, "POST", params, headers, payload_hash)
    return headers


def rpc_string_to_sign(method: str, params: Mapping[str, str]) -> str:
    """What RPC signing signs: every parameter except Signature, empty ones included."""
    signed = {name: value for name, value in params.items() if name != "Signature"}
    return f"{method}&%2F&{percent(canonical_query(signed))}"


def rpc_signature(access_key_secret: str, method: str, params: Mapping[str, str]) -> str:
    """The parameter Signature: base64 of HMAC-SHA1, keyed with the secret and an ampersand."""
    message = rpc_string_to_sign(method, params).encode()
    digest = hmac.new(f"{access_key_secret}&".encode(), message, hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def rpc_params(
    credentials: Credentials,
    action: str,
    version: str,
    params: Mapping[str, str],
    *,
    now: float,
    nonce: str,
) -> dict[str, str]:
    """All parameters of an RPC call by POST, Signature included; the common ones win over ``params``.

    ``now``: seconds since the epoch. ``nonce``: unique per call.
    """
    signed = {
        **params,
        "Action": action,
        "Version": version,
        "Format": "JSON",
        "AccessKeyId": credentials.access_key_id,
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": nonce,
        "Timestamp": stamp(now),
    }
    if credentials.security_token:
        signed["SecurityToken"] = credentials.security_token
    return signed | {"Signature": rpc_signature(credentials.access_key_secret, "POST", signed)}
