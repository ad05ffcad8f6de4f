"""Accounts and API keys: shown once, kept as a hash, ended when revoked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from receiver.errors import Busy, Invalid, NotFound
from receiver.models import Scope
from tests.core.stage import Stage


def test_a_key_opens_its_account_until_it_is_revoked(stage: Stage) -> None:
    """Its text is shown once and is not in the database; its last use is."""
    accounts = stage.runtime.accounts
    key, text = accounts.create_key("shop", "server", ["submit", "read"])
    assert text.startswith("rk_")
    assert text not in str(stage.rows("SELECT * FROM api_keys"))
    found = accounts.authenticate(text)
    assert found is not None
    assert (found.id, found.account_id, found.scopes) == (key.id, key.account_id, {Scope.SUBMIT, Scope.READ})
    assert accounts.list_keys("shop")[0].last_used_at == stage.clock()
    assert accounts.authenticate(text + "x") is None
    assert accounts.authenticate("\ud800") is None
    accounts.revoke_key(key.id)
    assert accounts.authenticate(text) is None
    with pytest.raises(NotFound):
        accounts.revoke_key(key.id)
    assert accounts.list_keys("shop")[0].revoked_at == stage.clock()


def test_a_use_is_written_now_and_then_only(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading costs no write, and a database that takes no writes turns nobody away."""
    accounts = stage.runtime.accounts
    _, text = accounts.create_key("default", "", ["read"])
    accounts.authenticate(text)
    stage.clock.pass_by(59)

    @contextmanager
    def busy() -> Iterator[sqlite3.Connection]:
        raise Busy("the disk is full")
        yield  # a context manager must

    monkeypatch.setattr(stage.runtime.store, "write", busy)
    assert accounts.authenticate(text) is not None
    stage.clock.pass_by(3600)
    assert accounts.authenticate(text) is not None


def test_a_locked_database_holds_up_one_reader_not_all(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a key's use cannot be written, and each try waits for the lock, it is tried as rarely as it is written."""
    accounts = stage.runtime.accounts
    _, text = accounts.create_key("default", "", ["read"])
    tries = []

    @contextmanager
    def locked() -> Iterator[sqlite3.Connection]:
        tries.append(stage.clock())
        raise Busy("somebody else writes without an end")
        yield  # a context manager must

    monkeypatch.setattr(stage.runtime.store, "write", locked)
    for _ in range(5):
        assert accounts.authenticate(text) is not None
    assert len(tries) == 1
    stage.clock.pass_by(61)
    assert accounts.authenticate(text) is not None
    assert len(tries) == 2


def test_a_key_that_was_used_is_known_to_every_process(build: Any) -> None:
    """While wrong ones pour in from its address it goes on working; only one that nobody has used yet must wait."""
    one, other = (build().runtime.accounts for _ in range(2))
    _, text = one.create_key("shop", "ci", ["read"])
    assert other.authenticate(text, used_before=True) is None
    assert one.authenticate(text) is not None
    assert other.authenticate(text, used_before=True) is not None


def test_the_key_of_the_settings_always_works(stage: Stage) -> None:
    """It belongs to ``default``; starting twice makes one key; a revoked one is valid after the next start."""
    accounts = stage.runtime.accounts
    for _ in range(2):
        accounts.bootstrap("a-key-of-the-operator")
    found = accounts.authenticate("a-key-of-the-operator")
    assert found is not None
    assert (found.account_id, found.scopes) == (stage.account, {Scope.MANAGE})
    assert len(accounts.list_keys("default")) == 1
    accounts.revoke_key(found.id)
    accounts.bootstrap("a-key-of-the-operator")
    assert accounts.authenticate("a-key-of-the-operator") is not None


@pytest.mark.parametrize(("account", "scope"), [("shop", "manage"), ("default", "read")])
def test_the_key_of_the_settings_revives_no_other(stage: Stage, account: str, scope: str) -> None:
    """A key that was made for somebody else stays as it is: revoked, in its account, with its scope."""
    accounts = stage.runtime.accounts
    made, text = accounts.create_key(account, "ci", [scope])
    accounts.bootstrap(text)
    assert accounts.list_keys(account) == [made]
    accounts.revoke_key(made.id)
    accounts.bootstrap(text)
    assert accounts.authenticate(text) is None


@pytest.mark.parametrize(("account", "scopes"), [("", ["read"]), ("shop", []), ("shop", ["everything"])])
def test_a_key_that_makes_no_sense_is_refused(stage: Stage, account: str, scopes: list[str]) -> None:
    """No account without a name, no key without a scope."""
    with pytest.raises(Invalid):
        stage.runtime.accounts.create_key(account, "", scopes)
    assert not stage.runtime.accounts.has_keys()


def test_a_secret_that_has_ended_is_not_shown(stage: Stage) -> None:
    """What is listed as signing signs: nobody keeps an old secret for its sake."""
    accounts = stage.runtime.accounts
    new, old = accounts.rotate_signing_secret(stage.account, 60)
    assert accounts.signing_secrets(stage.account) == (new, old)
    stage.clock.pass_by(60)
    assert accounts.signing_secrets(stage.account) == (new,)


def test_unknown_accounts_are_not_found(stage: Stage) -> None:
    """Neither their keys nor their secrets."""
    with pytest.raises(NotFound):
        stage.runtime.accounts.list_keys("nobody")
    with pytest.raises(NotFound):
        stage.runtime.accounts.signing_secrets("acct_nobody")
    with pytest.raises(NotFound):
        stage.runtime.accounts.rotate_signing_secret("acct_nobody", 0)
