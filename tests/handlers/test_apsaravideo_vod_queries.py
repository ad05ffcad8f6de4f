"""ApsaraVideo VOD: what its answers to queries are taken for, and what a look-up of signed URLs may cost."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest

from handlers import Rejected, RemoteStatus, Unavailable, calls_made
from tests.handlers.fake_provider import Answer, FakeProvider, Request, Reset, Script, json_answer
from tests.handlers.test_apsaravideo_vod import (
    DONE,
    FAILED,
    SIGNED,
    event,
    images,
    jobs,
    load,
    notice,
    refusal,
    remote,
    task,
)

__all__ = ["remote"]


def test_ten_jobs_are_asked_for_in_one_call(remote: FakeProvider) -> None:
    """One call for all; each task sees its own job only; absent jobs are still running and left out."""
    entries = [DONE | {"JobId": f"remote-{n}", "Status": "processing"} for n in (1, 2, 4)]
    remote.answer(jobs(*entries, {"JobId": "somebody-elses"}))
    updates = load(remote).query([task(n) for n in range(1, 11)])
    assert remote.last.query["JobIds"] == ",".join(f"remote-{n}" for n in range(1, 11))
    assert set(updates) == {"task_1", "task_2", "task_4"}
    assert json.loads(updates["task_2"].raw)["AIImageJobList"] == [entries[1]]


@pytest.mark.parametrize("code", ["InvalidParameter", "InvalidJobId.NotFound"])
def test_one_job_that_is_refused_costs_the_others_no_result(remote: FakeProvider, code: str) -> None:
    """Nine results are not lost for a tenth job that the provider does not take a question about."""

    def answer(request: Request) -> Answer:
        ids = request.query["JobIds"].split(",")
        return refusal(code, 404) if "remote-3" in ids else jobs(*(FAILED | {"JobId": job_id} for job_id in ids))

    remote.answer(answer)
    handler, left = load(remote), {task(number).task_id: task(number) for number in range(1, 11)}
    for _ in range(200):
        with contextlib.suppress(Rejected):
            left = {name: left[name] for name in left.keys() - handler.query(list(left.values())).keys()}
    assert set(left) == {"task_3"}


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "Forbidden"])
def test_what_is_wrong_with_all_jobs_is_asked_once(remote: FakeProvider, code: str) -> None:
    """Wrong credentials are no reason for more calls."""
    remote.answer(refusal(code, 403))
    with pytest.raises(Rejected):
        load(remote).query([task(number) for number in range(1, 11)])
    assert len(remote.requests) == 1


def test_finished_jobs_get_urls_that_can_be_fetched(remote: FakeProvider) -> None:
    """The signed URLs of ListAIImageInfo win, filtered by job, asked for once per video."""
    both = [DONE, DONE | {"JobId": "remote-2"}]
    other = SIGNED | {"JobId": "remote-2", "FileURL": "https://cdn.test/2.gif"}
    remote.answer(jobs(*both), images(SIGNED, other, SIGNED | {"JobId": "remote-9"}))
    updates = load(remote).query([task(1), task(2)])
    assert [output.url for output in updates["task_1"].outputs] == [SIGNED["FileURL"]]
    assert [output.url for output in updates["task_2"].outputs] == ["https://cdn.test/2.gif"]
    assert updates["task_1"].outputs[0].details["source"] == "ListAIImageInfo"
    assert [request.header("x-acs-action") for request in remote.requests] == ["GetAIImageJobs", "ListAIImageInfo"]
    assert remote.last.query == {"VideoId": "video-1"}


def test_a_code_beside_the_jobs_is_no_error(remote: FakeProvider) -> None:
    """An answer that has what was asked for, and a ``Code`` as well, costs nobody a result."""
    found, shown = ({**json.loads(each.body), "Code": "OK"} for each in (jobs(DONE), images(SIGNED)))
    remote.answer(json_answer(found), json_answer(shown))
    (update,) = load(remote).query([task()]).values()
    assert [output.url for output in update.outputs] == [SIGNED["FileURL"]]


@pytest.mark.parametrize("answer", [images(), refusal("Forbidden.RAM", 403), images(SIGNED | {"FileURL": "x"})])
def test_without_signed_urls_the_plain_ones_are_given(remote: FakeProvider, answer: Answer) -> None:
    """A look-up that is forbidden or empty does not cost the result; the details say where it is from."""
    remote.answer(jobs(DONE), answer)
    (update,) = load(remote).query([task()]).values()
    assert [output.url for output in update.outputs] == ["http://bucket.test/1.gif", "http://bucket.test/2.gif"]
    assert update.outputs[0].details == {"source": "AIImageResult", "Score": 0.9}


@pytest.mark.parametrize("fault", [Reset(), refusal("Throttling.User")])
def test_a_look_up_that_failed_for_now_is_tried_again_for_a_while(remote: FakeProvider, fault: Script) -> None:
    """A young task waits for its signed URLs; an old one takes the plain ones rather than none."""
    handler = load(remote)
    remote.answer(jobs(DONE), fault)
    with pytest.raises(Unavailable):
        handler.query([task(age=599.0)])
    remote.answer(jobs(DONE), fault)
    (update,) = handler.query([task(age=600.0)]).values()
    assert update.outputs[0].details["source"] == "AIImageResult"


def test_one_look_up_that_is_throttled_is_enough(remote: FakeProvider) -> None:
    """No other is made in that query, and the pause is kept; what the answer says of other jobs is not lost."""
    three = [DONE | {"JobId": f"remote-{n}", "VideoId": f"video-{n}"} for n in (1, 2, 3)]
    throttled = replace(refusal("Throttling.User"), headers={"x-acs-retry-after": "7000"})
    remote.answer(jobs(*three), throttled)
    with pytest.raises(Unavailable) as caught:
        load(remote).query([task(1), task(2), task(3)])
    assert caught.value.retry_after == 7
    assert len(remote.requests) == 2
    remote.answer(jobs(three[0], FAILED | {"JobId": "remote-2"}), throttled)
    assert set(load(remote).query([task(1), task(2)])) == {"task_2"}


def test_an_old_task_gets_a_look_up_of_its_own(remote: FakeProvider) -> None:
    """It is not tried again, so that another's failure must not leave it with URLs that cannot be fetched."""
    other = SIGNED | {"JobId": "remote-2"}
    remote.answer(jobs(DONE, DONE | {"JobId": "remote-2", "VideoId": "video-2"}), Reset(), images(other))
    updates = load(remote).query([task(1, age=600.0), task(2, age=600.0)])
    assert updates["task_1"].outputs[0].details["source"] == "AIImageResult"
    assert [output.url for output in updates["task_2"].outputs] == [SIGNED["FileURL"]]


