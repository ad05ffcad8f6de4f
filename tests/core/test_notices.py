"""Notices: kept once, believed when signed, a hint when not, and never more than one end."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from handlers import BadSignature, Malformed, Notice, Receipt
from handlers._signatures import hmac_sha256_hex
from receiver.errors import NotFound
from receiver.models import CompletedVia, EventType, TaskStatus, Verdict
from receiver.notices import Call
from receiver.signing import BadToken, CallbackTokens
from tests import asking
from tests.core.stage import SECRET, Clock, Stage, broken, done, still
from tests.core.test_submissions import REFUSED


def unsigned(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the toy a provider whose notices are hints."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False, raising=False)


def test_a_signed_notice_ends_the_task(stage: Stage) -> None:
    """Its body is the result; the provider gets the answer it wants; what came is kept as it came."""
    task = stage.running()
    taken = stage.notice(task)
    assert (taken.verdict, taken.reply.status, taken.reply.body) == (Verdict.BELIEVED, 200, b'{"ok":true}')
    after = stage.task(task)
    assert (after.status, after.completed_via, after.due_at) == (TaskStatus.SUCCEEDED, CompletedVia.CALLBACK, None)
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_SUCCEEDED]
    (kept,) = stage.notices(task)
    assert json.loads(kept.body)["state"] == "done"
    assert kept.headers == {"user-agent": "toy/1"}, "signatures are not kept"


def test_a_signed_notice_of_progress_moves_the_task(stage: Stage) -> None:
    """It is told to subscribers, and ends nothing."""
    task = stage.running()
    assert stage.notice(task, state="drawing", progress=0.4).verdict is Verdict.BELIEVED
    assert stage.task(task).progress == 0.4
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_PROGRESS]


def test_repetitions_are_answered_counted_and_change_nothing(stage: Stage) -> None:
    """A provider that did not hear our answer sends again; it gets the same answer."""
    task = stage.running()
    first = stage.notice(task)
    for _ in range(3):
        again = stage.notice(task)
        assert (again.reply, again.verdict) == (first.reply, None)
    (kept,) = stage.notices(task)
    assert kept.copies == 4
    assert len(stage.events(task)) == 2


def test_late_notices_are_kept_and_change_nothing(stage: Stage) -> None:
    """What agrees with the end is late, what does not is a contradiction; both can be seen in the timeline."""
    task = stage.running()
    stage.notice(task)
    ended = stage.task(task)
    assert stage.notice(task, state="drawing").verdict is Verdict.LATE
    assert stage.notice(task, state="broken", reason="paint").verdict is Verdict.CONTRADICTION
    assert stage.task(task) == ended
    assert len(stage.events(task)) == 2
    verdicts = [detail["verdict"] for detail in stage.steps(task, "notice")]
    assert sorted(verdicts) == ["believed", "contradiction", "late"]


def test_an_unsigned_notice_is_believed_when_the_operator_says_so(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONFIRM_NOTICES=false: its URL was signed by us, and that is enough."""
    stage: Stage = build(TOY_CONFIRM_NOTICES="false")
    unsigned(stage, monkeypatch)
    task = stage.running()
    assert stage.notice(task).verdict is Verdict.BELIEVED
    assert stage.task(task).status is TaskStatus.SUCCEEDED


