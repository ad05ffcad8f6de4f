"""Who has taken a delivery yet. Of those that are there already it is believed; old code adds none that is not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    op.add_column("subscribers", sa.Column("proven", sa.Boolean(), nullable=False, server_default=sa.text("true")))
