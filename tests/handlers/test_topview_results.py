"""TopView: what a finished task holds, operation by operation, and what only looks like a result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from handlers import ErrorCode, OutputKind, OutputStatus, RemoteStatus, TaskUpdate, Unavailable
from handlers._topview_answers import meaning_of, outputs_of
from handlers._topview_table import FLOWS
from tests.handlers.fake_provider import FakeProvider
from tests.handlers.topview_samples import ID, INPUTS, LINK, VIDEOS, asked, envelope, make, submitted

VIDEO, IMAGE, AUDIO, DATA = OutputKind.VIDEO, OutputKind.IMAGE, OutputKind.AUDIO, OutputKind.DATA
TOMORROW = 1_767_312_000_000  # 2026-01-02T00:00:00Z, LINK's expiry

PLACEHOLDER = {
    "scriptId": 0,
    "status": None,
    "title": None,
    "description": None,
    "videoUrl": None,
    "coverUrl": None,
    "videoDuration": None,
    "videoEtag": None,
}
PREVIEW = {**PLACEHOLDER, "scriptId": 1, "status": "success", "videoUrl": LINK, "coverUrl": LINK + "&c=1"}


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """The provider's side."""
    with FakeProvider() as provider:
        yield provider


def finished(remote: FakeProvider, operation: str, given: dict[str, Any] | None = None, **result: Any) -> TaskUpdate:
    """What a query makes of a successful task with this result."""
    remote.answer(envelope({"taskId": ID, "status": "success", "errorMsg": None, **result}))
    return make(remote).query([asked(operation, given=given)])["task_1"]


@pytest.mark.parametrize(
    ("operation", "result", "expected"),
    [
        ("zero_shot_avatar", {"outputVideoUrl": LINK}, [(VIDEO, "outputVideoUrl")]),
        ("m2v_preview", {"previewVideos": [PREVIEW], "exportVideos": [PLACEHOLDER]}, [(VIDEO, "videoUrl")]),
        ("m2v_export", {"previewVideos": [PREVIEW], "exportVideos": [PREVIEW]}, [(VIDEO, "videoUrl")]),
        (
            "product_avatar_replace_product_image",
            {"productReplaceResult": [{"key": "k", "url": LINK}]},
            [(IMAGE, "url")],
        ),
        (
            "product_avatar_replace_product_image_v2",
            {"anyName": [{"imageId": "i", "resultImageUrl": LINK}]},
            [(IMAGE, "resultImageUrl")],
        ),
        ("product_avatar_replace_product_image_v3", {"productReplaceResult": [{"url": LINK}]}, [(IMAGE, "url")]),
        ("product_avatar_image2video", {"finishedVideoUrl": LINK, "aiAvatar": {}}, [(VIDEO, "finishedVideoUrl")]),
        ("product_avatar_image2video_v2", {"finishedVideoUrl": LINK}, [(VIDEO, "finishedVideoUrl")]),
        ("product_any_shoot", {"resultImages": [{"key": "k", "url": LINK}]}, [(IMAGE, "url")]),
        ("product_any_shoot_v3", {"images": [{"status": "success", "filePath": LINK}]}, [(IMAGE, "filePath")]),
        ("common_task_image2video", {"videos": [{"originVideo": {"filePath": LINK}}]}, [(VIDEO, "filePath")]),
        ("common_task_image2video_v2", {"videos": [{"status": "SUCCESS", "filePath": LINK}]}, [(VIDEO, "filePath")]),
        ("common_task_text2image", {"images": [{"status": "success", "filePath": LINK}]}, [(IMAGE, "filePath")]),
        ("common_task_video2aiavatar", {"aiAvatar": {"aiavatarId": "a"}}, [(DATA, "aiAvatar")]),
        ("common_task_video2aiavatar", {"aiAvatarId": "a"}, [(DATA, "aiAvatarId")]),
        ("voice_clone", {"voice": {"voiceId": "v", "demoAudioUrl": LINK}}, [(DATA, "voice"), (AUDIO, "demoAudioUrl")]),
        ("voice_clone", {"voice": {"voiceId": "v"}}, [(DATA, "voice")]),
        ("voice_text2voice", {"voice": {"voiceId": "v", "demoAudioUrl": LINK}}, [(AUDIO, "demoAudioUrl")]),
        ("remove_background", {"image": {"filePath": LINK}}, [(IMAGE, "filePath")]),
        ("image_edit", {"resultUrl": LINK}, [(IMAGE, "resultUrl")]),
        ("photo_avatar", {"videos": [{"filePath": LINK}]}, [(VIDEO, "filePath")]),
    ],
)
def test_each_operations_artefacts_are_found(
    remote: FakeProvider, operation: str, result: dict[str, Any], expected: list[tuple[OutputKind, str]]
) -> None:
    """What an operation makes is handed on with its kind, the provider's name for it, and its expiry."""
    update = finished(remote, operation, **result)
    assert update.status is RemoteStatus.SUCCEEDED
    assert [(output.kind, output.name) for output in update.outputs] == expected
    assert {(output.url, output.expires_at) for output in update.outputs if output.url} <= {(LINK, TOMORROW)}


