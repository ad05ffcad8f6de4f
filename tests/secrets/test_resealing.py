"""The end of an older secret key: everything stored is sealed with the new one, and nothing is lost on the way."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from receiver import resealing
from receiver.cli.checks import check_all
from receiver.cli.findings import Finding, Level
from receiver.runtime import Runtime
from receiver.sealing import Sealer, new_secret_key, parse_secret_keys
from receiver.store import Store, sealed
from receiver.store.schema import metadata
from receiver.subscribers import NewSubscriber
from tests.cli.conftest import Run, _clean, run
from tests.core.stage import Clock, settings_in

__all__ = ["_clean", "run"]

OLD, NEW = new_secret_key(), new_secret_key()
HEADERS = {"Authorization": "Bearer of the subscriber"}


@pytest.fixture
def folder(tmp_path: Path, _clean: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a database, named to the commands; the old key is the only one."""
    monkeypatch.setenv("RECEIVER_SECRET_KEYS", OLD)
    return tmp_path


def runtime_of(folder: Path, keys: str) -> Runtime:
    """The services on the database, with these secret keys."""
    settings = replace(settings_in(folder), secret_keys=parse_secret_keys(keys))
    built = Runtime.build(settings, Clock())
    built.prepare()
    return built


def filled(folder: Path, subscribers: int = 3) -> dict[str, Any]:
    """A database whose secrets are sealed with the old key; what is in it."""
    services = runtime_of(folder, OLD)
    account = services.accounts.create_key("team", "", ["read"])[0].account_id
    hook = NewSubscriber("http://127.0.0.1:9/", ["*"], headers=HEADERS)
    made = [services.subscribers.create(account, hook) for _ in range(subscribers)]
    services.subscribers.delete(account, made[-1][0].id)  # a deleted one is still a row
    signing = services.accounts.signing_secrets(account)
    services.close()
    return {"account": account, "subscribers": {each.id: secret for each, secret in made[:-1]}, "signing": signing}


def assert_opens(folder: Path, keys: str, known: dict[str, Any]) -> None:
    """Every secret is read back as it was."""
    services = runtime_of(folder, keys)
    account = known["account"]
    assert services.accounts.signing_secrets(account) == known["signing"]
    for subscriber_id, secret in known["subscribers"].items():
        assert services.subscribers.secrets(account, subscriber_id)[0].key == secret
        assert services.subscribers.headers(services.subscribers.get(account, subscriber_id)) == HEADERS
    services.close()


def about_secrets(findings: list[Finding]) -> list[Finding]:
    """What the check says about secrets, beyond where the keys come from."""
    return [each for each in findings if each.about == "secrets" and each.level is not Level.OK]


