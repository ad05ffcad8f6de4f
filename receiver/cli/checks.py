"""What can be wrong with a service's settings and surroundings, and how each thing is mended.

Checks only look: they make no file, no table and no key, and call nobody unless asked to.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import handlers
from receiver.cli.findings import Finding, Level
from receiver.cli.reseal import seals_of
from receiver.cli.running import server, workers
from receiver.config import SETTINGS, Settings, read_settings
from receiver.errors import Busy, SettingsError
from receiver.runtime import KEY_LOST, NO_LIBRARY
from receiver.sealing import MAKE_ONE, parse_secret_keys
from receiver.store import Store
from receiver.store.places import database_folder, is_foreign, is_in_use, place_of
from receiver.store.server import hinders_migration

LEAST_DISK = 200 * 1024 * 1024
"""Bytes that must be free on the disk of the database."""
LITTLE_DISK = 1024 * 1024 * 1024
"""Bytes; less than that may soon be too little."""
BUILT_AFTER = 1_735_689_600
"""2025-01-01 in epoch seconds: a clock that shows an earlier time was never set."""

_OTHERS = ("RECEIVER_URL", "RECEIVER_PARENT_PID", "RECEIVER_FAULT_POINT")
"""Variables that are no settings of the service: of the command line, and of child processes."""
_OF_KUBERNETES = re.compile(r"\w+_SERVICE_(HOST|PORT\w*)|\w+_PORT(_\d+_\w+)?")
"""What a pod is told of a Service that is called receiver."""
_SYNTAX = re.compile(r"""^\s*(["']).*\1\s*$|\s#""")
"""Quotes, which Docker and Kubernetes do not take off a line of a file, and comments, which systemd does not either."""


def check_all(*, online: bool = False) -> list[Finding]:
    """Everything, in the order in which it is mended. ``online``: also call the public URL and the providers.

    Settings that cannot be read end the check, since all else depends on them.
    """
    mistyped = list(strays(os.environ))
    try:
        settings = read_settings()
    except SettingsError as error:
        problems = error.problems
        return [
            *mistyped,
            *(Finding(Level.PROBLEM, "settings", problem, "Correct it and check again.") for problem in problems),
        ]
    found = [
        Finding(Level.OK, "settings", "all settings can be read and go together"),
        *mistyped,
        *public_url(settings),
        *secret_keys(settings),
        *providers(settings),
        *database(settings),
        *clock(time.time()),
    ]
    if online:
        from receiver.cli.reachable import providers_online, public_url_online  # late: most checks stay at home

        found += [*public_url_online(settings), *providers_online(settings)]
    return found


def strays(environment: Mapping[str, str]) -> Iterator[Finding]:
    """A warning for each name that is probably mistyped, and each value with what belongs to a file's syntax."""
    known = {setting.name for setting in SETTINGS} | {
        handlers.variable_of(name, option)
        for name in handlers.available()
        for option in handlers.options_of(handlers.find(name))
    }
    known |= {f"{name}_FILE" for name in known} | set(_OTHERS)
    ours = ("RECEIVER_", *(f"{name.upper()}_" for name in handlers.available()))
    for name in sorted(environment):
        if name in known and _SYNTAX.search(environment[name]):
            text = f"{name} has quotes around its value, or a comment behind it: they are taken as part of it."
            yield Finding(Level.WARNING, "settings", text, "Take them away, unless they belong to the value.")
        elif name.startswith(ours) and name not in known and not _OF_KUBERNETES.fullmatch(name):
            meant = difflib.get_close_matches(name, known, 1)
            mend = f"Did you mean {meant[0]}?" if meant else "Take it away, or see docs/settings.md for the names."
            yield Finding(Level.WARNING, "settings", f"{name} is set, and no setting has that name.", mend)


def public_url(settings: Settings) -> Iterator[Finding]:
    """Whether providers can call the callback URLs that begin with RECEIVER_PUBLIC_URL."""
    about, url = "public URL", settings.public_url
    parts = urlsplit(url)
    callers = _real_callers(settings)
    if not callers:
        yield Finding(Level.OK, about, f"{url}; no provider that calls back from outside is configured")
        if _is_local(parts.hostname or "") and parts.port != settings.bind[1] and settings.providers:
            yield Finding(
                Level.WARNING,
                about,
                f"{url} is not where the service listens (port {settings.bind[1]}).",
                "Set RECEIVER_PUBLIC_URL to the address that RECEIVER_BIND listens at, or to that of the "
                "proxy before it.",
            )
    elif _is_local(parts.hostname or ""):
        yield Finding(
            Level.PROBLEM,
            about,
            f"{url} is this machine alone: {', '.join(callers)} cannot call back. "
            "Tasks still end, but only when they are asked about.",
            "Set RECEIVER_PUBLIC_URL to an https address of this service that the internet can reach.",
        )
    elif _is_private(parts.hostname or ""):
        yield Finding(
            Level.PROBLEM,
            about,
            f"{url} is a private address: {', '.join(callers)} cannot call back.",
            "Set RECEIVER_PUBLIC_URL to an https address of this service that the internet can reach.",
        )
    elif parts.scheme == "http":
        yield Finding(
            Level.WARNING,
            about,
            f"{url} is not encrypted: anybody on the way can read callbacks.",
            "Put a proxy with a certificate before the service and begin RECEIVER_PUBLIC_URL with https://.",
        )
    else:
        yield Finding(Level.OK, about, url)


def _real_callers(settings: Settings) -> list[str]:
    """Titles of configured providers that call back, and are not played by something on this machine."""
    return [
        handlers.find(name).title
        for name, given in settings.providers.items()
        if handlers.find(name).callbacks is not handlers.Callbacks.NONE
        and not _is_local(urlsplit(given.get("base_url", "")).hostname or "")
    ]


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_private(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan", ".home.arpa"))


def secret_keys(settings: Settings) -> Iterator[Finding]:
    """Where the keys come from that sign callback URLs and seal secrets, and who may read them."""
    about = "secrets"
    path = os.environ.get("RECEIVER_SECRET_KEYS_FILE")
    folder = database_folder(settings.database_url)
    if settings.secret_keys and not path:
        count = len(settings.secret_keys)
        yield Finding(Level.OK, about, f"RECEIVER_SECRET_KEYS holds {count} key{'s' if count > 1 else ''}")
        return
    file = Path(path) if path else (folder / "secret_key" if folder else None)
    if file is None:
        yield Finding(
            Level.PROBLEM,
            about,
            "RECEIVER_SECRET_KEYS is not set, and the database is not a file beside which one could be kept.",
            f"Make one: {MAKE_ONE}",
        )
    elif not file.exists() and is_in_use(settings.database_url):
        yield Finding(Level.PROBLEM, about, f"the key file {file} is missing.", KEY_LOST)
    elif not file.exists():
        yield Finding(Level.OK, about, f"a key will be made in {file} at the first start")
    else:
        yield from _key_file(file, generated=not path)


def _key_file(file: Path, *, generated: bool) -> Iterator[Finding]:
    try:
        parse_secret_keys(file.read_text().strip())
        mode = stat.S_IMODE(file.stat().st_mode)
    except (OSError, ValueError) as error:
        yield Finding(
            Level.PROBLEM,
            "secrets",
            f"the key file {file} cannot be used: {error}",
            "Put the right file back; a new key would make stored secrets and open callbacks useless.",
        )
        return
    if mode & 0o077:
        yield Finding(
            Level.PROBLEM,
            "secrets",
            f"others may read the key file {file} (mode {mode:o}).",
            f"chmod 600 {file}; if others were there, make a new key and keep the old one behind it.",
        )
    elif generated:
        yield Finding(Level.OK, "secrets", f"the key in {file}; back it up, apart from the database")
    else:
        yield Finding(Level.OK, "secrets", f"the key in {file}")


def providers(settings: Settings) -> Iterator[Finding]:
    """Which providers have credentials."""
    for name in handlers.available():
        handler = handlers.find(name)
        if name in settings.providers:
            base = settings.providers[name].get("base_url", handler.base_url)
            yield Finding(Level.OK, name, f"{handler.title} is configured, at {base}")
        else:
            missing = ", ".join(handlers.missing_credentials(handler, {}))
            yield Finding(Level.OK, name, f"{handler.title} is off; {missing} would turn it on")
    if not settings.providers:
        yield Finding(
            Level.WARNING,
            "providers",
            "no provider has credentials, so no task can be submitted.",
            "Set those of at least one, or start with `receiver run --with-sandbox`.",
        )


def database(settings: Settings) -> Iterator[Finding]:
    """Whether the database can be reached and written to, and has this version's schema."""
    folder = database_folder(settings.database_url)
    if folder is not None:
        file = Path(place_of(settings.database_url))
        troubles = [*_disk(folder), *_writable(folder, file)]
        yield from troubles
        if any(trouble.level is Level.PROBLEM for trouble in troubles):
            return
        if not file.exists():
            yield Finding(Level.OK, "database", f"{file} will be made at the first start")
            return
    yield from _schema(settings)


def _schema(settings: Settings) -> Iterator[Finding]:
    url = settings.database_url
    if url.startswith("postgresql") and "connect_timeout=" not in url:
        url += ("&" if "?" in url else "?") + "connect_timeout=5"
    try:
        store = Store(url)
    except ImportError as error:
        yield Finding(Level.PROBLEM, "database", f"{error}.", NO_LIBRARY)
        return
    except ValueError as error:
        yield Finding(Level.PROBLEM, "database", f"RECEIVER_DATABASE_URL cannot be used: {error}", "Correct it.")
        return
    try:
        store.ping()
        if store.schema_is_current():
            yield Finding(Level.OK, "database", "reachable, and its schema is up to date")
            yield from _seals(settings, store)
            yield from server(store, settings)
            yield from workers(store)
        else:
            yield from _behind(store)
    except Busy as error:
        mend = "See that the database runs, and that host, name, user and password in RECEIVER_DATABASE_URL are right."
        if "too many c" in error.detail:  # the server's words: too many connections, too many clients
            mend = "Raise the limit, put a pooler before the database, or lower RECEIVER_DATABASE_POOL on all machines."
        if not url.startswith("postgresql"):
            mend = "See that the disk works, that the file is whole, and that no other program holds it (`fuser FILE`)."
        yield Finding(Level.PROBLEM, "database", error.detail, mend)
    finally:
        store.close()


def _behind(store: Store) -> Iterator[Finding]:
    with store.read() as connection:
        found = hinders_migration(connection)
    if found is not None:
        yield Finding(Level.PROBLEM, "database", f"its schema cannot be brought up. {found.text}", found.mend)
        return
    yield Finding(
        Level.WARNING,
        "database",
        "reachable, but its schema is not that of this version.",
        "`receiver migrate` brings it up; `receiver run` and `receiver worker` do so by themselves.",
    )


def _seals(settings: Settings, store: Store) -> Iterator[Finding]:
    """Whether the keys at hand open what is stored; nothing when a key file is a problem by itself."""
    keys, folder = settings.secret_keys, database_folder(settings.database_url)
    try:
        if not keys and folder is not None and (folder / "secret_key").exists():
            keys = parse_secret_keys((folder / "secret_key").read_text().strip())
    except (OSError, ValueError):
        return
    yield from seals_of(store, keys)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _writable(folder: Path, file: Path) -> Iterator[Finding]:
    present = _nearest(folder)
    if not os.access(present, os.W_OK | os.X_OK):
        yield Finding(
            Level.PROBLEM,
            "database",
            f"no file can be made in {present}.",
            "Give this user the right to write there, or set RECEIVER_DATABASE_URL to another place.",
        )
    elif file.is_dir() or is_foreign(file):
        yield Finding(
            Level.PROBLEM,
            "database",
            f"{file} is there, and is not an SQLite database.",
            "Move it away, or set RECEIVER_DATABASE_URL to another file.",
        )
    else:
        for each in (file.with_name(f"{file.name}{end}") for end in ("", "-wal", "-shm")):
            if each.exists() and not os.access(each, os.R_OK | os.W_OK):
                yield Finding(
                    Level.PROBLEM,
                    "database",
                    f"{each} cannot be written to.",
                    "Give this user the right to write to the database's file and to those beside it.",
                )


def _disk(folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(_nearest(folder)).free
    shown = f"{free / 1024 / 1024:,.0f} MiB are free on the disk of {folder}"
    if free < LEAST_DISK:
        yield Finding(Level.PROBLEM, "disk", f"only {shown}.", "Make room: a full disk stops all tasks and deliveries.")
    elif free < LITTLE_DISK:
        yield Finding(Level.WARNING, "disk", f"{shown}.", "Make room soon, or lower RECEIVER_RETENTION_DAYS.")


def clock(now_s: float, tick: Callable[[], float] = time.monotonic) -> Iterator[Finding]:
    """Whether the clock can be right, as far as this machine can tell. ``now_s``: epoch seconds."""
    if now_s < BUILT_AFTER:
        yield Finding(
            Level.PROBLEM,
            "clock",
            f"this machine believes it is {time.strftime('%Y-%m-%d', time.gmtime(now_s))}: signatures will be refused.",
            "Set the clock; let NTP keep it.",
        )
    elif tick() > tick():
        yield Finding(Level.PROBLEM, "clock", "this machine's steady clock runs backwards.", "Restart the machine.")
    else:
        yield Finding(Level.OK, "clock", f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now_s))} UTC")