def test_look_ups_count_as_calls(remote: FakeProvider) -> None:
    """The provider's rate is shared by the query and by what it takes to fetch its images."""
    handler = load(remote)
    remote.answer(jobs(DONE, FAILED | {"JobId": "remote-2"}), images(SIGNED))
    before = calls_made()
    handler.query([task(1), task(2), task(3)])
    assert calls_made() - before == len(remote.requests) == 2


def test_a_byte_order_mark_is_no_trouble(remote: FakeProvider) -> None:
    """An answer for several jobs that begins with one is read and taken apart like any other."""
    entries = [DONE | {"JobId": f"remote-{n}", "Status": "processing"} for n in (1, 2)]
    answer = jobs(*entries)
    remote.answer(replace(answer, body=b"\xef\xbb\xbf" + answer.body))
    updates = load(remote).query([task(1), task(2)])
    assert json.loads(updates["task_1"].raw)["AIImageJobList"] == [entries[0]]


@pytest.mark.parametrize("data", ["", {"images": []}, [{"ImageUrl": "http://bucket.test/1.gif"}]])
def test_a_notice_whose_images_are_not_found_is_no_verdict(data: Any, remote: FakeProvider) -> None:
    """What a notice carries is assumed: a success in which nothing is found is asked after, not failed."""
    update = load(remote).read(notice(event(Data=data)))
    assert (update.status, update.error) == (RemoteStatus.RUNNING, None)


