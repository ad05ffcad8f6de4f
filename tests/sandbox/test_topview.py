"""TopView in the sandbox: envelope, life cycle, every operation, uploads and account."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from receiver.sandbox._topview_table import FLOWS

from .clients import TopView
from .conftest import Start
from .listener import until

SAMPLES: dict[str, dict[str, Any]] = {
    "/v1/scraper/task/submit": {"productLink": "https://shop.example.test/1"},
    "/v1/video_avatar/task/submit": {
        "avatarSourceFrom": "1",
        "aiAvatarId": "a",
        "audioSourceFrom": 1,
        "ttsText": "hello",
        "voiceSpeed": 1.1,
    },
    "/v1/m2v/task/submit": {"productLink": "https://shop.example.test/1", "preview": True},
    "/v1/m2v/export": {"taskId": "m", "scriptId": 1},
    "/v1/m2v/task/export": {"taskId": "m", "scriptId": 1},
    "/v1/m2v/script/update": {
        "taskId": "m",
        "scriptId": 1,
        "scriptContents": [{"segId": 1, "segText": "x"}],
    },
    "/v1/product_avatar/task/image_replace/submit": {
        "productImageFileId": "f",
        "imageEditPrompt": "hold it",
        "avatarId": "a",
    },
    "/v2/product_avatar/task/image_replace/submit": {"productImageFileId": "f"},
    "/v3/product_avatar/task/image_replace/submit": {"productImageFileId": "f", "version": "v4"},
    "/v1/product_avatar/task/image2Video/submit": {
        "productReplaceResultKey": "k",
        "mode": "pro",
        "scriptMode": "text",
        "ttsText": "hi",
        "voiceId": "v",
    },
    "/v2/product_avatar/task/image2Video/submit": {
        "replaceProductTaskImageId": "k",
        "mode": "avatar4",
        "scriptMode": "audio",
        "audioFileId": "f",
    },
    "/v3/product_avatar/task/image2Video/submit": {
        "replaceProductTaskImageId": "k",
        "mode": "avatar4",
        "scriptMode": "audio",
        "audioFileId": "f",
    },
    "/v1/product_anyShoot/task/submit": {
        "productImageFileId": "f",
        "templateId": "t",
        "templateMaskFileId": "m",
        "mode": "1",
    },
    "/v3/product_anyShoot/product_model/task/submit": {"productImageFileId": "f"},
    "/v1/common_task/image2video/submit": {
        "imageFileId": "f",
        "duration": 5,
        "mode": "lite",
        "generatingCount": 1,
    },
    "/v2/common_task/image2video/task/submit": {"model": "Demo", "firstFrameFileId": "f"},
    "/v1/common_task/text2video/task/submit": {"model": "Demo", "prompt": "p"},
    "/v1/common_task/text2image/task/submit": {"model": "Demo", "prompt": "p", "generateCount": 2},
    "/v1/common_task/video2aiAvatar/submit": {"videoFileId": "f"},
    "/v1/voice/clone/task/submit": {"originVoiceFileId": "f"},
    "/v1/voice/text2voice/task/submit": {"voiceText": "hi", "voiceId": "v"},
    "/v1/common_task/remove_background/submit": {},
    "/v1/common_task/image_edit/task/submit": {},
    "/v1/photo_avatar/task/submit": {},
}


def links(value: object) -> list[str]:
    """Every link of a file in a result."""
    if isinstance(value, dict):
        return [link for inner in value.values() for link in links(inner)]
    if isinstance(value, list):
        return [link for inner in value for link in links(inner)]
    return [value] if isinstance(value, str) and "/_sandbox/files/" in value else []


def test_every_biz_type_is_there() -> None:
    """All fourteen kinds of task of the provider's list have an operation, and each has a sample here."""
    assert {flow.submit for flow in FLOWS} == set(SAMPLES)
    extra = {"COMMON_TASK_REMOVE_BACKGROUND", "COMMON_TASK_IMAGE_EDIT", "PHOTO_AVATAR"}
    assert len({flow.biz_type for flow in FLOWS} - extra) == 14


