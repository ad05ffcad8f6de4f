"""ApsaraVideo VOD's signatures in the sandbox: vectors, every refusal, and the official clients."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from receiver.sandbox import _vod_signing as signing

from .clients import Vod
from .conftest import Start

USER_DATA = (
    '{"MessageCallback":{"CallbackURL":"https://gw.example.test/callbacks/vod","CallbackType":"http"},'
    '"Extend":{"localId":"job-1","note":"封面 a*b~c"}}'
)
SUBMIT = {
    "VideoId": "357a8748c5774a0b89d2726e6436aa00",
    "AITemplateId": "ef1a8842cb9f4b6c8cea80cad902e416",
    "UserData": USER_DATA,
}
EMPTY = hashlib.sha256(b"").hexdigest()
FIRST = {
    "host": "vod.cn-shanghai.aliyuncs.com",
    "x-acs-action": "SubmitAIImageJob",
    "x-acs-content-sha256": EMPTY,
    "x-acs-date": "2026-11-21T10:00:00Z",
    "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
    "x-acs-version": "2017-03-21",
}
SECOND = {
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
JOBS = {"JobIds": "cf08a2c6e11e4c4e9bde1711b738b906,00000000000000000000000000000002"}
RPC = {
    "Format": "JSON",
    "Version": "2017-03-21",
    "AccessKeyId": "testAccessKeyId",
    "SignatureMethod": "HMAC-SHA1",
    "SignatureVersion": "1.0",
}


@pytest.mark.parametrize(
    ("headers", "parameters", "text", "signature"),
    [
        (
            FIRST,
            SUBMIT,
            "b733c2d7eeea4a33282850eb8a5ae4cf00d53bcf5b49b24aec37c1471ea33eb8",
            "d8d3efc197b79f9a5049e64b576ca4dd37f543e5e47f3c680af1b826d0b20fbd",
        ),
        (
            SECOND,
            JOBS,
            "c5222b5a5f9a6759b946299e1e249436c49bb80511162617db402b10b4a026fd",
            "ffb81da5bef45a80f989c2e3da160af2992a0a8a837f81221759812660c41949",
        ),
    ],
)
def test_vectors_of_v3(headers: dict[str, str], parameters: dict[str, str], text: str, signature: str) -> None:
    """Both vectors come out the same, however the parameters were encoded on the wire."""
    names = sorted(headers)
    for plus in (False, True):
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        received = signing.Received("POST", headers, query.replace("%20", "+") if plus else query, b"")
        assert signing.v3_string_to_sign(received, names) == f"ACS3-HMAC-SHA256\n{text}"
        assert signing.v3_signature(received, names, "testAccessKeySecret") == signature


@pytest.mark.parametrize(
    ("method", "parameters", "signature"),
    [
        (
            "GET",
            {
                **RPC,
                "Action": "GetVideoPlayAuth",
                "VideoId": "5aed81b74ba84920be578cdfe004af4b",
                "Timestamp": "2017-10-10T12:02:54Z",
                "SignatureNonce": "8f8a035d-6496-4268-afd4-67c22837e38d",
            },
            "Ibgh7y8Vp47LBuAsf5Xhi1SvDss=",
        ),
        (
            "POST",
            {
                **RPC,
                **SUBMIT,
                "Action": "SubmitAIImageJob",
                "Timestamp": "2026-11-21T10:00:00Z",
                "SignatureNonce": "9166ab59-f445-4005-911d-664c1570df0f",
            },
            "ptKyQysIYQk4S0dNfSbppJGoAzs=",
        ),
    ],
)
def test_vectors_of_rpc(method: str, parameters: dict[str, str], signature: str) -> None:
    """The published example and the vector of a submit come out the same."""
    assert signing.rpc_signature(method, parameters.items(), "testAccessKeySecret") == signature


def rpc(url: str, method: str = "GET", *, secret: str = "testAccessKeySecret", **change: str | None) -> Any:
    """One RPC call, by query or by form; a change of None leaves the parameter out."""
    given = {
        **RPC,
        "Action": "SubmitAIImageJob",
        "VideoId": "v *~",
        "AITemplateId": "t",
        "SignatureType": "",
        "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "SignatureNonce": uuid.uuid4().hex,
        **change,
    }
    sent = {name: value for name, value in given.items() if value is not None}
    sent.setdefault("Signature", signing.rpc_signature(method, sent.items(), secret))
    path = f"{url}/apsaravideo_vod/"
    if method == "POST":
        return requests.post(path, data=sent, timeout=10)
    return requests.get(path, params=sent, timeout=10)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_rpc_by_query_and_by_form(start: Start, method: str) -> None:
    """Parameters of the query string and of a form are both signed, empty ones too."""
    answer = rpc(start().url, method)
    assert answer.status_code == 200, answer.text
    assert answer.json()["JobId"]


def test_rpc_answers_in_xml_unless_told_otherwise(start: Start) -> None:
    """XML is the documented default of this generation, for answers and for errors."""
    url = start().url
    assert "<JobId>" in rpc(url, Format=None).text
    assert "<Code>MissingParameter</Code>" in rpc(url, Format=None, VideoId="").text


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"Signature": "d3Jvbmc="}, 400, "SignatureDoesNotMatch"),
        ({"Signature": ""}, 400, "IncompleteSignature"),
        ({"AccessKeyId": "nobody"}, 404, "InvalidAccessKeyId.NotFound"),
        ({"AccessKeyId": None}, 400, "MissingParameter"),
        ({"SignatureNonce": None}, 400, "MissingParameter"),
        ({"Timestamp": None}, 400, "MissingParameter"),
        ({"Timestamp": "2017-10-10T12:02:54Z"}, 400, "InvalidTimeStamp.Expired"),
        ({"Timestamp": "now"}, 400, "InvalidTimeStamp.Format"),
        ({"SignatureMethod": "HMAC-SHA256"}, 400, "InvalidParameter"),
        ({"Version": "2020-01-01"}, 400, "InvalidVersion"),
    ],
)
def test_rpc_refusals(start: Start, change: dict[str, str | None], status: int, code: str) -> None:
    """Each thing that can be wrong with an RPC signature has its code and status."""
    answer = rpc(start().url, **change)
    assert (answer.status_code, answer.json()["Code"]) == (status, code)


def test_a_nonce_works_once(start: Start) -> None:
    """The identical request is refused the second time, in both generations."""
    url = start().url
    assert rpc(url, SignatureNonce="n1").status_code == 200
    assert rpc(url, SignatureNonce="n1").json()["Code"] == "SignatureNonceUsed"
    client = Vod(url)
    for code in (None, "SignatureNonceUsed"):
        answer = client.call("GetAIImageJobs", {"JobIds": "x"}, x_acs_signature_nonce="n2")
        assert answer.json().get("Code") == code


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"authorization": "Bearer x"}, 400, "IncompleteSignature"),
        ({"authorization": ""}, 400, "IncompleteSignature"),
        ({"x_acs_content_sha256": "0" * 64}, 400, "SignatureDoesNotMatch"),
        ({"x_acs_date": "2017-10-10T12:02:54Z"}, 400, "InvalidTimeStamp.Expired"),
        ({"x_acs_date": "today"}, 400, "InvalidTimeStamp.Format"),
        ({"x_acs_date": ""}, 400, "MissingParameter"),
        ({"x_acs_version": ""}, 400, "MissingParameter"),
    ],
)
def test_v3_refusals(start: Start, headers: dict[str, str], status: int, code: str) -> None:
    """Each thing that can be wrong with a V3 signature has its code and status."""
    answer = Vod(start().url).call("GetAIImageJobs", {"JobIds": "x"}, **headers)
    assert (answer.status_code, answer.json()["Code"]) == (status, code), answer.text


def test_v3_knows_its_key_and_secret(start: Start) -> None:
    """An unknown key is 404, a wrong secret does not match."""
    url = start().url
    unknown = Vod(url, key_id="nobody").call("GetAIImageJobs", {"JobIds": "x"})
    assert (unknown.status_code, unknown.json()["Code"]) == (404, "InvalidAccessKeyId.NotFound")
    wrong = Vod(url, secret="wrong").call("GetAIImageJobs", {"JobIds": "x"})
    assert (wrong.status_code, wrong.json()["Code"]) == (400, "SignatureDoesNotMatch")


def test_v3_wants_every_x_acs_header_signed(start: Start) -> None:
    """A header x-acs-* that SignedHeaders leaves out makes the signature incomplete."""
    client = Vod(start().url)
    good = f"ACS3-HMAC-SHA256 Credential=testAccessKeyId,SignedHeaders=host;x-acs-action,Signature={'0' * 64}"
    answer = client.call("GetAIImageJobs", {"JobIds": "x"}, authorization=good)
    assert answer.json()["Code"] == "IncompleteSignature"


def test_the_window_is_a_quarter_of_an_hour(start: Start) -> None:
    """Fourteen minutes off are taken, sixteen are not."""
    client = Vod(start().url)
    for minutes, status in ((14, 200), (-14, 200), (16, 400), (-16, 400)):
        stamp = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = client.call("GetAIImageJobs", {"JobIds": "x"}, x_acs_date=stamp)
        assert answer.status_code == status, minutes


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the official clients' own
def test_the_current_official_client_gets_a_job_done(start: Start) -> None:
    """alibabacloud_vod20170321 submits, queries and lists over real sockets with nothing but host and port."""
    from alibabacloud_tea_openapi.models import Config
    from alibabacloud_vod20170321 import models
    from alibabacloud_vod20170321.client import Client

    url = start(time_scale=0).url
    config = Config(
        access_key_id="testAccessKeyId",
        access_key_secret="testAccessKeySecret",
        endpoint=urlsplit(url).netloc,
        protocol="http",
    )
    client = Client(config)
    request = models.SubmitAIImageJobRequest(
        video_id="video 1", aitemplate_id="t", user_data='{"Extend":{"note":"封面 a*b~c"}}'
    )
    job_id = client.submit_aiimage_job(request).body.job_id
    jobs = client.get_aiimage_jobs(models.GetAIImageJobsRequest(job_ids=job_id)).body.aiimage_job_list
    assert [(job.job_id, job.status, job.video_id) for job in jobs] == [(job_id, "success", "video 1")]
    infos = client.list_aiimage_info(models.ListAIImageInfoRequest(video_id="video 1")).body.aiimage_info_list
    assert requests.get(infos[0].file_url, timeout=10).status_code == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the official clients' own
def test_the_current_official_client_understands_errors(start: Start) -> None:
    """A refusal arrives in the official client as its own exception with code and status."""
    from alibabacloud_tea_openapi.models import Config
    from alibabacloud_vod20170321 import models
    from alibabacloud_vod20170321.client import Client
    from Tea.exceptions import TeaException

    config = Config(
        access_key_id="testAccessKeyId",
        access_key_secret="wrong",
        endpoint=urlsplit(start().url).netloc,
        protocol="http",
    )
    with pytest.raises(TeaException) as caught:
        Client(config).get_aiimage_jobs(models.GetAIImageJobsRequest(job_ids="x"))
    assert caught.value.code == "SignatureDoesNotMatch"


@pytest.mark.filterwarnings("ignore")  # the old official client leaves sockets and invalid escapes behind
def test_the_old_official_client_gets_a_job_done(start: Start) -> None:
    """aliyun-python-sdk-vod, which signs the RPC way, submits and queries too."""
    from aliyunsdkcore.client import AcsClient
    from aliyunsdkvod.request.v20170321.GetAIImageJobsRequest import GetAIImageJobsRequest
    from aliyunsdkvod.request.v20170321.SubmitAIImageJobRequest import SubmitAIImageJobRequest

    host, port = urlsplit(start(time_scale=0).url).netloc.split(":")
    client = AcsClient("testAccessKeyId", "testAccessKeySecret", "cn-shanghai", port=int(port))
    submit = SubmitAIImageJobRequest()
    submit.set_VideoId("video 1")
    submit.set_AITemplateId("t")
    submit.set_UserData('{"Extend":{"note":"封面 a*b~c"}}')
    query = GetAIImageJobsRequest()
    for request in (submit, query):
        request.set_endpoint(host)
        request.set_accept_format("JSON")
    job_id = json.loads(client.do_action_with_exception(submit))["JobId"]
    query.set_JobIds(job_id)
    job = json.loads(client.do_action_with_exception(query))["AIImageJobList"][0]
    assert (job["JobId"], job["Status"], job["VideoId"]) == (job_id, "success", "video 1")
