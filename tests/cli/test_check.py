"""``receiver check``: each problem is named with its mend."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import ssl
import sys
import time
from collections.abc import Iterable
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from receiver.cli import checks, reachable, running
from receiver.cli.checks import check_all, clock
from receiver.cli.findings import Finding, Level
from receiver.cli.reachable import clock_beside
from receiver.config import read_settings
from receiver.runtime import Runtime, wall_clock
from receiver.sealing import new_secret_key
from receiver.store import dialect
from tests import postgres
from tests.cli.conftest import Run
from tests.cli.service import FakeService, Said
from tests.markdown import ROOT

TOPVIEW = {"TOPVIEW_UID": "u", "TOPVIEW_API_KEY": "k-secret-text"}
SUPERAPP = {"SUPERAPP_ACCESS_KEY": "a", "SUPERAPP_SECRET_KEY": "s"}


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Set several variables."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def about(findings: Iterable[Finding], subject: str) -> list[Finding]:
    """The findings about one subject."""
    return [finding for finding in findings if finding.about == subject]


def test_a_fresh_machine_has_no_problem_but_a_warning(run: Run) -> None:
    """Nothing is set, nothing was started: no problem, and the way to a first provider."""
    result = run("check")
    assert result.exit_code == 0
    assert "0 problems, 1 warning." in result.stdout
    assert "receiver run --with-sandbox" in result.stdout
    assert "will be made at the first start" in result.stdout


def test_checking_changes_nothing(run: Run, tmp_path: Path) -> None:
    """No file, no folder, no key comes into being."""
    os.environ["RECEIVER_DATABASE_URL"] = f"sqlite:///{tmp_path}/new/receiver.db"
    assert run("check").exit_code == 0
    assert not list(tmp_path.iterdir())


def test_settings_that_cannot_be_read_are_all_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem of the settings is a finding, half a pair of credentials too; code 1."""
    set_all(monkeypatch, RECEIVER_BIND="8000", RECEIVER_LEASE="x", TOPVIEW_UID="u")
    result = run("check", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert len(told["findings"]) == 3
    assert {finding["level"] for finding in told["findings"]} == {"problem"}
    assert any("TOPVIEW_API_KEY" in finding["text"] for finding in told["findings"])


def test_the_same_advice_is_given_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the last of the problems that it is for."""
    set_all(monkeypatch, RECEIVER_BIND="8000", RECEIVER_LEASE="x", TOPVIEW_UID="u")
    lines = run("check").stdout.splitlines()
    assert [number for number, line in enumerate(lines) if "Correct it and check again." in line] == [3]


def test_names_that_no_setting_has_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped setting does nothing without a word elsewhere; here it is a warning with what may be meant."""
    set_all(monkeypatch, RECEIVER_LEESE="30", TOPVIEW_APIKEY="k", TOPVIEW_API_KEY_FILE="", RECEIVER_URL="http://x",
            RECEIVER_SERVICE_HOST="10.0.0.1", RECEIVER_PORT="tcp://10.0.0.1:8000", TOPVIEWER="x")  # fmt: skip
    told = json.loads(run("check", "--json").stdout)
    warned = {
        finding["text"].split()[0]: finding["mend"] for finding in told["findings"] if "no setting" in finding["text"]
    }
    assert warned == {
        "RECEIVER_LEESE": "Did you mean RECEIVER_LEASE?",
        "TOPVIEW_APIKEY": "Did you mean TOPVIEW_API_KEY?",
    }
    assert told["ok"] is True
    monkeypatch.setenv("TOPVIEW_UID", "u")  # half a pair, because of the slip: it stands beside the problem
    told = json.loads(run("check", "--json").stdout)
    assert [finding["level"] for finding in told["findings"]] == ["warning", "warning", "problem"]


@pytest.mark.parametrize(
    ("value", "told"), [('"k"', True), ("'k'", True), ("k # mine", True), ("k", False), ("a#b", False), ('a"b"', False)]
)
def test_quotes_and_comments_of_a_file_are_told(monkeypatch: pytest.MonkeyPatch, value: str, told: bool) -> None:
    """What reads a file of settings may leave quotes and comments in: a credential with them is only refused later."""
    set_all(monkeypatch, **TOPVIEW | {"TOPVIEW_UID": value})
    texts = [finding.text for finding in about(check_all(), "settings") if finding.level is Level.WARNING]
    assert bool(texts) == told
    assert all(text.startswith("TOPVIEW_UID has quotes around its value, or a comment") for text in texts)


def test_a_good_set_up_is_said_to_be_good(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in order: code 0 and one sentence; no secret is shown."""
    set_all(monkeypatch, **TOPVIEW, RECEIVER_PUBLIC_URL="https://hooks.example.com",
            RECEIVER_SECRET_KEYS=new_secret_key())  # fmt: skip
    assert run("migrate").exit_code == 0
    monkeypatch.setattr(checks, "LITTLE_DISK", 0)
    monkeypatch.setattr(checks, "LEAST_DISK", 0)
    result = run("check")
    assert result.exit_code == 0
    assert "Nothing is wrong." in result.stdout
    assert "TopView is configured" in result.stdout
    assert "its schema is up to date" in result.stdout
    assert "k-secret-text" not in result.stdout
    assert os.environ["RECEIVER_SECRET_KEYS"] not in result.stdout


@pytest.mark.parametrize(
    ("url", "extra", "level", "said"),
    [
        ("http://127.0.0.1:8000", TOPVIEW, Level.PROBLEM, "TopView cannot call back"),
        ("http://localhost:8000", TOPVIEW, Level.PROBLEM, "this machine alone"),
        ("http://[::1]:8000", TOPVIEW, Level.PROBLEM, "this machine alone"),
        ("https://10.1.2.3", TOPVIEW, Level.PROBLEM, "private address"),
        ("https://receiver.internal", TOPVIEW, Level.PROBLEM, "private address"),
        ("http://hooks.example.com", TOPVIEW, Level.WARNING, "not encrypted"),
        ("https://hooks.example.com", TOPVIEW, Level.OK, "https://hooks.example.com"),
        ("http://127.0.0.1:8000", SUPERAPP, Level.OK, "no provider that calls back"),
        (
            "http://127.0.0.1:8000",
            {**TOPVIEW, "TOPVIEW_BASE_URL": "http://127.0.0.1:9100/topview"},
            Level.OK,
            "no prov",
        ),
        ("http://127.0.0.1:8000", {}, Level.OK, "no provider that calls back"),
    ],
)
def test_a_public_url_that_providers_cannot_call_is_told(
    monkeypatch: pytest.MonkeyPatch, url: str, extra: dict[str, str], level: Level, said: str
) -> None:
    """Whether providers reach us is judged by who calls back, and from where."""
    set_all(monkeypatch, RECEIVER_PUBLIC_URL=url, **extra)
    (finding,) = about(check_all(), "public URL")
    assert finding.level is level
    assert said in finding.text
    assert bool(finding.mend) is (level is not Level.OK)


def test_a_local_public_url_must_be_where_the_service_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator on this machine calls back too: another port than that of RECEIVER_BIND is told."""
    set_all(monkeypatch, **TOPVIEW, TOPVIEW_BASE_URL="http://127.0.0.1:9100", RECEIVER_BIND="127.0.0.1:8010")
    assert about(check_all(), "public URL")[-1].level is Level.WARNING


def test_who_may_read_the_key_file_is_looked_at(run: Run, tmp_path: Path) -> None:
    """A key file that others may read is a problem with its mend; nonsense too; a good one is to be backed up apart."""
    run("migrate")
    file = tmp_path / "secret_key"
    found = about(check_all(), "secrets")[0]
    assert found.level is Level.OK
    assert "apart from the database" in found.text
    file.chmod(0o644)
    (finding,) = about(check_all(), "secrets")
    assert finding.level is Level.PROBLEM
    assert finding.mend.startswith(f"chmod 600 {file}")
    file.chmod(0o600)
    key = file.read_text()
    file.write_text("nonsense")
    # the settings do not read this file, so that the check itself must
    (finding,) = about(check_all(), "secrets")
    assert "cannot be used" in finding.text
    file.write_text(key)


def test_keys_of_the_settings_are_counted_and_their_file_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """RECEIVER_SECRET_KEYS is counted; with _FILE the file's rights are checked."""
    monkeypatch.setenv("RECEIVER_SECRET_KEYS", f"{new_secret_key()},{new_secret_key()}")
    assert "2 keys" in about(check_all(), "secrets")[0].text
    monkeypatch.delenv("RECEIVER_SECRET_KEYS")
    file = tmp_path / "keys"
    file.write_text(new_secret_key())
    file.chmod(0o640)
    monkeypatch.setenv("RECEIVER_SECRET_KEYS_FILE", str(file))
    assert about(check_all(), "secrets")[0].level is Level.PROBLEM
    file.chmod(0o400)
    assert about(check_all(), "secrets")[0].level is Level.OK


def test_a_database_without_the_schema_is_a_warning(tmp_path: Path) -> None:
    """An empty database will be brought up; the command is named."""
    (tmp_path / "receiver.db").touch()
    (finding,) = about(check_all(), "database")
    assert finding.level is Level.WARNING
    assert "receiver migrate" in finding.mend


@pytest.mark.parametrize("content", [b"this is not a database, whatever its name says", b"SQLite format 3"])
def test_a_file_that_is_no_database_is_told(tmp_path: Path, content: bytes) -> None:
    """Another file under the database's name is a problem, not a traceback."""
    (tmp_path / "receiver.db").write_bytes(content)
    (finding,) = about(check_all(), "database")
    assert finding.level is Level.PROBLEM


def test_a_file_that_somebody_holds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite file that does not answer has no host and no password to look after: what holds it is to be found."""
    monkeypatch.setattr(dialect, "BUSY_SECONDS", 0.1)
    holder = sqlite3.connect(tmp_path / "receiver.db", isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    holder.execute("CREATE TABLE held (x)")
    (finding,) = about(check_all(), "database")
    holder.close()
    assert finding.level is Level.PROBLEM
    assert "no other program holds it" in finding.mend


def test_a_folder_in_the_databases_place_is_told(tmp_path: Path) -> None:
    """A folder under the database's name is a problem, and nobody is sent to look for a server."""
    (tmp_path / "receiver.db").mkdir()
    (finding,) = about(check_all(), "database")
    assert "is not an SQLite database" in finding.text


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_files_of_somebody_else_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str) -> None:
    """Each file of the database that this user may not write to is named (root is told the same by a stub)."""
    (tmp_path / "receiver.db").touch()
    theirs = tmp_path / f"receiver.db{end}"
    theirs.touch()
    monkeypatch.setattr(os, "access", lambda path, _: path != theirs)
    (finding,) = about(check_all(), "database")
    assert finding.level is Level.PROBLEM
    assert f"{theirs} cannot be written to." in finding.text


def test_a_folder_that_cannot_be_written_to_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to write, the place and the mend are named (root is told the same by a stub)."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    (finding,) = about(check_all(), "database")
    assert finding.level is Level.PROBLEM
    assert "no file can be made" in finding.text


class _Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(("free", "level"), [(50 << 20, Level.PROBLEM), (500 << 20, Level.WARNING), (5 << 30, None)])
def test_a_disk_that_fills_up_is_told(monkeypatch: pytest.MonkeyPatch, free: int, level: Level | None) -> None:
    """Little room is a warning, almost none a problem."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Disk(100 << 30, 0, free))
    assert [finding.level for finding in about(check_all(), "disk")] == ([] if level is None else [level])


def test_a_postgresql_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is a problem within seconds, without its password in the text."""
    set_all(monkeypatch, RECEIVER_DATABASE_URL="postgresql://u:geheim@127.0.0.1:1/db",
            RECEIVER_SECRET_KEYS=new_secret_key())  # fmt: skip
    (finding,) = about(check_all(), "database")
    assert finding.level is Level.PROBLEM
    assert "geheim" not in finding.text + finding.mend


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL without its extra: what to install is the mend."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    set_all(monkeypatch, RECEIVER_DATABASE_URL="postgresql://u@127.0.0.1:1/db", RECEIVER_SECRET_KEYS=new_secret_key())
    (finding,) = about(check_all(), "database")
    assert finding.level is Level.PROBLEM
    assert "pip install" in finding.mend


def test_the_clock_is_looked_at() -> None:
    """A clock that was never set, one that runs backwards, and one that is off are problems."""
    assert next(clock(time.time())).level is Level.OK
    assert next(clock(0.0)).level is Level.PROBLEM
    backwards = iter([2.0, 1.0])
    assert next(clock(time.time(), lambda: next(backwards))).level is Level.PROBLEM
    assert clock_beside("X", 1000.0, 1010.0).level is Level.OK
    assert "100 s ahead of X's" in clock_beside("X", 1000.0, 1100.0).text
    assert "100 s behind X's" in clock_beside("X", 1100.0, 1000.0).text


def test_online_each_provider_is_connected_to(run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--online`` says who can be reached; the clock is held beside the provider's; no credential is shown."""
    old = Said(b"", 404, {"Date": formatdate(time.time() - 3600, usegmt=True)})
    service.answer = lambda asked: (service.asked.append(asked), old)[1]  # type: ignore[method-assign]  # any route
    set_all(monkeypatch, **TOPVIEW, TOPVIEW_BASE_URL=service.url, **SUPERAPP,
            SUPERAPP_BASE_URL="http://127.0.0.1:1")  # fmt: skip
    result = run("check", "--online")
    assert result.exit_code == 1
    assert f"{service.url} can be reached" in result.stdout
    assert "http://127.0.0.1:1 cannot be reached" in result.stdout
    assert "SUPERAPP_BASE_URL is right" in result.stdout
    assert "k-secret-text" not in result.stdout


@pytest.mark.parametrize(
    ("said", "level", "text"),
    [
        (Said(b'{"code":"4004","message":"no such task"}', 200), Level.OK, "credentials are taken"),
        (Said(b"", 401), Level.PROBLEM, "credentials are refused"),
        (Said(b"", 503), Level.WARNING, "cannot be told now"),
    ],
)
def test_online_credentials_are_tried(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, said: Said, level: Level, text: str
) -> None:
    """A question that buys nothing shows whether the provider takes them; what to correct is named."""
    service.answer = lambda asked: (service.asked.append(asked), said)[1]  # type: ignore[method-assign]  # any route
    set_all(monkeypatch, **TOPVIEW, TOPVIEW_BASE_URL=service.url)
    told = [finding for finding in about(check_all(online=True), "topview") if text in finding.text]
    assert [finding.level for finding in told] == [level]
    if level is Level.PROBLEM:
        assert "TOPVIEW_UID and TOPVIEW_API_KEY" in told[0].mend
    assert any("query" in asked.path for asked in service.asked)


@pytest.mark.parametrize(
    ("status", "echoes", "level"), [(403, True, Level.OK), (403, False, Level.PROBLEM), (200, True, Level.PROBLEM)]
)
def test_online_the_public_url_must_lead_here(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, status: int, echoes: bool, level: Level
) -> None:
    """Called as a provider calls it: only this service refuses the token and gives the request's id back."""

    def say(asked: Any) -> Said:
        service.asked.append(asked)
        mark = {name.lower(): value for name, value in asked.headers.items()}["x-request-id"]
        return Said(b"{}", status, {"X-Request-Id": mark} if echoes else {})

    monkeypatch.setattr(service, "answer", say)
    set_all(monkeypatch, RECEIVER_PUBLIC_URL=service.url)
    assert about(check_all(online=True), "public URL")[-1].level is level
    assert service.asked[0].path.startswith("/callbacks/")


def test_online_a_public_url_in_other_letters_is_called(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is not ASCII goes out escaped, as providers send it."""
    set_all(monkeypatch, RECEIVER_PUBLIC_URL=f"{service.url}/bücher")
    assert "something else answers (HTTP 404)" in about(check_all(online=True), "public URL")[-1].text
    (asked,) = service.asked
    assert asked.path.startswith("/b%C3%BCcher/callbacks/")


def test_online_a_public_url_that_leads_nowhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: a problem, with what to look at."""
    set_all(monkeypatch, RECEIVER_PUBLIC_URL="http://127.0.0.1:1")
    (_, finding) = [each for each in about(check_all(online=True), "public URL") if each.level is not Level.WARNING]
    assert finding.level is Level.PROBLEM
    assert "cannot be reached from this machine" in finding.text


def test_a_worker_that_vanished_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """None running is fine before the first start; one that stopped without saying so is not."""
    run("migrate")
    assert [finding.text for finding in about(check_all(), "worker")] == ["none runs now"]
    runtime = Runtime.build(read_settings())
    runtime.sweeping.beat("w-1")
    assert about(check_all(), "worker")[0].text.startswith("seen")
    monkeypatch.setattr(running, "wall_clock", lambda: wall_clock() + 60_000)
    assert about(check_all(), "worker")[0].level is Level.WARNING
    runtime.close()


@pytest.mark.process
@pytest.mark.parametrize(
    ("pool", "level", "text"), [("10", Level.OK, "of 500 connections"), ("400", Level.PROBLEM, "max_connections")]
)
def test_the_limits_of_postgresql_are_looked_at(
    run: Run, monkeypatch: pytest.MonkeyPatch, pool: str, level: Level, text: str
) -> None:
    """Its version, and whether the pools of this machine fit into its connections."""
    with postgres.fresh_database() as url:
        set_all(monkeypatch, RECEIVER_DATABASE_URL=url, RECEIVER_SECRET_KEYS=new_secret_key(),
                RECEIVER_DATABASE_POOL=pool)  # fmt: skip
        assert run("migrate").exit_code == 0
        found = [finding for finding in about(check_all(), "database") if "PostgreSQL" in finding.text]
    assert [finding.level for finding in found] == [level]
    assert text in found[0].text + found[0].mend


@pytest.mark.parametrize("name", ["docs/operating.md", "docs/growing.md"])
def test_the_oldest_postgresql_is_that_of_the_documentation(name: str) -> None:
    """Who runs an older one than the pages ask for is warned."""
    assert f"PostgreSQL {running.OLDEST} or newer" in (ROOT / name).read_text()


def untrusted() -> ssl.SSLCertVerificationError:
    """What the TLS library raises for a certificate that nobody signed."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (untrusted(), "cannot be trusted: self-signed certificate"),
        (TimeoutError(), "no connection within 5 s"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_online_faults_are_told_in_words(monkeypatch: pytest.MonkeyPatch, fault: OSError, said: str) -> None:
    """Each way of not reaching a provider has its sentence."""

    def refuse(_: Any) -> float:
        raise fault

    monkeypatch.setattr(reachable, "_date_of", refuse)
    set_all(monkeypatch, **TOPVIEW)
    assert any(said in finding.text for finding in check_all(online=True))
