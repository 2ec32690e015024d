"""The first schema: tables, entries, versions, snapshots, deletions, metadata and search."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")
DOCUMENT = postgresql.JSONB().with_variant(sa.Text(), "sqlite")
JSON_TEXT = postgresql.JSON().with_variant(sa.Text(), "sqlite")
KEY = sa.String(1024).with_variant(postgresql.VARCHAR(1024, collation="C"), "postgresql")
BYTEWISE = sa.Text().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ID = sa.String(64).with_variant(postgresql.VARCHAR(64, collation="C"), "postgresql")
NAME = sa.String(200).with_variant(postgresql.VARCHAR(200, collation="C"), "postgresql")

SQLITE_SEARCH = (
    "CREATE VIRTUAL TABLE ltm_entry_fts USING fts5(text, content='ltm_entry_search', "
    "content_rowid='document_id', tokenize='unicode61 remove_diacritics 0')",
    "CREATE VIRTUAL TABLE ltm_entry_fts_words USING fts5vocab(ltm_entry_fts, instance)",
    "CREATE TRIGGER ltm_entry_search_insert AFTER INSERT ON ltm_entry_search BEGIN "
    "INSERT INTO ltm_entry_fts(rowid, text) VALUES (new.document_id, new.text); END",
    "CREATE TRIGGER ltm_entry_search_delete AFTER DELETE ON ltm_entry_search BEGIN "
    "INSERT INTO ltm_entry_fts(ltm_entry_fts, rowid, text) "
    "VALUES ('delete', old.document_id, old.text); END",
    "CREATE TRIGGER ltm_entry_search_update AFTER UPDATE OF text ON ltm_entry_search BEGIN "
    "INSERT INTO ltm_entry_fts(ltm_entry_fts, rowid, text) "
    "VALUES ('delete', old.document_id, old.text); "
    "INSERT INTO ltm_entry_fts(rowid, text) VALUES (new.document_id, new.text); END",
    "CREATE TRIGGER ltm_entries_delete AFTER DELETE ON ltm_entries BEGIN "
    "DELETE FROM ltm_entry_search WHERE entry_id = old.id; "
    "DELETE FROM ltm_entry_metadata WHERE entry_id = old.id; END",
)

POSTGRESQL_SEARCH = (
    "ALTER TABLE ltm_entry_search "
    "ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector('simple', text)) STORED",
    "CREATE INDEX ix_ltm_entry_search_words ON ltm_entry_search USING gin (words)",
)


def entry_columns() -> list[sa.Column]:
    """What an entry and a version of it have in common, after the id."""
    return [
        sa.Column("tenant_id", NAME, nullable=False),
        sa.Column("table_name", NAME, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("content_hash", sa.String(71), nullable=False),
        sa.Column("storage_uri", sa.Text(), nullable=True),
        sa.Column("byte_size", sa.BigInteger(), nullable=False),
        sa.Column("inlined_value", JSON_TEXT, nullable=True),
        sa.Column("metadata", DOCUMENT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("begin_seq", sa.BigInteger(), nullable=False),
    ]


def payload_index(name: str, table: str) -> None:
    """Index the rows of *table* that name a payload."""
    named = sa.text("storage_uri IS NOT NULL")
    op.create_index(name, table, ["storage_uri"], sqlite_where=named, postgresql_where=named)


def upgrade() -> None:
    op.create_table(
        "ltm_tables",
        sa.Column("name", NAME, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("storage_prefix", sa.String(255), nullable=False),
        sa.Column("inline_threshold", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(32), nullable=False),
        sa.Column("snapshot_seq", sa.BigInteger(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_ltm_tables"),
        sa.CheckConstraint("type IN ('cache', 'memory')", name=op.f("ck_ltm_tables_type")),
        sa.CheckConstraint("inline_threshold >= 0", name=op.f("ck_ltm_tables_inline_threshold")),
        sa.UniqueConstraint("storage_prefix", name="uq_ltm_tables_storage_prefix"),
    )
    create_entries()
    create_history()
    create_side_tables()
    is_sqlite = op.get_context().dialect.name == "sqlite"
    for statement in SQLITE_SEARCH if is_sqlite else POSTGRESQL_SEARCH:
        op.execute(statement)


def create_entries() -> None:
    """Make the table of live entries and its indexes."""
    op.create_table(
        "ltm_entries",
        sa.Column("id", ID, nullable=False),
        *entry_columns(),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ltm_entries"),
        sa.UniqueConstraint(
            "tenant_id", "table_name", "key", name="uq_ltm_entries_tenant_id_table_name_key"
        ),
        sa.CheckConstraint("byte_size >= 0", name=op.f("ck_ltm_entries_byte_size")),
        sa.CheckConstraint(
            "storage_uri IS NULL OR inlined_value IS NULL", name=op.f("ck_ltm_entries_one_place")
        ),
        sa.ForeignKeyConstraint(
            ["table_name"], ["ltm_tables.name"], name="fk_ltm_entries_table_name"
        ),
    )
    op.create_index(
        "ix_ltm_entries_newest", "ltm_entries", ["tenant_id", "table_name", "updated_at", "id"]
    )
    op.create_index("ix_ltm_entries_begin", "ltm_entries", ["tenant_id", "table_name", "begin_seq"])
    expiring = sa.text("expires_at IS NOT NULL")
    op.create_index(
        "ix_ltm_entries_expiry",
        "ltm_entries",
        ["tenant_id", "table_name", "expires_at"],
        sqlite_where=expiring,
        postgresql_where=expiring,
    )
    payload_index("ix_ltm_entries_payload", "ltm_entries")
    if op.get_context().dialect.name == "postgresql":
        op.create_index(
            "ix_ltm_entries_metadata",
            "ltm_entries",
            ["metadata"],
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
        )


def create_history() -> None:
    """Make what snapshots and payload lifetimes need."""
    op.create_table(
        "ltm_entry_versions",
        sa.Column("id", ID, nullable=False),
        *entry_columns(),
        sa.Column("end_seq", sa.BigInteger(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", "begin_seq", name="pk_ltm_entry_versions"),
        sa.ForeignKeyConstraint(
            ["table_name"], ["ltm_tables.name"], name="fk_ltm_entry_versions_table_name"
        ),
    )
    op.create_index(
        "ix_ltm_entry_versions_key",
        "ltm_entry_versions",
        ["tenant_id", "table_name", "key", "begin_seq"],
    )
    op.create_index(
        "ix_ltm_entry_versions_end", "ltm_entry_versions", ["tenant_id", "table_name", "end_seq"]
    )
    payload_index("ix_ltm_entry_versions_payload", "ltm_entry_versions")
    op.create_table(
        "ltm_snapshots",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("tenant_id", NAME, nullable=False),
        sa.Column("table_name", NAME, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("entry_count", sa.BigInteger(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ltm_snapshots"),
        sa.UniqueConstraint(
            "tenant_id", "table_name", "seq", name="uq_ltm_snapshots_tenant_id_table_name_seq"
        ),
        sa.ForeignKeyConstraint(
            ["table_name"], ["ltm_tables.name"], name="fk_ltm_snapshots_table_name"
        ),
    )
    op.create_table(
        "ltm_payload_deletions",
        sa.Column("storage_uri", BYTEWISE, nullable=False),
        sa.Column("tenant_id", NAME, nullable=False),
        sa.Column("scheduled_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("storage_uri", name="pk_ltm_payload_deletions"),
    )


def create_side_tables() -> None:
    """Make the tables that filters and search use."""
    op.create_table(
        "ltm_entry_metadata",
        sa.Column("entry_id", ID, nullable=False),
        sa.Column("path", BYTEWISE, nullable=False),
        sa.Column("value", BYTEWISE, nullable=False),
        sa.Column("tenant_id", NAME, nullable=False),
        sa.Column("table_name", NAME, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", "path", "value", name="pk_ltm_entry_metadata"),
        sa.ForeignKeyConstraint(
            ["entry_id"],
            ["ltm_entries.id"],
            name="fk_ltm_entry_metadata_entry_id",
            ondelete="CASCADE",
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_ltm_entry_metadata_filter",
        "ltm_entry_metadata",
        ["tenant_id", "table_name", "path", "value", "updated_at", "entry_id"],
    )
    op.create_table(
        "ltm_entry_search",
        sa.Column("document_id", BIG_ID, nullable=False),
        sa.Column("entry_id", ID, nullable=False),
        sa.Column("tenant_id", NAME, nullable=False),
        sa.Column("table_name", NAME, nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("document_id", name="pk_ltm_entry_search"),
        sa.UniqueConstraint("entry_id", name="uq_ltm_entry_search_entry_id"),
        sa.ForeignKeyConstraint(
            ["entry_id"],
            ["ltm_entries.id"],
            name="fk_ltm_entry_search_entry_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_ltm_entry_search_length", "ltm_entry_search", ["tenant_id", "table_name", "length"]
    )


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TRIGGER ltm_entries_delete")
        op.execute("DROP TABLE ltm_entry_fts_words")
        op.execute("DROP TABLE ltm_entry_fts")
    for table in (
        "ltm_entry_search",
        "ltm_entry_metadata",
        "ltm_payload_deletions",
        "ltm_snapshots",
        "ltm_entry_versions",
        "ltm_entries",
        "ltm_tables",
    ):
        op.drop_table(table)
