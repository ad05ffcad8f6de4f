"""ApsaraVideo VOD's notices: whose they are, how old they may be, and all the forms they come in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from handlers import BadSignature, Malformed, NotSupported, RemoteStatus
from tests.handlers.conformance import NOW
from tests.handlers.test_apsaravideo_vod import DONE, KEY, OLD_KEY, event, load, notice, sign, task


@pytest.mark.parametrize(
    ("url", "stamp", "key", "signature"),
    [
        ("https://www.example.com/your/callback", 1519375990, "test123", "c72b60894140fa98920f1279219b7ed4"),
        ("https://gw.example.test/callbacks/vod", 1795255200, "Abc123Demo", "be737bd6e50c163c351897bf34691a61"),
    ],
)
def test_the_documented_notice_signatures_are_accepted(url: str, stamp: int, key: str, signature: str) -> None:
    """The md5 vectors hold, over the address that was given out."""
    headers = {"x-vod-timestamp": str(stamp), "x-vod-signature": signature}
    good = notice(event(), headers=headers, url=url, received_at=stamp * 1000)
    load(callback_key=key).verify(good)
    load(callback_key=key).verify(replace(good, task=None))
    with pytest.raises(BadSignature):
        load(callback_key=key).verify(replace(good, url=url + "?a=1"))


def test_both_keys_are_good_during_a_change() -> None:
    """Old and new key are both accepted while two are set; any other is not."""
    handler = load(callback_key=f"{OLD_KEY}, {KEY}")
    handler.verify(notice(event(), headers=sign(key=OLD_KEY)))
    handler.verify(notice(event(), headers=sign(key=KEY)))
    with pytest.raises(BadSignature):
        handler.verify(notice(event(), headers=sign(key="Third789")))


@pytest.mark.parametrize("sign_of_time", [1, -1])
def test_stale_notices_are_refused(sign_of_time: int) -> None:
    """A stamp outside the window is refused, early or late; the window is a setting."""
    at = int(NOW * 1000) + sign_of_time * 300_000
    load(callback_key=KEY).verify(notice(event(), received_at=at))
    for handler, more in ((load(callback_key=KEY), 1), (load(callback_key=KEY, callback_window="60"), 0)):
        with pytest.raises(BadSignature):
            handler.verify(notice(event(), received_at=at + sign_of_time * more))


def test_without_a_key_only_the_address_of_a_task_is_taken() -> None:
    """A secret address is a hint; at the provider-wide one nobody could be recognised."""
    load().verify(notice(event(), headers={}))
    with pytest.raises(BadSignature, match="APSARAVIDEO_VOD_CALLBACK_KEY"):
        load().verify(notice(event(), task=None))


@pytest.mark.parametrize(
    "fields",
    [
        {"EventTime": "2026-01-01T00:00:00:123Z"},
        {"EventType": "SomethingElse"},
        {"VideoId": "video-1", "MediaId": None},
        {"Data": json.loads(DONE["AIImageResult"])},
        {"Data": {"AIImageResult": json.loads(DONE["AIImageResult"])}},
        {"Data": None, "AIImageResult": DONE["AIImageResult"]},
        {"Status": "Success", "Code": "Success"},
    ],
)
def test_every_variant_of_the_event_is_understood(fields: dict[str, Any]) -> None:
    """Whatever the pages disagree on, the job and its images are found."""
    update = load().read(notice(event(**fields)))
    assert (update.provider_task_id, update.status) == ("remote-1", RemoteStatus.SUCCEEDED)
    assert [output.url for output in update.outputs] == ["http://bucket.test/1.gif", "http://bucket.test/2.gif"]


@pytest.mark.parametrize("word", ["fail", "processing"])
def test_only_a_success_has_images(word: str) -> None:
    """What a job that failed or goes on names beside is no result."""
    assert load().read(notice(event(Status=word))).outputs == ()


def test_other_events_at_the_provider_wide_address_are_not_for_us() -> None:
    """VOD sends all its events there: one with a JobId is read, one without is ignored, not refused."""
    assert load().read(notice(event(), task=None)).provider_task_id == "remote-1"
    upload = notice({"EventType": "FileUploadComplete", "VideoId": "video-1", "Status": "success"}, task=None)
    with pytest.raises(NotSupported):
        load().read(upload)
    with pytest.raises(Malformed):
        load().read(replace(upload, task=task()))


def test_a_notice_that_overtakes_the_submits_answer_is_understood() -> None:
    """While the job's id is not stored yet, the address alone names the task."""
    assert load().read(notice(event(), task=task(provider_task_id=None))).provider_task_id == "remote-1"


def test_a_notice_names_one_job() -> None:
    """Nobody who knows one task's address can have the queries of ten others refused: ids are asked for with commas."""
    for job_ids in ("remote-1,remote-1", ",".join(f"job{number}" for number in range(11)), ","):
        with pytest.raises(Malformed):
            load().read(notice(event(JobId=job_ids), task=task(provider_task_id=None)))


def test_notices_of_one_job_and_end_are_one() -> None:
    """Repetitions are known by job and final status, whatever else differs; other notices by their body."""
    handler = load()
    assert handler.notice_id(notice(event())) == "remote-1:success"
    assert handler.notice_id(notice(event(EventTime="later", Status="SUCCESS"))) == "remote-1:success"
    assert handler.notice_id(notice(event(Status="fail"))) == "remote-1:fail"
    assert handler.notice_id(notice(event(Status="processing"))) is None
