"""Two indexes less on what every callback writes: retention goes by ids, which sort by time."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    op.drop_index("ix_events_created", table_name="events")
    op.drop_index("ix_notices_received", table_name="notices")