def test_a_result_that_comes_as_text_is_read(remote: FakeProvider) -> None:
    """What was bought is neither lost nor of another task because the answer's result comes as JSON text."""
    remote.answer(envelope(json.dumps(VIDEOS)))
    assert make(remote).query([asked()])["task_1"].outputs[0].url == LINK
    remote.answer(envelope(json.dumps({**VIDEOS, "taskId": "other"})))
    with pytest.raises(Unavailable):
        make(remote).query([asked()])
    remote.answer(envelope(json.dumps({"taskId": ID, "noticeUuid": "uuid-1"})))
    receipt = submitted(make(remote), "scraper", INPUTS["scraper"])
    assert (receipt.provider_task_id, receipt.state) == (ID, {"noticeUuid": "uuid-1"})


def test_a_placeholder_is_not_a_video(remote: FakeProvider) -> None:
    """The provider's own sample fills an array with an item of nulls: that is not a result."""
    update = finished(remote, "m2v_preview", previewVideos=[PLACEHOLDER, PREVIEW], exportVideos=[PLACEHOLDER])
    assert len(update.outputs) == 1
    empty = finished(remote, "m2v_preview", previewVideos=[PLACEHOLDER], exportVideos=[PREVIEW])
    assert empty.error is not None
    assert empty.error.code is ErrorCode.EMPTY_RESULT


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ("voice_clone", {"voice": {"voiceId": None, "demoAudioUrl": None, "durations": 0}}),
        ("common_task_video2aiavatar", {"aiAvatar": {"aiavatarId": None, "aiavatarName": "", "coverUrl": None}}),
        ("photo_avatar", {"aiAvatar": {"aiavatarId": None}}),
        ("m2v_script", {"scriptContents": [{"segId": 0, "segText": None}]}),
    ],
)
def test_a_placeholder_is_neither_a_voice_nor_an_avatar(
    remote: FakeProvider, operation: str, result: dict[str, Any]
) -> None:
    """An object all of whose fields are empty is nothing to be told of as a success, like an empty video."""
    update = finished(remote, operation, **result)
    assert update.status is RemoteStatus.FAILED
    assert update.error is not None
    assert update.error.code is ErrorCode.EMPTY_RESULT


def test_all_that_is_worth_having_is_handed_on(remote: FakeProvider) -> None:
    """An avatar's id beside the avatar is not lost."""
    made = {"aiAvatar": {"aiavatarName": "Ann"}, "aiAvatarId": "a1"}
    (output,) = finished(remote, "common_task_video2aiavatar", **made).outputs
    assert output.data == made


def test_a_continued_preview_is_not_an_export(remote: FakeProvider) -> None:
    """An export that shares its preview's task runs until its own video is there, not until the preview is."""
    given = {"taskId": ID, "scriptId": 2}
    other = {**PREVIEW, "scriptId": 1}
    done = {**PREVIEW, "scriptId": 2}
    before = finished(remote, "m2v_export", given, previewVideos=[PREVIEW], exportVideos=[PLACEHOLDER])
    beside = finished(remote, "m2v_export", given, previewVideos=[PREVIEW], exportVideos=[other])
    after = finished(remote, "m2v_export", given, previewVideos=[PREVIEW], exportVideos=[other, done])
    assert [before.status, beside.status, after.status] == [
        RemoteStatus.RUNNING,
        RemoteStatus.RUNNING,
        RemoteStatus.SUCCEEDED,
    ]
    assert [output.details["scriptId"] for output in after.outputs] == [2]
    unnamed = {name: value for name, value in PREVIEW.items() if name != "scriptId"}
    alone = finished(remote, "m2v_export", given, previewVideos=[PREVIEW], exportVideos=[unnamed])
    assert alone.status is RemoteStatus.SUCCEEDED, "a video that names no script is nobody else's"


@pytest.mark.parametrize(
    "result",
    [
        [{"scriptId": 2, "scriptContents": [{"segId": 1, "segText": "x"}]}],
        {"scriptId": 2, "scriptContents": [{"segId": 1, "segText": "x"}]},
        {"scripts": [{"scriptId": 2}]},
    ],
)
def test_a_script_needs_no_url(remote: FakeProvider, result: Any) -> None:
    """Changing a script gives words, not files, and its list has no status."""
    remote.answer(envelope(result))
    update = make(remote).query([asked("m2v_script")])["task_1"]
    assert update.status is RemoteStatus.SUCCEEDED
    assert [output.kind for output in update.outputs] == [DATA]


