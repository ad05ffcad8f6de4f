"""Img Open's answers: status numbers that contradict each other, blocked pictures, archives and graces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from handlers import (
    ConfigurationError,
    ErrorCode,
    Malformed,
    OutcomeUnknown,
    OutputStatus,
    RemoteStatus,
    TaskUpdate,
    Unavailable,
    calls_made,
)
from handlers._img_open_results import progress, status_rules
from tests.handlers.fake_provider import Answer, FakeProvider, json_answer
from tests.handlers.samples import NoticeSample
from tests.handlers.test_img_open import (
    BLOCKED,
    FACES,
    GONE,
    IMAGE,
    PICTURE,
    SD,
    envelope,
    load,
    paths,
    sd,
    submission,
    task,
    tool,
)

S = RemoteStatus


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """The provider's side."""
    with FakeProvider() as provider:
        yield provider


def ask(remote: FakeProvider, *answers: Any, operation: str = "sd_text2image", **settings: str) -> TaskUpdate:
    """The update of one query."""
    remote.answer(*answers)
    (update,) = load(remote, **settings).query([task(operation)]).values()
    return update


@pytest.mark.parametrize("archived", [sd(2, IMAGE), GONE, json_answer({}, 503)])
def test_asking_the_archive_too_counts_as_two_calls(remote: FakeProvider, archived: Answer) -> None:
    """Whatever the archive says, or fails to say: the provider's rate counts both."""
    remote.answer(GONE, archived)
    before = calls_made()
    with suppress(Unavailable):
        load(remote).query([task("sd_text2image")])
    assert calls_made() - before == len(remote.requests) == 2


@pytest.mark.parametrize(
    ("number", "images", "v2", "v1"),
    [
        (0, (), S.QUEUED, S.RUNNING),
        (1, (IMAGE,), S.RUNNING, S.SUCCEEDED),
        (1, (), S.RUNNING, S.FAILED),
        (2, (IMAGE,), S.SUCCEEDED, S.SUCCEEDED),
        (2, (), S.FAILED, S.FAILED),
        ("2", (IMAGE,), S.SUCCEEDED, S.SUCCEEDED),
        (3, (), S.RUNNING, S.RUNNING),
        (-1, (), S.RUNNING, S.RUNNING),
        (2.0, ({**IMAGE, "image_status": 1.0},), S.SUCCEEDED, S.SUCCEEDED),
        (None, (IMAGE,), S.RUNNING, S.RUNNING),
    ],
)
def test_each_query_has_its_own_reading_of_the_numbers(
    remote: FakeProvider, number: Any, images: Any, v2: RemoteStatus, v1: RemoteStatus
) -> None:
    """Both documented tables hold, each for its own query, and 2 is decided by the pictures."""
    assert ask(remote, sd(number, *images)).status is v2
    assert ask(remote, GONE, sd(number, *images)).status is v1
    assert paths(remote.requests) == ["sd/v2/queryTaskInfo", "sd/queryTaskInfo"]


def test_the_tables_are_settings(remote: FakeProvider) -> None:
    """An operator who knows better says so, also for all numbers that are not listed."""
    rules = "1=success,2=failed,*=running"
    assert ask(remote, sd(2, IMAGE), v2_status_rules=rules).status is S.FAILED
    assert ask(remote, GONE, sd(2, IMAGE), v1_status_rules=rules).status is S.FAILED
    known = ask(remote, sd(77), v2_status_rules=rules)
    assert (known.status, known.unknown_status) == (S.RUNNING, None)
    assert ask(remote, tool(9), operation="face_fusion", tool_status_rules="*=failed").status is S.FAILED
    results = ask(remote, tool(1, url=PICTURE), operation="face_fusion", tool_results="url=video").outputs
    assert [(output.kind, output.name) for output in results] == [("video", "url")]
    faces = ask(remote, tool(1, faces=[{"x": 1}]), operation="face_fusion", tool_results="faces=data").outputs
    assert [output.data for output in faces] == [{"x": 1}]


@pytest.mark.parametrize(
    "settings",
    [{"v2_status_rules": "0"}, {"v1_status_rules": "0=finished"}, {"tool_status_rules": "=failed"},
     {"tool_results": "outputImageUrl"}, {"tool_results": "a=picture"}],
)  # fmt: skip
def test_tables_that_make_no_sense_are_refused_at_the_start(settings: dict[str, str]) -> None:
    """The variable and the allowed words are named."""
    with pytest.raises(ConfigurationError, match=f"IMG_OPEN_{next(iter(settings)).upper()} must be like"):
        load(**settings)


