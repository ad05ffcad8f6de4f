"""The program as a whole: help, faults and exit codes."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from receiver.cli import COMMANDS, main
from receiver.cli.exits import Exit
from receiver.cli.trigger import ERRORS
from receiver.errors import Busy, Conflict, Invalid, NotFound, SettingsError
from receiver.models import EventType
from tests.cli.conftest import Run
from tests.cli.service import FakeService


def interrupted_in_a_class() -> RuntimeError:
    """What Python 3.11 makes of Ctrl-C while a class is made."""
    error = RuntimeError("Error calling __set_name__")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_explains_itself(run: Run, name: str) -> None:
    """Each command of the list exists, and ``--help`` says what it does and what it takes."""
    shown = run(name, "--help")
    assert shown.exit_code == 0
    command = getattr(importlib.import_module(f"receiver.cli.{COMMANDS[name][0]}"), name)
    inner = list(command.commands.values()) if isinstance(command, click.Group) else []
    for each in [command, *inner]:
        assert each.help, each.name
        for option in each.params:
            assert not isinstance(option, click.Option) or option.help, f"{name} {each.name} {option.name} has no help"


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_a_terminal(run: Run, name: str) -> None:
    """No help needs more than 80 columns: nothing of it is broken by the window's edge, and no sentence is cut."""
    command = main.get_command(click.Context(main), name) if name else main
    inner = list(command.commands) if isinstance(command, click.Group) else []
    for words in [[name], *([name, each] for each in inner)]:
        shown = run(*filter(None, words), "--help").output
        assert [line for line in shown.splitlines() if len(line) > 80 or re.search(r"[a-z]\.\.\.$", line)] == []


def test_the_events_that_can_be_triggered_are_in_the_help(run: Run) -> None:
    """``receiver trigger --help`` names every type and every error that it makes."""
    shown = run("trigger", "--help").output
    for name in (*EventType, *ERRORS):
        assert re.search(rf"\b{re.escape(name)}[,.]|\b{re.escape(name)}\s+and\b|\b{re.escape(name)}\.", shown), name


def test_help_lists_every_command_with_its_own_first_sentence(run: Run) -> None:
    """``receiver --help`` explains each command as the command explains itself."""
    shown = run("--help").output
    for name, (_, line) in COMMANDS.items():
        assert f"\n  {name} " in shown
        assert line in shown
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert command.get_short_help_str(limit=200) == line


@pytest.mark.process
def test_help_loads_no_command() -> None:
    """``receiver --help`` comes at once: it waits for no library but click."""
    code = (
        "import contextlib, io, sys, receiver.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    receiver.cli.main(['--help'], standalone_mode=False)\n"
        "heavy = ('receiver.cli.', 'requests', 'rich', 'sqlalchemy', 'flask')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['receiver.cli.exits']"


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    """A mistyped command ends with code 2, says so, and names those that resemble it."""
    result = run("taks")
    assert result.exit_code == 2
    assert "No such command 'taks'. Did you mean tasks or task?" in result.stderr
    assert "Did you mean" not in run("xyzzy").stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("tasks list", "`receiver tasks` is the list, and takes no 'list'. `receiver task ID` shows one."),
        ("tasks --limit 3 task_1", "takes no 'task_1'. `receiver task ID` shows one."),
        ("deliveries list", "takes no 'list'. `receiver delivery ID` shows one."),
        ("keys delete key_1", "No such command 'delete'. There are create, list, revoke."),
        ("subscribers create x", "No such command 'create'. There are add, disable, enable, list, ping, remove, "),
    ],
)
def test_what_a_command_does_not_take_is_answered_with_what_there_is(run: Run, words: str, told: str) -> None:
    """Who guesses a command's words is told the right ones, in the message."""
    result = run(*words.split())
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize("group", [[], ["keys"]])
def test_an_option_before_its_command_is_told_its_place(run: Run, group: list[str]) -> None:
    """What belongs behind the command is refused with where it belongs; a mistyped option of a command is not."""
    result = run(*group, "--url", "http://127.0.0.1:9", "list")
    assert result.exit_code == 2
    path = " ".join(["receiver", *group])
    assert f"No such option '--url'. Options of a command stand behind it: {path} COMMAND --url …" in result.stderr
    assert "stand behind" not in run("tasks", "--urk", "x").stderr


