"""TopView: notices, uploads and reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from handlers import (
    BadNotice,
    BadSignature,
    Malformed,
    Notice,
    RemoteStatus,
    Unavailable,
    Upload,
    UploadTicket,
)
from tests.handlers.conformance import (
    CALLBACK_URL,
)
from tests.handlers.fake_provider import FakeProvider
from tests.handlers.topview_samples import (
    VIDEOS,
    envelope,
    make,
    notice,
    notice_body,
)


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """The provider's side."""
    with FakeProvider() as provider:
        yield provider


@pytest.mark.parametrize(
    "result", [None, "", "not json", 7, [], {}, {"status": "success"}, {"code": "5000", "result": VIDEOS}]
)
def test_a_success_notice_without_a_readable_result_leaves_it_to_the_query(remote: FakeProvider, result: Any) -> None:
    """The shape of ``result`` is assumed, so no task fails because a notice was understood differently."""
    update = make(remote).read(notice(notice_body(result=result)))
    assert update.status is RemoteStatus.RUNNING
    assert update.outputs == ()


@pytest.mark.parametrize("change", [{"taskId": "another"}, {"status": "running"}, {"status": "fail"}])
def test_a_success_notice_that_contradicts_itself_is_left_to_the_query(
    remote: FakeProvider, change: dict[str, Any]
) -> None:
    """Also who believes notices gets no result that is another task's, or that its own status calls unfinished."""
    shown = {**VIDEOS, **change}
    for result in (shown, {"code": "200", "message": "Success", "result": shown}):
        update = make(remote, confirm_notices="false").read(notice(notice_body(result=result)))
        assert (update.status, update.outputs) == (RemoteStatus.RUNNING, ())


def test_an_unknown_word_in_a_notice_ends_nothing(remote: FakeProvider) -> None:
    """A new status word is reported, and the task goes on."""
    update = make(remote).read(notice(notice_body(status="paused")))
    assert (update.status, update.unknown_status) == (RemoteStatus.RUNNING, "paused")


def test_the_notices_reason_wins_over_the_results(remote: FakeProvider) -> None:
    """The reason of a failure is taken from the notice, else from the result inside it."""
    handler = make(remote)
    both = handler.read(notice(notice_body(status="fail", errorMsg="outer", result={"errorMsg": "inner"})))
    inner = handler.read(notice(notice_body(status="fail", errorMsg="", result={"errorMsg": "inner"})))
    assert both.error is not None
    assert inner.error is not None
    assert (both.error.provider_message, inner.error.provider_message) == ("outer", "inner")


def test_the_uid_check_can_be_switched_off(remote: FakeProvider) -> None:
    """Should the provider leave the header out, the operator can take its notices all the same."""
    with pytest.raises(BadSignature):
        make(remote).verify(notice(uid=""))
    make(remote, check_notice_uid="false").verify(notice(uid=""))


def test_a_notice_id_tells_the_outcome_too(remote: FakeProvider) -> None:
    """The same uuid with another status is another statement, not a repetition."""
    handler = make(remote)
    assert handler.notice_id(notice()) == "uuid-1:success"
    assert handler.notice_id(notice(notice_body(status="FAIL"))) == "uuid-1:fail"
    assert handler.notice_id(notice(b"{}")) is None


def test_forged_notices_are_answered_without_our_secrets(remote: FakeProvider) -> None:
    """An answer to anybody holds the uid that they sent us anyway, never the key."""
    assert b"sk-demo" not in make(remote).reply(notice(notice_body(uuid="forged"))).body
    with pytest.raises(BadNotice):
        make(remote).read(notice(notice_body(uuid=" ")))
    with pytest.raises(Malformed):
        make(remote).read(Notice({}, {}, notice_body(), CALLBACK_URL, 0, None))


