"""Img Open beyond the usual: trainings, tools that an operator adds, and lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from handlers import (
    ConfigurationError,
    ErrorCode,
    Notice,
    NotSupported,
    OutcomeUnknown,
    Rejected,
    RemoteStatus,
    Submission,
)
from handlers.img_open import ImgOpen
from tests.handlers.conformance import CALLBACK_URL, NOW
from tests.handlers.fake_provider import FakeProvider
from tests.handlers.test_img_open import PICTURE, TRAINING, envelope, load, paths, submission, task, tool


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """The provider's side."""
    with FakeProvider() as provider:
        yield provider


def notice(data: dict[str, Any], operation: str = "face_fusion") -> Notice:
    """A notice about the task of this operation."""
    return Notice({}, {}, envelope(data).body, CALLBACK_URL, int(NOW * 1000), task(operation))


# -- training --------------------------------------------------------------------------------------


def test_a_training_is_refused_when_its_end_could_not_be_heard(remote: FakeProvider) -> None:
    """Without a query, and with notices only as hints, a training would be paid for and expire."""
    with pytest.raises(Rejected, match="IMG_OPEN_CONFIRM_NOTICES=false") as caught:
        load(remote).submit(submission("model_training", **TRAINING))
    assert caught.value.error.code is ErrorCode.PERMISSION
    assert remote.requests == []


def test_a_training_goes_out_in_the_spelling_that_is_set(remote: FakeProvider) -> None:
    """Camel case by default, snake case by a setting; the learning rate keeps its digits."""
    remote.answer(envelope(None))
    settings = {"confirm_notices": "false"}
    load(remote, **settings).submit(submission("model_training", **TRAINING))
    assert remote.last.json() == {
        **TRAINING, "learningRate": "0.00001", "taskId": "task_1", "callbackUrl": CALLBACK_URL,
    }  # fmt: skip
    snake = load(remote, training_case="snake", training_callback_field="notify_url", **settings)
    snake.submit(submission("model_training", **TRAINING))
    assert set(remote.last.json()) == {"file_url_list", "max_epochs", "learning_rate", "task_id", "notify_url"}


def test_a_training_without_a_query_is_neither_asked_for_nor_bought_twice(remote: FakeProvider) -> None:
    """No call is made: its callback decides."""
    handler = load(remote, confirm_notices="false")
    assert handler.operations["model_training"].experimental
    assert handler.query([task("model_training")]) == {}
    with pytest.raises(OutcomeUnknown):
        handler.submit(submission("model_training", repeated=True, **TRAINING))
    assert remote.requests == []


def test_a_training_query_can_be_named_by_a_setting(remote: FakeProvider) -> None:
    """Once the provider has one, its path is all that is needed."""
    remote.answer(envelope({"taskId": "task_1", "status": 1, "modelUrl": PICTURE}))
    handler = load(remote, training_query_path="/modelTraining/queryJob")
    (update,) = handler.query([task("model_training")]).values()
    assert update.outputs[0].data == {"modelUrl": PICTURE}
    assert (paths(remote.requests), remote.last.json()) == (["modelTraining/queryJob"], {"taskId": "task_1"})


def test_a_training_that_succeeded_needs_no_result(remote: FakeProvider) -> None:
    """Its model stays at the provider, so a success that names nothing is none the less one that was paid for."""
    handler = load(remote, confirm_notices="false")
    update = handler.read(notice({"taskId": "task_1", "status": 1}, "model_training"))
    assert (update.status, update.error) == (RemoteStatus.SUCCEEDED, None)
    assert [output.data for output in update.outputs] == [{"taskId": "task_1"}]
    assert handler.read(notice({"taskId": "task_1", "status": 2}, "model_training")).status is RemoteStatus.FAILED
    remote.answer(envelope({"taskId": "task_1", "status": 1}))  # it was taken, it is not done
    assert handler.submit(submission("model_training", **TRAINING)).update is None


# -- notices of tools ------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"outputImageUrl": ""}, {"resultUrl": PICTURE}])
def test_a_notice_of_a_success_without_a_result_ends_no_task(more: dict[str, str]) -> None:
    """What a notice holds is assumed: even where notices are believed, a query tells whether there is nothing."""
    update = load(confirm_notices="false").read(notice({"businessTaskId": "task_1", "status": 1, **more}))
    assert (update.status, update.error) == (RemoteStatus.RUNNING, None)


# -- more tools, lists -----------------------------------------------------------------------------


