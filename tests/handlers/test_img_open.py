"""Img Open: the conformance suite with its samples, and how tasks are submitted and found again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from marshmallow import ValidationError

import handlers
from handlers import (
    ErrorCode,
    OutcomeUnknown,
    Rejected,
    RemoteStatus,
    RemoteTask,
    Reply,
    Submission,
    Unavailable,
)
from handlers.img_open import ImgOpen
from tests.handlers.conformance import (
    CALLBACK_URL,
    NOW,
    ErrorSample,
    HandlerConformance,
    NoticeSample,
    QuerySample,
    SubmitSample,
)
from tests.handlers.fake_provider import Answer, FakeProvider, Request, Reset, json_answer

SETTINGS = {"access_key_id": "demo-id", "access_key_secret": "demo-secret-0001"}
ROOT = "/AIGCImgOpenServ/saas"
IMAGE = {
    "img_audit": [{"confidence": None, "label": "nonLabel"}], "img_audit_status": True, "image_status": 1,
    "image_url": "https://aigcoss.test/a-0.png", "seed": 1063029203,
}  # fmt: skip
BLOCKED = IMAGE | {"img_audit_status": False, "img_audit": [{"confidence": 99.1, "label": "porn"}]}
SD = {"prompt": "a cat", "batch_size": 1}
PICTURE = "https://pictures.test/a.png"


def envelope(data: Any, code: str = "200", msg: str = "success") -> Answer:
    """The provider's envelope."""
    return json_answer({"code": code, "msg": msg, "data": data})


def sd(status: Any, *images: Mapping[str, Any], **more: Any) -> Answer:
    """An answer of the V2.0 query."""
    return envelope({
        "id_task": "task_1", "status": status, "desc": "Success", "temporaryImageDto": None,
        "differentialImageRspList": list(images), **more,
    })  # fmt: skip


def tool(status: Any, **more: Any) -> Answer:
    """An answer of the tool query; the asynchronous answer has the same form."""
    return envelope({"taskId": "t-9", "businessTaskId": "task_1", "status": status, **more})


GONE = envelope(None, "402", "task does not exist")


def task(operation: str = "sd_text2image", provider_task_id: str | None = "task_1", age: float = 60.0) -> RemoteTask:
    """A task of ours that runs there."""
    return RemoteTask("task_1", operation, provider_task_id, {}, {}, age)


def body(answer: Answer) -> bytes:
    """A notice with the body of an answer."""
    return answer.body


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """The provider's side."""
    with FakeProvider() as provider:
        yield provider


def load(remote: FakeProvider | None = None, **settings: str) -> ImgOpen:
    """The handler with these settings, pointed at the fake provider."""
    given = SETTINGS | ({"base_url": remote.url} if remote else {}) | settings
    return cast("ImgOpen", handlers.load("img_open", given, clock=lambda: NOW))


def submission(operation: str = "sd_text2image", *, repeated: bool = False, **given: Any) -> Submission:
    """A validated submission."""
    schema = ImgOpen.operations[operation].schema()
    return Submission("task_1", operation, schema.load(given or SD), CALLBACK_URL, repeated)


FACES = {"sourceUrl": PICTURE, "targetUrl": PICTURE}
INPUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "flux_text2image": ("tool/comfyui/text2image", {"prompt": "a cat", "comfyTaskType": "Flux1SchnellFP8"}),
    "face_swap_v1": ("tool/roop", FACES),
    "face_swap_v2": ("tool/v2/roop", FACES | {"fidelityWeight": 0.5}),
    "face_fusion": ("tool/face/fusion", FACES | {"sourceUrl": [PICTURE], "faceIdx": 0}),
    "face_detection": ("tool/face/detection", {"imageUrl": PICTURE}),
    "instant_id": ("tool/instantID", {"image": PICTURE, "prompt": "oil painting", "width": 960, "height": 960}),
    "image_description": ("tool/interrogate", {"image": PICTURE, "model": "clip"}),
    "hair_change": ("tool/hair/change", {}),
    "style_recognition": ("tool/identifyStyle", {}),
    "outpainting": ("tool/imgExpand", {
        "sourceImage": PICTURE, "imageCount": 1, "verticalExpansionRatio": 1.5, "horizontalExpansionRatio": 2,
    }),
    "cnt_preview": ("tool/cnt/preview", {"sourceImage": PICTURE, "preprocessor": "canny"}),
}  # fmt: skip
TRAINING = {"fileUrlList": [PICTURE] * 10, "maxEpochs": 20, "learningRate": 0.00001}


