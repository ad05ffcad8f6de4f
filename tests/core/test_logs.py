"""Logs: one line an event, machine- or human-readable, and no secret in any of them, whoever logs it."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import structlog

from receiver import logs

SECRET = "sk-very-secret-0001"
TOKEN = "01kahx3mt5k0c4z7d6q8r9w2ve.abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq"


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process's logging as it was."""
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    monkeypatch.setattr(logs, "_secrets", ())
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**config)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {SECRET}!", "key ***!"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_***"),
        ("Bearer rk_0123456789abcdefghij", "Bearer rk_***"),
        (f"POST /callbacks/toy/{TOKEN} 200", "POST /callbacks/toy/*** 200"),
        ("task_01kahx3mt5k0c4z7d6q8r9w2ve", "task_01kahx3mt5k0c4z7d6q8r9w2ve"),
    ],
)
def test_secrets_are_blanked_out(text: str, shown: str) -> None:
    """Registered ones, and whatever looks like a signing secret, an API key or a callback token."""
    logs.keep_out([SECRET])
    assert logs.blank(text) == shown


def test_a_secret_that_contains_another_leaves_no_rest() -> None:
    """The longer one goes first; very short texts are not registered, they would blank out half of everything."""
    logs.keep_out(["secret-1", "ab"])
    logs.keep_out(["secret-1-and-more"])
    assert logs.blank("secret-1-and-more ab secret-1") == "*** ab ***"


class Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, _: str) -> int:
        """Nothing."""
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_log_that_cannot_be_written_stops_no_work(monkeypatch: pytest.MonkeyPatch, log_format: str) -> None:
    """No provider's answer is lost, and no thread ends, because the disk of the log is full or its reader is gone."""
    monkeypatch.setattr(sys, "stderr", Full())
    logs.set_up(log_format, "info", "worker")
    log = logs.get("test")
    for say in (log.info, log.warning, log.error, log.exception):
        say("submit", provider="toy")
    with pytest.raises(OSError, match="No space left"):
        sys.stderr.write("it is full indeed")


@contextmanager
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard error is a pipe: the end at which it is read."""
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "w") as stream:  # noqa: PTH123  they are open already
        monkeypatch.setattr(sys, "stderr", stream)
        yield reader


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_log_that_nobody_reads_stops_no_work(monkeypatch: pytest.MonkeyPatch, log_format: str) -> None:
    """A container's log driver stands still: work goes on, and the log says afterwards how much of it is missing."""
    monkeypatch.setattr(logs, "UNREAD", 0.05)
    with piped(monkeypatch) as reader:
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        logs.set_up(log_format, "info", "worker")
        log, library = logs.get("test"), logging.getLogger("another")

        def work() -> None:
            for number in range(200):
                log.info("submit", number=number, padding="x" * 100)
                library.warning("of a library")

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(10)
        stuck = worker.is_alive()
        os.set_blocking(reader, False)
        came = os.read(reader, 1 << 20)
        worker.join(10)
        assert not stuck
        for each in ("y" * 10_000, *["later"] * 5):  # a line that takes several reads, too
            log.info(each)
            came += os.read(reader, 1 << 20)
        lines = came.decode().splitlines()
        lost = [json.loads(line)["lines"] for line in lines if "log lines lost" in line]
        assert len(lines) - len(lost) + sum(lost) == 400 + 6
        assert "later" in lines[-1]
        assert [line for line in lines if "y" * 10_000 in line]


def test_the_pipe_stays_as_it_is_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever shares standard error with us writes to it as before, and waits where it is full."""
    with piped(monkeypatch) as reader:
        logs.set_up("json", "info", "worker")
        logs.get("test").info("submit")
        assert json.loads(os.read(reader, 1 << 16))["event"] == "submit"
        assert os.get_blocking(sys.stderr.fileno())


class Unbuffered(io.RawIOBase):
    """What lies below standard error with PYTHONUNBUFFERED: each write is one call of the system."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, piece: Any) -> int:
        """Keep it as it came."""
        self.pieces.append(bytes(piece))
        return len(piece)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_is_written_in_one_piece(monkeypatch: pytest.MonkeyPatch, log_format: str) -> None:
    """Processes that share standard error do not write into each other's lines; unbuffered, as in the image, too."""
    raw = Unbuffered()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(cast("io.BufferedWriter", raw), write_through=True))
    logs.set_up(log_format, "info", "worker")
    logs.get("test").info("submit", provider="toy")
    logging.getLogger("another").warning("of a library")
    assert len(raw.pieces) == 2
    assert all(piece.endswith(b"\n") for piece in raw.pieces)


