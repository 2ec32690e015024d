"""Index the locations of payloads byte by byte on PostgreSQL, so that parts of one are found.

SQLite compares them so anyway.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_ltm_entries_payload": "ltm_entries",
    "ix_ltm_entry_versions_payload": "ltm_entry_versions",
}


def upgrade() -> None:
    make_indexes({"storage_uri": "text_pattern_ops"})


def downgrade() -> None:
    make_indexes({})


def make_indexes(classes: dict[str, str]) -> None:
    """Make the indexes anew, with these operator *classes* for their column."""
    if op.get_context().dialect.name != "postgresql":
        return
    named = sa.text("storage_uri IS NOT NULL")
    for name, table in INDEXES.items():
        op.drop_index(name, table)
        op.create_index(
            name, table, ["storage_uri"], postgresql_where=named, postgresql_ops=classes
        )
