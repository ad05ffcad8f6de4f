"""API keys, straight in the database: the way in before any key exists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from receiver.accounts import DEFAULT
from receiver.cli.mistyped import Group
from receiver.cli.screen import Column, console, show_facts, show_table, when, word
from receiver.cli.service import database, ready
from receiver.errors import Conflict
from receiver.events import rfc3339
from receiver.models import ApiKey, Scope
from receiver.runtime import Runtime
from receiver.store.places import database_file


@click.group(cls=Group)
def keys() -> None:
    """API keys of an account. Works on the database of the settings, without the running service."""


@keys.command()
@click.option("--account", default=DEFAULT, show_default=True, help="Whose key; a new name makes a new account.")
@click.option("--name", default="", help="What it is for; shown in the list.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="submit: tasks and uploads. read: reading. manage: everything (when left out). May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def create(account: str, name: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Make a key and show it, this once."""
    with present_schema() as runtime:
        key, text = runtime.accounts.create_key(account, name, scopes or [Scope.MANAGE])
    if as_json:
        click.echo(json.dumps({**_as_json(key), "key": text}))
        return
    show_facts({"id": key.id, "account": account, "may": _scopes(key), "key": text})
    console().print("The key is shown this once: keep it.")


@keys.command("list")
@click.option("--account", default=DEFAULT, show_default=True, help="Whose keys.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_all(account: str, as_json: bool) -> None:
    """List keys, revoked ones too; only how they begin is known."""
    with present_schema() as runtime:
        found = runtime.accounts.list_keys(account)
    if as_json:
        click.echo(json.dumps({"data": [_as_json(key) for key in found]}))
        return
    rows = [
        [
            key.id,
            key.prefix,
            key.name,
            _scopes(key),
            when(rfc3339(key.created_at)),
            when(rfc3339(key.last_used_at)),
            word("ok" if key.revoked_at is None else "revoked"),
        ]
        for key in found
    ]
    columns = [
        Column("id"),
        Column("begins", drop=3),
        Column("name", drop=5, long=True),
        Column("may", drop=4, long=True),
        Column("created", drop=1),
        Column("last used", drop=2),
        Column("state"),
    ]
    show_table(columns, rows, f"The account {account} has no keys; `receiver keys create` makes one.")


@keys.command()
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """End a key at once."""
    with present_schema() as runtime:
        runtime.accounts.revoke_key(key_id)
    console().print(f"The key {key_id} is revoked.")


@contextmanager
def present_schema() -> Iterator[Runtime]:
    """The services on the database of the settings. Raises Conflict unless it is there, with its schema up to date."""
    settings = ready("keys")
    if (file := database_file(settings.database_url)) is not None and not file.exists():
        raise Conflict(
            f"There is no database at {file}. Run this in the service's folder, or with its RECEIVER_DATABASE_URL; "
            "`receiver migrate` makes a new one."
        )
    with database(settings) as runtime:
        if not runtime.store.schema_is_current():
            raise Conflict("The database's schema is not that of this version; `receiver migrate` brings it up.")
        yield runtime


def _scopes(key: ApiKey) -> str:
    return ", ".join(sorted(key.scopes))


def _as_json(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "account_id": key.account_id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": sorted(key.scopes),
        "created_at": rfc3339(key.created_at),
        "last_used_at": rfc3339(key.last_used_at),
        "revoked_at": rfc3339(key.revoked_at),
    }