def test_a_script_whose_answer_names_a_state_is_in_that_state(remote: FakeProvider) -> None:
    """Only a list that names none is done for being there: half a script is not told as a success."""
    remote.answer(envelope({"status": "running", "scriptContents": [{"segId": 1, "segText": "x"}]}))
    assert make(remote).query([asked("m2v_script")])["task_1"].status is RemoteStatus.RUNNING


def test_some_good_items_are_a_success_that_shows_the_bad_ones(remote: FakeProvider) -> None:
    """Three videos of which one failed and one was withheld: a success, and each item says how it went."""
    items = [
        {"status": "success", "filePath": LINK},
        {"status": "fail", "filePath": "", "errorMsg": "odd"},
        {"status": "fail", "errorMsg": "unsafe", "errorCode": "6001"},
    ]
    update = finished(remote, "common_task_text2video", videos=items)
    assert update.status is RemoteStatus.SUCCEEDED
    assert [output.status for output in update.outputs] == [
        OutputStatus.OK,
        OutputStatus.FAILED,
        OutputStatus.BLOCKED,
    ]
    assert [output.details.get("errorMsg") for output in update.outputs] == [None, "odd", "unsafe"]
    assert update.outputs[1].url is None


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([], ErrorCode.EMPTY_RESULT),
        (None, ErrorCode.EMPTY_RESULT),
        ([None, "x", 1], ErrorCode.EMPTY_RESULT),
        ([{"status": "success", "filePath": ""}], ErrorCode.EMPTY_RESULT),
        ([{"status": "running", "filePath": LINK}], ErrorCode.EMPTY_RESULT),
        ([{"status": "fail", "errorMsg": "odd"}], ErrorCode.EMPTY_RESULT),
        ([{"status": "fail", "errorMsg": "unsafe", "errorCode": 6001}], ErrorCode.CONTENT_POLICY),
    ],
)
def test_success_without_a_good_item_is_a_failure(remote: FakeProvider, items: Any, code: ErrorCode) -> None:
    """Nobody is told that a task succeeded when there is nothing to fetch."""
    update = finished(remote, "common_task_text2video", videos=items)
    assert update.status is RemoteStatus.FAILED
    assert update.error is not None
    assert update.error.code is code
    if items and isinstance(items[0], dict):
        assert update.error.provider_message == items[0].get("errorMsg")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(36_100, 36.1), (36_096_000, 36.096), (0, None), (-5, None), (10**400, None), ("36100", None), (None, None)],
)
def test_durations_are_shown_only_when_they_can_be_true(
    remote: FakeProvider, given: Any, seconds: float | None
) -> None:
    """Documented in milliseconds, sampled in microseconds: told in seconds if either makes sense."""
    update = finished(remote, "m2v_preview", previewVideos=[{**PREVIEW, "videoDuration": given}])
    (output,) = update.outputs
    assert "videoDuration" not in output.details
    assert output.details.get("videoDurationSeconds") == seconds


def test_details_keep_the_providers_names(remote: FakeProvider) -> None:
    """What the next step needs (here the key for the video) is beside the URL."""
    update = finished(
        remote,
        "product_avatar_replace_product_image",
        productReplaceResult=[{"key": "k1", "url": LINK, "faceExistence": False}],
    )
    assert update.outputs[0].details == {"key": "k1", "faceExistence": False}


def test_a_page_without_words_or_pictures_is_empty(remote: FakeProvider) -> None:
    """The link that the caller gave is not a result of reading it."""
    assert finished(remote, "scraper", productLink="https://shop.test", productImages=[]).error is not None


@pytest.mark.parametrize("operation", FLOWS)
@pytest.mark.parametrize("result", [None, True, 7, "x", [], {}, [[]], {"videos": {}}, {"voice": []}])
def test_odd_results_hold_nothing(operation: str, result: Any) -> None:
    """A result of another type is no result, and no crash."""
    good = [o for o in outputs_of(FLOWS[operation].artefacts, result) if o.status is OutputStatus.OK]
    assert good == []


def test_unknown_codes_follow_their_first_digit() -> None:
    """New codes of newer operations: 4xxx refuses for good, 5xxx is the provider's trouble."""
    assert meaning_of("4012").code is ErrorCode.INVALID_INPUT
    assert not meaning_of("4012").broke
    assert meaning_of("5042").broke
    assert meaning_of("500").broke
    assert not meaning_of("50").broke
    assert meaning_of("6002").code is ErrorCode.PROVIDER_ERROR
