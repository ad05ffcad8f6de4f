"""Notices that come together: one transaction for all, and each of them judged as if it had come alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from handlers import BadSignature, Malformed
from handlers._signatures import hmac_sha256_hex
from receiver import notices as service
from receiver.errors import Busy, NotFound
from receiver.models import EventType, Task, TaskStatus, Verdict
from receiver.notices import Call, Taken
from receiver.signing import BadToken
from receiver.store import Store, settling, tasks
from tests.core.stage import PICTURE, SECRET, Stage


def call(stage: Stage, task: Task, job: str, state: str = "done", **more: Any) -> Call:
    """A signed notice of the toy about a task."""
    body = json.dumps({"id": job, "state": state, "picture": PICTURE, **more}).encode()
    token = stage.runtime.submissions._tokens.make("toy", task.id)
    return Call("toy", token, {"x-toy-sign": hmac_sha256_hex(SECRET, body)}, {}, body)


def verdicts(results: list[Any]) -> list[Verdict | None]:
    """The verdicts of results that are all answers."""
    assert all(isinstance(result, Taken) for result in results), results
    return [result.verdict for result in results]


def transactions(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows with every writing transaction."""
    counted: list[None] = []
    write = Store.write

    @contextmanager
    def counting(store: Store) -> Iterator[Any]:
        counted.append(None)
        with write(store) as connection:
            yield connection

    monkeypatch.setattr(Store, "write", counting)
    return counted


def test_many_notices_share_one_transaction(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends its own task, with its own event and delivery."""
    stage.subscribe("https://hooks.example.test/all", "task.succeeded")
    running = [stage.running(f"job-{number}") for number in range(8)]
    counted = transactions(monkeypatch)
    results = stage.runtime.notices.take_all([call(stage, task, f"job-{at}") for at, task in enumerate(running)])
    assert verdicts(results) == [Verdict.BELIEVED] * 8
    assert len(counted) == 1
    for task in running:
        assert stage.task(task).status is TaskStatus.SUCCEEDED
        assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_SUCCEEDED]
        assert len(stage.deliveries_of(task)) == 1


def test_notices_about_one_task_share_one_transaction_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is judged by what the first has made of the task."""
    task = stage.running()
    counted = transactions(monkeypatch)
    calls = [call(stage, task, "job-1", "drawing"), call(stage, task, "job-1"), call(stage, task, "job-1", "broken")]
    assert verdicts(stage.runtime.notices.take_all(calls)) == [
        Verdict.BELIEVED,
        Verdict.BELIEVED,
        Verdict.CONTRADICTION,
    ]
    assert len(counted) == 1


@pytest.mark.parametrize("confirm", ["false", "true"])
def test_of_what_very_many_hear_some_is_left_for_the_next_transaction(
    build: Any, monkeypatch: pytest.MonkeyPatch, confirm: str
) -> None:
    """Others write in between; whom few hear of goes first, but for the oldest. What tells nobody is never left."""
    monkeypatch.setattr(settling, "MOST_TOLD", 8)
    monkeypatch.setattr(settling, "FEW", 2)
    stage: Stage = build(TOY_CONFIRM_NOTICES=confirm)
    monkeypatch.setattr(type(stage.handler), "signature_covers_body", False)
    for number in range(3):
        stage.subscribe(f"https://hooks.example.test/{number}", "task.succeeded")
    running = [stage.running(f"job-{number}") for number in range(6)]
    with stage.runtime.store.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO accounts (id, name, secrets_sealed, created_at) VALUES ('o', 'o', '', 1)"
        )
        connection.exec_driver_sql(f"UPDATE tasks SET account_id = 'o' WHERE id = '{running[-1].id}'")
    calls = [call(stage, task, f"job-{at}") for at, task in enumerate(running)]
    calls.insert(3, call(stage, running[2], "job-2", "broken"))
    left, taken = list(range(len(calls))), []
    while left:
        results = stage.runtime.notices.take_all([calls[at] for at in left])
        taken.append([at for at, result in zip(left, results, strict=True) if result is not None])
        left = [at for at, result in zip(left, results, strict=True) if result is None]
    assert taken == ([[0, 1, 6], [2, 3], [4, 5]] if confirm == "false" else [list(range(7))])
    if confirm == "false":
        with stage.runtime.store.read() as connection:
            found = tasks.get_all(connection, {task.id for task in running})
        assert {task.status for task in found.values()} == {TaskStatus.SUCCEEDED}


@pytest.mark.parametrize(
    ("url", "few", "most", "left"),
    [
        (None, 2, 1, 0),
        (None, 1, 2, 0),
        (None, 1, 1, 2),
        (None, 1, 0, 2),
        ("https://hooks.example.test/one", 1, 2, 2),
    ],
)
def test_what_follows_a_notice_that_is_left_is_left_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, url: str | None, few: int, most: int, left: int
) -> None:
    """Though nobody is told of it: it is judged by what the one before makes of their task.

    Few are never left, nor is the first, however many hear of it (``url``: one more).
    """
    monkeypatch.setattr(settling, "MOST_TOLD", most)
    monkeypatch.setattr(settling, "FEW", few)
    stage.subscribe("https://hooks.example.test/all", "task.succeeded")
    one, other = stage.running("job-0", callback_url=url), stage.running("job-1")
    more = [stage.running(job) for job in ("job-2", "job-3")]
    drawing = [call(stage, task, task.provider_task_id or "", "drawing") for task in more]
    assert verdicts(stage.runtime.notices.take_all(drawing)) == [Verdict.BELIEVED] * 2, "nobody hears of that"
    calls = [call(stage, one, "job-0"), call(stage, other, "job-1"), call(stage, other, "job-1", "drawing")]
    wanted = [Verdict.BELIEVED, Verdict.BELIEVED, Verdict.LATE]
    results = stage.runtime.notices.take_all(calls)
    assert results[3 - left :] == [None] * left
    taken = results[: 3 - left] + (stage.runtime.notices.take_all(calls[-left:]) if left else [])
    assert verdicts(taken) == wanted


