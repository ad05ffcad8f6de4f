"""Both signing generations: against the published vectors, and against the provider's own SDKs."""

from __future__ import annotations

import warnings
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers import _vod_signing as signing
from handlers._signatures import canonical_query, sha256_hex

with warnings.catch_warnings():  # the SDKs use what Python deprecates
    warnings.simplefilter("ignore")
    from alibabacloud_tea_openapi.utils import Utils
    from aliyunsdkcore.auth.composer import rpc_signature_composer
    from aliyunsdkcore.utils import parameter_helper
    from Tea.request import TeaRequest

PAIR = signing.Credentials("testAccessKeyId", "testAccessKeySecret")
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
USER_DATA = (
    '{"MessageCallback":{"CallbackURL":"https://gw.example.test/callbacks/vod","CallbackType":"http"},'
    '"Extend":{"localId":"job-1","note":"封面 a*b~c"}}'
)
SUBMIT = {
    "VideoId": "357a8748c5774a0b89d2726e6436aa00",
    "AITemplateId": "ef1a8842cb9f4b6c8cea80cad902e416",
    "UserData": USER_DATA,
}
NAMES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
VALUES = st.text(st.characters(codec="utf-8"), max_size=40)
PARAMS = st.dictionaries(NAMES, VALUES, max_size=6)
SECRETS = st.text("abcXYZ019+/=", min_size=1, max_size=30)


def test_v3_vector_of_a_submission() -> None:
    """The documented V3 signature of SubmitAIImageJob, canonical request included."""
    headers = {
        "host": "vod.cn-shanghai.aliyuncs.com",
        "x-acs-action": "SubmitAIImageJob",
        "x-acs-version": "2017-03-21",
        "x-acs-date": "2026-11-21T10:00:00Z",
        "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
        "x-acs-content-sha256": EMPTY,
    }
    request = signing.acs3_canonical_request("POST", SUBMIT, headers, EMPTY)
    assert "%E5%B0%81%E9%9D%A2%20a%2Ab~c" in request
    assert sha256_hex(request.encode()) == "b733c2d7eeea4a33282850eb8a5ae4cf00d53bcf5b49b24aec37c1471ea33eb8"
    assert signing.acs3_authorization(PAIR, "POST", SUBMIT, headers, EMPTY) == (
        "ACS3-HMAC-SHA256 Credential=testAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;"
        "x-acs-date;x-acs-signature-nonce;x-acs-version,"
        "Signature=d8d3efc197b79f9a5049e64b576ca4dd37f543e5e47f3c680af1b826d0b20fbd"
    )


def test_v3_vector_of_the_sdks_header_set() -> None:
    """The documented V3 signature over every header that the official SDK sends."""
    headers = {
        "accept": "application/json",
        "host": "vod.cn-shanghai.aliyuncs.com",
        "user-agent": "AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2",
        "x-acs-action": "GetAIImageJobs",
        "x-acs-content-sha256": EMPTY,
        "x-acs-credentials-provider": "static_ak",
        "x-acs-date": "2026-11-21T10:00:05Z",
        "x-acs-signature-nonce": "0c5d1e1f6a0b4a6f9d1f2e3c4b5a6978",
        "x-acs-version": "2017-03-21",
    }
    params = {"JobIds": "cf08a2c6e11e4c4e9bde1711b738b906,00000000000000000000000000000002"}
    authorization = signing.acs3_authorization(PAIR, "POST", params, headers, EMPTY)
    assert authorization.endswith("Signature=ffb81da5bef45a80f989c2e3da160af2992a0a8a837f81221759812660c41949")


def test_v3_headers_are_the_documented_ones() -> None:
    """A call carries what the vector carries, and its signature is the vector's."""
    headers = signing.acs3_headers(
        PAIR, "vod.cn-shanghai.aliyuncs.com", "SubmitAIImageJob", "2017-03-21", SUBMIT,
        now=1795255200.9, nonce="3156853299f313e23d1673dc12e1703d",
    )  # fmt: skip
    assert headers["x-acs-date"] == "2026-11-21T10:00:00Z"
    assert headers["Authorization"].endswith("d8d3efc197b79f9a5049e64b576ca4dd37f543e5e47f3c680af1b826d0b20fbd")


