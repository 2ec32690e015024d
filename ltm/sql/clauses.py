"""The tables as statements name them, and the clauses that many statements share."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Table, and_, bindparam, func, or_, select

from ltm.sql.models import (
    Base,
    EntryMetadataModel,
    EntryModel,
    EntrySearchModel,
    EntryVersionModel,
    LeaseModel,
    LogicalTableModel,
    PayloadDeletionModel,
    SnapshotModel,
)

ENTRIES: Table = Base.metadata.tables[EntryModel.__tablename__]
VERSIONS: Table = Base.metadata.tables[EntryVersionModel.__tablename__]
METADATA: Table = Base.metadata.tables[EntryMetadataModel.__tablename__]
SEARCH: Table = Base.metadata.tables[EntrySearchModel.__tablename__]
TABLES: Table = Base.metadata.tables[LogicalTableModel.__tablename__]
SNAPSHOTS: Table = Base.metadata.tables[SnapshotModel.__tablename__]
DELETIONS: Table = Base.metadata.tables[PayloadDeletionModel.__tablename__]
LEASES: Table = Base.metadata.tables[LeaseModel.__tablename__]

ROW_COLUMNS = (
    "id",
    "key",
    "content_hash",
    "storage_uri",
    "byte_size",
    "inlined_value",
    "metadata",
    "expires_at",
    "begin_seq",
    "created_at",
    "updated_at",
)
"""The order in which rows are read everywhere."""

VALUE_COLUMNS: Sequence[ColumnElement[Any]] = [ENTRIES.c[name] for name in ROW_COLUMNS[2:8]]
"""What a read of one value is about; its key is known."""

FOUND_COLUMNS: Sequence[ColumnElement[Any]] = [ENTRIES.c.key, *VALUE_COLUMNS]
"""The same for whom the key is news."""

_NAMES = [column.name for column in ENTRIES.c]
ENTRY_COLUMNS: Sequence[ColumnElement[Any]] = [ENTRIES.c[name] for name in ROW_COLUMNS]

REPLACED = [name for name in _NAMES if name not in ("id", "tenant_id", "table_name", "key")]
"""What a write changes of an entry that is there: all but its identity."""


def in_scope(of: Table) -> ColumnElement[bool]:
    """Rows of the tenant and logical table bound as ``tenant`` and ``table``."""
    return and_(of.c.tenant_id == bindparam("tenant"), of.c.table_name == bindparam("table"))


def is_live() -> ColumnElement[bool]:
    """Entries that exist at ``now``: an entry is gone at its ``expires_at``."""
    return or_(ENTRIES.c.expires_at.is_(None), ENTRIES.c.expires_at > bindparam("now"))


def has_expired() -> ColumnElement[bool]:
    """Entries that no longer exist at ``now``."""
    return ENTRIES.c.expires_at <= bindparam("now")


def is_plain(excluded: Any, *, unseen: ColumnElement[bool]) -> ColumnElement[bool]:
    """Entries that the *excluded* row of an INSERT may simply replace.

    No payload is to be deleted then, and as they are *unseen* by snapshots, no version to be kept.
    """
    return and_(
        ENTRIES.c.storage_uri.is_(None), ENTRIES.c.content_hash != excluded.content_hash, unseen
    )


def newest_snapshot(of: Any) -> ColumnElement[int]:
    """The number of the newest snapshot that exists *of* a logical table; -1 without one."""
    return (
        select(func.coalesce(func.max(SNAPSHOTS.c.seq), -1))
        .where(
            SNAPSHOTS.c.table_name == of,
            SNAPSHOTS.c.tenant_id == bindparam("tenant"),
        )
        .scalar_subquery()
    )


class Condition(NamedTuple):
    """A clause over entries that comes in many shapes; those of one shape share their SQL."""

    shape: Hashable
    """Equal for clauses that differ only in the values bound to their parameters."""
    clause: ColumnElement[bool]
