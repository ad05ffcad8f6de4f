"""The first step of a change: what the next version needs is added, and nothing that this one uses goes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tests.machines.upgrade import newest

revision = "9001"
down_revision = newest()
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column that may be empty: this version's INSERTs do not know it."""
    op.add_column("tasks", sa.Column("colour", sa.Text(), nullable=True))
