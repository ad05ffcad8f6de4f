"""An account's registered webhooks are looked up beside any number of hidden ones, behind its tasks' callback URLs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    op.drop_index("ix_subscribers_account", "subscribers", if_exists=True)
    op.create_index(
        "ix_subscribers_registered",
        "subscribers",
        ["account_id", "id"],
        sqlite_where=sa.text("task_only IS 0"),
        postgresql_where=sa.text("task_only IS false"),
        if_not_exists=True,
    )