class TestConformance(HandlerConformance):
    """Every handler's promises."""

    provider = "img_open"
    settings = SETTINGS | {"training_query_path": "modelTraining/queryJob"}
    credential_headers = ("X-Request-req-accessKeySecret",)
    junk_reply = Reply(b'{"code":"200"}')
    finds_lost = True
    refusal_is_certain = False
    submits = (
        *(
            SubmitSample(
                name, SD, [envelope({"task_id": "task_1"})], "task_1", path=f"{ROOT}/sd/v2/{name.removeprefix('sd_')}"
            )
            for name in ("sd_text2image", "sd_image2image", "sd_controlnet")
        ),
        *(
            SubmitSample(name, given, [tool(0)], "task_1", path=f"{ROOT}/{path}")
            for name, (path, given) in INPUTS.items()
        ),
        SubmitSample(
            "model_training", TRAINING, [envelope(None)], "task_1", path=f"{ROOT}/modelTraining/submitTraining/Job"
        ),
    )
    queries = (
        QuerySample("sd_text2image", sd(2, IMAGE), RemoteStatus.SUCCEEDED, kinds=("image",)),
        QuerySample("sd_text2image", sd(2, IMAGE, BLOCKED), RemoteStatus.SUCCEEDED, kinds=("image", "image")),
        QuerySample("sd_text2image", sd(2), RemoteStatus.FAILED, error=ErrorCode.PROVIDER_ERROR),
        QuerySample(
            "sd_text2image", sd(2, BLOCKED), RemoteStatus.FAILED, kinds=("image",), error=ErrorCode.CONTENT_POLICY
        ),
        QuerySample("sd_text2image", sd(0), RemoteStatus.QUEUED),
        QuerySample("sd_text2image", sd(1, IMAGE), RemoteStatus.RUNNING),
        QuerySample("sd_text2image", sd(3), RemoteStatus.RUNNING),
        QuerySample("face_swap_v1", tool(0), RemoteStatus.RUNNING),
        QuerySample("face_swap_v1", tool(1, outputImageUrl=PICTURE), RemoteStatus.SUCCEEDED, kinds=("image",)),
        QuerySample("image_description", tool(1, caption="a cat"), RemoteStatus.SUCCEEDED, kinds=("text",)),
        QuerySample("face_swap_v1", tool(1, other="x"), RemoteStatus.FAILED, error=ErrorCode.EMPTY_RESULT),
        QuerySample("face_swap_v1", tool(2), RemoteStatus.FAILED, error=ErrorCode.PROVIDER_ERROR),
        QuerySample("style_recognition", tool(1, styles=["anime"]), RemoteStatus.SUCCEEDED, kinds=("data",)),
    )
    errors = (
        ErrorSample(envelope(None, "400", "failure"), ErrorCode.PROVIDER_ERROR, ErrorCode.PROVIDER_ERROR),
        ErrorSample(envelope(None, "401", "unauthorized"), ErrorCode.AUTHENTICATION, ErrorCode.AUTHENTICATION),
        ErrorSample(GONE, ErrorCode.NOT_FOUND, RemoteStatus.FAILED),
        ErrorSample(envelope(None, "429"), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(None, "500"), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(None, "9999"), OutcomeUnknown, Unavailable),
        ErrorSample(json_answer({"code": "400"}, 502), OutcomeUnknown, Unavailable),
        ErrorSample(json_answer({"error": "no such path"}, 404), ErrorCode.NOT_FOUND, Unavailable),
        ErrorSample(json_answer({"data": {}}), OutcomeUnknown, Unavailable),
    )
    notices = (
        NoticeSample(
            body(tool(1, outputImageUrl=PICTURE)),
            RemoteStatus.SUCCEEDED,
            task("flux_text2image"),
            kinds=("image",),
            reply=Reply(b'{"code":"200"}'),
        ),
        NoticeSample(
            json.dumps({"businessTaskId": "task_1", "status": 1, "caption": "a cat"}).encode(),
            RemoteStatus.SUCCEEDED,
            task("image_description", None),
            kinds=("text",),
        ),
        NoticeSample(body(tool(2)), RemoteStatus.FAILED, task("face_fusion"), error=ErrorCode.PROVIDER_ERROR),
        NoticeSample(  # a success that its own code contradicts: the query tells
            body(envelope({"businessTaskId": "task_1", "status": 1, "outputImageUrl": PICTURE}, "400")),
            RemoteStatus.RUNNING,
            task("face_fusion"),
        ),
        NoticeSample(body(envelope({"businessTaskId": "task_1"})), RemoteStatus.RUNNING, task("face_fusion")),
        NoticeSample(
            json.dumps({"taskId": "task_1", "status": 1, "model": "m"}).encode(),
            RemoteStatus.SUCCEEDED,
            task("model_training"),
            kinds=("data",),
        ),
    )
    bad_notices = (
        NoticeSample(
            json.dumps({"businessTaskId": "another", "status": 1}).encode(), RemoteStatus.RUNNING, task("face_fusion")
        ).notice,
        NoticeSample(body(envelope(None, "400")), RemoteStatus.RUNNING, task("face_fusion")).notice,
        NoticeSample(body(tool(1)), RemoteStatus.RUNNING, task("sd_text2image")).notice,
        NoticeSample(body(tool(1)), RemoteStatus.RUNNING, task("no_such_operation")).notice,
        NoticeSample(body(tool(1)), RemoteStatus.RUNNING, None).notice,
    )

    def with_status(self, sample: QuerySample, word: str) -> Answer:
        """The task's status."""
        value = json.loads(sample.answer.body)
        value["data"]["status"] = word
        return json_answer(value)


