"""The systemd units and nginx's files, read by systemd and nginx themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = [DEPLOY / "receiver.service", *sorted((DEPLOY / "systemd").iterdir())]
HARDENED = ("NoNewPrivileges=true", "ProtectSystem=strict", "ProtectHome=true", "PrivateTmp=true",
            "CapabilityBoundingSet=", "SystemCallFilter=@system-service", "UMask=0077")  # fmt: skip


def test_every_service_is_hardened_alike() -> None:
    """None of them runs as root, or with a right that it does not need; all stop later than the service itself."""
    for unit in UNITS:
        lines = unit.read_text().splitlines()
        if unit.suffix == ".service":
            assert "User=receiver" in lines
            assert not [line for line in HARDENED if line not in lines], unit.name
        stop = re.search(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
        assert stop is None or int(stop[1]) > 30


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """No unknown line, no unit that is required and not there (where systemd is on the machine)."""
    for unit in UNITS:
        text = unit.read_text().replace("/opt/callback-receiver/.venv/bin/receiver", "/bin/true")
        # the user and the documentation are not on this machine
        text = re.sub(r"^(User|Group|Documentation)=.*\n", "", text, flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)
    tool = shutil.which("systemd-analyze")
    if tool is None:
        for unit in UNITS:  # what can be said without it: sections and lines are well formed
            for line in unit.read_text().splitlines():
                assert re.fullmatch(r"#.*|\[\w+\]|[A-Za-z]+=.*|", line), f"{unit.name}: {line}"
        return
    names = [
        str(tmp_path / name)
        for name in ("receiver.service", "receiver.target", "receiver-migrate.service", "receiver-web@8001.service",
                     "receiver-worker@9464.service")
    ]  # fmt: skip
    for instance in ("web@8001", "worker@9464"):
        template = tmp_path / f"receiver-{instance.partition('@')[0]}@.service"
        (tmp_path / f"receiver-{instance}.service").symlink_to(template)
    done = subprocess.run([tool, "verify", *names], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "receiver" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def places(name: str) -> dict[str, list[str]]:
    """What each location of an nginx file says; ``server``: the lines outside of locations that limit clients."""
    text = re.sub(r"#.*", "", (DEPLOY / name).read_text())
    found = {
        where.strip(): sorted(re.findall(r"[^;{}]+;", body))
        for where, body in re.findall(r"location ([^{]+){([^}]*)}", text)
    }
    limits = re.findall(r"^    ((?:client|send|reset|proxy_read|proxy_http)\w*\s[^;]*;)", text, re.MULTILINE)
    return {where: [" ".join(line.split()) for line in lines] for where, lines in (found | {"server": limits}).items()}


def test_nginx_limits_clients_the_same_in_both_files() -> None:
    """With and without containers the same bodies, waits and closed paths."""
    assert places("nginx.conf") == places("nginx.compose.conf")


@pytest.mark.parametrize("name", ["nginx.compose.conf"])
def test_nginx_takes_the_file(tmp_path: Path, name: str) -> None:
    """Nginx's own parser reads it (where nginx is on the machine; the other file is run for real elsewhere)."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
    text = (DEPLOY / name).read_text()
    assert text.count("{") == text.count("}")
    if nginx is None:
        return
    for old, new in (
        ("server web:8000", "server 127.0.0.1:9"),
        ("listen 80", "listen 127.0.0.1:18080"),
        ("/var/log/nginx/access.log", f"{tmp_path}/access.log"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "site.conf").write_text(text)
    main = tmp_path / "nginx.conf"
    main.write_text(f"pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}} http {{ include site.conf; }}")
    done = subprocess.run(
        [nginx, "-t", "-c", str(main), "-p", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