def test_an_unsigned_notice_is_only_a_hint(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It changes no state and tells nobody anything; it makes the query due."""
    unsigned(stage, monkeypatch)
    task = stage.running()
    assert stage.notice(task).verdict is Verdict.HINT
    after = stage.task(task)
    assert (after.status, after.due_at) == (TaskStatus.RUNNING, stage.clock())
    assert stage.event_types(task) == [EventType.TASK_RUNNING]


def test_a_hint_never_puts_a_query_off(stage: Stage, build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken by a machine whose clock is ahead of the worker's, it leaves a query that comes sooner where it was."""
    task = stage.running()
    ahead = Clock()
    ahead.now = stage.clock() + 60_000
    other: Stage = build(at=ahead)
    unsigned(other, monkeypatch)
    assert other.notice(task).verdict is Verdict.HINT
    assert stage.task(task).due_at == task.due_at


def test_a_wrong_signature_stores_nothing(stage: Stage) -> None:
    """The token alone is not enough where the provider signs."""
    task = stage.running()
    before = stage.task(task)
    with pytest.raises(BadSignature):
        stage.call(task, b'{"id":"job-1","state":"done"}', sign="0" * 64)
    with pytest.raises(Malformed):
        stage.call(task, b"[]")
    assert stage.task(task) == before
    assert stage.notices(task) == []


def test_a_token_works_for_its_provider_alone(stage: Stage) -> None:
    """A token moved to another provider's address, cut, altered, or made with another key opens nothing."""
    task = stage.running()
    tokens = stage.runtime.submissions._tokens
    genuine = tokens.make("toy", task.id)
    foreign = CallbackTokens([b"x" * 32]).make("toy", task.id)
    for token in (tokens.make("topview", task.id), genuine[:-1], genuine.upper(), foreign, "", "é"):
        with pytest.raises(BadToken):
            stage.runtime.notices.take(Call("toy", token, {}, {}, b"{}"))
    with pytest.raises(NotFound):
        stage.call(task, b"{}", provider="topview")
    assert stage.notices(task) == []


def test_the_provider_wide_address_finds_the_task_by_the_providers_id(stage: Stage) -> None:
    """Signed notices without a token reach their task; those about nobody's task are answered and forgotten."""
    task = stage.running("job-77")
    assert stage.notice(None, "job-77").verdict is Verdict.BELIEVED
    assert stage.task(task).status is TaskStatus.SUCCEEDED
    stranger = stage.notice(None, "job-of-somebody-else")
    assert (stranger.verdict, stranger.reply.status) == (Verdict.IGNORED, 200)
    with pytest.raises(BadSignature):
        stage.call(None, b'{"id":"job-77","state":"broken"}', sign="")


def test_a_notice_about_a_task_that_was_purged_is_answered(stage: Stage) -> None:
    """The provider stops repeating it, and nothing breaks."""
    assert stage.notice("task_01kahx3mt5k0c4z7d6q8r9w2ve").verdict is Verdict.IGNORED


def test_a_notice_about_a_task_that_is_purged_just_now_is_answered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task was there when the notice was read, and is gone when it is to be kept."""
    task = stage.running()
    read = stage.handler.read

    def purged(notice: Notice) -> Any:
        with stage.runtime.store.write() as connection:
            connection.execute(text("DELETE FROM tasks WHERE id = :id"), {"id": task.id})
        return read(notice)

    monkeypatch.setattr(stage.handler, "read", purged)
    taken = stage.notice(task)
    assert (taken.verdict, taken.reply.status) == (Verdict.IGNORED, 200)
    assert stage.rows("SELECT id FROM notices") == []


def test_forged_calls_take_no_turn_at_the_database(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes never waits for them, and nobody is woken."""
    task = stage.running()
    disturbed: list[str] = []
    monkeypatch.setattr(stage.runtime.store, "write", lambda **_: disturbed.append("write"))
    monkeypatch.setattr(stage.runtime.bell, "ring", lambda *_: disturbed.append("ring"))
    with pytest.raises(BadSignature):
        stage.call(task, b'{"id":"job-1","state":"done"}', sign="0" * 64)
    assert disturbed == []


def test_a_notice_while_the_task_is_canceled_is_a_contradiction(stage: Stage) -> None:
    """Canceled means canceled for subscribers, whatever the provider still delivers."""
    task = stage.running()
    stage.runtime.tasks.cancel(stage.account, task.id)
    assert stage.notice(task).verdict is Verdict.CONTRADICTION
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_CANCELED]


def test_callback_and_poll_together_make_one_end(build: Any, clock: Clock) -> None:
    """Twelve threads of two processes report different ends at once: one final state, one final event."""
    stages: list[Stage] = [build(), build()]
    for round_number in range(6):
        job = f"job-{round_number}"
        task = stages[0].running(job)
        clock.now = task.due_at or 0
        batch = [found for _, some in asking.claim(stages[0].runtime.polling, "toy", 5) for found in some]
        start = threading.Barrier(12)
        works = [
            lambda: asking.answered(stages[0].runtime.polling, batch, {task.id: broken()}),  # noqa: B023  joined below
            *(
                lambda number=number: stages[number % 2].notice(task, job, "done", extra=number)  # noqa: B023
                for number in range(8)
            ),
            *(lambda: stages[1].notice(task, job, "broken") for _ in range(2)),  # noqa: B023
            lambda: asking.answered(stages[1].runtime.polling, batch, {task.id: still()}),  # noqa: B023
        ]

        def run(work: Any, start: threading.Barrier = start) -> None:
            start.wait()
            work()

        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        final = [kind for kind in stages[0].event_types(task) if kind is not EventType.TASK_RUNNING]
        assert len(final) == 1
        assert stages[0].task(task).status.final
        changes = [step for step in stages[0].steps(task, "state") if step["to"] in ("succeeded", "failed")]
        assert len(changes) == 1


