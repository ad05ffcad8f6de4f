"""``receiver run``: the whole service on one machine, under one supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from prometheus_client.multiprocess import mark_process_dead

from receiver import __version__
from receiver.accounts import DEFAULT
from receiver.cli import write_the_rest
from receiver.cli.api import local_url
from receiver.cli.checks import public_url
from receiver.cli.emulation import sandbox_environment
from receiver.cli.findings import Level
from receiver.cli.orphans import stop_with_parent
from receiver.cli.ports import bindable, free_port
from receiver.cli.screen import console
from receiver.cli.service import database, ready, sandbox_settings
from receiver.cli.supervisor import Child, Supervisor
from receiver.config import Settings
from receiver.models import Scope

AFTER_SHUTDOWN = 5.0
"""Seconds beyond RECEIVER_SHUTDOWN_TIMEOUT before a child that should have stopped is killed."""
METRICS = "PROMETHEUS_MULTIPROC_DIR"


@click.command()
@click.option("--with-sandbox", is_flag=True, help="Emulate the providers while none is configured.")
def run(with_sandbox: bool) -> None:
    """The whole service on one machine: web and worker, supervised.

    Brings the schema up, starts both, and restarts what dies; SQLite is enough. The first start shows an
    API key, once. Ctrl-C or SIGTERM stops it in order; a second Ctrl-C at once.
    """
    stop_with_parent()
    settings = ready("run")
    host, port = bindable(*settings.bind)
    url = local_url(host, port)
    environment = {**os.environ, "RECEIVER_BIND": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}
    sandbox_url = None
    if with_sandbox and not settings.providers:
        sandbox_url = local_url("127.0.0.1", free_port())
        environment |= sandbox_environment(sandbox_url, url, sandbox_settings(), os.environ)
    key = _prepare(settings)
    with contextlib.suppress(OSError):  # a disk that is full, where this goes, is no reason not to serve
        _greet(settings, url, sandbox_url, key, unused_sandbox=with_sandbox and bool(settings.providers))
    with _metrics_folder(os.environ) as folder:
        environment[METRICS] = str(folder)
        supervisor = Supervisor(
            _children(environment, sandbox_url),
            patience=settings.shutdown_timeout + AFTER_SHUTDOWN,
            buried=lambda pid: mark_process_dead(pid, str(folder)),  # type: ignore[no-untyped-call]  # theirs
        )
        code = supervisor.run()
    write_the_rest()
    raise SystemExit(code)


def _children(environment: Mapping[str, str], sandbox_url: str | None) -> list[Child]:
    roles = {"web": ["web"], "worker": ["worker"]}
    if sandbox_url is not None:  # first, so that it is stopped last
        roles = {"sandbox": ["sandbox", "--port", sandbox_url.rpartition(":")[2]], **roles}
    return [
        Child(name, [sys.executable, "-m", "receiver.cli", *command], environment) for name, command in roles.items()
    ]


def _prepare(settings: Settings) -> str | None:
    """Bring the schema up; a first API key when there is none at all, else None."""
    with database(settings) as runtime:
        runtime.prepare()
        if runtime.accounts.has_keys():
            return None
        return runtime.accounts.create_key(DEFAULT, "from the first start", [Scope.MANAGE])[1]


def _greet(settings: Settings, url: str, sandbox_url: str | None, key: str | None, *, unused_sandbox: bool) -> None:
    """Say where everything is, and how to begin."""
    screen = console()
    screen.print(f"Callback Receiver {__version__}\n", style="bold")
    lines = {
        "dashboard": f"{url}/",
        "API": f"{url}/v1",
        "docs": f"{url}/docs",
        "providers": ", ".join(settings.providers) or "none configured",
    }
    if sandbox_url is not None:
        lines["providers"] = f"emulated by the sandbox at {sandbox_url}/: nothing is bought, results are samples"
        if not os.environ.get("RECEIVER_ALLOWED_NETWORKS"):
            lines["webhooks"] = "may go to this machine (127.0.0.0/8, ::1), for trying out; public addresses as always"
    if unused_sandbox:
        lines["sandbox"] = "not started, because providers are configured"
    if key is not None:
        lines["API key"] = f"{key}   (shown this once: keep it)"
    for name, value in lines.items():
        screen.print(f"  {name:<10} {value}")
    if key is None:
        screen.print("\nAPI keys: `receiver keys list`, `receiver keys create`.")
    else:
        screen.print("\nBegin with:\n")
        screen.print(f"  {first_call(url, key, sandboxed=sandbox_url is not None)}")
    for finding in public_url(settings) if sandbox_url is None else ():
        if finding.level is not Level.OK:
            screen.print(f"\n{finding.level}: {finding.text}\n  → {finding.mend}", style="yellow")
    if not settings.providers and sandbox_url is None:
        screen.print(
            "\nNo provider has credentials yet: `receiver check` says what to set; --with-sandbox emulates them."
        )
    screen.print("\nCtrl-C stops it.\n")


def first_call(url: str, key: str, *, sandboxed: bool) -> str:
    """A first curl. With real providers it only reads, so that it buys nothing."""
    if not sandboxed:
        return f"curl -H 'Authorization: Bearer {key}' {url}/v1/providers"
    task = {
        "provider": "superapp",
        "operation": "text2image",
        "input": {"inputText": "a lighthouse at dawn", "width": 1024, "height": 1024},
    }
    return (
        f"curl -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -H 'Prefer: wait=30' \\\n"
        f"    {url}/v1/tasks -d '{json.dumps(task)}'"
    )


@contextmanager
def _metrics_folder(environ: Mapping[str, str]) -> Iterator[Path]:
    """An empty folder in which the processes share their counters; a chosen one is emptied and kept."""
    chosen = environ.get(METRICS)
    if chosen:
        folder = Path(chosen)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.db"):
            old.unlink()
        yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix="receiver-metrics-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
