"""Img Open in the sandbox: drawing, both readings of a status, tools with the ladder, training, lists."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from receiver.sandbox._img_open_fields import STABLE_DIFFUSION, TOOLS
from receiver.sandbox.img_open import LADDER

from .clients import ImgOpen
from .conftest import Start
from .listener import Listener, until

SWAP = {"sourceUrl": "https://x.test/1.png", "targetUrl": "https://x.test/2.png"}
TOOL_SAMPLES: dict[str, dict[str, Any]] = {
    "comfyui/text2image": {"prompt": "a cat", "callbackUrl": "http://127.0.0.1:1/"},
    "roop": SWAP,
    "v2/roop": {**SWAP, "fidelityWeight": "0.5"},
    "face/fusion": {**SWAP, "sourceUrl": ["https://x.test/1.png"]},
    "face/detection": {"imageUrl": "https://x.test/1.png"},
    "instantID": {"image": "https://x.test/1.png", "prompt": "a cat", "width": 960},
    "interrogate": {"image": "https://x.test/1.png", "callbackUrl": "http://127.0.0.1:1/"},
    "hair/change": {},
    "identifyStyle": {},
    "imgExpand": {
        "sourceImage": "https://x.test/1.png", "imageCount": 1,
        "verticalExpansionRatio": 1.5, "horizontalExpansionRatio": 2,
    },
    "cnt/preview": {"sourceImage": "https://x.test/1.png", "preprocessor": "canny"},
}  # fmt: skip


def test_a_drawing_begins_runs_and_ends(start: Start) -> None:
    """The answer gives the caller's own id back; V2.0 counts 0, 1, 2 and shows progress until the end."""
    sandbox = start(time_scale=1, duration=100)
    client = ImgOpen(sandbox.url)
    assert client.draw("mine", n_iter=2) == {"code": "200", "msg": "success", "data": {"task_id": "mine"}}
    seen = []
    for _ in range(3):
        seen.append(client.drawn("mine")["data"])
        sandbox.world.shift(51)
    assert [data["status"] for data in seen] == [0, 1, 2]
    assert 0.51 <= seen[1]["temporaryImageDto"]["progress"] < 0.6
    assert seen[1]["differentialImageRspList"] == []
    assert seen[2]["temporaryImageDto"] is None
    assert seen[2]["id_task"] == "mine"
    images = seen[2]["differentialImageRspList"]
    assert len(images) == 4
    assert (images[0]["image_status"], images[0]["img_audit_status"]) == (1, True)
    assert requests.get(images[0]["image_url"], timeout=10).content.startswith(b"\x89PNG")


@pytest.mark.parametrize("path", STABLE_DIFFUSION)
def test_every_way_of_drawing(start: Start, path: str) -> None:
    """Each drawing operation takes its fields and can be queried by both versions."""
    client = ImgOpen(start(time_scale=0).url)
    scripts = {"image_link": "https://x.test/1.png"}
    body = {"prompt": "a cat", "batch_size": 1, "seed": "-1", "alwayson_scripts": scripts}
    task_id = client.post(path, body)["data"]["task_id"]
    assert client.drawn(task_id)["data"]["id_task"] == task_id
    assert client.drawn(task_id, "")["data"]["task_id"] == task_id


@pytest.mark.parametrize(
    ("version", "reading", "numbers"),
    [
        ("", "observed", (0, 0, 2, 2)),
        ("", "table", (0, 0, 1, 2)),
        ("v2/", "observed", (0, 1, 2, 2)),
        ("v2/", "table", (0, 0, 1, 2)),
    ],
)
def test_both_readings_of_a_status(
    start: Start, version: str, reading: str, numbers: tuple[int, int, int, int]
) -> None:
    """The numbers of a queued, running, finished and failed drawing follow the reading that was chosen."""
    option = "img_open_status_v2" if version else "img_open_status_v1"
    sandbox = start(time_scale=1, duration=100, **{option: reading})
    client = ImgOpen(sandbox.url)
    client.draw("good")
    client.draw("bad", "[sandbox:fail]")
    seen = []
    for _ in range(3):
        seen.append(client.drawn("good", version)["data"]["status"])
        sandbox.world.shift(51)
    failed = client.drawn("bad", version)["data"]
    assert (*seen, failed["status"]) == numbers
    assert failed["differentialImageRspList"] == []


def test_another_number_for_a_failure(start: Start) -> None:
    """fail=5 shows a number that no page documents."""
    client = ImgOpen(start(time_scale=0).url)
    client.draw("bad", "[sandbox:fail=5]")
    assert client.drawn("bad")["data"]["status"] == 5