def test_a_slow_provider_does_not_keep_a_batch_for_longer_than_a_lease(
    remote: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the time for look-ups is over, the jobs that are left are asked for again by a later query."""
    monkeypatch.setattr("handlers.apsaravideo_vod.LOOK_UPS", -1.0)
    both = [DONE, DONE | {"JobId": "remote-2", "VideoId": "video-2"}]
    remote.answer(jobs(*both), images(SIGNED))
    assert set(load(remote).query([task(1), task(2)])) == {"task_1"}


@pytest.mark.parametrize("word", ["SUCCESS", "Success", "success"])
@pytest.mark.parametrize(
    "result",
    [
        DONE["AIImageResult"],
        json.loads(DONE["AIImageResult"]),
        {"AIImageResult": DONE["AIImageResult"]},
        '{"AIImageResult": [{"Url": "http://bucket.test/1.gif"}, {"Url": "http://bucket.test/2.gif"}]}',
    ],
)
def test_every_form_of_the_result_is_read(remote: FakeProvider, word: str, result: Any) -> None:
    """JSON text, a list or an object; the status in any case."""
    remote.answer(jobs(DONE | {"Status": word, "AIImageResult": result}), images())
    (update,) = load(remote).query([task()]).values()
    assert update.status is RemoteStatus.SUCCEEDED
    assert len(update.outputs) == 2


def test_a_failed_job_keeps_the_providers_words(remote: FakeProvider) -> None:
    """Code and Message of a failure reach the caller; an internal failure may be tried anew."""
    remote.answer(jobs(FAILED | {"Code": "InternalError"}))
    (update,) = load(remote).query([task()]).values()
    assert update.error is not None
    assert (update.error.provider_code, update.error.provider_message) == ("InternalError", "no picture in it")
    assert update.error.retryable
    assert len(remote.requests) == 1


def test_an_answer_without_a_list_says_nothing(remote: FakeProvider) -> None:
    """HTTP 200 without jobs is no error: they are still running."""
    remote.answer(json_answer({"RequestId": "r"}))
    assert load(remote).query([task()]) == {}


@pytest.mark.parametrize("job_id", [4711, 4711.0, "4711", " 4711 "])
def test_images_are_found_under_a_number(remote: FakeProvider, job_id: Any) -> None:
    """A job whose id comes as a number keeps the URLs that can be fetched, and gets nobody else's."""
    other = SIGNED | {"JobId": 4712, "FileURL": "https://cdn.test/2.gif"}
    remote.answer(jobs(DONE | {"JobId": job_id}), images(other, SIGNED | {"JobId": job_id}, SIGNED | {"JobId": None}))
    (update,) = load(remote).query([task(provider_task_id="4711")]).values()
    assert [output.url for output in update.outputs] == [SIGNED["FileURL"]]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("lesser", [DONE | {"Status": "processing"}, DONE | {"Status": ""}, FAILED])
def test_a_job_that_stands_there_twice_counts_once(remote: FakeProvider, lesser: dict[str, Any], order: int) -> None:
    """The result wins, whatever the order: no image that was paid for is lost to a staler line beside it."""
    remote.answer(jobs(*[lesser, DONE][::order]), images(SIGNED))
    (update,) = load(remote).query([task()]).values()
    assert update.status is RemoteStatus.SUCCEEDED
    assert json.loads(update.raw)["AIImageJobList"] == [DONE]
    remote.answer(jobs(*[DONE | {"Status": "processing"}, FAILED][::order]))
    assert load(remote).query([task()])["task_1"].status is RemoteStatus.FAILED
