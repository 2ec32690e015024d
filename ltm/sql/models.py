"""The ORM models: every table that ``ltm`` keeps in a SQL database.

Names begin with ``ltm_`` so that the tables can live beside an application's own. The models are
the present schema; how a database gets there is in the migrations, and a test holds both equal.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ltm.sql.columns import POSTGRESQL, BigId, JSONDocument, JSONText, UTCDateTime, bytewise

ENTRY_ID = bytewise(64)
NAME = bytewise(200)


class Base(DeclarativeBase):
    """Gives every constraint a name that a migration can mention."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


class LogicalTableModel(Base):
    """A named group of entries with its own defaults, storage prefix and snapshots."""

    __tablename__ = "ltm_tables"
    __table_args__ = (
        CheckConstraint("type IN ('cache', 'memory')", name="type"),
        CheckConstraint("inline_threshold >= 0", name="inline_threshold"),
    )

    name: Mapped[str] = mapped_column(NAME, primary_key=True)
    type: Mapped[str] = mapped_column(String(16))
    storage_prefix: Mapped[str] = mapped_column(String(255), unique=True)
    inline_threshold: Mapped[int] = mapped_column(Integer)
    language: Mapped[str] = mapped_column(String(32))
    """The language of the search analyzer; the index holds words stemmed by it."""
    snapshot_seq: Mapped[int] = mapped_column(BigInteger)
    """How many snapshots this table has had."""
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)


class _EntryColumns:
    """What an entry and a version of it have in common."""

    tenant_id: Mapped[str] = mapped_column(NAME)
    """Empty where there are no tenants."""
    table_name: Mapped[str] = mapped_column(NAME, ForeignKey("ltm_tables.name"))
    key: Mapped[str] = mapped_column(bytewise(1024))
    content_hash: Mapped[str] = mapped_column(String(71))
    storage_uri: Mapped[str | None] = mapped_column(Text)
    """Path of the payload below the storage root; NULL where the value is inlined."""
    byte_size: Mapped[int] = mapped_column(BigInteger)
    inlined_value: Mapped[str | None] = mapped_column(JSONText)
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", JSONDocument)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class EntryModel(_EntryColumns, Base):
    """One row per key."""

    __tablename__ = "ltm_entries"
    __table_args__ = (
        UniqueConstraint("tenant_id", "table_name", "key"),
        CheckConstraint("byte_size >= 0", name="byte_size"),
        CheckConstraint("storage_uri IS NULL OR inlined_value IS NULL", name="one_place"),
        Index("ix_ltm_entries_newest", "tenant_id", "table_name", "updated_at", "id"),
        Index("ix_ltm_entries_begin", "tenant_id", "table_name", "begin_seq"),
        Index(
            "ix_ltm_entries_expiry",
            "tenant_id",
            "table_name",
            "expires_at",
            sqlite_where=text("expires_at IS NOT NULL"),
            postgresql_where=text("expires_at IS NOT NULL"),
        ),
        Index(
            "ix_ltm_entries_payload",
            "storage_uri",
            postgresql_ops={"storage_uri": "text_pattern_ops"},
            sqlite_where=text("storage_uri IS NOT NULL"),
            postgresql_where=text("storage_uri IS NOT NULL"),
        ),
        Index(
            "ix_ltm_entries_metadata",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
        ).ddl_if(dialect=POSTGRESQL),
    )

    id: Mapped[str] = mapped_column(ENTRY_ID, primary_key=True, sort_order=-1)
    begin_seq: Mapped[int] = mapped_column(BigInteger, sort_order=1)
    """The table's ``snapshot_seq`` at the write: snapshots at or after it see the row."""
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, sort_order=2)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, sort_order=2)


