"""Alembic's entry: runs migrations on the connection that ``Store.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from receiver.faultpoints import reached
from receiver.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
    on_version_apply=lambda **_: reached("migrate.step"),
)
with context.begin_transaction():
    context.run_migrations()
