"""The quickstart, followed as it stands: every block is taken from the page and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.markdown import ROOT, page
from tests.story.system import free_port
from tests.test_docs import PREFIXES

PATIENCE = 60.0
"""Seconds that a loaded machine may take for a step."""

WALKS = {
    "docs/quickstart.md": page("docs/quickstart.md"),
    "README.md": page("README.md").section("Five minutes to a webhook"),
}
"""Pages that lead from `make run` to a verified webhook."""


@contextmanager
def running(command: str, folder: Path, environment: dict[str, str], output: Path) -> Iterator[None]:
    """A terminal with a command that goes on until Ctrl-C; what it prints goes to a file."""
    with output.open("wb") as said:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=folder, env=environment, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def soon(look: Callable[[], Any], what: str) -> Any:
    """What a look finds at last."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"there is no {what}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout's folder as far as `make run` looks at it, with what it installs in place."""
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / ".venv" / "run.stamp").touch()
    return tmp_path


@pytest.mark.process
@pytest.mark.parametrize("name", WALKS)
def test_who_follows_the_page_gets_a_verified_webhook(folder: Path, name: str) -> None:
    """Whoever types what stands there, with the key that was shown, gets webhooks, a ping too, and verifies them."""
    ours, theirs = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    environment |= {"RECEIVER_BIND": f"127.0.0.1:{ours}", "RECEIVER_PUBLIC_URL": f"http://127.0.0.1:{ours}"}
    service, hook = folder / "service.txt", folder / "hook.txt"
    assigned, answer = "", ""
    with ExitStack() as terminals:
        for kind, text in WALKS[name].fences:
            block = text.replace(":8000", f":{ours}").replace(":3000", f":{theirs}")
            if kind == "python":
                (folder / "hook.py").write_text(block.replace('"127.0.0.1", 3000', f'"127.0.0.1", {theirs}'))
            elif block == "make run\n":
                terminals.enter_context(running(block, folder, environment, service))
                key = soon(lambda: re.search(r"rk_[\w-]{43}", service.read_text()), "API key")[0]
                soon(lambda: _listens(ours), "service that listens")
            elif block == "python3 hook.py\n":
                terminals.enter_context(running(block, folder, environment, hook))
                soon(lambda: _listens(theirs), "script that listens")
            elif "rk_..." in block:
                assigned = block.replace("rk_...", key)
            elif kind == "sh":
                said = typed(assigned + block, folder, environment)
                if "%{http_code}" in block:
                    assert said.strip() == "401"
                elif "/v1/tasks" in block:
                    answer = said
                    assert json.loads(said)["status"] == ("succeeded" if "wait=" in block else "queued")
        sent = json.loads(answer)["id"]
        soon(lambda: f"verified: task.succeeded {sent}" in hook.read_text(), "verified webhook")
        subscriber = json.loads((folder / "hook.json").read_text())["id"]
        ping = f'curl -s -X POST $URL/v1/subscribers/{subscriber}/ping -H "Authorization: Bearer $KEY"'
        delivery = json.loads(typed(assigned + ping, folder, environment))["id"]
        look = f'curl -s $URL/v1/deliveries/{delivery} -H "Authorization: Bearer $KEY"'
        answered = soon(lambda: json.loads(typed(assigned + look, folder, environment))["attempts"], "attempt")
        assert answered[0]["response_status"] == 204, "the page's script does not take a ping"


def typed(block: str, folder: Path, environment: dict[str, str]) -> str:
    """What a block prints in the second terminal."""
    return subprocess.run(
        ["sh", "-ec", block],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True,
    ).stdout  # fmt: skip


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_the_script_verifies_as_the_snippet_does() -> None:
    """The function in the quickstart is the one that is tested with every kind of forged request."""
    snippet = (ROOT / "docs" / "snippets" / "standard_library.py").read_text()
    (script,) = [text for kind, text in WALKS["docs/quickstart.md"].fences if kind == "python"]
    assert snippet[snippet.index("def verified") :].strip() in script