def test_an_upload_goes_through_its_three_steps(remote: FakeProvider) -> None:
    """Credential, a PUT that carries none of our headers, and the check."""
    handler = make(remote)
    ticket_answer = {"fileId": "file-1", "uploadUrl": "https://s3.test/put?X-Amz-Signature=x", "fileName": "n.png"}
    remote.answer(envelope(ticket_answer), envelope(True))
    ticket = handler.begin_upload(Upload("Photo of me.PNG", "image/png", 3))
    assert (remote.last.path, remote.last.query) == ("/v1/upload/credential", {"format": "png"})
    assert (ticket.file_id, ticket.url, dict(ticket.headers)) == ("file-1", ticket_answer["uploadUrl"], {})
    assert handler.finish_upload(ticket) == {"fileId": "file-1", "fileName": "n.png"}
    assert (remote.last.path, remote.last.query) == ("/v1/upload/check", {"fileId": "file-1"})


def test_a_file_without_an_ending_is_named_by_its_type(remote: FakeProvider) -> None:
    """The provider wants a format; the content type knows it when the name does not."""
    handler = make(remote, accelerated_uploads="true")
    remote.answer(envelope({"fileId": "f", "uploadUrl": "https://s3.test/put"}))
    handler.begin_upload(Upload("photo", "image/webp; x=y", 3))
    assert remote.last.query == {"format": "webp", "needAccelerateUrl": "true"}


@pytest.mark.parametrize(
    ("content_type", "known_as"),
    [
        ("image/jpeg", "jpeg"),
        ("image/bmp", "bmp"),
        ("image/x-ms-bmp", "bmp"),
        ("audio/mpeg", "mp3"),
        ("audio/x-wav", "wav"),
        ("Audio/Vnd.Wave", "wav"),
        ("audio/mp4; codecs=x", "m4a"),
        ("audio/x-m4a", "m4a"),
        ("video/mp4", "mp4"),
        ("video/x-msvideo", "avi"),
        ("video/quicktime", "mov"),
    ],
)
def test_a_media_type_becomes_a_word_that_the_provider_takes(
    remote: FakeProvider, content_type: str, known_as: str
) -> None:
    """The provider takes eleven formats by their endings; half of a media type is often none of them."""
    remote.answer(envelope({"fileId": "f", "uploadUrl": "https://s3.test/put"}))
    make(remote).begin_upload(Upload("recording", content_type, 3))
    assert remote.last.query == {"format": known_as}


@pytest.mark.parametrize("result", [None, {}, {"fileId": "f"}, {"fileId": "f", "uploadUrl": "file:///etc/passwd"}, 1])
def test_an_upload_without_an_address_can_be_tried_again(remote: FakeProvider, result: Any) -> None:
    """Half a credential is no credential."""
    remote.answer(envelope(result))
    with pytest.raises(Unavailable):
        make(remote).begin_upload(Upload("a.png", "image/png", 3))


@pytest.mark.parametrize("result", [False, None, "true", {}])
def test_an_upload_counts_only_when_the_provider_has_it(remote: FakeProvider, result: Any) -> None:
    """Nobody is given a file_id that does not work yet."""
    remote.answer(envelope(result))
    with pytest.raises(Unavailable):
        make(remote).finish_upload(UploadTicket("f", "https://s3.test/put"))


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("credit", "/user/credit/detail"),
        ("credit_logs", "/user/credit/logs"),
        ("voices", "/v1/voice/query"),
        ("captions", "/v1/caption/list"),
        ("avatar_categories", "/v1/product_avatar/category/list"),
        ("public_avatars", "/v1/product_avatar/public_avatar/query"),
        ("any_shoot_templates", "/v1/product_anyShoot/template/list"),
    ],
)
def test_resources_are_read_with_the_callers_parameters(remote: FakeProvider, resource: str, path: str) -> None:
    """What a caller needs for an input can be looked up through us."""
    handler = make(remote)
    remote.answer(envelope([{"id": 1}]))
    assert handler.fetch(resource, {"pageNo": "2"}) == [{"id": 1}]
    assert (remote.last.path, remote.last.query) == (path, {"pageNo": "2"})
    assert set(handler.resources) >= {resource}