# -- what is sent ----------------------------------------------------------------------------------


def test_our_task_id_is_the_providers_handle(remote: FakeProvider) -> None:
    """``id_task`` beside the caller's scripts, ``businessTaskId`` for tools; both header names as documented."""
    handler = load(remote)
    remote.answer(envelope({"task_id": "task_1"}))
    handler.submit(submission(**SD, seed=7, cfg_scale=7, alwayson_scripts={"sd_vae": "v", "x": 1}))
    assert remote.last.json() == {
        **SD, "seed": "7", "cfg_scale": 7, "alwayson_scripts": {"sd_vae": "v", "x": 1, "id_task": "task_1"},
    }  # fmt: skip
    assert b'"cfg_scale":7,' in remote.last.body
    assert remote.last.header("X-Request-req-accessKeyId") == "demo-id"
    assert remote.last.header("X-Request-req-accessKeySecret") == "demo-secret-0001"
    assert remote.last.header("Content-Type") == "application/json"
    handler.submit(submission("face_swap_v2", **FACES, fidelityWeight=0.5))
    assert remote.last.json() == {**FACES, "fidelityWeight": "0.5", "businessTaskId": "task_1"}
    handler.submit(submission("flux_text2image", prompt="a cat"))
    assert remote.last.json() == {"prompt": "a cat", "businessTaskId": "task_1", "callbackUrl": CALLBACK_URL}


def test_whichever_id_the_answer_gives_is_used(remote: FakeProvider) -> None:
    """The provider's id wins, ours is the fall-back: an accepted task is never lost for want of an id."""
    handler = load(remote)
    for data, expected in (
        ({"task_id": 20000051}, "20000051"),
        ({"id_task": "x"}, "x"),
        ({}, "task_1"),
        (None, "task_1"),
    ):
        remote.answer(envelope(data))
        assert handler.submit(submission()).provider_task_id == expected
    remote.answer(envelope({"task_id": "theirs"}))
    assert handler.submit(submission("cnt_preview", **INPUTS["cnt_preview"][1])).provider_task_id == "task_1"


