"""``receiver export`` and ``receiver purge``: on the database of the settings."""

from __future__ import annotations

import json
import sqlite3
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver.cli import export
from receiver.cli.export import without_secrets
from receiver.config import read_settings
from receiver.models import Scope
from receiver.runtime import Runtime, secrets_of
from receiver.sealing import new_secret_key
from receiver.subscribers import NewSubscriber
from receiver.tasks import NewTask
from tests.cli.conftest import Run

HEADER = "hdr-secret-4711"
PROVIDER_KEY = "provider-key-0815-secret"
KEY = "rk_the_bootstrap_key_of_this_test"
DAY = 86_400_000


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """The services on the test's own database, with credentials of one provider."""
    monkeypatch.setenv("TOPVIEW_UID", "uid-of-somebody-secret")
    monkeypatch.setenv("TOPVIEW_API_KEY", PROVIDER_KEY)
    monkeypatch.setenv("RECEIVER_API_KEY", KEY)
    monkeypatch.setenv("RECEIVER_ALLOWED_NETWORKS", "127.0.0.0/8")
    made = Runtime.build(read_settings())
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def account(runtime: Runtime) -> str:
    """The account's id."""
    return runtime.accounts.create_key("default", "a test's", [Scope.MANAGE])[0].account_id


def submitted(runtime: Runtime, account: str) -> str:
    """A task that waits to be handed over."""
    given = {"model": "Nano Banana", "prompt": "a boat"}
    task, _ = runtime.tasks.create(account, NewTask("topview", "common_task_text2image", given))
    return task.id


def written(tmp_path: Path, statement: str, *values: Any) -> None:
    """Write something into the test's database, as the service would have."""
    connection = sqlite3.connect(tmp_path / "receiver.db")
    with connection:
        connection.execute(statement, values)
    connection.close()


def test_no_secret_is_in_an_export(run: Run, runtime: Runtime, account: str, tmp_path: Path) -> None:
    """Every secret there is was repeated by a provider and by a subscriber: none is in the document."""
    wanted = NewSubscriber("http://127.0.0.1:9/hook?token=of-their-own-1", ["*"], headers={"Authorization": HEADER})
    subscriber, signing = runtime.subscribers.create(account, wanted)
    task = submitted(runtime, account)
    own = runtime.accounts.signing_secrets(account)[0].key
    secrets = [KEY, PROVIDER_KEY, HEADER, signing, signing.removeprefix("whsec_"), own, *secrets_of(runtime.settings)]
    secrets += ["of-their-own-1", "rk_a_key_that_somebody_pasted"]
    loud = " | ".join(secrets) + " https://cdn.example/1.png?Expires=9&Signature=link-signature-1"
    headers = json.dumps({"authorization": PROVIDER_KEY, "content-type": "text/plain"})
    written(
        tmp_path,
        "INSERT INTO notices (id, provider, task_id, notice_key, received_at, headers, body, verdict)"
        " VALUES ('ntc_1', 'topview', ?, 'k', 1, ?, ?, 'hint')",
        task,
        headers,
        loud.encode(),
    )
    written(tmp_path, "UPDATE tasks SET provider_response = ?, provider_task_id = 'tv-1'", json.dumps({"said": loud}))
    detail = json.dumps({"outcome": "accepted", "answer": loud})
    written(tmp_path, "INSERT INTO steps (task_id, at, kind, detail) VALUES (?, 2, 'submit', ?)", task, detail)
    written(
        tmp_path,
        "INSERT INTO events (id, account_id, type, task_id, created_at, body)"
        " VALUES ('evt_1', ?, 'task.running', ?, 3, ?)",
        account,
        task,
        json.dumps({"data": loud}),
    )
    written(
        tmp_path,
        "INSERT INTO deliveries (id, account_id, event_id, event_type, subscriber_id, task_id, status, created_at)"
        " VALUES ('dlv_1', ?, 'evt_1', 'task.running', ?, ?, 'dead', 3)",
        account,
        subscriber.id,
        task,
    )
    written(
        tmp_path,
        "INSERT INTO attempts (id, delivery_id, number, trigger, started_at, duration_ms, response_status,"
        " response_headers, response_body, message) VALUES ('att_1', 'dlv_1', 1, 'schedule', 4, 5, 500, ?, ?, ?)",
        json.dumps({"set-cookie": HEADER, "x-said": loud}),
        loud,
        loud,
    )
    secrets.append("link-signature-1")
    shown = run("export", task)
    assert shown.exit_code == 0, shown.stderr
    for secret in filter(None, secrets):
        assert secret not in shown.stdout
    made = json.loads(shown.stdout)
    assert made["task"]["input"] == {"model": "Nano Banana", "prompt": "a boat"}
    assert {"created", "submit", "notice", "event", "attempt"} <= {step["kind"] for step in made["timeline"]}
    assert made["notices"][0]["headers"] == {"authorization": "***", "content-type": "text/plain"}
    assert made["deliveries"][0]["attempts"][0]["response_status"] == 500
    assert made["deliveries"][0]["attempts"][0]["started_at"] == "1970-01-01T00:00:00.004Z"
    assert made["subscribers"][0]["id"] == subscriber.id
    assert made["settings"]["TOPVIEW_API_KEY"] == "(set)"
    assert {"receiver", "python", "database"} <= set(made["versions"])
    assert json.loads(run("export", "tv-1").stdout)["task"]["id"] == task