def test_free_text_never_decides(remote: FakeProvider) -> None:
    """``desc`` says success, failure or nothing in any language: the number decides."""
    for text in ("Success", "任务失败", None, "failed"):
        assert ask(remote, sd(1, desc=text)).status is S.RUNNING
        assert ask(remote, sd(2, IMAGE, desc=text)).status is S.SUCCEEDED
    failed = ask(remote, sd(2, desc="任务失败"))
    assert failed.error is not None
    assert (failed.error.provider_code, failed.error.provider_message) == ("2", "任务失败")


def test_a_blocked_picture_is_an_item_failure(remote: FakeProvider) -> None:
    """Beside a usable picture it is listed as blocked, with the reasons and without its URL."""
    update = ask(remote, sd(2, IMAGE, BLOCKED))
    assert [output.status for output in update.outputs] == [OutputStatus.OK, OutputStatus.BLOCKED]
    assert update.outputs[0].details["seed"] == 1063029203
    assert update.outputs[1].url is None
    assert update.outputs[1].details["img_audit"] == BLOCKED["img_audit"]
    alone = ask(remote, sd(2, BLOCKED))
    assert alone.error is not None
    assert alone.error.code is ErrorCode.CONTENT_POLICY


@pytest.mark.parametrize("no", [False, "false", "False", 0, 0.0, "0"])
def test_moderations_no_is_heard_in_any_type(remote: FakeProvider, no: Any) -> None:
    """A picture that moderation withheld is not handed on because its "false" came as a text or a number."""
    update = ask(remote, sd(2, {**IMAGE, "img_audit_status": no}))
    assert [(output.status, output.url) for output in update.outputs] == [(OutputStatus.BLOCKED, None)]


@pytest.mark.parametrize(
    "change", [{"image_url": ""}, {"image_url": None}, {"image_status": 0}, {"image_status": None}]
)
def test_a_picture_without_url_or_good_status_is_not_usable(remote: FakeProvider, change: dict[str, Any]) -> None:
    """Only a URL with image_status 1 counts as a picture."""
    update = ask(remote, sd(2, IMAGE | change))
    assert update.status is S.FAILED
    assert update.outputs[0].status is OutputStatus.FAILED
    assert ask(remote, sd(2, IMAGE | {"img_audit_status": None})).status is S.SUCCEEDED


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (0.35, 0.35), (35, 0.35), ("35%", 0.35), ("0.5", 0.5), ("1%", 0.01), (100, 1), (101, None), (-1, None),
     ("soon", None), (None, None), ([], None)],
)  # fmt: skip
def test_progress_is_a_share(remote: FakeProvider, value: Any, expected: float | None) -> None:
    """Whatever way the provider counts, 0..1 comes out, or nothing."""
    assert progress({"progress": value}) == expected
    assert ask(remote, sd(1, temporaryImageDto={"progress": value})).progress == expected


def test_progress_needs_a_preview_and_a_running_task(remote: FakeProvider) -> None:
    """No preview, no progress; a final task has none either."""
    assert progress(None) is None
    assert progress({"progress": float("nan")}) is None
    assert ask(remote, sd(2, IMAGE, temporaryImageDto={"progress": 50})).progress is None


def test_no_such_task_is_believed_after_a_grace(remote: FakeProvider) -> None:
    """Right after the submit 402 means nothing; later the task is lost; the grace is a setting."""
    remote.answer(GONE)
    handler = load(remote)
    assert handler.query([task(age=29.9)]) == {}
    (update,) = handler.query([task(age=30)]).values()
    assert update.error is not None
    assert update.error.code is ErrorCode.NOT_FOUND
    assert load(remote, not_found_grace="90").query([task("face_fusion", age=60)]) == {}


def test_a_task_whose_submission_is_unknown_is_asked_for_by_our_id(remote: FakeProvider) -> None:
    """It is found when it exists, and never declared lost, since it may never have arrived."""
    handler = load(remote)
    remote.answer(sd(1))
    assert handler.query([task(provider_task_id=None, age=9999)])["task_1"].status is S.RUNNING
    assert remote.last.json() == {"businessTaskId": "task_1"}
    remote.answer(GONE)
    assert handler.query([task(provider_task_id=None, age=9999)]) == {}


