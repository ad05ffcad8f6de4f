"""What a PostgreSQL server says of itself, and what there keeps a user from what the service needs. SQLite has none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from receiver.store import dialect
from receiver.store.schema import metadata

_USER = """
SELECT current_user::text, current_schema()::text, current_setting('search_path'), current_setting('server_encoding'),
    has_schema_privilege(current_schema(), 'CREATE'),
    (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('alembic_version'))
"""
_REFUSES = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'"
_SHUT = """
SELECT relname::text FROM pg_class
WHERE oid = ANY(SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)
    AND NOT CASE WHEN relkind = 'S'
        THEN has_sequence_privilege(oid, 'USAGE') AND has_sequence_privilege(oid, 'SELECT')
        ELSE has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
            AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE') END ORDER BY 1
"""
_HOLDS_ALL = ("UTF8", "SQL_ASCII")
"""Encodings of a database that take every text: the second one keeps bytes as they come, and ours are UTF-8."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a database server says of itself. ``connections``: in use now, of all databases."""

    version: int
    connections: int
    most_connections: int


@dataclass(frozen=True, slots=True)
class Hindrance:
    """What keeps the service from its work until somebody changes it: what it is, and how to. Whole sentences."""

    text: str
    mend: str


def server_of(connection: Connection) -> Server | None:
    """The server behind a connection, or None."""
    if dialect.kind_of(connection) != "postgresql":
        return None
    row = connection.exec_driver_sql(
        "SELECT current_setting('server_version_num')::int / 10000, (SELECT count(*) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend'), current_setting('max_connections')::int"
    ).one()
    return Server(*row)


def hinders_migration(connection: Connection) -> Hindrance | None:
    """What keeps this user from bringing the schema up, for good."""
    if dialect.kind_of(connection) != "postgresql":
        return None
    user, schema, path, encoding, may_create, owns = connection.exec_driver_sql(_USER).one()
    if encoding not in _HOLDS_ALL:
        mend = "Make the database anew: CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8'."
        return Hindrance(f"The database's encoding {encoding} does not hold every text.", mend)
    if schema is None:
        mend = f'Make one for it: CREATE SCHEMA … AUTHORIZATION "{user}"; or give the user another search_path.'
        return Hindrance(f"None of the schemas in the search_path of the user {user} is there: {path}.", mend)
    if not may_create:
        mend = (
            f'Let it: GRANT USAGE, CREATE ON SCHEMA "{schema}" TO "{user}"; or run `receiver migrate` as one who may.'
        )
        return Hindrance(f"The user {user} may make no tables in the schema {schema}.", mend)
    if owns is False:
        return Hindrance(f"The tables do not belong to the user {user}.", "Run `receiver migrate` as the one they do.")
    return None


def hinders_work(connection: Connection) -> Iterator[Hindrance]:
    """What keeps this user from work on a schema that is up to date."""
    if dialect.kind_of(connection) != "postgresql":
        return
    standby, read_only = connection.exec_driver_sql(_REFUSES).one()
    if standby:
        mend = "Name the primary in RECEIVER_DATABASE_URL, or all servers with target_session_attrs=read-write."
        yield Hindrance("The server is a standby: it takes no writes.", mend)
    elif read_only:
        yield Hindrance(
            "It takes no writes.", "Set default_transaction_read_only to off for the user and the database."
        )
    names = [*metadata.tables, *(f"{table.name}_seq_seq" for table in metadata.tables.values() if "seq" in table.c)]
    shut = connection.exec_driver_sql(_SHUT, (names,)).scalars().all()
    if shut:
        user, schema = connection.exec_driver_sql("SELECT current_user::text, current_schema()::text").one()
        of = f'IN SCHEMA "{schema}" TO "{user}"'
        yield Hindrance(
            f"The user {user} may not use {', '.join(shut)} as the service has to.",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES {of}; GRANT USAGE, SELECT ON ALL SEQUENCES {of}.",
        )
