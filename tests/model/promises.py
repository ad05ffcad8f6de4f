"""What must hold after every step, whatever happened before, and what must hold when everything has come to rest."""

from __future__ import annotations

import json

from handlers import RemoteStatus
from tests.model.ledger import Row
from tests.model.world import DAY, PLAN, RETENTION_DAYS, SubscriberBook, TaskBook, World

ENDS = {"succeeded", "failed", "canceled", "expired"}
FINAL_EVENTS = {f"task.{end}" for end in ENDS}
UNCHANGED = ("status", "finished_at", "error_json", "outputs_json", "completed_via", "due_at", "provider_response")


class Promises:
    """Checks a world against its books. An AssertionError names the promise that was broken."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen_events = 0
        self._delivered: set[str] = set()

    def check(self, *, pinged: str | None = None) -> None:
        """After every step. ``pinged``: the subscriber that a ping was asked for in this step."""
        world = self._world
        tasks, deliveries = world.ledger.tasks(), world.ledger.deliveries()
        for book in list(world.tasks.values()):
            row = tasks.get(book.id)
            if row is None:
                self._may_be_purged(book)
            else:
                self._check_task(book, row)
        assert set(tasks) == set(world.tasks), "a task that nobody asked for"
        self._check_new_events(pinged)
        self._check_final_events(tasks)
        self._check_deliveries(deliveries)

    # Tasks -------------------------------------------------------------------------------------------------------

    def _may_be_purged(self, book: TaskBook) -> None:
        """Only what ended long ago may be gone."""
        latest = self._world.now + self._world.skew
        assert book.end is not None, "a live task was purged"
        assert book.end["finished_at"] <= latest - RETENTION_DAYS * DAY, "a task was purged too early"
        self._world.purged[book.id] = self._world.tasks.pop(book.id)
        self._world.keys = {key: bound for key, bound in self._world.keys.items() if bound[0] != book.id}

    def _check_task(self, book: TaskBook, row: Row) -> None:
        jobs = book.provider.jobs_of(book.id)
        assert len(jobs) <= 1, f"bought {len(jobs)} times"
        assert book.provider.submit_is_safe_to_repeat or book.calls <= row["submits"], "a call without its claim"
        if book.end is not None:
            changed = [name for name in UNCHANGED if row[name] != book.end[name]]
            assert not changed, f"a final task changed: {changed}"
            return
        if row["status"] not in ENDS:
            assert row["due_at"] is not None, f"stuck: {row['status']} and never looked at again"
            assert row["finished_at"] is None
            return
        assert row["due_at"] is None
        assert row["finished_at"] is not None
        self._check_end(book, row)
        book.end = row

    def _check_end(self, book: TaskBook, row: Row) -> None:
        """An end must be true: said by the provider, asked for by the caller, or brought by time."""
        said = {job.status for job in book.provider.jobs_of(book.id)}
        code = json.loads(row["error_json"])["code"] if row["error_json"] else None
        match row["status"], code:
            case "succeeded", None:
                assert RemoteStatus.SUCCEEDED in said, "a success that the provider never had"
                results = {job.result for job in book.provider.jobs_of(book.id)}
                assert {output["url"] for output in json.loads(row["outputs_json"])} == results, (
                    "somebody else's result"
                )
            case "failed", "submission_unknown":
                assert "unknown" in self._world.ledger.outcomes_of(book.id), "an answer that was never lost"
                assert not book.success_told or book.asked_in_vain, "its success was told, and it was given up"
            case "failed", "invalid_input":
                assert not said, "refused, and yet started"
            case "failed", _:
                assert RemoteStatus.FAILED in said, "a failure that the provider never had"
            case "canceled", None:
                assert book.cancelled or RemoteStatus.CANCELED in said, "nobody stopped it"
            case "expired", None:
                assert row["finished_at"] >= row["deadline_at"], "expired before its time"
                assert not book.success_told or book.asked_in_vain, "its success was told, and it expired unasked"
            case other:
                raise AssertionError(f"no such end: {other}")

    # Events ------------------------------------------------------------------------------------------------------

    def _check_new_events(self, pinged: str | None) -> None:
        """Every event has one delivery for each subscriber that wants it, and for nobody else."""
        world = self._world
        for event in world.ledger.events(self._seen_events):
            self._seen_events = event["seq"]
            found = world.ledger.rows(
                "SELECT s.id, s.task_only, s.url FROM deliveries d JOIN subscribers s ON s.id = d.subscriber_id "
                "WHERE d.event_id = ?",
                event["id"],
            )
            if event["type"] == "subscriber.ping":
                assert [row["id"] for row in found] == [pinged]
                continue
            about = json.loads(event["body"])["data"]
            wanted = {book.id for book in world.subscribers if _wants(book, event["type"], about)}
            registered = [row["id"] for row in found if not row["task_only"]]
            assert sorted(registered) == sorted(wanted), f"{event['type']} goes to {registered}, not to {wanted}"
            hidden = [row["url"] for row in found if row["task_only"]]
            own = about.get("callback_url")
            assert hidden == ([own] if own else []), "the task's own callback URL"

    def _check_final_events(self, tasks: dict[str, Row]) -> None:
        """One final event for each final task, of its kind; none for a live one."""
        final: dict[str, list[str]] = {}
        for event in self._world.ledger.events():
            if event["type"] in FINAL_EVENTS:
                final.setdefault(event["task_id"], []).append(event["type"])
        for task_id, row in tasks.items():
            expected = [f"task.{row['status']}"] if row["status"] in ENDS else []
            assert final.get(task_id, []) == expected, f"{row['status']} with the final events {final.get(task_id)}"

    # Deliveries --------------------------------------------------------------------------------------------------

    def _check_deliveries(self, deliveries: dict[str, Row]) -> None:
        attempts: dict[str, list[Row]] = {}
        for attempt in self._world.ledger.attempts():
            attempts.setdefault(attempt["delivery_id"], []).append(attempt)
        for row in deliveries.values():
            made = attempts.get(row["id"], [])
            assert [attempt["number"] for attempt in made] == list(range(1, row["attempts"] + 1)), (
                "a gap in the numbers"
            )
            assert (row["due_at"] is not None) == (row["status"] == "pending"), f"{row['status']}, due {row['due_at']}"
            assert row["leased"] == 0 or row["status"] == "pending"
            if row["status"] == "delivered":
                assert 200 <= made[-1]["response_status"] < 300, "delivered without a 2xx"
                answers = self._world.taken[row["subscriber_id"], row["event_id"]]
                assert any(answer is not None and 200 <= answer < 300 for answer in answers)
            if row["reason"] == "exhausted":
                assert row["attempts"] - row["base"] == len(PLAN) + 1, "given up before the plan was used up"
            if row["status"] == "dead":
                assert row["reason"], "given up without a reason"

    def check_rest(self) -> None:
        """When nothing is left to do: every task has ended, and its end was delivered or is listed as dead."""
        self.check()
        for book in self._world.tasks.values():
            assert book.end is not None, "a task that never ends"
        for row in self._world.ledger.deliveries().values():
            assert row["status"] in ("delivered", "dead"), f"a delivery that is never made: {row}"


def _wants(book: SubscriberBook, event_type: str, about: Row) -> bool:
    if book.deleted or (event_type == "subscriber.disabled" and about["subscriber"] == book.id):
        return False
    if book.providers is not None and "provider" in about and about["provider"] not in book.providers:
        return False
    return book.wants is None or event_type in book.wants
