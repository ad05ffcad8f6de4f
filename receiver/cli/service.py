"""The parts of the service, each as a process of its own; and the schema."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver import logs
from receiver.cli.orphans import stop_with_parent
from receiver.cli.ports import bindable
from receiver.cli.progress import progress
from receiver.config import Settings, read_settings
from receiver.errors import Conflict
from receiver.runtime import Runtime, with_secret_keys
from receiver.store.places import database_folder, is_foreign, place_of

if TYPE_CHECKING:
    from receiver.sandbox import SandboxSettings


@click.command()
def web() -> None:
    """The HTTP side alone: API, callbacks, health and metrics.

    Any number of these may run, on any number of machines with PostgreSQL. Needs `receiver worker`
    beside it, and a schema that is up to date (`receiver migrate`).
    """
    stop_with_parent()
    settings = with_secret_keys(ready("web"))  # here, where what is wrong with them is told plainly
    from receiver.web.server import serve  # late: gunicorn sets up signals and more when it is loaded

    me = os.getpid()
    try:
        serve(settings)
    except SystemExit as end:
        if end.code == 1 and os.getpid() == me:  # gunicorn tries an address for seconds, and does not say what to do
            bindable(*settings.bind)
        raise


@click.command()
def worker() -> None:
    """The working side alone: submits, polls, delivers, cleans up.

    Any number of these may run, on any number of machines with PostgreSQL. Brings the schema up first.
    """
    stop_with_parent()
    settings = ready("worker")
    from receiver.worker import serve  # late: only this command needs it

    with database(settings):
        pass  # it answers: what follows is not about the settings any more
    serve(settings)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=9100, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
def sandbox(host: str, port: int) -> None:
    """A local emulator of all providers, with faults on demand.

    Needs no account and no money. Its own page (the address that it prints) shows what it was asked and how
    to make it fail. Settings are variables that begin with SANDBOX_, e.g. SANDBOX_DURATION=10. To use it,
    set <PROVIDER>_BASE_URL to its address with the provider's name behind it; `receiver run --with-sandbox`
    does all that by itself.
    """
    stop_with_parent()
    logging.basicConfig(level=logging.WARNING, format="sandbox: %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the sandbox ends in peace on Ctrl-C: on both
    settings = sandbox_settings()
    from receiver.sandbox import serve  # late: only this command needs it

    try:
        serve(settings, host, port, ready=lambda url: click.echo(f"Sandbox at {url}"))
    except OSError as error:
        raise click.ClickException(
            f"The sandbox cannot listen at {host}:{port}: {error.strerror}. Choose another --port, or 0 for a free one."
        ) from None


@click.command()
def migrate() -> None:
    """Bring the database's schema up to this version.

    Also makes the account `default`. Safe to repeat, and while the service runs. `receiver run` and
    `receiver worker` do it at their start.
    """
    with database(ready("migrate")) as runtime:
        current = runtime.store.schema_is_current()
        with progress("Bringing the schema up", None):
            runtime.prepare()
    click.echo("The schema was up to date." if current else "The schema is up to date now.")


def ready(role: str) -> Settings:
    """The settings, with logging set up by them. Raises SettingsError."""
    settings = read_settings()
    logs.set_up(settings.log_format, settings.log_level, role)
    return settings


@contextmanager
def database(settings: Settings) -> Iterator[Runtime]:
    """The services on the database of these settings. Raises Busy unless it answers, Conflict if it is none."""
    if database_folder(settings.database_url) is not None and is_foreign(file := Path(place_of(settings.database_url))):
        raise Conflict(f"{file} is there, and is not an SQLite database; `receiver check` says more.")
    runtime = Runtime.build(settings)
    try:
        runtime.store.ping()
        yield runtime
    finally:
        runtime.close()


def sandbox_settings() -> SandboxSettings:
    """The sandbox's settings from the environment; what is wrong with them ends the command."""
    from receiver.sandbox import SandboxSettings  # late: most starts have no sandbox

    try:
        return SandboxSettings.from_environment(os.environ)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