def test_moderation_holds_one_picture_back(start: Start) -> None:
    """A drawing can succeed while one of its pictures is blocked, or was never drawn."""
    client = ImgOpen(start(time_scale=0).url)
    client.draw("blocked", "[sandbox:blocked]")
    first, second = client.drawn("blocked")["data"]["differentialImageRspList"]
    assert (first["img_audit_status"], first["image_url"]) == (False, "")
    assert second["image_url"]
    client.draw("partial", "[sandbox:partial]")
    first, second = client.drawn("partial")["data"]["differentialImageRspList"]
    assert (first["image_status"], first["image_url"]) == (0, "")
    client.draw("empty", "[sandbox:empty]")
    assert client.drawn("empty")["data"]["differentialImageRspList"] == []


def test_v2_forgets_at_the_months_end(start: Start) -> None:
    """In the next month, by UTC+8, V2.0 answers 402 and V1.0 still knows the task."""
    sandbox = start(time_scale=0)
    client = ImgOpen(sandbox.url)
    midnight = datetime(2027, 2, 1, tzinfo=UTC).timestamp() - 8 * 3600
    sandbox.world.shift(midnight - 60 - sandbox.world.now())
    client.draw("mine")
    assert client.drawn("mine")["code"] == "200"
    sandbox.world.shift(120)
    assert client.drawn("mine") == {"code": "402", "msg": "task does not exist", "data": None}
    assert client.drawn("mine", "")["data"]["status"] == 2


@pytest.mark.parametrize("headers", [{}, {"X-Request-req-accessKeyId": "demo-id"}, {"X-Request-req-accessKeyId": "x"}])
def test_wrong_keys_are_401_in_http_200(start: Start, headers: dict[str, str]) -> None:
    """Both headers must be right; the answer has a string code and HTTP 200."""
    client = ImgOpen(start().url)
    client.headers = headers
    assert client.draw("x") == {"code": "401", "msg": "unauthorized", "data": None}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("sd/v2/text2image", {"prompt": "a"}),
        ("sd/v2/text2image", {"batch_size": 1}),
        ("sd/v2/text2image", {"prompt": "a", "batch_size": "1"}),
        ("sd/v2/text2image", {"prompt": "a", "batch_size": 1, "width": "768"}),
        ("sd/v2/text2image", {"prompt": "a", "batch_size": 1, "alwayson_scripts": []}),
        ("sd/v2/text2image", {"prompt": "a", "batch_size": 1, "alwayson_scripts": {"id_task": 7}}),
        ("tool/face/detection", {"businessTaskId": "b", "image": "https://x.test/1.png"}),
        ("tool/imgExpand", {"businessTaskId": "b", **TOOL_SAMPLES["imgExpand"], "verticalExpansionRatio": 5}),
        ("sd/v2/text2image", ["a"]),
        ("tool/roop", SWAP),
        ("tool/roop", {"businessTaskId": "b", "sourceUrl": "https://x.test/1.png"}),
        ("tool/roop", {"businessTaskId": "b", **SWAP, "sourceUrl": "face.png"}),
        ("tool/v2/roop", {"businessTaskId": "b", **SWAP, "targetUrl": "ftp://x.test/1.png"}),
        ("tool/v2/roop", {"businessTaskId": "b", **SWAP, "fidelityWeight": "1.5"}),
        ("tool/v2/roop", {"businessTaskId": "b", **SWAP, "fidelityWeight": "much"}),
        ("tool/face/fusion", {"businessTaskId": "b", **SWAP}),
        ("tool/face/fusion", {"businessTaskId": "b", **SWAP, "sourceUrl": ["https://x.test/1.png"] * 3}),
        ("tool/face/fusion", {"businessTaskId": "b", **SWAP, "sourceUrl": ["https://x.test/1.png", "face.png"]}),
        ("tool/face/fusion", {"businessTaskId": "b", "sourceUrl": ["https://x.test/1.png"], "targetUrl": "face.png"}),
        ("tool/comfyui/text2image", {"businessTaskId": "b", "prompt": "a"}),
        ("tool/comfyui/text2image", {"businessTaskId": "b", "prompt": "a", "callbackUrl": "x"}),
        ("tool/interrogate", {"businessTaskId": "b", "image": "x"}),
        ("tool/instantID", {"businessTaskId": "b", "image": "x", "prompt": "p", "width": 512}),
        ("sd/v2/queryTaskInfo", {}),
        ("sd/v2/queryModelList", {"pageNum": 1}),
        ("tool/nobody", {"businessTaskId": "b"}),
    ],
)
def test_bad_bodies_are_400(start: Start, path: str, body: object) -> None:
    """A missing or wrong field, and an operation that is not there, have the failure code."""
    sandbox = start()
    assert ImgOpen(sandbox.url).post(path, body)["code"] == "400"
    assert sandbox.world.tasks() == []