def test_v3_signs_the_token_of_a_temporary_key() -> None:
    """A temporary pair sends its token and id as headers, and both are signed."""
    pair = signing.Credentials("id", "secret", "the-token")
    headers = signing.acs3_headers(pair, "h.test", "A", "V", {}, now=0, nonce="n")
    assert headers["x-acs-security-token"] == "the-token"
    assert headers["x-acs-accesskey-id"] == "id"
    signed = headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert {"host", *(name for name in headers if name.startswith("x-acs-"))} == set(signed)


@settings(max_examples=100, deadline=None)
@given(PARAMS, SECRETS, NAMES)
def test_v3_signs_as_the_official_sdk_does(params: dict[str, str], secret: str, action: str) -> None:
    """Whatever the parameters, the Authorization header is the one of alibabacloud-tea-openapi."""
    pair = signing.Credentials("ak", secret)
    headers = signing.acs3_headers(pair, "h.test:8443", action, "2017-03-21", params, now=1.0, nonce="n-1")
    ours = headers.pop("Authorization")
    request = TeaRequest()
    request.method, request.pathname, request.query, request.headers = "POST", "/", params, headers
    assert ours == Utils.get_authorization(request, "ACS3-HMAC-SHA256", EMPTY, "ak", secret)


def test_rpc_vector_of_the_published_example() -> None:
    """The provider's worked example of RPC signing, string to sign included."""
    params = {
        "Action": "GetVideoPlayAuth",
        "VideoId": "5aed81b74ba84920be578cdfe004af4b",
        "Format": "JSON",
        "Version": "2017-03-21",
        "AccessKeyId": "testAccessKeyId",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "Timestamp": "2017-10-10T12:02:54Z",
        "SignatureNonce": "8f8a035d-6496-4268-afd4-67c22837e38d",
    }
    assert signing.rpc_string_to_sign("GET", params).startswith("GET&%2F&AccessKeyId%3DtestAccessKeyId%26Action%3D")
    assert signing.rpc_signature(PAIR.access_key_secret, "GET", params) == "Ibgh7y8Vp47LBuAsf5Xhi1SvDss="


def test_rpc_vector_of_a_submission() -> None:
    """The documented RPC signature of SubmitAIImageJob; every common parameter is there."""
    params = signing.rpc_params(
        PAIR, "SubmitAIImageJob", "2017-03-21", SUBMIT,
        now=1795255200.0, nonce="9166ab59-f445-4005-911d-664c1570df0f",
    )  # fmt: skip
    assert params["Signature"] == "ptKyQysIYQk4S0dNfSbppJGoAzs="
    assert params["Timestamp"] == "2026-11-21T10:00:00Z"


def test_rpc_common_parameters_cannot_be_overridden() -> None:
    """What a caller passes through never replaces the action or the identity; a token is added."""
    pair = signing.Credentials("ak", "secret", "token")
    params = signing.rpc_params(pair, "A", "V", {"Action": "DeleteVideo", "AccessKeyId": "x"}, now=0, nonce="n")
    assert (params["Action"], params["AccessKeyId"], params["SecurityToken"]) == ("A", "ak", "token")


@settings(max_examples=100, deadline=None)
@given(PARAMS, SECRETS)
def test_rpc_signs_as_the_official_sdk_does(params: dict[str, str], secret: str) -> None:
    """Whatever the parameters, signature and query are those of aliyun-python-sdk-core."""
    composer: Any = rpc_signature_composer
    with (
        patch.object(parameter_helper, "get_uuid", return_value="nonce-1"),
        patch.object(parameter_helper, "get_iso_8061_date", return_value="2026-11-21T10:00:00Z"),
    ):
        theirs = {"Action": "SubmitAIImageJob", "Version": "2017-03-21", "RegionId": "cn-shanghai", **params}
        url, to_sign = composer.get_signed_url(theirs, "ak", secret, "JSON", "POST", {})
    sent = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    signature = sent.pop("Signature")
    assert signing.rpc_string_to_sign("POST", sent) == to_sign
    assert signing.rpc_signature(secret, "POST", sent) == signature
    assert Utils.get_rpcsignature(sent, "POST", secret) == signature


@pytest.mark.parametrize("text", ["a b", "*", "~", "+", "/", "é", "封面", "%", "&=?#", ""])
def test_what_is_signed_is_what_is_sent(text: str) -> None:
    """The query goes out in the very form that was signed, so no gateway has to guess."""
    query = canonical_query({"A": text})
    assert dict(parse_qsl(query, keep_blank_values=True)) == {"A": text}
    assert "+" not in query
