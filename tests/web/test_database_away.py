"""The disk is full, or the database locked for long: callers are asked to come again, and all goes on by itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event

from receiver.config import read_settings
from receiver.runtime import Runtime
from receiver.store import Store
from receiver.web import create_app
from tests.databases import Template, empty, on_sqlite
from tests.handlers.topview_samples import notice_body
from tests.web.conftest import KEY, SAMPLE, Caller, set_environment
from tests.web.problems import assert_problem
from tests.web.test_callbacks import UID, running, verdicts

__all__ = ["running"]


def test_a_schema_that_is_not_there_is_named(
    database: str, template: tuple[Template, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 that says what to run, instead of a database that seems slow or broken."""
    with empty(database, tmp_path) as url:
        set_environment(monkeypatch, url, template[1])
        runtime = Runtime.build(read_settings())
        api = Caller(create_app(runtime).test_client(), KEY)
        for answer in (api.get("/v1/tasks"), api.post("/v1/tasks", SAMPLE)):
            assert "run receiver migrate" in assert_problem(answer, 503, "busy")["detail"]
        runtime.close()


@contextmanager
def disk_full(store: Store) -> Iterator[None]:
    """No page more than the database has now, on every connection, for the length of the block."""
    full = True

    def bound(connection: Any, *_: Any) -> None:
        cursor = connection.cursor()
        (pages,) = cursor.execute("PRAGMA page_count").fetchone()
        cursor.execute(f"PRAGMA max_page_count={pages if full else 2**31}")
        cursor.close()

    event.listen(store.engine, "checkout", bound)
    try:
        yield
    finally:
        full = False
    # the listener stays: it lifts the bound on each connection when it is used again


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Another process holds the writer's turn, for longer than anybody waits."""
    path = str(store.engine.url.database)

    def impatient(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA busy_timeout=50")

    event.listen(store.engine, "checkout", impatient)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def fill(api: Caller) -> None:
    """Fill what room there is inside the last pages, until a task is refused."""
    for _ in range(2000):
        answer = api.post("/v1/tasks", {**SAMPLE, "metadata": {"filler": "x" * 500}})
        if answer.status_code != 202:
            assert_problem(answer, 503, "busy")
            assert answer.headers["Retry-After"]
            return
    pytest.fail("the disk never became full")


@on_sqlite
def test_a_full_disk_loses_nothing(
    api: Caller, client: FlaskClient, running: tuple[str, str], runtime: Runtime
) -> None:
    """503 for callbacks and tasks, nothing half stored; with room again the same notice is taken, without a restart."""
    task_id, path = running
    with disk_full(runtime.store):
        fill(api)
        big = notice_body(taskId="tv-1", errorMsg="y" * 20_000)
        assert_problem(client.post(path, data=big, headers=UID), 503, "busy")
        assert client.get("/healthz").status_code == 200
        assert api.get(f"/v1/tasks/{task_id}").json["status"] == "running"
        assert verdicts(api, task_id) == []
    assert client.post(path, data=big, headers=UID).status_code == 200
    assert verdicts(api, task_id) == [("hint", 1)]
    api.submit()


@on_sqlite
def test_a_locked_database_loses_nothing(
    api: Caller, client: FlaskClient, running: tuple[str, str], runtime: Runtime
) -> None:
    """The same while somebody else writes without an end; reading goes on meanwhile."""
    task_id, path = running
    with locked(runtime.store):
        assert_problem(client.post(path, data=notice_body(taskId="tv-1"), headers=UID), 503, "busy")
        assert_problem(api.post("/v1/tasks", SAMPLE), 503, "busy")
        assert client.get("/healthz").status_code == 200
        assert api.get(f"/v1/tasks/{task_id}").json["status"] == "running"
    assert client.post(path, data=notice_body(taskId="tv-1"), headers=UID).status_code == 200
    assert verdicts(api, task_id) == [("hint", 1)]
