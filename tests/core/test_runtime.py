"""Wiring: one secret key for all processes of a machine, none invented where machines share a database."""

from __future__ import annotations

import stat
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from receiver import logs
from receiver.config import Settings
from receiver.errors import Invalid, SettingsError
from receiver.inspections import Received
from receiver.models import first_id
from receiver.runtime import Runtime, secrets_of, with_secret_keys
from receiver.sealing import SealBroken, new_secret_key, parse_secret_keys
from receiver.signing import sign
from receiver.subscribers import NewSubscriber
from tests.core.stage import HOOK, ONE_KEY, Clock, Stage, settings_in
from tests.toy import SECRET


@pytest.fixture
def settings(tmp_path: Path, toy: None) -> Settings:
    """Settings without secret keys, the database in a folder that does not exist yet."""
    return settings_in(tmp_path / "var", RECEIVER_SECRET_KEYS="")


def test_the_first_start_makes_a_secret_key_beside_the_database(settings: Settings, tmp_path: Path) -> None:
    """For its owner's eyes only; the next start finds it."""
    first = with_secret_keys(settings)
    path = tmp_path / "var" / "secret_key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert with_secret_keys(settings) == first
    assert first.secret_keys == parse_secret_keys(path.read_text().strip())
    assert [found.name for found in path.parent.iterdir()] == ["secret_key"]


def test_processes_that_start_together_agree_on_the_key(settings: Settings) -> None:
    """Whoever is first makes it; nobody seals with a key that is thrown away."""
    start = threading.Barrier(8)
    found = []

    def run() -> None:
        start.wait()
        found.append(with_secret_keys(settings).secret_keys)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_key_that_cannot_be_read_stops_the_start(settings: Settings, tmp_path: Path) -> None:
    """A damaged key must not be replaced silently: everything sealed with it would be lost."""
    with_secret_keys(settings)
    (tmp_path / "var" / "secret_key").write_text("damaged")
    with pytest.raises(SettingsError, match="secret_key"):
        with_secret_keys(settings)
    remote = replace(settings, database_url="postgresql://db/x")
    with pytest.raises(SettingsError, match="RECEIVER_SECRET_KEYS"):
        with_secret_keys(remote)


def test_a_key_that_is_gone_stops_the_start(settings: Settings, tmp_path: Path) -> None:
    """Nor is a missing one: after a restore without it every delivery would fail, and new secrets would mix in."""
    runtime = Runtime.build(settings)
    runtime.prepare()
    runtime.close()
    (tmp_path / "var" / "secret_key").unlink()
    with pytest.raises(SettingsError, match=r"secret_key is missing\. Put back the one"):
        Runtime.build(settings)
    assert not (tmp_path / "var" / "secret_key").exists()