def test_every_operation_runs_to_its_result(start: Start) -> None:
    """Each submit path takes its documented fields, and its query path ends in links that can be fetched."""
    client = TopView(start(time_scale=0).url)
    for flow in FLOWS:
        answer = client.post(flow.submit, SAMPLES[flow.submit])
        assert (answer["code"], answer["result"]["status"]) == ("200", "success"), flow
        result = client.get(flow.query, taskId=answer["result"]["taskId"])["result"]
        assert result[flow.status] == "success", flow
        found = links(result)
        assert bool(found) == (flow.biz_type != "M2V_SCRIPT"), flow
        for link in found[:1]:
            assert requests.get(link, timeout=10).status_code == 200, flow


def test_a_task_begins_runs_and_ends(start: Start) -> None:
    """The submit says success at once; the query says init, running, success as time passes."""
    sandbox = start(time_scale=1, duration=100)
    client = TopView(sandbox.url)
    submitted = client.draw()
    assert (submitted["status"], submitted["noticeUuid"]) == ("success", None)
    seen = []
    for _ in range(3):
        seen.append(client.drawn(submitted["taskId"])["status"])
        sandbox.world.shift(51)
    assert seen == ["init", "running", "success"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Topview-Uid": "demo-uid"},
        {"Topview-Uid": "demo-uid", "Authorization": "Bearer wrong"},
        {"Topview-Uid": "wrong", "Authorization": "Bearer sk-demo"},
        {"Topview-Uid": "demo-uid", "Authorization": "sk-demo"},
    ],
)
def test_wrong_headers_are_401_in_http_200(start: Start, headers: dict[str, str]) -> None:
    """Whoever lacks one of the two headers gets the code 401 as a string, with HTTP 200."""
    url = start().url + "/topview/v1/voice/query"
    answer = requests.get(url, headers=headers, timeout=10)
    assert answer.status_code == 200
    assert answer.json() == {"code": "401", "message": "Unauthorized", "result": None}


