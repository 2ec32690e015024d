"""The tables as statements name them, and the clauses that many statements share."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Table, and_, bindparam, case, func, or_, select

from ltm.sql.execution import ROW_COLUMNS
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

VALUE_COLUMNS: Sequence[ColumnElement[Any]] = [ENTRIES.c[name] for name in ROW_COLUMNS[2:8]]
"""What a read of one value is about; its key is known."""

FOUND_COLUMNS: Sequence[ColumnElement[Any]] = [ENTRIES.c.key, *VALUE_COLUMNS]
"""The same for whom the key is news."""

_NAMES = [column.name for column in ENTRIES.c]
ENTRY_COLUMNS: Sequence[ColumnElement[Any]] = [ENTRIES.c[name] for name in ROW_COLUMNS]

ENTRY_PARAMETERS: dict[str, ColumnElement[Any]] = {
    name: bindparam(name, type_=column.type) for name, column in ENTRIES.c.items()
}
"""The columns of an entry that is written, by name."""

WORD_COLUMNS = "entry_id", "tenant_id", "table_name", "length", "text"
"""What is written of an entry's words."""

REPLACED = [name for name in _NAMES if name not in ("id", "tenant_id", "table_name", "key")]
"""What a write changes of an entry that is there: all but its identity."""


def in_scope(of: Table) -> ColumnElement[bool]:
    """Rows of the tenant and logical table bound as ``tenant`` and ``table``."""
    return and_(of.c.tenant_id == bindparam("tenant"), of.c.table_name == bindparam("table"))


def is_next(column: ColumnElement[str]) -> ColumnElement[bool]:
    """What is from ``start`` on, but for ``after``, which ``start`` may be.

    One lower bound, not two: SQLite walks an index from either of them, be it the lesser one.
    """
    return and_(column >= bindparam("start"), column != bindparam("after"))


def is_live() -> ColumnElement[bool]:
    """Entries that exist at ``now``: an entry is gone at its ``expires_at``."""
    return or_(ENTRIES.c.expires_at.is_(None), ENTRIES.c.expires_at > bindparam("now"))


def has_expired() -> ColumnElement[bool]:
    """Entries that no longer exist at ``now``."""
    return ENTRIES.c.expires_at <= bindparam("now")


def is_plain(excluded: Any) -> ColumnElement[bool]:
    """Entries that the *excluded* row of an INSERT may simply replace.

    No payload is to be deleted then, and no version to be kept: no snapshot has been taken since.
    """
    return and_(
        ENTRIES.c.storage_uri.is_(None),
        ENTRIES.c.content_hash != excluded.content_hash,
        ENTRIES.c.begin_seq == excluded.begin_seq,
    )


def plain_changes(excluded: Any) -> dict[str, ColumnElement[Any]]:
    """What the *excluded* row of an INSERT changes of such an entry."""
    # One that has expired is another entry.
    is_there = or_(ENTRIES.c.expires_at.is_(None), ENTRIES.c.expires_at > excluded.updated_at)
    created_at = case((is_there, ENTRIES.c.created_at), else_=excluded.created_at)
    changed = [name for name in REPLACED if name not in ("storage_uri", "begin_seq")]
    return {name: excluded[name] for name in changed} | {"created_at": created_at}


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
