"""The settings that point the service at the sandbox."""

from __future__ import annotations

import pytest

import handlers
from receiver.cli.emulation import sandbox_environment
from receiver.config import read_settings
from receiver.sandbox import SandboxSettings

SANDBOX, SERVICE = "http://127.0.0.1:9100", "http://127.0.0.1:8000"


def test_every_provider_is_configured_with_the_sandboxes_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """With these variables every provider is on, and its base URL is the sandbox's."""
    made = sandbox_environment(SANDBOX, SERVICE, SandboxSettings(), {})
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert set(settings.providers) == set(handlers.available())
    assert all(given["base_url"] == f"{SANDBOX}/{name}" for name, given in settings.providers.items())
    assert settings.public_url == SERVICE
    assert [str(network) for network in settings.allowed_networks] == ["127.0.0.0/8", "::1/128"]
    assert made["TOPVIEW_UID"] == SandboxSettings().option("topview", "uid")


def test_secrets_that_the_sandbox_could_use_are_made_up_for_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """VOD's callbacks are signed in the sandbox too, with a key that both sides know."""
    made = sandbox_environment(SANDBOX, SERVICE, SandboxSettings(), {})
    key = made["APSARAVIDEO_VOD_CALLBACK_KEY"]
    assert 16 <= len(key) <= 32
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    assert SandboxSettings.from_environment(made).option("apsaravideo_vod", "callback_key") == key
    assert sandbox_environment(SANDBOX, SERVICE, SandboxSettings(), {})["APSARAVIDEO_VOD_CALLBACK_KEY"] != key


def test_what_is_set_stays_set() -> None:
    """Nothing that the environment says is overruled."""
    given = {"RECEIVER_ALLOWED_NETWORKS": "10.0.0.0/8", "RECEIVER_PUBLIC_URL": "https://a.example"}
    assert not sandbox_environment(SANDBOX, SERVICE, SandboxSettings(), given).keys() & given.keys()
    own = SandboxSettings(options={"topview_uid": "me"})
    assert sandbox_environment(SANDBOX, SERVICE, own, {})["TOPVIEW_UID"] == "me"
