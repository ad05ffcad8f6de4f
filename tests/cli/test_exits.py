"""Exit codes and completion: what scripts and shells rely on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.cli.alike import told_apart
from receiver.cli.exits import MEANINGS, Exit, of_answer
from tests.cli.conftest import Run
from tests.cli.service import FakeService, Said, task

ROOT = Path(__file__).parents[2]
ID = task()["id"]


def test_every_exit_code_is_told_in_the_help_and_on_the_page(run: Run) -> None:
    """`receiver --help` and docs/terminal.md have the same table, and it is complete."""
    assert set(MEANINGS) == set(Exit)
    shown = run("--help").output
    page = (ROOT / "docs" / "terminal.md").read_text()
    for code, meaning in MEANINGS.items():
        assert re.search(rf"^ *{code} +{re.escape(meaning[:30])}", shown, re.MULTILINE), code
        assert f"| {code} | {meaning} |" in page


@pytest.mark.parametrize(
    ("status", "code"),
    [(None, 5), (400, 2), (401, 4), (403, 4), (404, 3), (409, 1), (413, 2), (422, 2), (429, 5), (500, 5), (503, 5)],
)
def test_every_refusal_of_the_service_has_its_code(status: int | None, code: int) -> None:
    """A script can tell a wrong call, a missing thing, a wrong key and an absent service apart."""
    assert of_answer(status) == code


@pytest.mark.process
def test_who_stops_reading_ends_the_program_without_a_word() -> None:
    """``receiver --help | head``: no traceback, and the code that shells use for SIGPIPE."""
    script = f"set -o pipefail; {sys.executable} -m receiver.cli completion bash | true; echo ${{PIPESTATUS[0]}}"
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() in ("141", "0")  # 0: it was faster than the reader's end
    assert shown.stderr == ""


@pytest.mark.process
@pytest.mark.parametrize("command", ["tasks", "migrate", "--help"])
def test_closed_streams_are_no_trouble(service: FakeService, command: str) -> None:
    """``receiver tasks >&-``, as some supervisors and cron jobs start programs: it does its work, and shows nothing."""
    service.on("GET", "/v1/tasks", {"data": [task()], "next_cursor": None})
    script = f"{sys.executable} -m receiver.cli {command} <&- >&-"
    shown = subprocess.run(["bash", "-c", script], stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.process
def test_a_terminal_with_few_characters_is_no_trouble(service: FakeService) -> None:
    """A locale without Unicode costs a table some characters, and JSON none."""
    service.on("GET", "/v1/tasks", {"data": [task(metadata={"n": "caf\u00e9 \U0001f408"})], "next_cursor": None})
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for options in ([], ["--json"]):
        command = [sys.executable, "-m", "receiver.cli", "tasks", *options]
        shown = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, env=environment)
        assert (shown.returncode, shown.stderr) == (0, b""), options
    assert json.loads(shown.stdout)["data"][0]["metadata"] == {"n": "caf\u00e9 \U0001f408"}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("sub_01kahx3mt5k0c4z7d6q8r9w2ve", "is the id of a subscriber: `receiver subscribers show"),
        (ID[:-1] + "f", f"Did you mean {ID}?"),
        (ID[5:], f"Did you mean {ID}?"),
        ("p-1", f"It is the provider's id of {ID}."),
    ],
)
def test_a_wrong_id_is_told_what_may_have_been_meant(run: Run, service: FakeService, wanted: str, said: str) -> None:
    """Another kind of id, a slip of the finger, a part of an id, a provider's id."""
    service.on("GET", "/v1/tasks", {"data": [task(provider_task_id="p-1")], "next_cursor": None})
    shown = run("task", wanted)
    assert shown.exit_code == Exit.NOT_FOUND
    assert "There is no such thing." in shown.stderr
    assert said in shown.stderr


def test_without_an_idea_nothing_is_guessed() -> None:
    """Ids of the same minute are alike anyway: they are not offered."""
    other: Mapping[str, Any] = {"id": "task_01kahx3mzzzzzzzzzzzzzzzzzz"}
    assert told_apart(f"/v1/tasks/{ID}", lambda _: [other]) == []
    assert told_apart("/v1/nothing", lambda _: [other]) == []
    assert told_apart("/v1/tasks/4711", lambda _: [other]) == []  # the service says how ids look


def completed(*words: str) -> list[str]:
    """What the Tab key offers behind these words, by click's own protocol for bash."""
    environment = {
        "_RECEIVER_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["receiver", *words]),
        "COMP_CWORD": str(len(words)),
    }
    shown = CliRunner().invoke(main, [], prog_name="receiver", env=environment)
    return [line.partition(",")[2] for line in shown.output.splitlines() if line]


def test_the_tab_key_knows_commands_providers_and_operations(run: Run) -> None:
    """Names are completed from what there is, without a service."""
    assert completed("ta") == ["tasks", "task"]
    assert completed("submit", "to") == ["topview"]
    assert "sd_text2image" in completed("submit", "img_open", "sd_")
    assert "text2image" not in completed("submit", "img_open", "t")
    assert completed("subscribers", "ro") == ["rotate"]
    assert completed("tasks", "--stat") == ["--status"]


def test_the_tab_key_knows_ids_of_the_service_and_never_complains(
    run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids come from the service of the environment; without one there are just none."""
    service.on("GET", "/v1/subscribers", {"data": [{"id": "sub_1", "url": "https://a.example"}]})
    assert completed("subscribers", "show", "su") == ["sub_1"]
    service.on("GET", "/v1/subscribers", Said(None, 401))
    assert completed("subscribers", "show", "su") == []
    monkeypatch.delenv("RECEIVER_API_KEY")
    assert completed("replay", "su") == []


@pytest.mark.process
def test_a_real_bash_completes(tmp_path: Path) -> None:
    """The printed script works in bash: it is loaded, and asked as the Tab key asks."""
    (tmp_path / "receiver").write_text(f'#!/bin/sh\nexec {sys.executable} -m receiver.cli "$@"\n')
    (tmp_path / "receiver").chmod(0o755)
    script = (
        f'export PATH={tmp_path}:$PATH; eval "$(receiver completion bash)"\n'
        "complete -p receiver\n"
        "COMP_WORDS=(receiver submit apsara); COMP_CWORD=2; _receiver_completion receiver apsara submit\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "--norc", "-i", "-c", script]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "-F _receiver_completion receiver" in shown.stdout
    assert shown.stdout.splitlines()[-1] == "apsaravideo_vod"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(run: Run, shell: str) -> None:
    """Each script asks this program in that shell's own way."""
    shown = run("completion", shell)
    assert shown.exit_code == 0
    assert f"_RECEIVER_COMPLETE={shell}_complete" in shown.stdout
