"""API keys and the schema, straight in the database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from receiver.config import read_settings
from receiver.runtime import Runtime
from tests.cli.conftest import Run


@pytest.fixture
def migrated(run: Run) -> None:
    """A database with its schema."""
    assert run("migrate").exit_code == 0


def authenticated(text: str) -> bool:
    """Whether the service would take this key."""
    runtime = Runtime.build(read_settings())
    try:
        return runtime.accounts.authenticate(text) is not None
    finally:
        runtime.close()


def test_migrate_says_what_it_did_and_can_be_repeated(run: Run) -> None:
    """The first time brings the schema up, the second finds it there."""
    assert run("migrate").stdout == "The schema is up to date now.\n"
    assert run("migrate").stdout == "The schema was up to date.\n"


@pytest.mark.parametrize("command", [["keys", "create"], ["purge", "--count"], ["reseal"], ["export", "task_1"]])
def test_the_wrong_folder_is_named_and_left_as_it_is(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    """The default address is relative: elsewhere no empty database is made, and nobody is told to migrate that one."""
    monkeypatch.setenv("RECEIVER_DATABASE_URL", f"sqlite:///{tmp_path}/var/receiver.db")
    result = run(*command)
    assert result.exit_code == 1
    assert f"There is no database at {tmp_path}/var/receiver.db. Run this in the service's folder" in result.stderr
    assert not list(tmp_path.iterdir())


def test_keys_need_the_schema(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a schema the message names the command that makes it."""
    (tmp_path / "empty.db").touch()
    monkeypatch.setenv("RECEIVER_DATABASE_URL", f"sqlite:///{tmp_path}/empty.db")
    result = run("keys", "list")
    assert result.exit_code == 1
    assert "receiver migrate" in result.stderr


@pytest.mark.usefixtures("migrated")
def test_a_key_is_made_shown_once_listed_and_revoked(run: Run) -> None:
    """The text of a key is in the answer of ``create`` and nowhere else; after ``revoke`` it opens nothing."""
    made = json.loads(run("keys", "create", "--name", "ci", "--scope", "submit", "--scope", "read", "--json").stdout)
    assert made["key"].startswith("rk_")
    assert made["scopes"] == ["read", "submit"]
    assert authenticated(made["key"])
    listed = run("keys", "list")
    assert made["id"] in listed.stdout
    assert made["key"] not in listed.stdout
    assert "read, submit" in listed.stdout
    assert run("keys", "revoke", made["id"]).exit_code == 0
    assert not authenticated(made["key"])
    (known,) = json.loads(run("keys", "list", "--json").stdout)["data"]
    assert known["revoked_at"] is not None
    assert "key" not in known


@pytest.mark.usefixtures("migrated")
def test_a_key_may_manage_unless_told_otherwise_and_makes_its_account(run: Run) -> None:
    """No scope means manage; a new account's name makes the account."""
    shown = run("keys", "create", "--account", "team-b")
    assert "manage" in shown.stdout
    assert "keep it" in shown.stdout
    assert run("keys", "list", "--account", "team-b").exit_code == 0


@pytest.mark.usefixtures("migrated")
@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["create", "--scope", "fly"], 2, "fly"),
        (["create", "--account", " "], 2, "account: Must not be empty."),
        (["list", "--account", "nobody"], 3, "no account 'nobody'"),
        (["revoke", "key_x"], 3, "no living key 'key_x'"),
    ],
)
def test_mistakes_are_told(run: Run, args: list[str], code: int, said: str) -> None:
    """Each mistake ends with its code and a plain sentence."""
    result = run("keys", *args)
    assert result.exit_code == code
    assert said in result.stderr


def test_an_account_without_keys_is_told_how_to_get_one(run: Run, migrated: None) -> None:
    """An empty list names the command that makes a key."""
    assert "receiver keys create" in run("keys", "list").stdout


@pytest.mark.parametrize("command", [["migrate"], ["keys", "list"], ["worker"], ["run"]])
def test_a_database_that_cannot_be_opened_is_told_plainly(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    """No traceback for a database that is not one that can be used."""
    (tmp_path / "folder.db").mkdir()
    monkeypatch.setenv("RECEIVER_DATABASE_URL", f"sqlite:///{tmp_path}/folder.db")
    monkeypatch.setenv("RECEIVER_BIND", "127.0.0.1:0")
    result = run(*command)
    assert result.exit_code == 5
    assert "the database does not answer" in result.stderr
    (tmp_path / "letter.db").write_text("Dear Sir or Madam,")
    monkeypatch.setenv("RECEIVER_DATABASE_URL", f"sqlite:///{tmp_path}/letter.db")
    result = run(*command)
    assert result.exit_code == 1
    assert "is not an SQLite database" in result.stderr


@pytest.mark.usefixtures("migrated")
def test_a_web_without_its_secret_key_says_so_before_it_starts(run: Run) -> None:
    """One message and code 1, not the traceback of a process that gunicorn started."""
    settings = read_settings()
    file = Path(settings.database_url.removeprefix("sqlite:///")).parent / "secret_key"
    file.unlink()
    result = run("web")
    assert result.exit_code == 1
    assert f"the secret key file {file} is missing" in result.stderr


def test_bad_settings_are_told_all_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem stands in one message, with the command that says more."""
    monkeypatch.setenv("RECEIVER_LEASE", "0")
    monkeypatch.setenv("TOPVIEW_UID", "u")
    result = run("migrate")
    assert result.exit_code == 1
    assert "RECEIVER_LEASE" in result.stderr
    assert "TOPVIEW_API_KEY must be set too" in result.stderr
    assert "receiver check" in result.stderr
