"""The queue is read by owner, for owners take turns; older workers go on, and sort what waits."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """One index takes the place of the other."""
    op.create_index("queue_turns", "queue", ["priority", "owner", "rank", "seq"], unique=False)
    op.drop_index("queue_order", table_name="queue")