class EntryVersionModel(_EntryColumns, Base):
    """A superseded row that a snapshot still sees."""

    __tablename__ = "ltm_entry_versions"
    __table_args__ = (
        Index("ix_ltm_entry_versions_key", "tenant_id", "table_name", "key", "begin_seq"),
        Index("ix_ltm_entry_versions_end", "tenant_id", "table_name", "end_seq"),
        Index(
            "ix_ltm_entry_versions_payload",
            "storage_uri",
            postgresql_ops={"storage_uri": "text_pattern_ops"},
            sqlite_where=text("storage_uri IS NOT NULL"),
            postgresql_where=text("storage_uri IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(ENTRY_ID, primary_key=True, sort_order=-1)
    begin_seq: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, sort_order=1
    )
    end_seq: Mapped[int] = mapped_column(BigInteger, sort_order=1)
    """The table's ``snapshot_seq`` at the end: snapshots below it see the row."""
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, sort_order=2)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, sort_order=2)


class SnapshotModel(Base):
    """A named point of one logical table to which reads can go back."""

    __tablename__ = "ltm_snapshots"
    __table_args__ = (UniqueConstraint("tenant_id", "table_name", "seq"),)

    id: Mapped[str] = mapped_column(ENTRY_ID, primary_key=True)
    name: Mapped[str] = mapped_column(NAME)
    tenant_id: Mapped[str] = mapped_column(NAME)
    table_name: Mapped[str] = mapped_column(NAME, ForeignKey("ltm_tables.name"))
    seq: Mapped[int] = mapped_column(BigInteger)
    entry_count: Mapped[int] = mapped_column(BigInteger)
    total_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)


class PayloadDeletionModel(Base):
    """A payload to delete: no row named it any more when the row was written."""

    __tablename__ = "ltm_payload_deletions"

    storage_uri: Mapped[str] = mapped_column(bytewise(None), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(NAME)
    scheduled_at: Mapped[datetime] = mapped_column(UTCDateTime)


class LeaseModel(Base):
    """The right to compute what the entry of a key is to be, until it ends or expires."""

    __tablename__ = "ltm_leases"
    __table_args__ = (Index("ix_ltm_leases_table", "tenant_id", "table_name"),)

    id: Mapped[str] = mapped_column(ENTRY_ID, primary_key=True)
    """That of the entry, which need not be there."""
    tenant_id: Mapped[str] = mapped_column(NAME)
    table_name: Mapped[str] = mapped_column(NAME, ForeignKey("ltm_tables.name"))
    key: Mapped[str] = mapped_column(bytewise(1024))
    owner: Mapped[str] = mapped_column(String(64))
    acquired_at: Mapped[datetime] = mapped_column(UTCDateTime)
    renewed_at: Mapped[datetime] = mapped_column(UTCDateTime)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)


class EntryMetadataModel(Base):
    """The metadata of entries, one row per path and value code, for filters by index.

    Tenant and table stand here too, so that one table's question never walks another's rows.
    """

    __tablename__ = "ltm_entry_metadata"
    __table_args__ = (
        Index(
            "ix_ltm_entry_metadata_filter",
            "tenant_id",
            "table_name",
            "path",
            "value",
            "updated_at",
            "entry_id",
        ),
        {"sqlite_with_rowid": False},
    )

    entry_id: Mapped[str] = mapped_column(
        ENTRY_ID, ForeignKey("ltm_entries.id", ondelete="CASCADE"), primary_key=True
    )
    path: Mapped[str] = mapped_column(bytewise(None), primary_key=True)
    value: Mapped[str] = mapped_column(bytewise(None), primary_key=True)
    """The value's code, which is equal and ordered as the JSON values are."""
    tenant_id: Mapped[str] = mapped_column(NAME)
    table_name: Mapped[str] = mapped_column(NAME)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime)


class EntrySearchModel(Base):
    """The analysed words of an entry, off the hot row; the full-text index is made of them."""

    __tablename__ = "ltm_entry_search"
    __table_args__ = (
        UniqueConstraint("entry_id"),
        Index("ix_ltm_entry_search_length", "tenant_id", "table_name", "length"),
    )

    document_id: Mapped[int] = mapped_column(BigId, primary_key=True)
    entry_id: Mapped[str] = mapped_column(
        ENTRY_ID, ForeignKey("ltm_entries.id", ondelete="CASCADE")
    )
    tenant_id: Mapped[str] = mapped_column(NAME)
    table_name: Mapped[str] = mapped_column(NAME)
    length: Mapped[int] = mapped_column(Integer)
    """How many words *text* holds."""
    text: Mapped[str] = mapped_column(Text)
