"""The story of a web that is reloaded under load."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from tests.story.system import ROOT, free_port

pytestmark = pytest.mark.process
KEY = "rk_story_of_a_reload_0123456789"


def test_a_reload_under_load_loses_nothing(tmp_path: Path) -> None:
    """Told to reload twice: every request is answered, and what was accepted is stored."""
    url = f"http://127.0.0.1:{free_port()}"
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RECEIVER_")}
    environment = {
        **bare,
        "PYTHONPATH": str(ROOT),
        "RECEIVER_DATABASE_URL": f"sqlite:///{tmp_path}/receiver.db",
        "RECEIVER_API_KEY": KEY,
        "RECEIVER_BIND": url.removeprefix("http://"),
        "RECEIVER_REQUEST_RATE": "0",
        "SUPERAPP_ACCESS_KEY": "ak-demo",
        "SUPERAPP_SECRET_KEY": "sk-demo",
    }
    subprocess.run([sys.executable, "-m", "receiver.cli", "migrate"], env=environment, cwd=tmp_path, check=True)
    program = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "deploy" / "gunicorn.conf.py"), "wsgi:app"]
    with (tmp_path / "log").open("wb") as log:
        web = subprocess.Popen(program, env=environment, cwd=ROOT, stdout=log, stderr=log)
    answers: list[int | str] = []
    over = threading.Event()

    def ask() -> None:
        body = {"provider": "superapp", "operation": "text2image",
                "input": {"inputText": "a boat", "width": 512, "height": 512}}  # fmt: skip
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {KEY}"
            while not over.is_set():
                try:
                    answers.append(session.post(f"{url}/v1/tasks", json=body, timeout=20).status_code)
                except requests.RequestException as error:
                    answers.append(repr(error))
                over.wait(0.02)

    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                assert requests.get(f"{url}/healthz", timeout=5).status_code == 200
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.1)
        callers = [threading.Thread(target=ask) for _ in range(3)]
        for caller in callers:
            caller.start()
        for _ in range(2):
            time.sleep(2.5)
            web.send_signal(signal.SIGHUP)
        time.sleep(3)
        over.set()
        for caller in callers:
            caller.join()
    finally:
        over.set()
        web.terminate()
        assert web.wait(40) == 0
    assert set(answers) == {202}
    with sqlite3.connect(tmp_path / "receiver.db") as connection:
        (stored,) = connection.execute("SELECT count(*) FROM tasks").fetchone()
    connection.close()
    assert stored == len(answers)
