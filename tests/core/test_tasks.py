"""What callers do with tasks: create once, list, cancel in every state, read the timeline."""

from __future__ import annotations

import json
import threading
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from receiver import tasks as service
from receiver.errors import Conflict, IdempotencyMismatch, Invalid, NotFound, ProviderOff
from receiver.models import EventType, Task, TaskStatus
from receiver.store import deliveries
from receiver.store.tasks import Filter
from receiver.tasks import MAX_DEADLINE, NewTask
from tests import asking
from tests.core.stage import HOOK, Clock, Stage, done

DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]


def test_a_created_task_waits_to_be_submitted(stage: Stage) -> None:
    """It is stored before anybody hears of it, with the provider's deadline, and costs nothing yet."""
    task = stage.create("ein Hund 🐕")
    assert stage.task(task) == task
    assert (task.status, task.due_at, task.submits) == (TaskStatus.QUEUED, stage.clock(), 0)
    assert task.deadline_at == stage.clock() + 600_000
    assert task.input_json == '{"prompt":"ein Hund 🐕"}'
    assert stage.event_types(task) == []
    assert stage.create(deadline=MAX_DEADLINE).deadline_at == stage.clock() + MAX_DEADLINE * 1000


@pytest.mark.parametrize(
    ("wanted", "fields"),
    [
        (NewTask("toy", "draw", {}), {"input.prompt"}),
        (NewTask("toy", "draw", {"prompt": ""}, deadline=0.5), {"input.prompt", "deadline"}),
        (NewTask("toy", "draw", {"prompt": "a"}, deadline=MAX_DEADLINE + 1), {"deadline"}),
        (NewTask("toy", "draw", {"prompt": "a"}, deadline=float("nan")), {"deadline"}),
        (NewTask("toy", "draw", {"prompt": "a"}, "http://169.254.169.254/x"), {"callback_url"}),
        (NewTask("toy", "draw", {"prompt": "a", "x": float("inf")}), {"input"}),
        (NewTask("toy", "draw", {"prompt": "a", "x": "\ud800"}), {"input"}),
        (NewTask("toy", "draw", {"prompt": "a", "x": DEEP}), {"input"}),
        (NewTask("toy", "draw", {"prompt": "a"}, metadata={"a": "\ud800"}), {"metadata"}),
        (NewTask("toy", "draw", {"prompt": "a"}, metadata={"a\0": "b"}), {"metadata"}),
        (NewTask("toy", "paint", {}), {"operation"}),
        (NewTask("nobody", "draw", {}), {"provider"}),
    ],
    ids=lambda value: ",".join(sorted(value)) if isinstance(value, set) else "",
)
@pytest.mark.parametrize("key", [None, "key-1"])
def test_bad_input_is_refused_by_field_and_stores_nothing(
    stage: Stage, wanted: NewTask, fields: set[str], key: str | None
) -> None:
    """Every problem is named at once, and nothing a caller sends can crash the service."""
    with pytest.raises(Invalid) as caught:
        stage.runtime.tasks.create(stage.account, wanted, key)
    assert set(caught.value.errors) == fields
    assert stage.rows("SELECT id FROM tasks") == []


def test_a_whole_number_with_a_fraction_of_nothing_goes_out_whole(build: Any) -> None:
    """2.0 where a field is an integer is taken, as JSON Schema has it, and is 2 for the provider; all else stays."""
    stage = build(TOPVIEW_UID="u", TOPVIEW_API_KEY="k", SUPERAPP_ACCESS_KEY="k", SUPERAPP_SECRET_KEY="s")
    words = {
        "more": [7.0],
        "taskId": "t",
        "scriptId": 2.0,
        "scriptContents": [{"x": 3.0, "segText": "a", "segId": 1.0}],
    }
    wanted = [
        NewTask("superapp", "text2image", {"width": 1024.0, "own": 2.0, "inputText": "a cat", "height": 1024}),
        NewTask("topview", "m2v_script", words),
    ]
    made = [stage.runtime.tasks.create(stage.account, each)[0].input_json for each in wanted]
    assert made == [
        '{"width":1024,"own":2.0,"inputText":"a cat","height":1024}',
        '{"more":[7.0],"taskId":"t","scriptId":2,"scriptContents":[{"x":3.0,"segText":"a","segId":1}]}',
    ]


def test_a_provider_without_credentials_is_named(stage: Stage) -> None:
    """Known, but off: the caller learns which it is."""
    with pytest.raises(ProviderOff, match="topview"):
        stage.runtime.tasks.create(stage.account, NewTask("topview", "voice", {}))


def test_an_input_of_many_small_values_is_in_memory_once(stage: Stage) -> None:
    """As values it takes many times its text; to find out whether it was sent before makes no second tree of it."""
    few, many = [{"a": 1}], [{"a": 1} for _ in range(20_000)]
    stage.runtime.tasks.create(stage.account, NewTask("toy", "draw", {"prompt": "a", "x": few}), "warm")
    tracemalloc.start()
    stage.runtime.tasks.create(stage.account, NewTask("toy", "draw", {"prompt": "a", "x": many}), "key-1")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4_000_000  # as values they are 4.9 MB already