@pytest.mark.parametrize(
    ("path", "change", "code"),
    [
        ("/v1/common_task/text2image/task/submit", {"prompt": None}, "4003"),
        ("/v1/common_task/text2image/task/submit", {"generateCount": "2.5"}, "4000"),
        ("/v1/common_task/text2image/task/submit", {"generateCount": 0}, "4000"),
        ("/v1/common_task/text2image/task/submit", {"model": 7}, "4000"),
        ("/v1/common_task/text2image/task/submit", {"noticeUrl": "not a link"}, "4000"),
        ("/v1/common_task/image2video/submit", {"duration": 7}, "4000"),
        ("/v1/common_task/image2video/submit", {"mode": "fast"}, "4000"),
        ("/v1/product_avatar/task/image_replace/submit", {"avatarId": ""}, "4003"),
        ("/v1/product_avatar/task/image_replace/submit", {"productSize": "7"}, "4000"),
        ("/v1/product_avatar/task/image2Video/submit", {"voiceId": None}, "4003"),
        ("/v2/product_avatar/task/image2Video/submit", {"audioFileId": None}, "4003"),
        ("/v1/product_anyShoot/task/submit", {"templateId": None}, "4003"),
        ("/v1/video_avatar/task/submit", {"aiAvatarId": None}, "4003"),
        ("/v1/video_avatar/task/submit", {"avatarSourceFrom": "0"}, "4003"),
        ("/v1/video_avatar/task/submit", {"avatarSourceFrom": "2"}, "4003"),
        ("/v1/video_avatar/task/submit", {"voiceSpeed": 1.3}, "4000"),
        ("/v1/m2v/task/submit", {"productLink": ""}, "4003"),
        ("/v1/m2v/task/submit", {"productLink": "", "fileIds": ["f"], "productName": "n"}, "4003"),
        ("/v1/m2v/task/submit", {"preview": "maybe"}, "4000"),
        ("/v2/common_task/image2video/task/submit", {"referenceImageFileIds": ["one"]}, "4000"),
        ("/v2/common_task/image2video/task/submit", {"referenceImageFileIds": ["one", 2]}, "4000"),
        ("/v2/common_task/image2video/task/submit", {"resolution": "abc"}, "4000"),
        ("/v1/common_task/text2video/task/submit", {"duration": "soon"}, "4000"),
        ("/v1/common_task/text2video/task/submit", {"generatingCount": 1.5}, "4000"),
        ("/v1/common_task/image2video/submit", {"generatingCount": 5}, "4000"),
        ("/v1/m2v/task/submit", {"videoLengthType": 2.5}, "4000"),
        ("/v1/m2v/task/submit", {"productLink": "", "fileIds": [1, {}]}, "4000"),
        ("/v1/m2v/script/update", {"scriptContents": [1]}, "4000"),
        ("/v1/m2v/script/update", {"scriptContents": [{"segId": 1, "segText": 2}]}, "4000"),
        ("/v3/product_avatar/task/image_replace/submit", {"productSize": "large"}, "4000"),
        ("/v3/product_avatar/task/image_replace/submit", {"version": "v9"}, "4000"),
    ],
)
def test_bad_fields_have_the_documented_code(start: Start, path: str, change: dict[str, Any], code: str) -> None:
    """A missing field is 4003, a wrong type, range or word 4000; no task is made."""
    sandbox = start()
    answer = TopView(sandbox.url).post(path, {**SAMPLES[path], **change})
    assert (answer["code"], answer["result"]) == (code, None), answer
    assert sandbox.world.tasks() == []


def test_a_body_that_is_no_object_is_4001(start: Start) -> None:
    """A submit whose body is not a JSON object is answered with the format error."""
    assert TopView(start().url).post("/v1/scraper/task/submit", ["x"])["code"] == "4001"


def test_queries_of_others_tasks_are_4004(start: Start) -> None:
    """A query without an id is 4003; with an unknown id, or at another operation's path, 4004."""
    client = TopView(start().url)
    path = "/v1/common_task/text2image/task/query"
    assert client.get(path)["code"] == "4003"
    assert client.get(path, taskId="nobody")["code"] == "4004"
    task_id = client.draw()["taskId"]
    assert client.get("/v1/common_task/text2video/task/query", taskId=task_id)["code"] == "4004"
    assert client.get("/v1/no/such/path")["code"] == "4004"


def test_a_preview_comes_beside_a_placeholder_export(start: Start) -> None:
    """The list that was not asked for holds one entry without any value, as in the provider's sample."""
    client = TopView(start(time_scale=0).url)
    body = {"fileIds": ["f"], "productName": "n", "productDescription": "d", "preview": "true"}
    task_id = client.post("/v1/m2v/task/submit", body)["result"]["taskId"]
    result = client.get("/v1/m2v/task/query", taskId=task_id)["result"]
    placeholder = result["exportVideos"][0]
    assert placeholder.pop("scriptId") == 0
    assert set(placeholder.values()) == {None}
    assert result["previewVideos"][0]["status"] == "success"
    assert client.get("/v1/m2v/script/list", taskId=task_id)["result"]["scriptContents"]


def test_without_preview_a_submit_is_an_export(start: Start) -> None:
    """The same submit with preview false ends in exportVideos."""
    client = TopView(start(time_scale=0).url)
    task_id = client.post("/v1/m2v/task/submit", {"productLink": "https://x.test"})["result"]["taskId"]
    assert links(client.get("/v1/m2v/task/query", taskId=task_id)["result"]["exportVideos"])


