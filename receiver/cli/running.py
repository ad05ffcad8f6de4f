"""What `receiver check` sees in a database that is in use: the server's limits, and whether a worker lives."""

from __future__ import annotations

from collections.abc import Iterator

from receiver.cli.findings import Finding, Level
from receiver.config import Settings
from receiver.runtime import wall_clock
from receiver.stats import WORKER_SEEN
from receiver.store import Store, pacing
from receiver.store.server import hinders_work, server_of

OLDEST = 15
"""The oldest version of PostgreSQL that the service is made for."""


def workers(store: Store) -> Iterator[Finding]:
    """When a worker was last seen, by the clock of this machine. Raises Busy."""
    with store.read() as connection:
        seen = pacing.last_beat(connection)
    age = None if seen is None else max(0, wall_clock() - seen)
    if age is None:
        yield Finding(Level.OK, "worker", "none runs now")
    elif age <= WORKER_SEEN:
        yield Finding(Level.OK, "worker", f"seen {age / 1000:.0f} s ago")
    else:
        yield Finding(
            Level.WARNING,
            "worker",
            f"none was seen for {age / 1000:.0f} s, and the last one did not stop in order.",
            "See in its log why it ended, and start `receiver run` or `receiver worker`.",
        )


def server(store: Store, settings: Settings) -> Iterator[Finding]:
    """Rights, version and free connections at a PostgreSQL server; nothing for SQLite. Raises Busy."""
    with store.read() as connection:
        found, hindrances = server_of(connection), list(hinders_work(connection))
    if found is None:
        return
    for each in hindrances:
        yield Finding(Level.PROBLEM, "database", each.text, each.mend)
    if found.version < OLDEST:
        yield Finding(
            Level.WARNING,
            "database",
            f"PostgreSQL {found.version} is older than {OLDEST}, the oldest with which this service is tested.",
            "Move to a newer version.",
        )
    here = (settings.web_processes + 1) * (settings.database_pool + 1)
    room = found.most_connections - found.connections
    told = (
        f"PostgreSQL {found.version}; {found.connections} of {found.most_connections} connections in use, "
        f"web and worker of this machine may take {here}"
    )
    if here > found.most_connections:
        yield Finding(
            Level.PROBLEM,
            "database",
            f"{told}.",
            "Raise max_connections, put a pooler before the database, or lower RECEIVER_DATABASE_POOL.",
        )
    elif here > room:
        yield Finding(
            Level.WARNING,
            "database",
            f"{told}: too few are free, unless those in use are its own.",
            "Add up all machines; raise max_connections, or lower RECEIVER_DATABASE_POOL.",
        )
    else:
        yield Finding(Level.OK, "database", told)