# Idempotency -------------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_task(stage: Stage) -> None:
    """Whatever the order of members, and also when the task has moved on."""
    service = stage.runtime.tasks
    one = NewTask("toy", "draw", {"prompt": "a", "size": {"w": 1, "h": 2}}, metadata={"a": "1", "b": "2"})
    other = NewTask("toy", "draw", {"size": {"h": 2, "w": 1}, "prompt": "a"}, metadata={"b": "2", "a": "1"})
    first, replayed = service.create(stage.account, one, "key")
    assert not replayed
    stage.accept(stage.claim_one())
    again, replayed = service.create(stage.account, other, "key")
    assert replayed
    assert (again.id, again.status) == (first.id, TaskStatus.RUNNING)
    assert stage.claim() == []


@pytest.mark.parametrize(
    "other",
    [
        {"provider": "superapp"},
        {"operation": "paint"},
        {"input": {"prompt": "a dog"}},
        {"callback_url": HOOK},
        {"metadata": {"a": "b"}},
        {"deadline": 60.0},
    ],
    ids=lambda other: next(iter(other)),
)
def test_the_same_key_with_another_body_is_refused(stage: Stage, other: dict[str, Any]) -> None:
    """A key is a promise about one request, whatever part of it is another now."""
    first = NewTask("toy", "draw", {"prompt": "a cat"})
    stage.runtime.tasks.create(stage.account, first, "key")
    with pytest.raises(IdempotencyMismatch):
        stage.runtime.tasks.create(stage.account, replace(first, **other), "key")
    assert len(stage.rows("SELECT id FROM tasks")) == 1


def test_keys_belong_to_accounts(stage: Stage) -> None:
    """Another account's key is another key, and its tasks are not found."""
    task = stage.create("a cat", "key")
    key, _ = stage.runtime.accounts.create_key("other", "", ["manage"])
    theirs, replayed = stage.runtime.tasks.create(key.account_id, NewTask("toy", "draw", {"prompt": "a cat"}), "key")
    assert (theirs.id != task.id, replayed) == (True, False)
    with pytest.raises(NotFound):
        stage.runtime.tasks.get(key.account_id, task.id)
    with pytest.raises(NotFound):
        stage.runtime.tasks.cancel(key.account_id, task.id)
    with pytest.raises(NotFound):
        stage.runtime.tasks.timeline(key.account_id, task.id)