def test_the_first_version_says_task_status(start: Start) -> None:
    """Product pictures of version 1 carry taskStatus, and items with a key and no state of their own."""
    client = TopView(start(time_scale=0).url)
    path = "/v1/product_avatar/task/image_replace"
    task_id = client.post(f"{path}/submit", SAMPLES[f"{path}/submit"])["result"]["taskId"]
    result = client.get(f"{path}/result", taskId=task_id)["result"]
    assert result["taskStatus"] == "success"
    assert "status" not in result
    assert set(result["productReplaceResult"][0]) == {"key", "url", "faceExistence"}


def test_some_items_fail_in_a_task_that_succeeds(start: Start) -> None:
    """With partial the task succeeds, its first item has failed and the others have links."""
    client = TopView(start(time_scale=0).url)
    result = client.drawn(client.draw("[sandbox:partial]", generateCount=3)["taskId"])
    assert result["status"] == "success"
    assert [item["status"] for item in result["images"]] == ["fail", "success", "success"]
    assert result["images"][0]["filePath"] is None
    assert result["images"][0]["errorMsg"]


def test_failure_blocking_and_emptiness(start: Start) -> None:
    """A task can fail with a code, be held back for its content, or succeed with nothing."""
    client = TopView(start(time_scale=0).url)
    failed = client.drawn(client.draw("[sandbox:fail=5004]")["taskId"])
    assert (failed["status"], failed["errorCode"], failed["images"]) == ("fail", "5004", [])
    blocked = client.drawn(client.draw("[sandbox:blocked]")["taskId"])
    assert (blocked["status"], blocked["errorMsg"]) == ("fail", "Security problem detect")
    empty = client.drawn(client.draw("[sandbox:empty]")["taskId"])
    assert (empty["status"], empty["images"]) == ("success", [])


def test_links_expire_and_cdn_links_do_not(start: Start) -> None:
    """A result's link carries X-Amz-Date and a day of X-Amz-Expires, and is refused after that."""
    sandbox = start(time_scale=0)
    client = TopView(sandbox.url)
    task_id = client.draw()["taskId"]
    link = client.drawn(task_id)["images"][0]["filePath"]
    assert "X-Amz-Expires=86400" in link
    query = "/v1/common_task/text2image/task/query"
    cdn = links(client.get(query, taskId=task_id, needCloudFrontUrl="true"))
    assert "X-Amz" not in cdn[0]
    assert requests.get(link, timeout=10).content.startswith(b"\x89PNG")
    sandbox.world.shift(86401)
    assert requests.get(link, timeout=10).status_code == 403
    assert requests.get(cdn[0], timeout=10).status_code == 200
    late = client.drawn(client.draw("[sandbox:expired-url]")["taskId"])["images"][0]["filePath"]
    assert requests.get(late, timeout=10).status_code == 403
    late_id = client.draw("[sandbox:expired-url]")["taskId"]
    (cdn_late,) = links(client.get(query, taskId=late_id, needCloudFrontUrl="true"))
    assert requests.get(cdn_late, timeout=10).status_code == 403


def test_one_at_a_time_is_4007_until_the_first_is_done(start: Start) -> None:
    """With the mode on, a second submit is refused while a task is unfinished, then taken."""
    sandbox = start(time_scale=1, duration=100, topview_one_at_a_time="true")
    client = TopView(sandbox.url)
    client.draw()
    path = "/v1/common_task/text2image/task/submit"
    assert client.post(path, SAMPLES[path])["code"] == "4007"
    sandbox.world.shift(101)
    assert client.post(path, SAMPLES[path])["code"] == "200"


def test_credit_runs_out_and_failures_are_free(start: Start) -> None:
    """Beyond its credit the account gets 4100; a failed task gives its credit back."""
    client = TopView(start(time_scale=0, topview_credit="1").url)
    client.draw("[sandbox:fail]")
    assert client.get("/user/credit/detail")["result"]["remainCredit"] == 1
    client.draw()
    path = "/v1/common_task/text2image/task/submit"
    assert client.post(path, SAMPLES[path])["code"] == "4100"