def test_an_answer_that_is_already_final_is_taken(remote: FakeProvider) -> None:
    """A tool that answers at once needs no query."""
    handler = load(remote)
    remote.answer(tool(1, outputImageUrl=PICTURE))
    receipt = handler.submit(submission("face_swap_v1", **FACES))
    assert receipt.update is not None
    assert receipt.update.outputs[0].url == PICTURE
    for unclear in (tool(0), tool(1), tool(2)):  # what no page says of this answer ends no task
        remote.answer(unclear)
        assert handler.submit(submission("face_swap_v1", **FACES)).update is None
    remote.answer(tool(1, createTime="2026-01-01"))
    assert handler.submit(submission("hair_change")).update is None


@pytest.mark.parametrize(
    ("operation", "given", "field"),
    [
        ("sd_text2image", {**SD, "alwayson_scripts": {"id_task": "mine"}}, "alwayson_scripts"),
        ("sd_text2image", {**SD, "id_task": "mine"}, "id_task"),
        ("face_swap_v1", {**FACES, "businessTaskId": "mine"}, "businessTaskId"),
        ("flux_text2image", {"prompt": "a", "callbackUrl": "https://mine.test"}, "callbackUrl"),
        ("model_training", {**TRAINING, "taskId": "mine"}, "taskId"),
        ("sd_text2image", {"prompt": "a"}, "batch_size"),
        ("sd_text2image", {**SD, "seed": True}, "seed"),
        ("sd_text2image", {**SD, "cfg_scale": "7"}, "cfg_scale"),
        ("sd_text2image", {**SD, "hr_scale": 1.5}, "hr_scale"),
        ("instant_id", {"image": PICTURE, "prompt": "a", "width": 512}, "width"),
        ("instant_id", {"image": PICTURE, "prompt": "a", "height": 959}, "height"),
        ("face_swap_v2", {**FACES, "fidelityWeight": "1.1"}, "fidelityWeight"),
        ("face_swap_v2", {**FACES, "fidelityWeight": "much"}, "fidelityWeight"),
        ("face_fusion", {**FACES, "sourceUrl": [PICTURE] * 3}, "sourceUrl"),
        ("image_description", {"image": PICTURE, "model": "gpt"}, "model"),
        ("model_training", {**TRAINING, "fileUrlList": [PICTURE] * 9}, "fileUrlList"),
        ("model_training", {**TRAINING, "learningRate": "0.1"}, "learningRate"),
        ("model_training", {**TRAINING, "learningRate": "fast"}, "learningRate"),
    ],
)
def test_input_that_cannot_work_is_refused_by_name(operation: str, given: dict[str, Any], field: str) -> None:
    """What we set ourselves, and what the provider documents as closed, is refused and named."""
    with pytest.raises(ValidationError) as caught:
        submission(operation, **given)
    assert list(caught.value.normalized_messages()) == [field]


# -- submitted again -------------------------------------------------------------------------------


def by_path(**answers: Answer) -> Any:
    """Answers by the last part of the path."""
    return lambda request: answers[request.path.rsplit("/", 1)[1]]


def paths(requests: list[Request]) -> list[str]:
    """What was called, below the root."""
    return [request.path.removeprefix(ROOT + "/") for request in requests]


def test_a_lost_submission_is_found_and_not_started_again(remote: FakeProvider) -> None:
    """The provider knows our id: its state is the receipt, nothing is bought twice."""
    remote.answer(sd(2, IMAGE))
    receipt = load(remote).submit(submission(repeated=True))
    assert receipt.provider_task_id == "task_1"
    assert receipt.update is not None
    assert receipt.update.status is RemoteStatus.SUCCEEDED
    assert paths(remote.requests) == ["sd/v2/queryTaskInfo"]
    assert remote.last.json() == {"businessTaskId": "task_1"}


def test_a_submission_that_never_arrived_is_sent_again_under_the_same_id(remote: FakeProvider) -> None:
    """Unknown in both queries: the same id goes out again."""
    remote.answer(by_path(queryTaskInfo=GONE, text2image=envelope({"task_id": "task_1"})))
    assert load(remote).submit(submission(repeated=True)).provider_task_id == "task_1"
    assert paths(remote.requests) == ["sd/v2/queryTaskInfo", "sd/queryTaskInfo", "sd/v2/text2image"]
    assert remote.last.json()["alwayson_scripts"] == {"id_task": "task_1"}


