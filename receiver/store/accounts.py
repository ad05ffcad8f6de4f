"""Queries on accounts and their API keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from receiver.models import Account, ApiKey, Scope
from receiver.store import dialect
from receiver.store.schema import accounts, api_keys


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        account_id=row.account_id,
        name=row.name,
        prefix=row.prefix,
        scopes=frozenset(Scope(word) for word in row.scopes.split(",")),
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )


def add(connection: Connection, account: Account, secrets_sealed: str) -> bool:
    """Store an account; False when the name is taken."""
    query = dialect.insert_or_nothing(accounts).values(
        id=account.id, name=account.name, secrets_sealed=secrets_sealed, created_at=account.created_at
    )
    return connection.execute(query).rowcount == 1


def find(connection: Connection, name: str) -> Account | None:
    """The account of this name, or None."""
    row = connection.execute(select(accounts).where(accounts.c.name == name)).first()
    return None if row is None else Account(row.id, row.name, row.created_at)


def get(connection: Connection, account_id: str) -> Account | None:
    """The account with this id, or None."""
    row = connection.execute(select(accounts).where(accounts.c.id == account_id)).first()
    return None if row is None else Account(row.id, row.name, row.created_at)


def lock(connection: Connection, account_id: str) -> None:
    """Let nobody else change an account until this transaction ends: for whoever reads it to write it anew."""
    connection.execute(dialect.locked(select(accounts.c.id).where(accounts.c.id == account_id)))


def secrets_sealed(connection: Connection, account_id: str) -> str | None:
    """The sealed signing secrets of an account, or None when there is no such account."""
    value: str | None = connection.execute(
        select(accounts.c.secrets_sealed).where(accounts.c.id == account_id)
    ).scalar_one_or_none()
    return value


def set_secrets(connection: Connection, account_id: str, sealed: str) -> None:
    """Replace an account's sealed signing secrets."""
    connection.execute(update(accounts).where(accounts.c.id == account_id).values(secrets_sealed=sealed))


def add_key(connection: Connection, key: ApiKey, key_hash: str) -> bool:
    """Store an API key by its hash; False when it exists already."""
    query = dialect.insert_or_nothing(api_keys).values(
        id=key.id,
        account_id=key.account_id,
        name=key.name,
        hash=key_hash,
        prefix=key.prefix,
        scopes=",".join(sorted(key.scopes)),
        created_at=key.created_at,
    )
    return connection.execute(query).rowcount == 1


def find_key(connection: Connection, key_hash: str) -> ApiKey | None:
    """The key with this hash that is not revoked, or None."""
    query = select(api_keys).where(api_keys.c.hash == key_hash, api_keys.c.revoked_at.is_(None))
    row = connection.execute(query).first()
    return None if row is None else _key(row)


def get_key(connection: Connection, key_id: str) -> ApiKey | None:
    """The key with this id that is not revoked, or None."""
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))).first()
    return None if row is None else _key(row)


def list_keys(connection: Connection, account_id: str) -> Sequence[ApiKey]:
    """All keys of an account, revoked ones included, oldest first."""
    rows = connection.execute(select(api_keys).where(api_keys.c.account_id == account_id).order_by(api_keys.c.id))
    return [_key(row) for row in rows]


def count_keys(connection: Connection) -> int:
    """How many keys exist, in all accounts."""
    return int(connection.execute(select(func.count()).select_from(api_keys)).scalar_one())


def touch_key(connection: Connection, key_id: str, now: int) -> None:
    """Note that a key was used."""
    connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=now))


def revoke_key(connection: Connection, key_id: str, now: int) -> bool:
    """End a key; False when there is no such living key."""
    query = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None)).values(revoked_at=now)
    return connection.execute(query).rowcount == 1


def revive_key(connection: Connection, account_id: str, key_hash: str) -> bool:
    """Make a revoked key of an account valid again, if it may do everything there; whether it is such a key."""
    own = (api_keys.c.account_id == account_id, api_keys.c.scopes == Scope.MANAGE.value)
    query = update(api_keys).where(api_keys.c.hash == key_hash, *own).values(revoked_at=None)
    return connection.execute(query).rowcount == 1