def test_after_resealing_the_old_key_can_go(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole rotation as documented: new key in front, check warns, reseal, check is content, old key gone."""
    known = filled(folder)
    assert not about_secrets(check_all())
    monkeypatch.setenv("RECEIVER_SECRET_KEYS", f"{NEW},{OLD}")
    (warning,) = about_secrets(check_all())
    assert (warning.level, "8 stored secrets are" in warning.text) == (Level.WARNING, True)
    assert "receiver reseal" in warning.mend
    result = run("reseal")
    assert result.exit_code == 0, result.output
    assert "headers of subscribers: 3 sealed anew" in result.stdout
    assert "Everything stored is sealed with the first key." in result.stdout
    assert not about_secrets(check_all())
    assert_opens(folder, f"{NEW},{OLD}", known)
    assert_opens(folder, NEW, known)


def test_resealing_twice_changes_nothing(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run finds nothing to do; what the first wrote stays byte for byte."""
    filled(folder)
    monkeypatch.setenv("RECEIVER_SECRET_KEYS", f"{NEW},{OLD}")
    first = json.loads(run("reseal", "--json").stdout)
    assert sum(first["resealed"].values()) == 8
    second = json.loads(run("reseal", "--json").stdout)
    assert set(second["resealed"].values()) == {0}
    assert second["current"] == first["current"]
    assert set(second["older"].values()) == {0}


def test_a_key_that_is_missing_is_told_and_nothing_is_touched(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no key opens is named by its row, the exit code is 1, and with the key put back all is well."""
    known = filled(folder)
    monkeypatch.setenv("RECEIVER_SECRET_KEYS", NEW)
    assert [each.level for each in about_secrets(check_all())] == [Level.PROBLEM] * 3
    result = run("reseal")
    assert result.exit_code == 1
    assert "cannot be opened with any secret key at hand" in result.stdout
    assert next(iter(known["subscribers"])) in result.stdout
    monkeypatch.setenv("RECEIVER_SECRET_KEYS", f"{NEW},{OLD}")
    assert run("reseal").exit_code == 0
    assert_opens(folder, NEW, known)


def test_the_key_file_beside_the_database_takes_several_keys(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the setting, the file ``secret_key`` is rotated in the same way."""
    known = filled(folder)
    monkeypatch.delenv("RECEIVER_SECRET_KEYS")
    (folder / "secret_key").write_text(f"{NEW},{OLD}\n")
    (folder / "secret_key").chmod(0o600)
    assert [each.level for each in about_secrets(check_all())] == [Level.WARNING]
    assert run("reseal").exit_code == 0
    (folder / "secret_key").write_text(f"{NEW}\n")
    assert not about_secrets(check_all())
    assert_opens(folder, NEW, known)


def test_a_lost_key_file_is_noticed_before_a_new_one_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check says that stored secrets cannot be opened, and makes no key by itself."""
    filled(folder)
    monkeypatch.delenv("RECEIVER_SECRET_KEYS")
    problems = about_secrets(check_all())
    assert {each.level for each in problems} == {Level.PROBLEM}
    assert problems[0].text == f"the key file {folder}/secret_key is missing."
    assert not (folder / "secret_key").exists()


def test_resealing_needs_the_schema(run: Run, folder: Path) -> None:
    """On a database of another version the message names the command that helps."""
    result = run("reseal")
    assert result.exit_code == 1
    assert "receiver migrate" in result.stderr


def test_a_rotation_at_the_same_time_is_not_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret rotated between reading and writing stays, and is sealed with the first key in the end."""
    known = filled(folder)
    services = runtime_of(folder, f"{NEW},{OLD}")
    elsewhere = runtime_of(folder, OLD)  # a process that was not restarted yet
    subscriber_id = next(iter(known["subscribers"]))
    rotated: list[str] = []
    write = Store.write

    def overtaken(store: Store) -> Any:
        if store is services.store and not rotated:
            rotated.append("")
            rotated.append(elsewhere.subscribers.rotate_secret(known["account"], subscriber_id, 0, None)[0].key)
            elsewhere.accounts.rotate_signing_secret(known["account"], 0)
        return write(store)

    monkeypatch.setattr(Store, "write", overtaken)
    done = services.resealing.run()
    monkeypatch.undo()
    assert sum(done.values()) == 8
    seals = services.resealing.look()
    assert set(seals.older.values()) == {0}
    assert services.subscribers.secrets(known["account"], subscriber_id)[0].key == rotated[1]
    services.close()
    elsewhere.close()


def test_a_process_that_seals_with_the_old_key_all_the_time_does_not_keep_it_running_for_ever(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some passes it stops, says that something is left, and ends with 1."""
    filled(folder)
    monkeypatch.setenv("RECEIVER_SECRET_KEYS", f"{NEW},{OLD}")
    monkeypatch.setattr(sealed, "replace", lambda *_: False)
    result = run("reseal")
    assert result.exit_code == 1
    assert "restart every process with the new keys" in result.stdout


def test_many_rows_are_sealed_in_small_transactions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction writes more than a few rows, and a run that is broken off has kept what it did."""
    known = filled(folder, subscribers=8)
    monkeypatch.setattr(resealing, "STEP", 3)
    services = runtime_of(folder, f"{NEW},{OLD}")
    sizes: list[int] = []
    replaced = sealed.replace
    write = Store.write

    def counted(store: Store) -> Any:
        if len(sizes) == 3:
            raise KeyboardInterrupt
        sizes.append(0)
        return write(store)

    def replace_one(*arguments: Any) -> bool:
        sizes[-1] += 1
        return replaced(*arguments)

    monkeypatch.setattr(Store, "write", counted)
    monkeypatch.setattr(sealed, "replace", replace_one)
    with pytest.raises(KeyboardInterrupt):
        services.resealing.run()
    monkeypatch.undo()
    assert sizes == [2, 3, 3]
    assert sum(services.resealing.look().current.values()) == 8
    assert_opens(folder, f"{NEW},{OLD}", known)
    assert sum(services.resealing.run().values()) == 10
    services.close()
    assert_opens(folder, NEW, known)


def test_every_column_that_is_sealed_is_resealed(folder: Path) -> None:
    """A sealed column that comes later cannot be forgotten: all columns named so are gone through."""
    named = {column for table in metadata.tables.values() for column in table.c if column.name.endswith("_sealed")}
    assert named == set(sealed._COLUMNS.values())


def test_nothing_stored_is_readable_without_the_keys(folder: Path) -> None:
    """The database's file holds no signing secret and no header of a subscriber, in any usual spelling."""
    known = filled(folder)
    stored = b"".join(path.read_bytes() for path in folder.glob("receiver.db*"))
    secrets = [*known["subscribers"].values(), *(each.key for each in known["signing"]), *HEADERS.values()]
    for secret in secrets:
        for spelled in (secret, secret.removeprefix("whsec_"), base64.b64encode(secret.encode()).decode()):
            assert spelled.encode() not in stored
    assert Sealer(parse_secret_keys(OLD)).beginning.encode() in stored