def test_a_lost_submission_is_only_looked_up_where_the_operator_says_so(remote: FakeProvider) -> None:
    """That our id keeps a second start from happening is assumed: who knows better can have none made, ever."""
    handler = load(remote, resubmit_lost="false")
    remote.answer(by_path(queryTaskInfo=GONE))
    with pytest.raises(OutcomeUnknown, match="IMG_OPEN_RESUBMIT_LOST"):
        handler.submit(submission(repeated=True))
    assert paths(remote.requests) == ["sd/v2/queryTaskInfo", "sd/queryTaskInfo"]
    remote.answer(sd(1))
    assert handler.submit(submission(repeated=True)).provider_task_id == "task_1"


def test_an_id_that_is_taken_is_looked_up_once_more(remote: FakeProvider) -> None:
    """Code 400 to a repeated submit may mean that the earlier one arrived after all."""
    remote.answer(GONE, envelope(None, "400", "exists"), tool(0))
    receipt = load(remote).submit(submission("face_swap_v1", repeated=True, **FACES))
    assert receipt.provider_task_id == "task_1"
    assert paths(remote.requests) == ["tool/roop/queryTask", "tool/roop", "tool/roop/queryTask"]
    remote.answer(GONE, envelope(None, "400", "bad picture"), GONE)
    with pytest.raises(Rejected, match="bad picture"):
        load(remote).submit(submission("face_swap_v1", repeated=True, **FACES))


def test_a_first_submission_is_not_looked_up(remote: FakeProvider) -> None:
    """Code 400 to a first submit is a refusal, and no query is spent on it."""
    remote.answer(envelope(None, "400", "bad picture"))
    with pytest.raises(Rejected) as caught:
        load(remote).submit(submission("face_swap_v1", **FACES))
    assert (caught.value.error.provider_code, caught.value.error.provider_message) == ("400", "bad picture")
    assert len(remote.requests) == 1


def test_a_lost_submission_is_repeated_once_the_provider_knows_of_it(remote: FakeProvider) -> None:
    """As long as 'no such task' is not believed of a query, it is not believed of a look-up before a second start."""
    assert load(remote).repeat_after == 30
    assert load(remote, not_found_grace="45").repeat_after == 45


@pytest.mark.parametrize("fault", [Reset(), envelope(None, "429"), envelope(None, "400"), Answer(b"", 429)])
def test_a_repeated_submission_is_never_called_unstarted(remote: FakeProvider, fault: Any) -> None:
    """While the look-up fails, the earlier call may have arrived: nobody is told that nothing happened."""
    remote.answer(fault)
    with pytest.raises(OutcomeUnknown):
        load(remote).submit(submission(repeated=True))
    assert len(remote.requests) == 1


@pytest.mark.parametrize("answer", [envelope(None, "429"), Answer(b"", 429)])
@pytest.mark.parametrize("before", [(), (GONE, GONE)])
def test_a_throttled_submission_is_followed_by_a_pause(
    remote: FakeProvider, answer: Any, before: tuple[Any, ...]
) -> None:
    """Whatever became of it, the tasks behind it are not thrown after it; also without a word on how long."""
    remote.answer(*before, answer)
    with pytest.raises(OutcomeUnknown) as caught:
        load(remote).submit(submission(repeated=bool(before)))
    assert caught.value.retry_after == 10


def test_a_repeated_submission_that_cannot_be_sent_now_stays_unknown(remote: FakeProvider) -> None:
    """The look-up found nothing, yet the earlier call may still be on its way."""
    remote.answer(GONE, GONE, envelope(None, "429"))
    with pytest.raises(OutcomeUnknown):
        load(remote).submit(submission(repeated=True))
    assert len(remote.requests) == 3


def test_a_pause_asked_for_by_a_look_up_is_kept(remote: FakeProvider) -> None:
    """A provider that asks to be left alone for a while is, also before a second start."""
    remote.answer(Answer(b"", 429, {"Retry-After": "70"}))
    with pytest.raises(OutcomeUnknown) as caught:
        load(remote).submit(submission(repeated=True))
    assert caught.value.retry_after == 70
