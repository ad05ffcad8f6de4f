"""ApsaraVideo VOD in the sandbox: what each action takes and gives, and its errors."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest
import requests

from receiver.sandbox._callbacks import Answer
from receiver.sandbox.apsaravideo_vod import callback_signature

from .clients import Vod
from .conftest import Start
from .listener import Listener, until


def user_data(url: str, **extend: str) -> str:
    """UserData with a callback."""
    wanted = {"MessageCallback": {"CallbackURL": url, "CallbackType": "http"}, "Extend": extend}
    return json.dumps(wanted, separators=(",", ":"), ensure_ascii=False)


def test_a_job_begins_runs_and_ends(start: Start) -> None:
    """Not terminal words first, then success with the result as JSON text and UserData as submitted."""
    sandbox = start(time_scale=1, duration=100)
    client = Vod(sandbox.url)
    given = '{"Extend":{"localId":"job-1","note":"封面 a*b~c"}}'
    job_id = client.submit("video-9", UserData=given)
    seen = []
    for _ in range(3):
        seen.append(client.job(job_id))
        sandbox.world.shift(51)
    assert [job["Status"] for job in seen] == ["init", "processing", "success"]
    assert [bool(job["AIImageResult"]) for job in seen] == [False, False, True]
    job = seen[-1]
    assert (job["Code"], job["Message"]) == ("Success", "success")
    assert (job["VideoId"], job["TemplateId"], job["UserData"]) == ("video-9", "t1", given)
    assert json.loads(job["TemplateConfig"])["Format"] == "png"
    images = json.loads(job["AIImageResult"])
    assert [image["Score"] for image in images] == sorted((i["Score"] for i in images), reverse=True)
    assert requests.get(images[0]["Url"], timeout=10).status_code == 403


def test_signed_links_come_from_the_list_of_images(start: Start) -> None:
    """FileURL carries auth_key and can be fetched for an hour."""
    sandbox = start(time_scale=0)
    client = Vod(sandbox.url)
    job_id = client.submit("video-7")
    client.submit("video-8")
    infos = client.call("ListAIImageInfo", {"VideoId": "video-7"}).json()["AIImageInfoList"]
    assert {info["JobId"] for info in infos} == {job_id}
    assert isinstance(infos[0]["Score"], str)
    assert "auth_key=" in infos[0]["FileURL"]
    assert requests.get(infos[0]["FileURL"], timeout=10).content.startswith(b"\x89PNG")
    sandbox.world.shift(3601)
    assert requests.get(infos[0]["FileURL"], timeout=10).status_code == 403


def test_ten_ids_at_once_and_no_more(start: Start) -> None:
    """Ten ids are answered in one call, unknown ones are absent; eleven are InvalidParameter."""
    client = Vod(start(time_scale=0).url)
    ids = [client.submit() for _ in range(9)]
    jobs = client.call("GetAIImageJobs", {"JobIds": ",".join([*ids, "nobody"])}).json()["AIImageJobList"]
    assert [job["JobId"] for job in jobs] == ids
    answer = client.call("GetAIImageJobs", {"JobIds": ",".join([*ids, "a", "b"])})
    assert (answer.status_code, answer.json()["Code"]) == (400, "InvalidParameter")
    assert client.call("GetAIImageJobs", {"JobIds": ""}).json()["Code"] == "MissingParameter"


def test_unfinished_jobs_can_be_absent(start: Start) -> None:
    """With the option, a job is listed only once it has ended."""
    sandbox = start(time_scale=1, duration=100, apsaravideo_vod_pending="absent")
    client = Vod(sandbox.url)
    job_id = client.submit()
    assert client.call("GetAIImageJobs", {"JobIds": job_id}).json()["AIImageJobList"] == []
    sandbox.world.shift(101)
    assert client.job(job_id)["Status"] == "success"


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"AITemplateId": "t"}, "MissingParameter"),
        ({"VideoId": "v"}, "MissingParameter"),
        ({"VideoId": "", "AITemplateId": "t"}, "MissingParameter"),
        ({"VideoId": "v", "AITemplateId": "t", "UserData": "text"}, "InvalidParameter"),
        ({"VideoId": "v", "AITemplateId": "t", "UserData": "[]"}, "InvalidParameter"),
        ({"VideoId": "v", "AITemplateId": "t", "UserData": '{"Other":1}'}, "InvalidParameter"),
        ({"VideoId": "v", "AITemplateId": "t", "UserData": '{"MessageCallback":7}'}, "InvalidParameter"),
        ({"VideoId": "v", "AITemplateId": "t", "UserData": user_data("no link")}, "InvalidParameter"),
        ({"VideoId": "v", "AITemplateId": "t", "UserData": user_data("x", n="猫" * 160)}, "InvalidParameter"),
    ],
)
def test_bad_parameters(start: Start, parameters: dict[str, str], code: str) -> None:
    """Missing parameters and UserData outside its rules are HTTP 400 in the provider's error body."""
    sandbox = start()
    answer = Vod(sandbox.url).call("SubmitAIImageJob", parameters)
    assert answer.status_code == 400
    assert set(answer.json()) == {"RequestId", "HostId", "Code", "Message"}
    assert answer.json()["Code"] == code
    assert sandbox.world.tasks() == []