def test_an_added_drawing_needs_its_scripts_as_an_object(remote: FakeProvider) -> None:
    """What our id goes into is refused when the task is given, not found to be impossible when it is submitted."""
    handler = load(remote, tools="sd_text2image_v3=sd/v3/text2image")
    for wrong in ("none", [], None):
        assert "alwayson_scripts" in handler.operations["sd_text2image_v3"].schema().validate(
            {"alwayson_scripts": wrong}
        )
    remote.answer(envelope({"task_id": "task_1"}))
    handler.submit(Submission("task_1", "sd_text2image_v3", {"alwayson_scripts": {"sd_vae": "a"}}))
    assert remote.last.json() == {"alwayson_scripts": {"sd_vae": "a", "id_task": "task_1"}}


def test_tools_are_added_by_a_setting(remote: FakeProvider) -> None:
    """A new tool works at once: submit, callback address, query path, whatever it makes; others stay as they were."""
    text = "background_remove=tool/bg/remove:callback, sd_text2image_v3=/sd/v3/text2image,hair_change=tool/hair/v2"
    handler = load(remote, tools=text)
    assert "background_remove" not in ImgOpen.operations
    assert handler.operations["background_remove"].callbacks
    remote.answer(envelope(None))
    handler.submit(Submission("task_1", "background_remove", {"image": PICTURE}, CALLBACK_URL))
    assert remote.last.json() == {"image": PICTURE, "businessTaskId": "task_1", "callbackUrl": CALLBACK_URL}
    remote.answer(tool(1, cutout=PICTURE))
    (update,) = handler.query([task("background_remove")]).values()
    assert update.outputs[0].data == {"cutout": PICTURE}
    assert paths(remote.requests) == ["tool/bg/remove/queryTask"]
    handler.submit(Submission("task_1", "hair_change", {}, CALLBACK_URL))
    handler.submit(Submission("task_1", "sd_text2image_v3", {}, CALLBACK_URL))
    assert paths(remote.requests)[1:] == ["tool/hair/v2", "sd/v3/text2image"]
    assert remote.last.json() == {"alwayson_scripts": {"id_task": "task_1"}}


@pytest.mark.parametrize(
    "text", ["x", "x=other/y", "X=tool/y", "x=tool/../y", "x=tool/y:hook", "face_fusion=sd/v2/y", "x=tool/"]
)
def test_tools_that_cannot_work_are_refused_at_the_start(text: str) -> None:
    """A setting that names no possible path is refused with its variable."""
    with pytest.raises(ConfigurationError, match="IMG_OPEN_TOOLS"):
        load(tools=text)


def test_a_task_of_a_removed_tool_is_refused_clearly(remote: FakeProvider) -> None:
    """When the setting is gone, the operator reads which one."""
    with pytest.raises(Rejected, match="IMG_OPEN_TOOLS"):
        load(remote).query([task("background_remove")])


def test_lists_are_paged_and_filtered(remote: FakeProvider) -> None:
    """Pages by our names, filters by the provider's, paths by settings."""
    rows = {"rows": [{"id": 39}], "total": 1, "pageSize": 5, "pageNum": 2}
    remote.answer(envelope(rows))
    handler = load(remote, loras_path="sd/v9/loras")
    assert handler.fetch("models", {"page_size": "5", "page_num": "2", "sdModelName": "Photon"}) == rows
    assert remote.last.json() == {"pageSize": 5, "pageNum": 2, "sdModelName": "Photon"}
    for name in handler.resources:
        handler.fetch(name, {})
    assert remote.last.json() == {"pageSize": 20, "pageNum": 1}
    assert paths(remote.requests)[1:] == [
        "sd/v2/queryModelList", "sd/v9/loras", "sd/v2/queryVaeList", "sd/v2/queryEmbeddingList",
    ]  # fmt: skip
    for wrong in ("0", "-1", "x", "", "9" * 5000):
        with pytest.raises(Rejected, match="page_num"):
            handler.fetch("models", {"page_num": wrong})
    remote.answer(envelope(None, "401"))
    with pytest.raises(Rejected):
        handler.fetch("models", {})
    with pytest.raises(NotSupported):
        handler.fetch("hairstyles", {})


def test_a_page_is_found_by_the_providers_names_too(remote: FakeProvider) -> None:
    """Who writes ``pageNum``, as the provider does, gets that page and not the first one again."""
    remote.answer(envelope({"rows": []}))
    load(remote).fetch("models", {"pageSize": "5", "pageNum": "2"})
    assert remote.last.json() == {"pageSize": 5, "pageNum": 2}