def test_a_task_is_exported_though_its_secrets_do_not_open(
    run: Run, runtime: Runtime, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a secret key was lost, which is when somebody asks for help, the document is written all the same."""
    subscriber, _ = runtime.subscribers.create(
        account, NewSubscriber("http://127.0.0.1:9/hook", ["*"], headers={"Authorization": HEADER})
    )
    task = submitted(runtime, account)
    runtime.tasks.cancel(account, task)
    monkeypatch.setenv("RECEIVER_SECRET_KEYS", new_secret_key())
    shown = run("export", task)
    assert shown.exit_code == 0, shown.stderr
    assert [each["id"] for each in json.loads(shown.stdout)["subscribers"]] == [subscriber.id]


def test_an_export_goes_to_a_file_that_only_its_owner_reads(
    run: Run, runtime: Runtime, account: str, tmp_path: Path
) -> None:
    """``--output`` writes the same document. A task that is not there: its code, and the ids that look alike."""
    task = submitted(runtime, account)
    assert run("export", task, "-o", str(tmp_path / "ticket.json")).exit_code == 0
    assert json.loads((tmp_path / "ticket.json").read_text())["task"]["id"] == task
    assert (tmp_path / "ticket.json").stat().st_mode & 0o077 == 0
    nowhere = run("export", task, "-o", str(tmp_path / "gone" / "ticket.json"))
    assert nowhere.exit_code == 2
    assert f"there is no folder {tmp_path}/gone." in nowhere.stderr
    missing = run("export", task[:-1])
    assert missing.exit_code == 3
    assert f"Did you mean {task}?" in missing.stderr


@pytest.mark.parametrize(
    ("output", "said"),
    [("round", "round is a link that leads back to itself."), ("round/x.json", "there is no folder ")],
)
def test_a_file_that_cannot_be_is_told_before_anything_is_read(
    run: Run, tmp_path: Path, output: str, said: str
) -> None:
    """A link in a circle is told as a wrong ``--output``, not with a traceback."""
    (tmp_path / "round").symlink_to("again")
    (tmp_path / "again").symlink_to("round")
    result = run("export", "task_1", "--output", str(tmp_path / output))
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_link_is_followed_and_stays(run: Run, runtime: Runtime, account: str, tmp_path: Path) -> None:
    """``--output`` through links writes the file that is meant, and leaves the links."""
    task = submitted(runtime, account)
    (tmp_path / "tickets").mkdir()
    (tmp_path / "latest.json").symlink_to("tickets/1.json")
    assert run("export", task, "-o", str(tmp_path / "latest.json")).exit_code == 0
    assert (tmp_path / "latest.json").is_symlink()
    assert json.loads((tmp_path / "tickets" / "1.json").read_text())["task"]["id"] == task


def test_a_file_is_whole_or_as_it_was(
    run: Run, runtime: Runtime, account: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What breaks an export off leaves neither half a file nor the loss of an earlier one; a new one is its owner's."""
    task, folder = submitted(runtime, account), tmp_path / "tickets"
    folder.mkdir()
    (folder / "old.json").write_text("{}")
    (folder / "old.json").chmod(0o644)
    for fault in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def broken(*_: Any, fault: BaseException = fault) -> Any:
            raise fault

        with monkeypatch.context() as patch:
            patch.setattr(export, "_events", broken)
            assert run("export", task, "-o", str(folder / "old.json")).exit_code in (1, 130)
            assert run("export", task, "-o", str(folder / "new.json")).exit_code in (1, 130)
        assert [path.name for path in folder.iterdir()] == ["old.json"]
        assert (folder / "old.json").read_text() == "{}"
    assert run("export", task, "-o", str(folder / "old.json")).exit_code == 0
    assert json.loads((folder / "old.json").read_text())["task"]["id"] == task
    assert (folder / "old.json").stat().st_mode & 0o077 == 0
    whole = run("export", task, "-o", "/dev/stdout")
    assert whole.exit_code == 0
    assert Path("/dev/stdout").exists()


def test_an_export_does_not_hold_all_answers_at_once(run: Run, runtime: Runtime, account: str, tmp_path: Path) -> None:
    """However many answers a task has had, only some are in memory at a time; the document is the same."""
    subscriber, _ = runtime.subscribers.create(account, NewSubscriber("http://127.0.0.1:9/hook", ["*"]))
    task = submitted(runtime, account)
    connection = sqlite3.connect(tmp_path / "receiver.db")
    with connection:
        connection.execute(
            "INSERT INTO events (id, account_id, type, task_id, created_at, body)"
            " VALUES ('evt_1', ?, 'task.running', ?, 3, '{}')",
            (account, task),
        )
        for number in range(500):
            connection.execute(
                "INSERT INTO deliveries (id, account_id, event_id, event_type, subscriber_id, task_id, status,"
                " created_at) VALUES (?, ?, 'evt_1', 'task.running', ?, ?, 'dead', 3)",
                (f"dlv_{number:03}", account, subscriber.id, task),
            )
            connection.execute(
                "INSERT INTO attempts (id, delivery_id, number, trigger, started_at, duration_ms, response_status,"
                " response_headers, response_body, message) VALUES (?, ?, 1, 'schedule', 4, 5, 500, '{}', ?, 'm')",
                (f"att_{number}", f"dlv_{number:03}", "x" * 16_000),
            )
    connection.close()
    tracemalloc.start()
    try:
        assert run("export", task, "-o", str(tmp_path / "ticket.json")).exit_code == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    made = json.loads((tmp_path / "ticket.json").read_text())
    assert [each["id"] for each in made["deliveries"]] == [f"dlv_{number:03}" for number in range(500)]
    assert {each["attempts"][0]["response_body"] for each in made["deliveries"]} == {"x" * 16_000}
    assert made["notices"] == []
    assert (tmp_path / "ticket.json").read_text() == json.dumps(made, indent=2) + "\n"
    assert peak < 6_000_000  # of 8 MB of answers


def test_half_a_character_of_a_provider_goes_into_the_file(
    run: Run, runtime: Runtime, account: str, tmp_path: Path
) -> None:
    r"""A provider's JSON may hold ``\ud83d``, which UTF-8 cannot: the document holds it as JSON does."""
    task = submitted(runtime, account)
    written(tmp_path, "UPDATE tasks SET provider_response = ? WHERE id = ?", r'{"said": "\ud83d"}', task)
    shown = run("export", task, "-o", str(tmp_path / "ticket.json"))
    assert shown.exit_code == 0, shown.stderr
    made = json.loads((tmp_path / "ticket.json").read_text("utf-8"))
    assert made["task"]["provider_response"] == {"said": "\ud83d"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@a.example/x", "https://***@a.example/x"),
        ("https://a.example/?size=5&X-Amz-Signature=abc&x=1", "https://a.example/?size=5&X-Amz-Signature=***&x=1"),
        ("https://a.example/?sv=1&sig=ab%2Fc&x=1", "https://a.example/?sv=1&sig=***&x=1"),
        (
            r'{"u":"https://a.example/?x=1\u0026Signature=a\/b=\u0026y=2"}',
            r'{"u":"https://a.example/?x=1\u0026Signature=***\u0026y=2"}',
        ),
        (r'"?x\u003d1\u0026OSSAccessKeyId\u003dabc\u0026y"', r'"?x\u003d1\u0026OSSAccessKeyId\u003d***\u0026y"'),
        (r"{\"u\":\"?x=1\\u0026token\\u003dabc\\u003d\",\"v\":1}", r"{\"u\":\"?x=1\\u0026token\\u003d***\",\"v\":1}"),
        ("a?x=1&amp;token=abc&amp;y=2", "a?x=1&amp;token=***&amp;y=2"),
        (r"https:\/\/user:pass@a.example\/x", r"https:\/\/***@a.example\/x"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw is it", "*** is it"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    """Secrets that nobody here knows are found by their looks, also as JSON or HTML spells a link."""
    assert without_secrets({"a": [text, 5, None]}, []) == {"a": [shown, 5, None]}


@pytest.mark.parametrize("mark", ["?", "a=", "?a", "&amp;", r"\u0026", r"\u003d", r"?a\u003d", "\\", '\\"', "x://"])
def test_a_long_text_is_masked_quickly(mark: str) -> None:
    """What a provider sent, however odd, takes a time that grows with its length and not with its square."""
    began = time.thread_time()
    without_secrets(f"?{mark * 100_000}", [])
    without_secrets(mark * 100_000, [])
    assert time.thread_time() - began < 5


def test_purge_deletes_what_retention_would(run: Run, runtime: Runtime, account: str, tmp_path: Path) -> None:
    """Old ended tasks go, young and unfinished ones stay; ``--count`` deletes nothing."""
    old, young, unfinished = (submitted(runtime, account) for _ in range(3))
    now = runtime.clock()
    for task, ended in ((old, now - 31 * DAY), (young, now - DAY)):
        written(tmp_path, "UPDATE tasks SET status='failed', due_at=NULL, finished_at=? WHERE id=?", ended, task)
    assert run("purge", "--count").stdout == "1 task ended more than 30 days ago.\n"
    assert json.loads(run("purge", "--json").stdout) == {"tasks": 1, "rows": 1, "kept": 0}
    assert run("purge").stdout == "Nothing is older than 30 days.\n"
    left = [task.id for task in runtime.tasks.find(account, old)]
    assert left == []
    assert [task.id for task in runtime.tasks.find(account, young)] == [young]
    assert [task.id for task in runtime.tasks.find(account, unfinished)] == [unfinished]