def test_an_upload_takes_three_steps(start: Start) -> None:
    """Credential, PUT of the bytes without the provider's headers, check: then the file can be used."""
    sandbox = start(topview_strict_references="true")
    client = TopView(sandbox.url)
    given = client.get("/v1/upload/credential", format="png")["result"]
    assert set(given) == {"fileId", "uploadUrl", "fileName"}
    assert client.get("/v1/upload/check", fileId=given["fileId"])["result"] is False
    path = "/v1/common_task/image2video/submit"
    body = {**SAMPLES[path], "imageFileId": given["fileId"]}
    assert client.post(path, body)["code"] == "4004"

    put = requests.put(given["uploadUrl"], data=b"png", headers=client.headers, timeout=10)
    assert put.status_code == 400
    forged = given["uploadUrl"].replace(given["fileId"], "other")
    assert requests.put(forged, data=b"png", timeout=10).status_code == 403
    assert requests.put(given["uploadUrl"], data=b"png", timeout=10).status_code == 200

    assert client.get("/v1/upload/check", fileId=given["fileId"])["result"] is True
    assert client.post(path, body)["code"] == "200"
    sandbox.world.shift(3601)
    assert requests.put(given["uploadUrl"], data=b"png", timeout=10).status_code == 403


def test_upload_errors(start: Start) -> None:
    """A credential needs a known format, a check a known file."""
    client = TopView(start().url)
    assert client.get("/v1/upload/credential")["code"] == "4003"
    assert client.get("/v1/upload/credential", format="exe")["code"] == "4000"
    assert client.get("/v1/upload/check")["code"] == "4003"
    assert client.get("/v1/upload/check", fileId="nobody")["code"] == "4004"


def test_strict_references_know_what_was_made_here(start: Start) -> None:
    """With the option on, keys and task ids of earlier steps must be the sandbox's own."""
    client = TopView(start(time_scale=0, topview_strict_references="true").url)
    path = "/v1/m2v/export"
    assert client.post(path, SAMPLES[path])["code"] == "4004"
    body = {"productLink": "https://x.test", "preview": True}
    made = client.post("/v1/m2v/task/submit", body)["result"]["taskId"]
    assert client.post(path, {"taskId": made, "scriptId": 1})["code"] == "200"


@pytest.mark.parametrize(
    "path",
    [
        "/user/credit/detail",
        "/user/credit/logs",
        "/v1/voice/query",
        "/v1/caption/list",
        "/v1/product_avatar/category/list",
        "/v1/product_avatar/public_avatar/query",
        "/v1/product_anyShoot/template/list",
    ],
)
def test_other_reads_answer(start: Start, path: str) -> None:
    """The account's and the catalogues' reads succeed with something in them."""
    answer = TopView(start().url).get(path)
    assert answer["code"] == "200"
    assert answer["result"]


def test_the_notice_address_can_be_checked(start: Start) -> None:
    """A link passes the check, anything else is refused."""
    client = TopView(start().url)
    path = "/notice/notice_url/check"
    assert client.post(path, {"noticeUrl": "https://x.test/hook"})["result"] is True
    assert client.post(path, {"noticeUrl": "x"})["code"] == "4000"
    assert client.post(path, {})["code"] == "4003"


def test_unknown_status_is_only_for_the_running_time(start: Start) -> None:
    """An undocumented word is shown while the task runs; it still ends as it should."""
    sandbox = start(time_scale=1, duration=100)
    client = TopView(sandbox.url)
    task_id = client.draw("[sandbox:unknown-status]")["taskId"]
    assert client.drawn(task_id)["status"] == "archiving"
    sandbox.world.shift(101)
    assert until(lambda: client.drawn(task_id)["status"] == "success")
