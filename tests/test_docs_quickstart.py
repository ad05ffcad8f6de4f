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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.markdown import ROOT, page
from tests.test_docs import PREFIXES

PATIENCE = 60.0
"""Seconds that a loaded machine may take for a step."""

FENCES = page("docs/quickstart.md").fences
START, ASSIGN, SUBMIT, REGISTER, RECEIVE, AGAIN, FORGE, LOOK = [text for kind, text in FENCES if kind == "sh"]
(SCRIPT,) = [text for kind, text in FENCES if kind == "python"]


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


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
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / ".venv" / "run.stamp").touch()
    return tmp_path


@pytest.mark.process
def test_the_quickstart_leads_to_a_verified_webhook(folder: Path) -> None:
    """Whoever types what stands on the page, with the key that was shown, gets a webhook and can verify it."""
    ours, theirs = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    environment |= {"RECEIVER_BIND": f"127.0.0.1:{ours}", "RECEIVER_PUBLIC_URL": f"http://127.0.0.1:{ours}"}
    service, hook = folder / "service.txt", folder / "hook.txt"

    def filled(text: str) -> str:
        """A block, with the addresses of this run."""
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{ours}").replace("127.0.0.1:3000", f"127.0.0.1:{theirs}")

    with running(START, folder, environment, service):
        key = soon(lambda: re.search(r"rk_[\w-]{43}", service.read_text()), "API key")[0]
        soon(lambda: _listens(ours), "service that listens")
        assigned = filled(ASSIGN).replace("rk_...", key)

        def typed(block: str) -> str:
            """What a block prints in the second terminal."""
            done = subprocess.run(
                ["sh", "-ec", assigned + filled(block)],
                cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True,
            )  # fmt: skip
            return done.stdout

        task: dict[str, Any] = json.loads(typed(SUBMIT))
        assert task["status"] == "succeeded"
        assert task["outputs"][0]["url"]
        assert json.loads(typed(REGISTER))["secret"].startswith("whsec_")
        (folder / "hook.py").write_text(SCRIPT.replace('"127.0.0.1", 3000', f'"127.0.0.1", {theirs}'))
        with running(RECEIVE, folder, environment, hook):
            soon(lambda: typed(FORGE).strip() == "401" if _listens(theirs) else None, "script that listens")
            sent = json.loads(typed(AGAIN))["id"]
            soon(lambda: f"verified: task.succeeded {sent}" in hook.read_text(), "verified webhook")
            assert "not verified" in hook.read_text()  # the forged one
            soon(lambda: '"status":"delivered"' in typed(LOOK).replace(" ", ""), "delivery that is done")


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_the_script_verifies_as_the_snippet_does() -> None:
    """The function in the quickstart is the one that is tested with every kind of forged request."""
    snippet = (ROOT / "docs" / "snippets" / "standard_library.py").read_text()
    assert snippet[snippet.index("def verified") :].strip() in SCRIPT
