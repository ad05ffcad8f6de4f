"""How often a subscriber began anew: what was under way before says nothing of it any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    op.add_column("subscribers", sa.Column("resets", sa.Integer(), nullable=False, server_default="0"))