def test_what_a_lost_key_sealed_can_be_replaced(stage: Stage, clock: Clock) -> None:
    """With the key gone for good an overlap of 0 gives new signing secrets: nothing else can mend such an account."""
    subscriber, _ = stage.runtime.subscribers.create(stage.account, NewSubscriber(HOOK, ("*",)))
    runtime = Runtime.build(replace(stage.settings, secret_keys=parse_secret_keys(new_secret_key())), clock)
    (found,) = runtime.accounts.rotate_signing_secret(stage.account, 0)
    assert runtime.accounts.signing_secrets(stage.account) == (found,)
    (found,) = runtime.subscribers.rotate_secret(stage.account, subscriber.id, 0, None)
    assert runtime.subscribers.secrets(stage.account, subscriber.id) == (found,)
    runtime.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:not-for-logs@127.0.0.1:1/d?sslmod=require", "sslmod"),
        ("sqlite:///x?timeout=soon", "no options"),
        ("sqlite:///~/receiver.db", "its folder in full"),
    ],
)
def test_an_option_of_the_database_that_is_none_stops_the_start(
    tmp_path: Path, toy: None, monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    """Whoever has mistyped one reads a sentence that names the setting, not the trace of a failed connection."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=f"RECEIVER_DATABASE_URL.*{told}") as caught:
        Runtime.build(settings_in(tmp_path, RECEIVER_DATABASE_URL=url))
    assert "not-for-logs" not in str(caught.value)


def test_a_missing_library_stops_the_start_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL without its extra: one message that says what to install, for every command, and no traceback."""
    monkeypatch.setitem(sys.modules, "psycopg", None)  # not installed, as far as Python is concerned
    url = "postgresql://u:geheim@127.0.0.1:1/x"
    settings = settings_in(tmp_path, RECEIVER_DATABASE_URL=url, RECEIVER_SECRET_KEYS=new_secret_key())
    with pytest.raises(SettingsError, match=r"pip install 'callback-receiver\[postgres\]'") as refused:
        Runtime.build(settings)
    assert "geheim" not in str(refused.value)


def test_secrets_are_kept_out_of_logs_from_the_start(stage: Stage) -> None:
    """Those of providers and the API key of the settings."""
    assert SECRET in secrets_of(stage.settings)
    assert SECRET not in logs.blank(f"the toy said {SECRET}")


def test_a_secret_key_can_be_rotated(stage: Stage, clock: Clock) -> None:
    """With the new key first and the old one behind, everything sealed before still opens; without it, it does not."""
    subscriber, secret = stage.runtime.subscribers.create(stage.account, NewSubscriber(HOOK, ("*",)))
    new = new_secret_key()
    for keys, opens in ((f"{new},{ONE_KEY}", True), (new, False)):
        runtime = Runtime.build(replace(stage.settings, secret_keys=parse_secret_keys(keys)), clock)
        if opens:
            assert runtime.subscribers.secrets(stage.account, subscriber.id)[0].key == secret
        else:
            with pytest.raises(SealBroken):
                runtime.subscribers.secrets(stage.account, subscriber.id)
        runtime.close()


def test_what_a_lost_key_sealed_can_be_set_anew(build: Any) -> None:
    """Nothing of it signs on in silence, but subscribers are shown, and secrets and headers replaced on request."""
    old: Stage = build()
    subscriber = old.subscribe(headers={"x-token": "s3cret-s3cret", "x-team": "a"})
    stage: Stage = build(RECEIVER_SECRET_KEYS=new_secret_key())
    service, accounts = stage.runtime.subscribers, stage.runtime.accounts
    assert service.headers(service.get(stage.account, subscriber.id)) == {}
    for rotated in (
        lambda overlap: service.rotate_secret(stage.account, subscriber.id, overlap, None),
        lambda overlap: accounts.rotate_signing_secret(stage.account, overlap),
    ):
        with pytest.raises(Invalid) as refused:
            rotated(60)
        assert "overlap of 0" in refused.value.errors["overlap"][0]
        assert len(rotated(0)) == 1
    assert len(service.secrets(stage.account, subscriber.id)) == len(accounts.signing_secrets(stage.account)) == 1
    with pytest.raises(Invalid) as refused:
        service.change(stage.account, subscriber.id, {"headers": {"x-team": "b"}})
    assert "headers" in refused.value.errors
    service.change(stage.account, subscriber.id, {"headers": None})
    changed = service.change(stage.account, subscriber.id, {"headers": {"x-team": "b"}})
    assert service.headers(changed) == {"x-team": "b"}


def test_a_webhook_is_examined_though_one_key_is_lost(build: Any) -> None:
    """Secrets that no key opens are passed over; what the others have signed is told."""
    old: Stage = build()
    old.subscribe()
    stage: Stage = build(RECEIVER_SECRET_KEYS=new_secret_key())
    fresh, secret = stage.runtime.subscribers.create(stage.account, NewSubscriber(HOOK, ("*",)))
    now = stage.clock() // 1000
    headers = {
        "webhook-id": first_id("evt", stage.clock()),
        "webhook-timestamp": str(now),
        "webhook-signature": sign(secret, first_id("evt", stage.clock()), now, b"{}"),
    }
    assert stage.runtime.inspections.inspect(stage.account, fresh.id, Received(headers, b"{}")).report.genuine