def test_a_task_that_a_notice_ends_makes_room_at_once(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the provider takes only so many at a time, the next one is handed over when the bell rings for it."""
    stage: Stage = build(TOY_MAX_IN_FLIGHT=1)
    task = stage.running()
    rung: set[str] = set()
    monkeypatch.setattr(stage.runtime.bell, "ring", lambda *lanes: rung.update(lanes))
    stage.notice(task)
    assert rung == {"deliver", "submit-toy"}


def test_each_gets_its_own_answer(stage: Stage) -> None:
    """What is refused among them takes nothing from the others."""
    one, two = stage.running("job-1"), stage.running("job-2")
    good = call(stage, one, "job-1")
    results = stage.runtime.notices.take_all(
        [
            Call("nobody", None, {}, {}, b""),
            Call("toy", "no-token", {}, {}, b""),
            Call("toy", good.token, {}, {}, good.body),
            call(stage, two, "job-2", state=""),
            good,
            good,
            call(stage, two, "job-2"),
        ]
    )
    assert [type(result) for result in results[:4]] == [NotFound, BadToken, BadSignature, Malformed]
    assert verdicts(results[4:]) == [Verdict.BELIEVED, None, Verdict.BELIEVED]
    (kept,) = stage.notices(one)
    assert kept.copies == 2
    assert stage.task(two).status is TaskStatus.SUCCEEDED


def test_several_notices_about_one_task_come_one_after_the_other(stage: Stage) -> None:
    """Progress, then an end, then another end: told in this order, and the second end changes nothing."""
    task = stage.running()
    results = stage.runtime.notices.take_all(
        [
            call(stage, task, "job-1", "drawing", progress=0.3),
            call(stage, task, "job-1", "done"),
            call(stage, task, "job-1", "broken"),
        ]
    )
    assert verdicts(results) == [Verdict.BELIEVED, Verdict.BELIEVED, Verdict.CONTRADICTION]
    told = [EventType.TASK_RUNNING, EventType.TASK_PROGRESS, EventType.TASK_SUCCEEDED]
    assert stage.event_types(task) == told
    assert (stage.task(task).status, stage.task(task).progress) == (TaskStatus.SUCCEEDED, 1.0)


def test_one_that_cannot_be_kept_does_not_fail_its_neighbours(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks the common transaction: the others are kept, it alone is told, and nothing of it stays."""
    running = [stage.running(f"job-{number}") for number in range(3)]
    add = service.notices.add

    def fragile(connection: Any, new: Any) -> set[str]:
        if any(b"poison" in notice.body for notice, _ in new):
            add(connection, new)
            raise ValueError("poisoned")
        return add(connection, new)

    monkeypatch.setattr(service.notices, "add", fragile)
    calls = [call(stage, task, f"job-{at}", extra="poison" if at == 1 else "") for at, task in enumerate(running)]
    first, poisoned, last = stage.runtime.notices.take_all(calls)
    assert verdicts([first, last]) == [Verdict.BELIEVED] * 2
    assert isinstance(poisoned, ValueError)
    assert [stage.task(task).status for task in running] == ["succeeded", "running", "succeeded"]
    assert stage.notices(running[1]) == []
    assert stage.event_types(running[1]) == [EventType.TASK_RUNNING]


def test_a_commit_that_fails_answers_nobody(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are told to come again, nothing is stored, and a database in trouble is not asked for each of them."""
    running = [stage.running(f"job-{number}") for number in range(2)]
    calls = [call(stage, task, f"job-{at}") for at, task in enumerate(running)]
    write = Store.write
    tries: list[None] = []

    @contextmanager
    def failing(store: Store) -> Iterator[Any]:
        tries.append(None)
        with write(store) as connection:
            yield connection
            raise Busy("the disk is full")

    monkeypatch.setattr(Store, "write", failing)
    results = stage.runtime.notices.take_all(calls)
    assert [type(result) for result in results] == [Busy, Busy]
    assert len(tries) == 1
    monkeypatch.undo()
    assert [stage.notices(task) for task in running] == [[], []]
    assert verdicts(stage.runtime.notices.take_all(calls)) == [Verdict.BELIEVED] * 2


def test_two_processes_that_settle_the_same_tasks_never_block_each_other(build: Any) -> None:
    """Whatever the order in which their batches name the tasks: each task ends once, and nobody is refused."""
    stages: list[Stage] = [build(), build()]
    running = [stages[0].running(f"job-{number}") for number in range(12)]
    calls = [call(stages[0], task, f"job-{at}") for at, task in enumerate(running)]
    together = threading.Barrier(2)
    results: list[Any] = []

    def settle(stage: Stage, mine: list[Call]) -> None:
        together.wait()
        results.extend(stage.runtime.notices.take_all(mine))

    threads = [
        threading.Thread(target=settle, args=(stages[0], calls)),
        threading.Thread(target=settle, args=(stages[1], calls[::-1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts(results), key=str) == [None] * 12 + [Verdict.BELIEVED] * 12
    told = [EventType.TASK_RUNNING, EventType.TASK_SUCCEEDED]
    assert [stages[0].event_types(task) for task in running] == [told] * 12