def test_an_answer_about_another_task_says_nothing_of_ours(remote: FakeProvider) -> None:
    """The result of one task is never given to another, and nothing is bought again for want of an answer."""
    handler = load(remote)
    foreign = {"businessTaskId": "another", "status": 1, "outputImageUrl": PICTURE}
    for operation, answer in (("face_swap_v1", envelope(foreign)), ("sd_text2image", sd(2, IMAGE, id_task="another"))):
        remote.answer(answer)
        with pytest.raises(Unavailable):
            handler.query([task(operation)])
        with pytest.raises(OutcomeUnknown):
            handler.submit(submission(operation, repeated=True, **(SD if operation.startswith("sd") else FACES)))
    remote.answer(envelope(foreign))
    receipt = handler.submit(submission("face_swap_v1", **FACES))  # started, or not: asked after by our own id
    assert (receipt.provider_task_id, receipt.update) == ("task_1", None)


def test_tool_codes_with_a_slash_are_part_of_the_path(remote: FakeProvider) -> None:
    """The tool query's path holds the whole tool code."""
    ask(remote, tool(1, outputImageUrl=PICTURE), operation="face_swap_v2")
    assert paths(remote.requests) == ["tool/v2/roop/queryTask"]


def test_tools_may_give_several_pictures(remote: FakeProvider) -> None:
    """A list in the result field is as many outputs; what is no URL is left out."""
    update = ask(remote, tool(1, outputImageUrl=[PICTURE, "", PICTURE]), operation="face_fusion")
    assert [output.url for output in update.outputs] == [PICTURE, PICTURE]


def test_codes_may_be_numbers(remote: FakeProvider) -> None:
    """The envelope's code is a string by the pages; a number is understood as well."""
    assert ask(remote, json_answer({"code": 200, "data": {"status": 0}})).status is S.QUEUED


def test_rules_are_read_with_spaces() -> None:
    """A table is read as a human writes it."""
    assert status_rules(" 0 = queued , * = failed ") == {"0": "queued", "*": "failed"}


PACKED = [json.dumps, lambda data: [data], lambda data: json.dumps([data])]


@pytest.mark.parametrize("packed", PACKED)
def test_data_as_text_or_as_a_list_of_one_is_read(remote: FakeProvider, packed: Any) -> None:
    """A paid result is not lost because the envelope's data comes packed once more."""

    def pack(answer: Answer) -> Answer:
        return envelope(packed(json.loads(answer.body)["data"]))

    assert ask(remote, pack(sd(2, IMAGE))).outputs[0].url == IMAGE["image_url"]
    done = ask(remote, pack(tool(1, outputImageUrl=PICTURE)), operation="face_fusion")
    assert (done.status, done.outputs[0].url) == (S.SUCCEEDED, PICTURE)
    notice = NoticeSample(pack(tool(1, outputImageUrl=PICTURE)).body, S.SUCCEEDED, task("face_fusion")).notice
    assert load(remote).read(notice).status is S.SUCCEEDED
    remote.answer(envelope(packed({"task_id": "theirs"})))
    assert load(remote).submit(submission()).provider_task_id == "theirs"


@pytest.mark.parametrize("packed", PACKED)
def test_packed_data_of_another_task_is_not_believed(remote: FakeProvider, packed: Any) -> None:
    """The check of whose answer it is looks into packed data, too."""
    other = packed({"businessTaskId": "task_2", "status": 1, "outputImageUrl": PICTURE})
    with pytest.raises(Unavailable):
        ask(remote, envelope(other), operation="face_fusion")
    with pytest.raises(Malformed):
        load(remote).read(NoticeSample(envelope(other).body, S.RUNNING, task("face_fusion")).notice)


@pytest.mark.parametrize(
    "data", [None, {}, [], ["x"], "x", "", "[]", 7, [{"status": 1}, {"status": 1, "outputImageUrl": PICTURE}]]
)
@pytest.mark.parametrize(("operation", "given"), [("sd_text2image", SD), ("face_swap_v1", FACES)])
def test_a_success_without_a_task_says_nothing(remote: FakeProvider, operation: str, given: Any, data: Any) -> None:
    """It ends no task, is no sign that one runs, and is shown as a call that failed; nothing is bought twice for it.

    Of several objects nobody knows which is ours; a text that is no JSON says nothing.
    """
    with pytest.raises(Unavailable, match="without a task"):
        ask(remote, envelope(data), operation=operation)
    remote.answer(envelope(data))
    with pytest.raises(OutcomeUnknown):
        load(remote).submit(submission(operation, repeated=True, **given))
    assert remote.last.path.endswith(("queryTaskInfo", "queryTask"))
