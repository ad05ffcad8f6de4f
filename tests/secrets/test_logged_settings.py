"""Whatever is secret in the settings is known to the logs before anything else happens."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from receiver import logs
from receiver.config import read_settings
from receiver.runtime import Runtime, secrets_of
from receiver.sealing import new_secret_key
from tests.web.conftest import set_environment


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logs know no secret yet."""
    monkeypatch.setattr(logs, "_secrets", ())


def test_every_secret_of_the_settings_is_blanked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, both keys while one is being changed, secret keys, the database's password; in URLs too."""
    first, second = new_secret_key(), new_secret_key()
    set_environment(monkeypatch, f"sqlite:///{tmp_path}/receiver.db", f"{first},{second}")
    monkeypatch.setenv("RECEIVER_DATABASE_URL", "postgresql://me:data%2Fbase-word@db.example.test/x")
    monkeypatch.setenv("APSARAVIDEO_VOD_CALLBACK_KEY", "NewKey0001, OldKey0002")
    monkeypatch.setenv("TOPVIEW_API_KEY", "topview/key+0003")
    logs.keep_out(secrets_of(read_settings()))
    for secret in (first, second.rstrip("="), "data/base-word", "NewKey0001", "OldKey0002", "topview/key+0003",
                   quote("topview/key+0003", safe="")):  # fmt: skip
        assert secret not in logs.blank(f"it was {secret}!"), secret


def test_a_key_made_on_the_first_start_is_blanked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process that is wired together knows it, the moment it is."""
    set_environment(monkeypatch, f"sqlite:///{tmp_path}/receiver.db", "")
    runtime = Runtime.build(read_settings())
    runtime.close()
    made = (tmp_path / "secret_key").read_text().strip()
    assert len(base64.urlsafe_b64decode(made)) == 32
    assert logs.blank(made) == "***="
