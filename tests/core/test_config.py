"""Settings: read once, checked together, every problem at once, no secret in any message."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import handlers
from receiver.config import SETTINGS, Settings, masked, read_settings
from receiver.errors import SettingsError
from receiver.sealing import new_secret_key

Set = Callable[..., Settings]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Reads settings from exactly these variables."""
    import os

    prefixes = ("RECEIVER_", *(f"{name.upper()}_" for name in handlers.available()))
    for name in list(os.environ):
        if name.startswith(prefixes):
            monkeypatch.delenv(name)

    def with_variables(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return read_settings()

    return with_variables


def problems_of(read: Set, **variables: str) -> list[str]:
    """The problems with these variables."""
    with pytest.raises(SettingsError) as caught:
        read(**variables)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return list(caught.value.problems)


@pytest.mark.parametrize("schedule", ["0", "5,0", "5,9999999", "soon"])
def test_a_retry_schedule_out_of_bounds_is_told_the_bounds(read: Set, schedule: str) -> None:
    """Who writes 0 for no retries learns what may stand there, and the word for a single attempt."""
    (problem,) = problems_of(read, RECEIVER_SECRET_KEYS=new_secret_key(), RECEIVER_RETRY_SCHEDULE=schedule)
    assert "above 0 and at most 31 days" in problem
    assert "`none` for a single attempt" in problem


def test_defaults(read: Set) -> None:
    """Nothing set: a service for one machine, all providers off."""
    found = read()
    assert found == Settings(
        database_url="sqlite:///var/receiver.db",
        database_pool=10,
        public_url="http://127.0.0.1:8000",
        secret_keys=(),
        api_key="",
        bind=("127.0.0.1", 8000),
        web_processes=1,
        web_threads=32,
        retry_schedule=(5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        delivery_timeout=15,
        delivery_concurrency=256,
        subscriber_concurrency=32,
        lease=30,
        shutdown_timeout=25,
        disable_after=432_000,
        allowed_networks=(),
        allow_http=False,
        max_body=1_048_576,
        request_rate=100,
        retention_days=30,
        log_format="",
        log_level="info",
        worker_metrics_bind=None,
        providers={},
    )
    assert {setting.name for setting in SETTINGS} == {
        f"RECEIVER_{name.upper()}" for name in Settings.__dataclass_fields__ if name != "providers"
    }
    assert all(setting.help for setting in SETTINGS)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("DATABASE_URL", "postgresql://u:p@db/x", None),
        ("DATABASE_URL", "postgres://u:p@db/x?sslmode=require", "postgresql://u:p@db/x?sslmode=require"),
        ("DATABASE_URL", "sqlite:////var/lib/r.db", "sqlite:////var/lib/r.db"),
        ("PUBLIC_URL", " https://r.example.test/base/ ", "https://r.example.test/base"),
        ("BIND", "[::1]:80", ("::1", 80)),
        ("BIND", "0.0.0.0:0", ("0.0.0.0", 0)),
        ("RETRY_SCHEDULE", "1, 2.5", (1.0, 2.5)),
        ("RETRY_SCHEDULE", "none", ()),
        ("DELIVERY_TIMEOUT", "0.5", 0.5),
        ("ALLOWED_NETWORKS", "10.0.0.0/8, ::1/128,", (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1"))),
        ("ALLOW_HTTP", "Yes", True),
        ("ALLOW_HTTP", "0", False),
        ("RETENTION_DAYS", "0.5", 0.5),
        ("LOG_FORMAT", "JSON", "json"),
        ("LOG_LEVEL", "Debug", "debug"),
        ("WEB_PROCESSES", "4", 4),
        ("MAX_BODY", "2048", 2048),
        ("API_KEY", "rk_0123456789abcdef", "rk_0123456789abcdef"),
        ("LEASE", "", 30),
    ],
)
def test_each_setting_is_parsed(read: Set, name: str, text: str, value: Any) -> None:
    """From the texts people write; an empty one counts as not set."""
    found = read(RECEIVER_SECRET_KEYS=new_secret_key(), **{f"RECEIVER_{name}": text})
    assert getattr(found, name.lower()) == (text if value is None else value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_URL", "mysql://x/y"),
        ("DATABASE_URL", "sqlite"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite:////var/lib/what?/r.db"),
        ("DATABASE_URL", "postgresql:"),
        ("DATABASE_URL", "postgresql://u:p@db:port/x"),
        ("DATABASE_URL", "postgresql://u:p@[::1/x"),
        ("PUBLIC_URL", "https://r.example.test?"),
        ("PUBLIC_URL", "receiver.example.test"),
        ("PUBLIC_URL", "https://r.example.test/?a=b"),
        ("PUBLIC_URL", "https://u:p@r.example.test/"),
        ("PUBLIC_URL", "https://[::1"),
        ("PUBLIC_URL", "https://r.example.test:99999"),
        ("PUBLIC_URL", "https://r..example.test"),
        ("PUBLIC_URL", "https://r.example.test/ba se"),
        ("PUBLIC_URL", "https://r.example.test\\@other.example.test"),
        ("SECRET_KEYS", "too-short"),
        ("BIND", "8000"),
        ("BIND", "*:8000"),
        ("DATABASE_URL", "sqlite:////caf\udce9/r.db"),  # a byte that the locale does not know
        ("BIND", "localhost:http"),
        ("BIND", "localhost:70000"),
        ("WEB_PROCESSES", "0"),
        ("WEB_THREADS", "1.5"),
        ("RETRY_SCHEDULE", "5,,6"),
        ("RETRY_SCHEDULE", "5,-1"),
        ("RETRY_SCHEDULE", "5,inf"),
        ("RETRY_SCHEDULE", "nan"),
        ("DELIVERY_TIMEOUT", "fast"),
        ("DELIVERY_TIMEOUT", "nan"),
        ("DELIVERY_CONCURRENCY", "-3"),
        ("SUBSCRIBER_CONCURRENCY", "many"),
        ("LEASE", "0"),
        ("SHUTDOWN_TIMEOUT", "-1"),
        ("DISABLE_AFTER", "0"),
        ("ALLOWED_NETWORKS", "10.0.0.1/8"),
        ("ALLOWED_NETWORKS", "intranet"),
        ("ALLOW_HTTP", "perhaps"),
        ("MAX_BODY", "10"),
        ("RETENTION_DAYS", "0"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("API_KEY", "short"),
        ("API_KEY", "x" * 257),
        ("API_KEY", "a key with spaces in it"),
        ("API_KEY", "schlüssel-0123456789"),
    ],
)
def test_each_setting_is_checked(read: Set, name: str, text: str) -> None:
    """A problem is one sentence that begins with the variable's name."""
    (problem,) = problems_of(read, **{f"RECEIVER_{name}": text})
    assert problem.startswith(f"RECEIVER_{name}")


def test_all_problems_come_at_once(read: Set) -> None:
    """Nobody has to start ten times to learn ten things, those between settings included."""
    problems = problems_of(
        read,
        RECEIVER_BIND="x",
        RECEIVER_LEASE="10",
        RECEIVER_DATABASE_URL="postgresql://u:secret-of-db@db/x",
        RECEIVER_API_KEY="short",
        TOPVIEW_UID="u",
        TOPVIEW_QUERY_RATE="fast",
        IMG_OPEN_BASE_URL="ftp://provider.example.test",
        SUPERAPP_ACCESS_KEY="a",
        SUPERAPP_SECRET_KEY="s",
        SUPERAPP_SUBMIT_RATE="0",
        SUPERAPP_POLL_SCHEDULE="soon",
    )
    for part in ("RECEIVER_BIND", "RECEIVER_LEASE", "RECEIVER_SECRET_KEYS", "RECEIVER_API_KEY", "TOPVIEW_API_KEY",
                 "TOPVIEW_QUERY_RATE", "IMG_OPEN_BASE_URL", "SUPERAPP_SUBMIT_RATE",
                 "SUPERAPP_POLL_SCHEDULE"):  # fmt: skip
        assert sum(part in problem for problem in problems) == 1, part
    assert len(problems) == 9


@pytest.mark.parametrize(
    "rest",
    ["db/x", "u@db/x", "u:p@db:5432/x", "u:p@[::1]:5432/x", "u:p@/x?host=a:1&host=b:2", "/x?host=/run&user=a@b",
     "u:p/:%40?#@db/x?sslmode=require"],
)  # fmt: skip
def test_a_postgresql_server_can_be_named_in_every_way(read: Set, rest: str) -> None:
    """By name, address or socket, and with all that a password may hold but an @."""
    url = f"postgresql://{rest}"
    assert read(RECEIVER_SECRET_KEYS=new_secret_key(), RECEIVER_DATABASE_URL=url).database_url == url


def test_a_password_with_an_at_sign_is_not_taken_for_a_host(read: Set) -> None:
    """Else what follows the sign would be looked up as a name, and be shown as one that is not found."""
    url = "postgresql://me:not-for-@logs-0006@db.example.test/x"
    (problem,) = problems_of(read, RECEIVER_SECRET_KEYS=new_secret_key(), RECEIVER_DATABASE_URL=url)
    assert "%40" in problem
    assert "0006" not in problem


def test_no_secret_is_in_a_message(read: Set) -> None:
    """What is wrong with a secret is said without it; so are addresses with credentials in them."""
    secrets = {
        "RECEIVER_SECRET_KEYS": "not-the-right-length-0001",
        "RECEIVER_DATABASE_URL": "mysql://user:not-for-logs-0002@db/x",
        "RECEIVER_API_KEY": "n-0003",
        "RECEIVER_PUBLIC_URL": "https://me:not-for-logs-0004@r.example.test",
        "TOPVIEW_API_KEY": "not-for-logs-0005",
    }
    said = "\n".join(problems_of(read, **secrets))
    assert not re.search("000[1-5]", said)
    assert said.count("\n") == 4


def test_a_value_can_come_from_a_file(read: Set, tmp_path: Path) -> None:
    """NAME_FILE is read, line end and all cut off, and wins; for handlers' settings too."""
    (tmp_path / "key").write_text("rk_from_the_file_0001\n")
    (tmp_path / "secret").write_text(" sk \n")
    found = read(
        RECEIVER_API_KEY_FILE=str(tmp_path / "key"),
        RECEIVER_API_KEY="rk_from_the_environment",
        SUPERAPP_ACCESS_KEY="ak",
        SUPERAPP_SECRET_KEY_FILE=str(tmp_path / "secret"),
    )
    assert found.api_key == "rk_from_the_file_0001"
    assert found.providers == {"superapp": {"access_key": "ak", "secret_key": "sk"}}


def test_a_file_that_cannot_be_read_is_a_problem(read: Set, tmp_path: Path) -> None:
    """Absent, a folder, no text, or nothing in it: said like everything else, without what is in it."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe-secret")
    (tmp_path / "empty").write_text(" \n")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "bytes", tmp_path / "empty"):
        (problem,) = problems_of(read, RECEIVER_API_KEY_FILE=str(path))
        assert problem.startswith("RECEIVER_API_KEY_FILE")
        assert "secret" not in problem


@pytest.mark.parametrize("name", handlers.available())
def test_half_a_pair_of_credentials_is_a_problem(read: Set, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider is on with all of its credentials, off with none; in between somebody forgot something."""
    handler = handlers.find(name)
    variables = [handlers.variable_of(name, option) for option in handler.options if option.credential]
    assert name not in read(**{f"{name.upper()}_BASE_URL": "https://provider.example.test"}).providers
    assert name in read(**dict.fromkeys(variables, "x")).providers
    for variable in variables[1:]:
        monkeypatch.delenv(variable)
    if len(variables) > 1:
        (problem,) = problems_of(read)
        assert all(variable in problem for variable in variables[1:])
        assert variables[0] not in problem


def test_the_log_of_settings_hides_secrets(read: Set) -> None:
    """Set or not set is all that is told of a secret."""
    shown = masked(read(RECEIVER_API_KEY="rk_never_to_be_shown", RECEIVER_DATABASE_URL="sqlite:///x/very-secret.db"))
    assert shown["RECEIVER_API_KEY"] == shown["RECEIVER_DATABASE_URL"] == "(set)"
    assert shown["RECEIVER_SECRET_KEYS"] == "(not set)"
    assert shown["RECEIVER_LEASE"] == "30.0"
    assert set(shown) == {setting.name for setting in SETTINGS}
