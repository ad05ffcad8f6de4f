"""A list of tasks in one state costs as much as it is long, however many there are in others."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    op.create_index("ix_tasks_status", "tasks", ["account_id", "status", "id"], if_not_exists=True)