def test_user_data_may_have_512_bytes(start: Start) -> None:
    """512 bytes are taken, 513 are not; bytes count, not characters."""
    client = Vod(start().url)
    for size, status in ((512, 200), (513, 400)):
        text = '{"Extend":"猫' + "x" * (size - 16) + '"}'
        assert len(text.encode()) == size
        parameters = {"VideoId": "v", "AITemplateId": "t", "UserData": text}
        assert client.call("SubmitAIImageJob", parameters).status_code == status, size


def test_unknown_actions_and_versions(start: Start) -> None:
    """An action or version that is not there is refused after the signature was checked."""
    client = Vod(start().url)
    assert client.call("DeleteEverything", {}).json()["Code"] == "UnsupportedOperation"
    assert client.call("GetAIImageJobs", {"JobIds": "x"}, x_acs_version="2020").json()["Code"] == "InvalidVersion"


def test_xml_only_when_asked_for(start: Start) -> None:
    """Format=XML answers and fails in XML; without it V3 answers in JSON."""
    client = Vod(start(time_scale=0).url)
    job_id = client.submit("v<1>")
    answer = client.call("GetAIImageJobs", {"JobIds": job_id, "Format": "XML"})
    assert answer.headers["Content-Type"].startswith("text/xml")
    root = ET.fromstring(answer.text)
    assert root.tag == "GetAIImageJobsResponse"
    assert root.findtext("AIImageJobList/AIImageJob/VideoId") == "v<1>"
    failed = client.call("GetAIImageJobs", {"Format": "XML"})
    assert failed.status_code == 400
    assert ET.fromstring(failed.text).findtext("Code") == "MissingParameter"


def test_throttling_is_http_400(start: Start) -> None:
    """Above the rate the code is Throttling.User, the status 400."""
    client = Vod(start(apsaravideo_vod_rate="0.01").url)
    client.submit()
    answer = client.call("GetAIImageJobs", {"JobIds": "x"})
    assert (answer.status_code, answer.json()["Code"]) == (400, "Throttling.User")


def test_failures(start: Start) -> None:
    """A failed job keeps code and message and has no result; an empty one has an empty list."""
    client = Vod(start(time_scale=0).url)
    failed = client.job(client.submit("[sandbox:fail=InvalidVideo]"))
    assert (failed["Status"], failed["Code"], failed["AIImageResult"]) == ("fail", "InvalidVideo", "")
    empty = client.job(client.submit("[sandbox:empty]"))
    assert (empty["Status"], empty["AIImageResult"]) == ("success", "[]")
    partial = client.job(client.submit("[sandbox:partial]"))
    assert len(json.loads(partial["AIImageResult"])) == 1


@pytest.mark.parametrize(
    ("url", "stamp", "key", "signature"),
    [
        ("https://www.example.com/your/callback", "1519375990", "test123", "c72b60894140fa98920f1279219b7ed4"),
        ("https://gw.example.test/callbacks/vod", "1795255200", "Abc123Demo", "be737bd6e50c163c351897bf34691a61"),
    ],
)
def test_vectors_of_the_callback_signature(url: str, stamp: str, key: str, signature: str) -> None:
    """The published example and a second vector come out the same."""
    assert callback_signature(url, stamp, key) == signature


