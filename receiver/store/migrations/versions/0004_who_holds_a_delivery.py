"""Who holds a claimed delivery: what a worker held that is dead for certain is given back before its lease ends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    op.add_column("deliveries", sa.Column("holder", sa.Text()))
