"""SuperApp: which failures may have bought something, and which tasks are worth buying again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handlers import ErrorCode, OutcomeUnknown, Rejected, RemoteStatus, Submission, Unavailable
from tests.handlers.fake_provider import Answer, FakeProvider, json_answer
from tests.handlers.test_superapp import CAT, ID, URL, asked, failure, make, remote, task_answer

__all__ = ["remote"]


def test_the_operator_may_accept_duplicates_after_a_system_error(remote: FakeProvider) -> None:
    """Only with the operator's word is a task sent again after an error that may have started it."""
    remote.answer(failure("INTCNN_COMMON_SYS_ERROR"))
    with pytest.raises(OutcomeUnknown):
        make(remote).submit(Submission("task_1", "text2image", CAT))
    with pytest.raises(Unavailable):
        make(remote, resubmit_after_system_error="true").submit(Submission("task_1", "text2image", CAT))


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [(failure("INTCNN_SOMETHING_NEW", 500), OutcomeUnknown), (failure("INTCNN_COMMON_AUTH_CHECK_ERROR"), Rejected)],
)
def test_the_operators_word_is_for_the_system_error_alone(
    remote: FakeProvider, answer: Answer, meaning: type[Exception]
) -> None:
    """Who accepts duplicates after one error buys nothing twice after another, and hears of a refusal."""
    remote.answer(answer)
    with pytest.raises(meaning):
        make(remote, resubmit_after_system_error="true").submit(Submission("task_1", "text2image", CAT))


@pytest.mark.parametrize(
    ("word", "retryable"), [("AIGC_ERROR", True), ("TIMEOUT", True), ("LW_REQUEST_ERROR", False), ("SUCCESS", True)]
)
def test_a_failed_task_says_whether_to_buy_it_again(remote: FakeProvider, word: str, retryable: bool) -> None:
    """Only a request that the provider found faulty would fail the same way once more."""
    remote.answer(task_answer(word))
    error = make(remote).query([asked()])["task_1"].error
    assert error is not None
    assert error.retryable is retryable


@pytest.mark.parametrize("code", ["INTCNN_COMMON_AUTH_CHECK_ERROR", "INTCNN_COMMON_PARAM_VALID_ERROR", "INTCNN_NEW"])
def test_a_refused_task_is_not_to_be_bought_again(remote: FakeProvider, code: str) -> None:
    """Nobody is told that a task may succeed next time which the provider has refused."""
    remote.answer(failure(code))
    with pytest.raises(Rejected) as refused:
        make(remote).submit(Submission("task_1", "text2image", CAT))
    assert not refused.value.error.retryable


def test_the_operator_may_say_that_429_starts_nothing(remote: FakeProvider) -> None:
    """The provider does not say so: without that word a throttled submission is not sent again."""
    remote.answer(Answer(b"", 429, {"Retry-After": "3"}))
    with pytest.raises(OutcomeUnknown) as unknown:
        make(remote).submit(Submission("task_1", "text2image", CAT))
    assert unknown.value.retry_after == 3
    with pytest.raises(Unavailable) as caught:
        make(remote, resubmit_after_429="true").submit(Submission("task_1", "text2image", CAT))
    assert caught.value.retry_after == 3


SECOND = URL.replace("out-1", "out-2")


def test_a_task_that_comes_as_text_is_read(remote: FakeProvider) -> None:
    """A paid result is not lost because the answer's model comes as JSON text; whose it is is checked all the same."""
    for task_id in (ID, "other"):
        model = {"taskId": task_id, "status": "SUCCESS", "ossPath": URL}
        remote.answer(json_answer({"success": True, "model": json.dumps(model)}))
        if task_id == ID:
            assert make(remote).query([asked()])["task_1"].outputs[0].url == URL
        else:
            with pytest.raises(Unavailable):
                make(remote).query([asked()])


@pytest.mark.parametrize("packed", [list, json.dumps])
def test_a_path_that_is_a_list_gives_all_it_names(remote: FakeProvider, packed: Any) -> None:
    """The page's sample prints a list where one path belongs: what is in such a list was paid for."""
    remote.answer(task_answer("SUCCESS", ossPath=packed([URL, "[]", "", None, {"url": URL}, SECOND])))
    update = make(remote).query([asked()])["task_1"]
    assert update.status is RemoteStatus.SUCCEEDED
    assert [(output.url, output.name, output.expires_at) for output in update.outputs] == [
        (url, "ossPath", 1767232800_000) for url in (URL, SECOND)
    ]


@pytest.mark.parametrize("path", [["[]"], [None], [[URL]], {"url": URL}, "[", "[1]", [URL.replace("out-1", "%5B%5D")]])
def test_a_list_that_names_nothing_is_no_success(remote: FakeProvider, path: object) -> None:
    """A list without one usable path is as empty as a path that is none."""
    remote.answer(task_answer("SUCCESS", ossPath=path))
    error = make(remote).query([asked()])["task_1"].error
    assert error is not None
    assert error.code is ErrorCode.EMPTY_RESULT