def test_the_callback_is_signed_over_its_url(start: Start, listener: Listener) -> None:
    """The job's own address is called with the two headers and a body like its sibling events'."""
    sandbox = start(apsaravideo_vod_callback_key="Abc123Demo")
    client = Vod(sandbox.url)
    url = f"{listener.url}/hook?x=1"
    job_id = client.submit("video-3", UserData=user_data(url, localId="job-1"))
    heard = listener.wait_for(1)[0]
    stamp = heard.headers["x-vod-timestamp"]
    assert heard.headers["x-vod-signature"] == callback_signature(url, stamp, "Abc123Demo")
    body = heard.body
    assert (body["EventType"], body["JobId"], body["MediaId"]) == ("AIImageComplete", job_id, "video-3")
    assert (body["Status"], body["Code"], body["Message"]) == ("success", "0", "OK")
    assert json.loads(body["Data"])[0]["Url"]
    assert json.loads(body["Extend"]) == {"localId": "job-1"}


def test_the_accounts_address_is_the_second_choice(start: Start, listener: Listener) -> None:
    """A job without an address of its own calls the account's; without a key nothing is signed."""
    client = Vod(start(apsaravideo_vod_callback_url=f"{listener.url}/global").url)
    client.submit("[sandbox:fail=Bad]")
    heard = listener.wait_for(1)[0]
    assert heard.path == "/global"
    assert "x-vod-signature" not in heard.headers
    assert (heard.body["Status"], heard.body["Code"]) == ("fail", "Bad")


def test_members_of_user_data_may_be_text(start: Start, listener: Listener) -> None:
    """MessageCallback as JSON text is read like an object, whatever the case of its type."""
    inner = json.dumps({"CallbackURL": listener.url, "CallbackType": "HTTP"})
    Vod(start().url).submit(UserData=json.dumps({"MessageCallback": inner, "Extend": "mine"}))
    assert listener.wait_for(1)[0].body["Extend"] == "mine"


def test_nobody_is_called_while_notification_is_off(start: Start, listener: Listener) -> None:
    """With events off not even the job's own address is called."""
    sandbox = start(time_scale=0, apsaravideo_vod_events="false")
    client = Vod(sandbox.url)
    job_id = client.submit(UserData=user_data(listener.url))
    assert client.job(job_id)["Status"] == "success"
    task = sandbox.world.find("apsaravideo_vod", job_id)
    assert task is not None
    assert task.notice is None


def test_three_attempts_one_second_apart(start: Start, listener: Listener) -> None:
    """Only HTTP 200 counts, whatever the body; the third failure is the last."""
    listener.reply = lambda heard, number: (204, b"")
    sandbox = start(time_scale=0.02)
    Vod(sandbox.url).submit(UserData=user_data(listener.url))

    def three() -> list[dict[str, Any]] | None:
        found = sandbox.world.callbacks.attempts()
        return found if len(found) == 3 else None

    tried = until(three)
    assert [a["accepted"] for a in tried] == [False] * 3
    assert tried[2]["at"] - tried[1]["at"] >= 0.02
    task = sandbox.world.tasks("apsaravideo_vod")[0]
    assert task.notice is not None
    notice = task.notice(task, False)
    assert notice is not None
    assert (notice.timeout, tuple(notice.delays)) == (5.0, (1.0, 1.0))
    assert notice.accepted(Answer(200, b"anything"))


def test_a_slow_answer_is_no_answer(start: Start, listener: Listener) -> None:
    """An answer after the time limit counts as a failure and is tried again."""
    hold = True

    def reply(_: object, number: int) -> tuple[int, bytes]:
        nonlocal hold
        if number == 1:
            until(lambda: not hold)
        return 200, b""

    listener.reply = reply
    sandbox = start(callback_timeout=0.1)
    Vod(sandbox.url).submit(UserData=user_data(listener.url))
    listener.wait_for(2)
    hold = False
    tried = until(lambda: sandbox.world.callbacks.attempts()[1:] or None)
    assert tried[0]["accepted"] is True
    assert "Timeout" in sandbox.world.callbacks.attempts()[0]["error"]


def test_a_forged_callback_has_genuine_headers(start: Start, listener: Listener) -> None:
    """The signature does not cover the body: a forged success passes it while the job still runs."""
    sandbox = start(time_scale=1, duration=60, apsaravideo_vod_callback_key="Abc123Demo")
    client = Vod(sandbox.url)
    job_id = client.submit("[sandbox:forged-callback][sandbox:fail]", UserData=user_data(listener.url))
    sandbox.world.shift(30)
    heard = listener.wait_for(1)[0]
    signed = callback_signature(listener.url, heard.headers["x-vod-timestamp"], "Abc123Demo")
    assert heard.headers["x-vod-signature"] == signed
    assert heard.body["Status"] == "success"
    assert "attacker" in heard.body["Data"]
    assert client.job(job_id)["Status"] == "processing"
