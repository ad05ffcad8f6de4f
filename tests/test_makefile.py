"""``make run`` and ``make demo`` on a stranger's machine: which Python is taken, and what is told without one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.markdown import ROOT

OLD = "#!/bin/sh\nexit 1\n"
"""A Python that is none of ours: it says no when asked for its version."""
NEW = """#!/bin/sh
test "$1" = -m || exit 0
for last; do :; done
echo "made $*"
mkdir -p "$last/bin"
printf '#!/bin/sh\\n' | tee "$last/bin/python" "$last/bin/pip" "$last/bin/receiver" >"$last/pyvenv.cfg"
chmod +x "$last"/bin/*
"""
"""One that is, and makes an environment whose programs do nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what the target reads, with both Pythons beside it."""
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for name, text in (("old", OLD), ("new", NEW)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def make(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    """``make demo`` with one of the two."""
    command = ["make", "demo", f"PYTHON=./{python}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.process
def test_too_old_a_python_is_told_before_anything_is_made(folder: Path) -> None:
    """The version that is needed, and how to name a Python that has it."""
    result = make(folder, "old")
    assert result.returncode != 0
    assert "Python 3.11 or newer is needed, and ./old is none. Name one: make demo PYTHON=" in result.stderr
    assert not (folder / ".venv").exists()


@pytest.mark.process
@pytest.mark.parametrize("left", ["python of an old one", "no pip"])
def test_a_half_made_environment_is_made_anew(folder: Path, left: str) -> None:
    """What a first try with another Python, or without its venv, has left does not stop the second."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "pyvenv.cfg").touch()
    shutil.copy(folder / ("new" if left == "no pip" else "old"), folder / ".venv" / "bin" / "python")
    if left != "no pip":
        shutil.copy(folder / "old", folder / ".venv" / "bin" / "pip")
    result = make(folder, "new")
    assert result.returncode == 0, result.stderr
    assert "made -m venv --clear .venv" in result.stdout


@pytest.mark.process
def test_an_environment_that_fits_is_kept(folder: Path) -> None:
    """It stays whatever Python comes first today; nothing outside an environment is ever cleared."""
    assert "made -m venv .venv" in make(folder, "new").stdout
    (folder / "setup.cfg").touch()
    result = make(folder, "old")
    assert result.returncode == 0, result.stderr
    assert "made" not in result.stdout