def test_no_number_of_pictures_is_too_large(start: Start) -> None:
    """No page limits how many may be asked for; the sandbox takes any number and shows the first hundred."""
    client = ImgOpen(start(time_scale=0).url)
    assert client.draw("many", batch_size=17, n_iter=1)["code"] == "200"
    assert len(client.drawn("many")["data"]["differentialImageRspList"]) == 17
    client.draw("more", batch_size=10**9, n_iter=10**9)
    assert len(client.drawn("more")["data"]["differentialImageRspList"]) == 100


def test_a_callers_id_works_once(start: Start) -> None:
    """The same id again is 400 and starts nothing; drawings, tools and training count apart."""
    sandbox = start()
    client = ImgOpen(sandbox.url)
    assert client.draw("mine")["code"] == "200"
    assert client.draw("mine")["code"] == "400"
    assert client.post("tool/roop", {"businessTaskId": "mine", **SWAP})["code"] == "200"
    assert client.post("tool/v2/roop", {"businessTaskId": "mine", **SWAP})["code"] == "400"
    assert len(sandbox.world.starts()["mine"]) == 2


def test_unknown_ids_are_402(start: Start) -> None:
    """Every query of an id that nobody submitted says that the task does not exist."""
    client = ImgOpen(start().url)
    client.post("tool/roop", {"businessTaskId": "mine", **SWAP})
    for path in ("sd/queryTaskInfo", "sd/v2/queryTaskInfo", "tool/v2/roop/queryTask"):
        assert client.post(path, {"businessTaskId": "mine"})["code"] == "402", path


def test_every_tool_has_a_sample() -> None:
    """No tool of the table goes untested."""
    assert set(TOOL_SAMPLES) == set(TOOLS)


@pytest.mark.parametrize("code", TOOLS)
def test_every_tool_ends_in_its_result(start: Start, code: str) -> None:
    """Status 0 at first, then 1 with the tool's own field, also for codes with a slash."""
    client = ImgOpen(start(time_scale=0, always="[sandbox:no-callback]").url)
    submitted = client.post(f"tool/{code}", {"businessTaskId": "mine", **TOOL_SAMPLES[code]})["data"]
    assert (submitted["businessTaskId"], submitted["status"]) == ("mine", 0)
    data = client.post(f"tool/{code}/queryTask", {"businessTaskId": "mine"})["data"]
    assert (data["taskId"], data["status"]) == (submitted["taskId"], 1)
    assert data[TOOLS[code].result]


def test_a_failed_tool(start: Start) -> None:
    """A tool that failed or was blocked has status 2 and no result."""
    client = ImgOpen(start(time_scale=0).url)
    for token in ("fail", "blocked"):
        client.post("tool/hair/change", {"businessTaskId": token, "prompt": f"[sandbox:{token}]"})
        data = client.post("tool/hair/change/queryTask", {"businessTaskId": token})["data"]
        assert data["status"] == 2
        assert "outputImageUrl" not in data


def test_a_tool_calls_back_with_its_querys_answer(start: Start, listener: Listener) -> None:
    """POST of the asynchronous answer's envelope; {"code":"200"} ends it at the first attempt."""
    sandbox = start()
    client = ImgOpen(sandbox.url)
    body = {"businessTaskId": "mine", "image": "https://x.test/1.png", "callbackUrl": f"{listener.url}/hook"}
    client.post("tool/interrogate", body)
    heard = listener.wait_for(1)[0].body
    assert heard["code"] == "200"
    assert heard["data"] == client.post("tool/interrogate/queryTask", {"businessTaskId": "mine"})["data"]
    assert heard["data"]["caption"]
    assert until(sandbox.world.callbacks.attempts)[0]["accepted"] is True


def test_a_tool_without_callbacks_calls_nobody(start: Start, listener: Listener) -> None:
    """Tools whose pages know no callbackUrl ignore one."""
    sandbox = start(time_scale=0)
    body = {"businessTaskId": "mine", **SWAP, "callbackUrl": listener.url}
    ImgOpen(sandbox.url).post("tool/roop", body)
    assert sandbox.world.tasks("img_open")[0].notice is None