def test_many_requests_with_one_key_at_once_make_one_task(build: Any) -> None:
    """Sixteen threads of two processes: one task, one start, the same answer for all."""
    stages: list[Stage] = [build(), build()]
    start = threading.Barrier(16)
    made: list[tuple[Task, bool]] = []

    def run(stage: Stage) -> None:
        wanted = NewTask("toy", "draw", {"prompt": "a cat"})
        start.wait()
        made.append(stage.runtime.tasks.create(stage.account, wanted, "key"))

    threads = [threading.Thread(target=run, args=(stages[number % 2],)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({task.id for task, _ in made}) == 1
    assert sorted(replayed for _, replayed in made) == [False] + [True] * 15
    assert len(stages[0].claim()) == 1


# Cancel ------------------------------------------------------------------------------------------------


def test_a_queued_task_that_is_canceled_is_never_bought(stage: Stage) -> None:
    """Nothing is handed over any more."""
    task = stage.create()
    assert stage.runtime.tasks.cancel(stage.account, task.id).status is TaskStatus.CANCELED
    assert stage.claim() == []
    assert stage.event_types(task) == [EventType.TASK_CANCELED]


def test_a_task_canceled_during_its_submission_stays_canceled(stage: Stage) -> None:
    """The receipt adds the provider's id, for those who want to look there; nothing is asked any more."""
    task = stage.create()
    start = stage.claim_one()
    stage.runtime.tasks.cancel(stage.account, task.id)
    stage.accept(start)
    after = stage.task(task)
    assert (after.status, after.provider_task_id, after.due_at) == (TaskStatus.CANCELED, "job-1", None)
    stage.clock.pass_by(60)
    assert stage.poll() == []
    assert stage.claim() == []


def test_a_lost_submission_can_be_canceled(stage: Stage) -> None:
    """Who does not want to wait for news need not."""
    task = stage.create()
    start = stage.claim_one()
    stage.runtime.submissions.lost(start.task, "reset")
    stage.runtime.tasks.cancel(stage.account, task.id)
    stage.clock.now = task.deadline_at
    assert stage.claim() == []
    assert stage.event_types(task) == [EventType.TASK_CANCELED]


def test_a_running_task_that_is_canceled_ignores_its_late_result(stage: Stage) -> None:
    """A query under way finds the task ended."""
    task = stage.running()
    stage.wait_until_due(task)
    batch = [found for _, some in asking.claim(stage.runtime.polling, "toy", 5) for found in some]
    stage.runtime.tasks.cancel(stage.account, task.id)
    asking.answered(stage.runtime.polling, batch, {task.id: done()})
    assert stage.task(task).status is TaskStatus.CANCELED
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_CANCELED]


def test_what_has_ended_cannot_be_canceled(stage: Stage) -> None:
    """The second of two cancels is told so, and makes no second event."""
    task = stage.running()
    stage.notice(task)
    with pytest.raises(Conflict, match="succeeded"):
        stage.runtime.tasks.cancel(stage.account, task.id)
    other = stage.create()
    stage.runtime.tasks.cancel(stage.account, other.id)
    with pytest.raises(Conflict):
        stage.runtime.tasks.cancel(stage.account, other.id)
    assert stage.event_types(other) == [EventType.TASK_CANCELED]


# Reading -----------------------------------------------------------------------------------------------


def test_the_timeline_tells_everything_in_order(stage: Stage) -> None:
    """Created, submitted, running, asked, called back, told, delivered."""
    task = stage.create(callback_url=HOOK)
    start = stage.claim_one()
    stage.clock.pass_by(1)
    stage.accept(start)
    stage.clock.pass_by(6)
    stage.poll(None)
    stage.clock.pass_by(1)
    stage.notice(task)
    stage.clock.pass_by(1)
    stage.attempt(200)
    lines, complete = stage.runtime.tasks.timeline(stage.account, task.id)
    assert complete
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    delivered = stage.runtime.tasks.history(stage.account, task.id).attempts
    ends = [attempt.started_at + attempt.duration_ms for attempt in delivered]
    assert [line.at for line in lines if line.kind == "attempt"] == ends
    assert stage.clock() not in ends, "an attempt takes its time"
    kinds = [line.kind for line in lines]
    assert kinds == ["created", "submit", "state", "event", "poll", "state", "notice", "event", "attempt", "attempt"]
    json.dumps([dict(line.detail) for line in lines])


def test_a_timeline_reads_no_bodies(stage: Stage) -> None:
    """What notices, events and answers hold, megabytes each, is not in the memory for a list of what happened."""
    stage.subscribe()
    task = stage.running(metadata={"about": "x" * 1000})
    for number in range(5):
        stage.notice(task, state=f"drawing-{number}", padding="x" * 400_000)
    stage.attempt(200)
    with stage.runtime.store.write() as connection:
        connection.exec_driver_sql("UPDATE events SET body = body || substr(body, 1, 1000000)")
    tracemalloc.start()
    lines, _ = stage.runtime.tasks.timeline(stage.account, task.id)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [line.kind for line in lines].count("notice") == 5
    assert most < 1_000_000


def test_a_long_timeline_keeps_its_newest_lines(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that there are earlier ones. What is read for it is bounded, whichever kind there is much of."""
    monkeypatch.setattr(service, "MOST_LINES", 3)
    task = stage.running()
    for _ in range(3):
        stage.clock.pass_by(1)
        stage.notice(task, state=f"drawing-{stage.clock()}")
    lines, complete = stage.runtime.tasks.timeline(stage.account, task.id)
    assert [line.kind for line in lines] == ["notice"] * 3
    assert not complete


def test_a_task_may_have_more_deliveries_than_a_query_can_name(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand subscribers with a hundred statements each: the export has them all, in order."""
    monkeypatch.setattr(deliveries, "MOST_NAMED", 2)
    for number in range(5):
        stage.subscribe(f"{HOOK}/{number}")
    task = stage.running()
    stage.attempt(500)
    stage.clock.pass_by(10)
    stage.attempt(200)
    history = stage.runtime.tasks.history(stage.account, task.id)
    assert [attempt.number for attempt in history.attempts] == [1] * 5 + [2] * 5
    assert history.whole


def test_lists_can_be_narrowed_down(stage: Stage, clock: Clock) -> None:
    """By state, provider, operation, time and metadata, alone and together; newest first."""
    first = stage.create("1", metadata={"shop": "7", "run": "a"})
    clock.pass_by(1)
    second = stage.create("2", metadata={"shop": "7"})
    clock.pass_by(1)
    third = stage.create("3", metadata={"shop": "8"})
    stage.runtime.tasks.cancel(stage.account, second.id)

    def ids(**wanted: Any) -> list[str]:
        page = stage.runtime.tasks.list_page(stage.account, Filter(**wanted), 100, None)
        assert page.next_cursor is None
        return [task.id for task in page.items]

    assert ids() == [third.id, second.id, first.id]
    assert ids(status="canceled") == [second.id]
    assert ids(provider="toy", operation="draw", status="queued") == [third.id, first.id]
    assert ids(provider="topview") == []
    assert ids(metadata={"shop": "7"}) == [second.id, first.id]
    assert ids(metadata={"shop": "7", "run": "a"}) == [first.id]
    assert ids(created_after=first.created_at) == [third.id, second.id]
    assert ids(created_before=third.created_at) == [second.id, first.id]
    assert ids(created_after=first.created_at, created_before=third.created_at) == [second.id]