def test_json_lines_hold_no_secret_however_deep(capsys: pytest.CaptureFixture[str]) -> None:
    """In texts, lists, mappings, exceptions and their tracebacks; numbers stay numbers."""
    logs.keep_out([SECRET])
    logs.set_up("json", "info", "worker")
    log = logs.get("test")
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        log.exception(
            "it broke", error=error, given={SECRET: [SECRET, {"a": (SECRET,)}]}, count=3, ratio=0.5, none=None
        )
    log.debug("not shown")
    (line,) = capsys.readouterr().err.splitlines()
    assert SECRET not in line
    found = json.loads(line)
    assert (found["event"], found["role"], found["part"], found["level"]) == ("it broke", "worker", "test", "error")
    assert (found["count"], found["ratio"], found["none"]) == (3, 0.5, None)
    assert found["given"] == {"***": ["***", {"a": ["***"]}]}
    assert "ValueError: ***" in found["exception"]


def test_a_secret_is_found_as_json_spells_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Quotes, backslashes and letters beyond ASCII: the line stays JSON, and holds none of it."""
    secret = 'pä"ss\\word'
    logs.keep_out([secret])
    logs.set_up("json", "info", "worker")
    logs.get("test").info("hello", given=f"<{secret}>")
    assert json.loads(capsys.readouterr().err)["given"] == "<***>"


def test_lines_of_other_libraries_are_of_the_same_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings of what we build on come as JSON too, without secrets; their chatter does not come."""
    logs.keep_out([SECRET])
    logs.set_up("json", "debug", "web")
    logging.getLogger("urllib3").warning("bad header %s", SECRET)
    logging.getLogger("urllib3").info("chatter")
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert (found["event"], found["role"], found["level"]) == ("bad header ***", "web", "warning")


def test_the_console_form_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """One readable line; off a terminal the default is JSON."""
    logs.keep_out([SECRET])
    logs.set_up("console", "info", "web")
    log = logs.get("test")
    log.info("hello", who=SECRET)
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("it broke")
    said = capsys.readouterr().err
    assert "hello" in said
    assert "ValueError: ***" in said
    assert SECRET not in said
    logs.set_up("", "info", "web")
    logs.get("test").info("hello")
    assert json.loads(capsys.readouterr().err)["event"] == "hello"


def test_nothing_that_is_logged_commands_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A provider's word, a path, an exception's text or another library's line: escapes are shown, not obeyed."""
    logs.set_up("console", "info", "worker")
    attack = "\x1b[2J\r\x9b1A"
    logs.get("lane").warning("unknown status word", word=attack)
    logging.getLogger("gunicorn.error").warning(attack)
    try:
        raise ValueError(attack)
    except ValueError:
        logs.get("lane").exception("it broke")
    said = capsys.readouterr().err
    assert said.count(r"\x1b[2J\r\x9b1A") == 3
    assert not set("\x1b\r\x9b") & set(said)


def test_lines_for_people_stand_in_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Time, level, role, what happened and the task: the eye runs down; nothing that says nothing; no colour codes."""
    logs.set_up("console", "info", "web")
    log = logs.get("watch")
    log.info("task", was="queued", task="task_1", status="running", error=None)
    log.warning("query", task="task_2", why="it is away")
    first, second = capsys.readouterr().err.splitlines()
    assert first.index("task=task_1") == second.index("task=task_2")
    assert re.fullmatch(r"\d\d:\d\d:\d\d info    web    task             task=task_1 status=running was=queued", first)
    assert second.endswith("task=task_2 why='it is away'")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    logs.set_up("", "info", "web")
    logs.get("watch").error("it broke")
    assert "\x1b[31merror" in capsys.readouterr().err
