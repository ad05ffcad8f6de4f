"""A real PostgreSQL for tests and benchmarks: a server of our own, and fresh databases on it.

``fresh_database()`` gives a database on the server that all processes of a test session share. It is
started by the first who needs it, and stopped when the process that leads the session ends, however it
ends. ``server()`` gives one that a test may restart or kill, or a benchmark may set up to its liking;
``pooler()`` puts PgBouncer before one.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

_HOME = "TESTS_POSTGRES_HOME"
_OWNER = "TESTS_POSTGRES_OWNER"
USER = "receiver"
FAST: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "shared_buffers": "64MB"}
"""For tests: nothing is to survive the machine. Benchmarks give ``{}``, and measure what users get."""
_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30
"""Bytes that must be free in memory to hold a server for tests there: on a disk a copy of a database costs far more."""

# Waits for the owner's end, by whatever cause; then the server is stopped at once and its folder taken away.
_GUARD = """
(
    while kill -0 "$1" 2>/dev/null; do [ -d "$2" ] || exit; sleep 0.5; done
    kill -QUIT "$(head -n 1 "$2/data/postmaster.pid")" 2>/dev/null
    sleep 1; rm -rf "$2"
) &
"""


def lead_session() -> None:
    """Make this process the leader of a test session: its workers share one server, which ends with it."""
    if _HOME not in os.environ:
        os.environ[_HOME] = str(_new_folder(in_memory=True))
        os.environ[_OWNER] = str(os.getpid())


def end_session() -> None:
    """Stop the session's server, if there is one and this process leads the session."""
    if os.environ.get(_OWNER) == str(os.getpid()):
        found = Server(Path(os.environ.pop(_HOME)))
        del os.environ[_OWNER]
        _shared.cache_clear()
        found.remove()


@contextlib.contextmanager
def fresh_database(template: str = "template1") -> Iterator[str]:
    """The URL of a new database on the session's server, gone after the block.

    ``template``: the name of a database to copy (tens of milliseconds); nobody may be connected to it.
    """
    url = shared().create(template)
    try:
        yield url
    finally:
        shared().drop(url)


@contextlib.contextmanager
def server(config: Mapping[str, str] = FAST) -> Iterator[Server]:
    """A server of one's own, running; gone after the block. ``config``: lines of postgresql.conf."""
    own = Server(_new_folder(in_memory=config is FAST))
    try:
        own.set_up(os.getpid(), config)
        yield own
    finally:
        own.remove()


def shared() -> Server:
    """The server of this test session, started if nobody has yet."""
    lead_session()
    return _shared(Path(os.environ[_HOME]))


@functools.cache
def _shared(home: Path) -> Server:
    found = Server(home)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.port_file.exists():
            found.set_up(int(os.environ[_OWNER]), FAST)
    return found


class Server:
    """A PostgreSQL server in a folder of its own, on a port of loopback."""

    _numbers = itertools.count()

    def __init__(self, folder: Path) -> None:
        """``folder``: where everything of it lies; see ``set_up``."""
        self.folder = folder
        self.port_file = folder / "port"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; the Unix socket in ``folder`` has the same number."""
        return int(self.port_file.read_text())

    def url(self, database: str) -> str:
        """The URL of a database, as RECEIVER_DATABASE_URL takes it."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def set_up(self, owner: int, config: Mapping[str, str]) -> None:
        """Make the data folder, start, and have it all taken away when the process ``owner`` is gone."""
        data = self.folder / "data"
        _run("initdb", "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        lines = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "500",
            "max_wal_size": "512MB",
            "log_min_messages": "fatal",
            **config,
        }
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in lines.items())
        self.start()
        guard = ["sh", "-c", _GUARD, "guard", str(owner), str(self.folder)]
        silent = subprocess.DEVNULL
        subprocess.run(guard, start_new_session=True, cwd="/", stdin=silent, stdout=silent, stderr=silent, check=True)
        self.port_file.write_text(str(port))

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._control("start", "-l", str(self.folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        """Stop. ``mode``: ``fast`` ends sessions in order, ``immediate`` is like a crash."""
        self._control("stop", "-m", mode)

    def restart(self, away: float = 0.0) -> None:
        """Stop, stay away for some seconds, and come back."""
        self.stop()
        time.sleep(away)
        self.start()

    def _control(self, act: str, *more: str) -> None:
        _run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "60", *more, act)

    def remove(self) -> None:
        """Stop and delete everything, as far as it is there."""
        if self.port_file.exists():
            with contextlib.suppress(subprocess.CalledProcessError):  # a test may have stopped it
                self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def create(self, template: str = "template1") -> str:
        """A new database, a copy of another one; its URL."""
        name = f"t{os.getpid()}_{next(self._numbers)}_{secrets.token_hex(2)}"
        self.execute(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        """Delete a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {name_of(url)} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> Sequence[tuple[Any, ...]]:
        """Run a statement outside any transaction; the rows that it gives."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else ()

    def disconnect(self, url: str, application: str = "%") -> int:
        """End sessions on a database from the server's side, as a fail-over does; how many there were.

        ``application``: a LIKE pattern of the names that they gave; ours is ``receiver@`` and the machine.
        """
        found = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{name_of(url)}' AND application_name LIKE '{application}'"
        )
        return len(found)


@contextlib.contextmanager
def pooler(behind: Server, sessions: int = 2) -> Iterator[int]:
    """PgBouncer in transaction mode before a server: its port on 127.0.0.1. ``sessions``: for each database."""
    folder = _new_folder()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={behind.port} user={USER}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = transaction\ndefault_pool_size = {sessions}\n"
    )
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    with (folder / "log").open("wb") as said:
        process = subprocess.Popen(
            [program, "-q", str(folder / "pgbouncer.ini")], stdout=said, stderr=said, cwd="/", **_as_user()
        )
    try:
        _await_port(port)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing answers at port {port}")
        time.sleep(0.02)


def name_of(url: str) -> str:
    """The database's name in a URL."""
    return url.rpartition("/")[2]


@functools.cache
def programs() -> Path:
    """The folder of the newest server's programs. FileNotFoundError when none is installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found.sort(key=lambda folder: int(folder.parent.name))
    on_path = shutil.which("initdb")
    if on_path:
        found.insert(0, Path(on_path).parent)
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed: sh tests/ensure_postgres.sh")
    return found[-1]


def _new_folder(in_memory: bool = False) -> Path:
    place = Path("/tmp")  # a short path: Unix sockets need one
    if in_memory and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
        place = _MEMORY
    folder = Path(tempfile.mkdtemp(prefix="receiver-postgres-", dir=place))
    if os.getuid() == 0:
        user = _as_user()["user"]
        os.chown(folder, user, -1)
    return folder


def _as_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as Debian's user for it, or as nobody."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("there is no user to run PostgreSQL as")


def _run(program: str, *arguments: str) -> None:
    # To a file, not to a pipe: the server keeps what it inherits open.
    with tempfile.TemporaryFile() as said:
        call = [str(programs() / program), *arguments]
        done = subprocess.run(
            call, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", check=False, **_as_user()
        )
        if done.returncode:
            said.seek(0)
            raise subprocess.CalledProcessError(done.returncode, call, said.read().decode(errors="replace"))
