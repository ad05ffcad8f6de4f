"""Compares what the providers, the service and the subscribers of a plant each recorded, when it has come to rest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.crash.load import Hook, Order
from tests.crash.plant import Plant, until
from tests.model.ledger import Ledger

ENDS = ("succeeded", "failed", "canceled", "expired")
FINAL_EVENTS = {f"task.{end}" for end in ENDS}


def await_rest(plant: Plant, seconds: float) -> None:
    """Wait until every task has ended and every delivery was made or given up."""
    ledger = Ledger(plant.database)

    def left() -> list[dict[str, Any]]:
        return ledger.rows("SELECT id, provider, status, due_at FROM tasks WHERE due_at IS NOT NULL") + ledger.waiting()

    try:
        until(lambda: not left(), seconds, "something is still pending")
    except AssertionError:
        raise AssertionError(f"still pending: {left()[:5]} and {len(left())} in all") from None
    finally:
        ledger.close()


class Checker:
    """Everything that was recorded, read once; ``check`` compares it."""

    def __init__(self, plant: Plant, orders: Sequence[Order], hooks: Sequence[Hook]) -> None:
        self._plant = plant
        self._orders = orders
        self._hooks = hooks
        self._tasks = {task["id"]: task for task in plant.pages("/v1/tasks")}
        self._events = plant.pages("/v1/events")
        self._started = plant.sandbox_get("starts")["by_key"]
        self._jobs = plant.sandbox_get("tasks?limit=20000")["data"]
        self._calls = plant.sandbox_get("callbacks?limit=20000")["data"]
        ledger = Ledger(plant.database)
        self._attempts = ledger.attempts()
        self._deliveries = ledger.deliveries()
        ledger.close()

    def check(self) -> str:
        """Every promise; what was compared, in one line. AssertionError for the first that was broken."""
        self._check_orders()
        self._check_results()
        self._check_events()
        self._check_deliveries()
        ends = Counter(task["status"] for task in self._tasks.values())
        return f"{len(self._orders)} orders, {dict(ends)}, {len(self._calls)} callbacks, {len(self._attempts)} attempts"

    def _check_orders(self) -> None:
        """One task for each key, and one start at the provider, or none where it is not known whether there was one."""
        for order in self._orders:
            assert len(order.ids) == 1, f"{order.key}: acknowledged as {order.ids}"
            (task_id,) = order.ids
            task, starts = self._tasks[task_id], self._started.get(order.key, 0)
            assert starts <= 1, f"{order.key} was bought {starts} times"
            if starts == 0:
                code = (task["error"] or {}).get("code")
                assert code == "submission_unknown", f"{order.key} was never started, and yet {task['status']} {code}"
        assert len(self._tasks) == len(self._orders), "tasks that nobody ordered"

    def _check_results(self) -> None:
        """What the provider finished while we knew of it is our result; what it told us, and we acknowledged, too."""
        by_key = {order.key: self._tasks[next(iter(order.ids))] for order in self._orders}
        for job in self._jobs:
            task = by_key[job["start_key"]]
            told = any(
                call["accepted"] and call["task_id"] == job["id"] and call["at"] < task["finished_at"]
                for call in self._calls
            )
            if told or task["provider_task_id"] is not None:
                assert task["status"] == "succeeded", self._story(task, job)
                assert task["outputs"], "a success without a result"
        assert {task["status"] for task in self._tasks.values()} <= set(ENDS)

    def _story(self, task: dict[str, Any], job: dict[str, Any]) -> str:
        """All that is known of a task, for whom a check fails."""
        steps = self._plant.api("GET", f"/v1/tasks/{task['id']}/timeline").json()["data"]
        calls = [call for call in self._calls if call["task_id"] == job["id"]]
        return "\n".join(["the provider's result is not ours", *map(str, [task, job, *steps, *calls])])

    def _check_events(self) -> None:
        """One final event for each task, of its kind, that says what the task says."""
        final: dict[str, list[dict[str, Any]]] = {}
        for event in self._events:
            if event["type"] in FINAL_EVENTS:
                final.setdefault(event["data"]["id"], []).append(event)
        assert set(final) == set(self._tasks)
        for task_id, events in final.items():
            assert len(events) == 1, f"{len(events)} final events"
            assert events[0]["type"] == f"task.{self._tasks[task_id]['status']}"
            assert events[0]["data"]["outputs"] == self._tasks[task_id]["outputs"]

    def _check_deliveries(self) -> None:
        """Every end reached every subscriber under one id, signed, the same bytes each time; attempts without a gap."""
        for hook in self._hooks:
            ends = hook.ends_of()
            for task_id in self._tasks:
                assert len(ends.get(task_id, ())) == 1, f"{task_id} ended {len(ends.get(task_id, ()))} times for a hook"
            assert hook.secret
            assert not hook.doubted, "badly signed"
            for copies in hook.taken.values():
                assert len({copy.body for copy in copies}) == 1, "other bytes at another attempt"
                assert json.loads(copies[0].body)["data"]["id"] in self._tasks
        numbers: dict[str, list[int]] = {}
        for attempt in self._attempts:
            numbers.setdefault(attempt["delivery_id"], []).append(attempt["number"])
        for delivery_id, row in self._deliveries.items():
            assert row["status"] == "delivered", f"{row['status']} because of {row['reason']}"
            assert numbers.get(delivery_id, []) == list(range(1, row["attempts"] + 1)), "a gap in the attempts"