def test_an_option_before_a_command_of_a_group_with_a_default_is_told_its_place(run: Run, service: FakeService) -> None:
    """``subscribers`` alone may have options, those of its list; before another command they are out of place."""
    service.on("GET", "/v1/subscribers", {"data": [], "next_cursor": None})
    for command in ("list", "show"):
        result = run("subscribers", "--url", service.url, command)
        assert result.exit_code == 2
        assert "Options of a command stand behind it: receiver subscribers COMMAND --url …" in result.stderr
    assert run("subscribers", "--url", service.url).exit_code == 0
    assert "List subscribers" in run("subscribers", "--limit", "3", "--help").stdout


def test_the_version_is_shown(run: Run) -> None:
    """``--version`` names program and version."""
    assert run("--version").output.startswith("receiver ")


@pytest.mark.parametrize(
    ("fault", "said", "code"),
    [
        (Busy("the database does not answer"), "the database does not answer", Exit.AWAY),
        (Conflict("It has ended."), "It has ended.", Exit.FAILED),
        (Invalid({"scopes": ["Must be one."]}), "scopes: Must be one.", Exit.USAGE),
        (NotFound("There is no such task."), "There is no such task.", Exit.NOT_FOUND),
        (SettingsError(["X must be set"]), "X must be set", Exit.FAILED),
        (PermissionError(13, "Permission denied", "/x.db"), "Permission denied: '/x.db'", Exit.FAILED),
        (KeyboardInterrupt(), "", Exit.INTERRUPTED),
        (interrupted_in_a_class(), "", Exit.INTERRUPTED),
    ],
)
def test_faults_to_be_expected_are_told_without_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, fault: BaseException, said: str, code: Exit
) -> None:
    """A service's no, bad settings and the system's no end with their exit code and one plain message."""

    @click.command()
    def broken() -> None:
        raise fault

    monkeypatch.setattr(main, "get_command", lambda ctx, name: broken)
    result = run("tasks")
    assert result.exit_code == code
    assert said in result.stderr
    assert isinstance(result.exception, SystemExit)


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["submit", "--help"], ["completion", "bash"]])
def test_what_cannot_be_written_is_told_without_a_traceback(arguments: list[str]) -> None:
    """A full disk behind standard output ends every command with code 1 and one line."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "receiver.cli", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == Exit.FAILED
    assert ended.stderr.splitlines() == ["Error: [Errno 28] No space left on device"]


@pytest.mark.process
@pytest.mark.parametrize("module", ["click.core", "receiver.errors", "receiver.cli.tasks"])
def test_ctrl_c_is_told_without_a_traceback_however_early(module: str) -> None:
    """Ctrl-C while the program is only being loaded ends with 130 too, and in silence."""
    code = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from receiver.cli import main\n"
        "main(['tasks'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.strip()) == (Exit.INTERRUPTED, "")


@pytest.mark.process
def test_commands_of_the_api_do_not_load_the_database() -> None:
    """A command that only speaks HTTP starts without the libraries of the database and of the web."""
    code = (
        "import sys, receiver.cli, receiver.cli.submit, receiver.cli.deliveries, receiver.cli.providers\n"
        "print([name for name in ('sqlalchemy', 'alembic', 'flask', 'gunicorn') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.process
def test_the_module_is_the_program() -> None:
    """``python -m receiver.cli`` does what ``receiver`` does."""
    shown = subprocess.run(
        [sys.executable, "-m", "receiver.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("receiver ")
