"""What the database holds, read past the service's own code."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]


class Ledger:
    """A connection of its own that only reads."""

    def __init__(self, place: Path | str) -> None:
        """``place``: the path of an SQLite file, or the URL of a PostgreSQL database."""
        self._connection: Any
        if isinstance(place, str):
            self._connection = psycopg.connect(place, autocommit=True, row_factory=dict_row)
            self._mark = "%s"
        else:
            self._connection = sqlite3.connect(f"file:{place}?mode=ro", uri=True)
            self._connection.row_factory = sqlite3.Row
            self._mark = "?"

    def rows(self, query: str, *values: Any) -> list[Row]:
        """The rows as dictionaries; a ``?`` in the query stands for a value."""
        return [dict(row) for row in self._connection.execute(query.replace("?", self._mark), values)]

    def tasks(self) -> dict[str, Row]:
        """All tasks by id."""
        return {row["id"]: row for row in self.rows("SELECT * FROM tasks")}

    def task(self, task_id: str) -> Row | None:
        """One task."""
        return next(iter(self.rows("SELECT * FROM tasks WHERE id = ?", task_id)), None)

    def deliveries(self) -> dict[str, Row]:
        """All deliveries by id."""
        return {row["id"]: row for row in self.rows("SELECT * FROM deliveries")}

    def delivery(self, delivery_id: str) -> Row | None:
        """One delivery."""
        return next(iter(self.rows("SELECT * FROM deliveries WHERE id = ?", delivery_id)), None)

    def attempts(self) -> list[Row]:
        """All attempts, by delivery and number."""
        return self.rows("SELECT * FROM attempts ORDER BY delivery_id, number")

    def events(self, behind: int = 0) -> list[Row]:
        """Events behind a place in their order."""
        return self.rows("SELECT * FROM events WHERE seq > ? ORDER BY seq", behind)

    def outcomes_of(self, task_id: str) -> list[str]:
        """How the submissions of a task came out, as its timeline says."""
        steps = self.rows("SELECT detail FROM steps WHERE task_id = ? AND kind = 'submit' ORDER BY seq", task_id)
        return [json.loads(row["detail"])["outcome"] for row in steps]

    def waiting(self) -> list[Row]:
        """What is still to be delivered, with the state of its subscriber."""
        return self.rows(
            "SELECT d.due_at, d.leased, d.attempts, d.event_type, s.url, s.disabled, s.ready_at, s.failures "
            "FROM deliveries d JOIN subscribers s ON s.id = d.subscriber_id WHERE d.status = 'pending'"
        )

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()