@pytest.mark.parametrize(
    "wrong", [(200, b"ok"), (200, b'{"code":"400"}'), (500, b""), (200, b'["200"]'), (200, b"[" * 60_000)]
)
def test_the_ladder_has_ten_more_attempts(start: Start, listener: Listener, wrong: tuple[int, bytes]) -> None:
    """Only a JSON code of 200 counts; else 3, 5, 15, 30, 60, 600, then 3600 s, ten times after the first."""
    listener.reply = lambda heard, number: wrong
    sandbox = start(time_scale=0.000001)
    ImgOpen(sandbox.url).post(
        "tool/instantID", {**TOOL_SAMPLES["instantID"], "businessTaskId": "m", "callbackUrl": listener.url}
    )
    listener.wait_for(11)
    tried = until(lambda: sandbox.world.callbacks.attempts()[10:])
    assert [a["attempt"] for a in tried] == [11]
    task = sandbox.world.tasks("img_open")[0]
    assert task.notice is not None
    notice = task.notice(task, False)
    assert notice is not None
    assert tuple(notice.delays) == (*LADDER, 3600.0, 3600.0, 3600.0)


def test_the_status_of_an_answer_does_not_matter(start: Start, listener: Listener) -> None:
    """Code 200 in the JSON is enough, as a number too, whatever the HTTP status."""
    listener.reply = lambda heard, number: (500, b'{"code":200}')
    sandbox = start()
    client = ImgOpen(sandbox.url)
    client.post("tool/instantID", {**TOOL_SAMPLES["instantID"], "businessTaskId": "m", "callbackUrl": listener.url})
    assert until(sandbox.world.callbacks.attempts)[0]["accepted"] is True


def test_a_forged_callback(start: Start, listener: Listener) -> None:
    """While the tool runs, a callback claims success with an attacker's link."""
    sandbox = start(time_scale=1, duration=60)
    client = ImgOpen(sandbox.url)
    body = {**TOOL_SAMPLES["instantID"], "prompt": "[sandbox:forged-callback]", "callbackUrl": listener.url}
    client.post("tool/instantID", {**body, "businessTaskId": "m"})
    sandbox.world.shift(30)
    heard = listener.wait_for(1)[0].body["data"]
    assert (heard["businessTaskId"], heard["status"]) == ("m", 1)
    assert "attacker" in heard["outputImageUrl"]
    assert client.post("tool/instantID/queryTask", {"businessTaskId": "m"})["data"]["status"] == 0


def test_more_tools_by_configuration(start: Start) -> None:
    """Tool codes whose pages could not be read are a setting."""
    client = ImgOpen(start(time_scale=0, img_open_more_tools="image/enlarge, watermark").url)
    assert client.post("tool/image/enlarge", {"businessTaskId": "b", "image": "x"})["code"] == "200"
    assert client.post("tool/image/enlarge/queryTask", {"businessTaskId": "b"})["data"]["outputImageUrl"]


def test_training(start: Start, listener: Listener) -> None:
    """A training job needs ten pictures and its own id, and reports to the configured address."""
    sandbox = start(img_open_training_callback_url=f"{listener.url}/training")
    client = ImgOpen(sandbox.url)
    path = "modelTraining/submitTraining/Job"
    links = [f"https://x.test/{number}.png" for number in range(10)]
    assert client.post(path, {"taskId": "t", "fileUrlList": links[:9]})["code"] == "400"
    assert client.post(path, {"taskId": "t", "fileUrlList": ["x"] * 10})["code"] == "400"
    wrong = {"taskId": "t", "fileUrlList": links, "learningRate": "0.1"}
    assert client.post(path, wrong)["code"] == "400"
    assert client.post(path, {**wrong, "learningRate": "0.00001"})["data"] == {"taskId": "t"}
    assert client.post(path, {"taskId": "t", "fileUrlList": links})["code"] == "400"
    assert listener.wait_for(1)[0].body["data"] == {"taskId": "t", "status": 1}


@pytest.mark.parametrize("name", ["queryModelList", "queryLoraList", "queryVaeList", "queryEmbeddingList"])
def test_lists_have_pages(start: Start, name: str) -> None:
    """Rows, total and the page asked for."""
    client = ImgOpen(start().url)
    data = client.post(f"sd/v2/{name}", {"pageSize": 5, "pageNum": 3})["data"]
    assert (len(data["rows"]), data["total"], data["pageSize"], data["pageNum"]) == (2, 12, 5, 3)


def test_too_many_calls(start: Start) -> None:
    """Above the rate the answer has HTTP 429 and a code."""
    client = ImgOpen(start(img_open_rate="0.01").url)
    client.draw("a")
    answer = requests.post(client.base + "sd/queryTaskInfo", json={}, headers=client.headers, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (429, "429")
