"""The second step, once every machine runs the next version: what the old one did not know is filled and required."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "9002"
down_revision = "9001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Fill the column, and let it be empty no more; the default comes first, for rows that are added meanwhile."""
    op.alter_column("tasks", "colour", existing_type=sa.Text(), server_default="none")
    op.execute("UPDATE tasks SET colour = 'none' WHERE colour IS NULL")
    op.alter_column("tasks", "colour", existing_type=sa.Text(), nullable=False)