def test_a_signed_notice_of_progress_before_the_answer_leaves_the_way_to_it(stage: Stage) -> None:
    """The submission's answer holds what queries need: it must still be stored."""
    task = stage.create()
    start = stage.claim_one()
    assert stage.notice(task, state="drawing").verdict is Verdict.BELIEVED
    assert stage.task(task).status is TaskStatus.SUBMITTING
    stage.accept(start)
    after = stage.task(task)
    assert (after.status, json.loads(after.state_json)) == (TaskStatus.RUNNING, {"from": "receipt"})


def test_a_notice_about_a_task_that_was_never_handed_over_starts_nothing(stage: Stage) -> None:
    """Nobody can have begun it: it stays in the queue, and is submitted."""
    task = stage.create()
    stage.notice(task, state="drawing")
    assert stage.task(task).status is TaskStatus.QUEUED
    assert stage.claim_one().task.id == task.id


def test_equal_notices_about_two_tasks_are_no_repetition(stage: Stage) -> None:
    """A provider's id of a notice counts within its task."""
    first, second = stage.create(), stage.create()
    stage.claim()
    assert [stage.notice(task, "job-1").verdict for task in (first, second)] == [Verdict.BELIEVED] * 2


def test_long_headers_of_a_notice_are_cut(stage: Stage) -> None:
    """Whoever calls decides their length, not how much is kept."""
    task = stage.running()
    body = json.dumps({"id": "job-1", "state": "drawing"}).encode()
    token = stage.runtime.submissions._tokens.make("toy", task.id)
    headers = {"x-toy-sign": hmac_sha256_hex(SECRET, body), "user-agent": "x" * 5000}
    stage.runtime.notices.take(Call("toy", token, headers, {}, body))
    assert stage.notices(task)[0].headers == {"user-agent": "x" * 1024}


def test_an_id_is_looked_up_among_the_tasks_of_its_own_provider(stage: Stage) -> None:
    """A provider-wide notice is about the newest task that its sender knows by the id, never about another's."""
    old = stage.running()
    stage.clock.pass_by(1)
    new = stage.running()
    stage.clock.pass_by(1)
    other = stage.running()
    with stage.runtime.store.write() as connection:
        connection.execute(text("UPDATE tasks SET provider = 'other' WHERE id = :id"), {"id": other.id})
    assert stage.notice(None).task_id == new.id
    assert stage.task(new).status is TaskStatus.SUCCEEDED
    assert [stage.task(task).status for task in (old, other)] == [TaskStatus.RUNNING] * 2


@pytest.mark.parametrize("way", ["receipt", "receipt of what runs", "refusal", "notice", "poll"])
def test_a_provider_that_repeats_our_address_gives_no_token_away(stage: Stage, way: str) -> None:
    """Whoever may read a task could call back for it otherwise, in the provider's place."""
    task = stage.create()
    token = stage.runtime.submissions._tokens.make("toy", task.id)
    raw = json.dumps({"id": "job-1", "state": "done", "callback": token})
    start = stage.claim_one()
    if way == "refusal":
        stage.runtime.submissions.rejected(start.task, REFUSED, raw)
    else:
        receipt = Receipt("job-1", raw if "receipt" in way else "{}", {}, done() if way == "receipt" else None)
        stage.runtime.submissions.accepted(start.task, receipt)
    if way == "notice":
        stage.call(task, raw.replace("{", '{"picture": "https://cdn.example.test/cat.png", ', 1).encode())
    if way == "poll":
        stage.wait_until_due(task)
        stage.poll(replace(done(), raw=raw))
    after = stage.task(task)
    assert after.status == {"receipt of what runs": "running", "refusal": "failed"}.get(way, TaskStatus.SUCCEEDED)
    shown = str([after, stage.events(task), stage.notices(task), stage.steps(task)])
    assert "***" in shown
    assert token not in shown
