"""The wheel holds everything: built here, it runs elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import receiver, handlers, pathlib, sys
from receiver.config import read_settings
from receiver.runtime import Runtime
from receiver.web import create_app
folder = pathlib.Path(sys.argv[1])
assert folder in pathlib.Path(receiver.__file__).parents, receiver.__file__
assert folder in pathlib.Path(handlers.__file__).parents, handlers.__file__
runtime = Runtime.build(read_settings())
runtime.prepare()
assert runtime.store.schema_is_current()
client = create_app(runtime).test_client()
files = ("/docs", "/openapi.json", "/static/swagger-ui.css", "/assets/dashboard.css", "/assets/vendor/htmx.min.js")
for path in (*files, "/sign-in", "/healthz"):
    answer = client.get(path)
    assert answer.status_code == 200, (path, answer.status_code)
    assert answer.data
from receiver.web.dashboard.verify import snippets
assert all("verified" in text.lower() for *_, text in snippets())
from receiver.sandbox import SandboxSettings, create_sandbox
assert create_sandbox(SandboxSettings()).test_client().get("/_sandbox/").status_code == 200
print("runs")
"""


@pytest.mark.process
def test_wheel_runs_elsewhere(tmp_path: Path) -> None:
    """Migrations, static files and the sandbox's samples are in the wheel, and work far from the checkout."""
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    elsewhere = tmp_path / "elsewhere"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-warn-conflicts", "--target", str(elsewhere), str(wheel)], check=True
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RECEIVER_")},
        "PYTHONPATH": str(elsewhere),
        "RECEIVER_DATABASE_URL": f"sqlite:///{tmp_path}/wheel.db",
    }
    ran = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(elsewhere)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.strip().endswith("runs"), ran.stderr
