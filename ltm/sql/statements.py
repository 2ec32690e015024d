"""The statements of the SQL catalogs, as SQLAlchemy expressions; nothing here runs them.

Parameters are bound by name. Every statement that reads entries takes ``now`` and sees only those
that have not expired by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    Integer,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.sql.dml import Insert

from ltm.sql.columns import UTCDateTime
from ltm.sql.dialects import SQLDialect
from ltm.sql.models import (
    Base,
    EntryMetadataModel,
    EntryModel,
    EntrySearchModel,
    EntryVersionModel,
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

ENTRY_COLUMNS: Sequence[ColumnElement[Any]] = [
    ENTRIES.c[name]
    for name in (
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
]
"""In the order in which rows are read everywhere."""


def in_scope(of: Table) -> ColumnElement[bool]:
    """Rows of the tenant and logical table bound as ``tenant`` and ``table``."""
    return and_(of.c.tenant_id == bindparam("tenant"), of.c.table_name == bindparam("table"))


def is_live() -> ColumnElement[bool]:
    """Entries that exist at ``now``: an entry is gone at its ``expires_at``."""
    return or_(ENTRIES.c.expires_at.is_(None), ENTRIES.c.expires_at > bindparam("now"))


def has_expired() -> ColumnElement[bool]:
    """Entries that no longer exist at ``now``."""
    return ENTRIES.c.expires_at <= bindparam("now")


# Logical tables


def insert_table(dialect: SQLDialect) -> Insert:
    """Make a logical table unless it is there."""
    return dialect.insert_new(TABLES)


def select_table() -> Select[Any]:
    """Storage prefix, inline threshold and language of ``table``."""
    columns = TABLES.c.storage_prefix, TABLES.c.inline_threshold, TABLES.c.language
    return select(*columns).where(TABLES.c.name == bindparam("table"))


# Reads


def select_entry() -> Select[Any]:
    """The live entry ``id``."""
    return select(*ENTRY_COLUMNS).where(ENTRIES.c.id == bindparam("id"), is_live())


def select_entries(dialect: SQLDialect) -> Select[Any]:
    """The live entries among ``ids``, in no order."""
    return select(*ENTRY_COLUMNS).where(dialect.is_among(ENTRIES.c.id, "ids"), is_live())


def select_by_key(condition: ColumnElement[bool] | None, *, bounded: bool) -> Select[Any]:
    """Up to ``limit`` live entries from ``prefix`` on and after ``after``, in bytewise key order.

    Not LIKE: SQLite's ignores case and has wildcards. The bounds give one answer on every database
    and use the unique index.
    """
    statement = select(*ENTRY_COLUMNS).where(
        in_scope(ENTRIES),
        ENTRIES.c.key >= bindparam("prefix"),
        ENTRIES.c.key > bindparam("after"),
        is_live(),
    )
    if bounded:
        statement = statement.where(ENTRIES.c.key < bindparam("prefix_end"))
    if condition is not None:
        statement = statement.where(condition)
    return statement.order_by(ENTRIES.c.key).limit(bindparam("limit", type_=Integer))


def select_newest(
    condition: ColumnElement[bool] | None, driver: ColumnElement[bool] | None
) -> Select[Any]:
    """Up to ``limit`` live entries older than ``before_at`` and ``before_id``, newest first.

    Args:
        condition: What entries must fulfil, or None.
        driver: An equality of the metadata side table, or None. With it the walk goes along that
            table's index, which holds matches in this very order, and stops at the limit.
    """
    if driver is None:
        statement = select(*ENTRY_COLUMNS).where(in_scope(ENTRIES))
        position = ENTRIES.c.updated_at, ENTRIES.c.id
    else:
        statement = (
            select(*ENTRY_COLUMNS)
            .select_from(METADATA)
            .join(ENTRIES, ENTRIES.c.id == METADATA.c.entry_id)
            .where(in_scope(METADATA), driver)
        )
        position = METADATA.c.updated_at, METADATA.c.entry_id
    if condition is not None:
        statement = statement.where(condition)
    before = tuple_(bindparam("before_at", type_=UTCDateTime), bindparam("before_id"))
    return (
        statement.where(is_live(), tuple_(*position) < before)
        .order_by(*(column.desc() for column in position))
        .limit(bindparam("limit", type_=Integer))
    )


def select_statistics() -> Select[Any]:
    """Counts and bytes of the live entries, and how many have expired but are still there."""
    inlined = case((ENTRIES.c.storage_uri.is_(None), 1), else_=0)
    size = ENTRIES.c.byte_size
    gone = case((has_expired(), 1), else_=0)
    return select(
        func.coalesce(func.sum(1 - gone), 0),
        func.coalesce(func.sum((1 - gone) * inlined), 0),
        func.coalesce(func.sum((1 - gone) * size), 0),
        func.coalesce(func.sum((1 - gone) * inlined * size), 0),
        func.coalesce(func.sum(gone), 0),
    ).where(in_scope(ENTRIES))


# Writes


def select_current(dialect: SQLDialect) -> Select[Any]:
    """Snapshot counters of ``table`` beside its rows among ``ids``, expired ones too.

    There is always a row: where no entry is found its columns are NULL. The counters are the
    table's ``snapshot_seq`` and the newest snapshot that still exists, -1 without one.
    """
    newest = (
        select(func.coalesce(func.max(SNAPSHOTS.c.seq), -1))
        .where(SNAPSHOTS.c.table_name == TABLES.c.name)
        .scalar_subquery()
    )
    return (
        select(TABLES.c.snapshot_seq, newest, *ENTRY_COLUMNS)
        .select_from(TABLES)
        .outerjoin(ENTRIES, dialect.is_among(ENTRIES.c.id, "ids"))
        .where(TABLES.c.name == bindparam("table"))
    )


def upsert_entry(dialect: SQLDialect) -> Insert:
    """Write an entry; every column but its identity is replaced."""
    fixed = {"id", "tenant_id", "table_name", "key"}
    changed = [column.name for column in ENTRIES.c if column.name not in fixed]
    return dialect.upsert(ENTRIES, ["id"], changed)


def upsert_search(dialect: SQLDialect) -> Insert:
    """Write the analysed words of an entry."""
    return dialect.upsert(SEARCH, ["entry_id"], ["length", "text"])


def delete_search(dialect: SQLDialect) -> Delete:
    """Forget the words of the entries ``ids``."""
    return delete(SEARCH).where(dialect.is_among(SEARCH.c.entry_id, "ids"))


def insert_metadata() -> Insert:
    """Write one row of an entry's metadata."""
    return insert(METADATA)


def delete_metadata(dialect: SQLDialect) -> Delete:
    """Forget the metadata rows of the entries ``ids``."""
    return delete(METADATA).where(dialect.is_among(METADATA.c.entry_id, "ids"))


def touch_metadata() -> Update:
    """Carry an entry's new ``updated_at`` into its metadata rows."""
    return (
        update(METADATA)
        .where(METADATA.c.entry_id == bindparam("id"))
        .values(updated_at=bindparam("touched_at", type_=UTCDateTime))
    )


def delete_entries(dialect: SQLDialect) -> Delete:
    """Delete the entries ``ids`` with their words and metadata rows."""
    return delete(ENTRIES).where(dialect.is_among(ENTRIES.c.id, "ids"))


def keep_versions(dialect: SQLDialect) -> Insert:
    """Copy the entries ``ids`` to the versions, superseded at ``end_seq``."""
    shared = [column.name for column in VERSIONS.c if column.name != "end_seq"]
    rows = select(
        *(ENTRIES.c[name] for name in shared),
        bindparam("end_seq", type_=VERSIONS.c.end_seq.type).label("end_seq"),
    ).where(dialect.is_among(ENTRIES.c.id, "ids"))
    return insert(VERSIONS).from_select([*shared, "end_seq"], rows)


def select_expired() -> Select[Any]:
    """Up to ``limit`` expired entries, those that expired first coming first."""
    return (
        select(*ENTRY_COLUMNS)
        .where(in_scope(ENTRIES), has_expired())
        .order_by(ENTRIES.c.expires_at)
        .limit(bindparam("limit", type_=Integer))
    )


def count_expired() -> Select[Any]:
    """How many expired entries are still there."""
    return select(func.count()).select_from(ENTRIES).where(in_scope(ENTRIES), has_expired())


# Payload deletions


def schedule_deletion(dialect: SQLDialect) -> Insert:
    """Remember that a payload is to be deleted."""
    return dialect.insert_new(DELETIONS)


def select_deletable(dialect: SQLDialect) -> Select[Any]:
    """The scheduled payloads among ``uris`` that no entry and no version names."""
    uri = DELETIONS.c.storage_uri
    return select(uri).where(
        dialect.is_among(uri, "uris"),
        ~exists().where(ENTRIES.c.storage_uri == uri),
        ~exists().where(VERSIONS.c.storage_uri == uri),
    )


def select_deletions() -> Select[Any]:
    """Up to ``limit`` scheduled payloads between ``prefix`` and ``prefix_end``, after ``after``."""
    uri = DELETIONS.c.storage_uri
    return (
        select(uri)
        .where(uri >= bindparam("prefix"), uri < bindparam("prefix_end"), uri > bindparam("after"))
        .order_by(uri)
        .limit(bindparam("limit", type_=Integer))
    )


def forget_deletions(dialect: SQLDialect) -> Delete:
    """Strike the payloads ``uris`` off the schedule."""
    return delete(DELETIONS).where(dialect.is_among(DELETIONS.c.storage_uri, "uris"))


# Search


def select_collection_size() -> Select[Any]:
    """How many documents the table has, and their words in all, expired ones included."""
    return select(func.count(), func.coalesce(func.sum(SEARCH.c.length), 0)).where(in_scope(SEARCH))


def select_expired_size() -> Select[Any]:
    """The same for those documents whose entry has expired."""
    return (
        select(func.count(), func.coalesce(func.sum(SEARCH.c.length), 0))
        .select_from(ENTRIES)
        .join(SEARCH, SEARCH.c.entry_id == ENTRIES.c.id)
        .where(in_scope(ENTRIES), has_expired())
    )


def select_postings(dialect: SQLDialect) -> Select[Any]:
    """Term, entry id, length and frequency of the words ``terms`` in live entries."""
    expired = select(ENTRIES.c.id).where(in_scope(ENTRIES), has_expired())
    return dialect.postings().where(in_scope(SEARCH), SEARCH.c.entry_id.not_in(expired))


def select_allowed(
    dialect: SQLDialect, condition: ColumnElement[bool] | None, *, phrases: bool, exclusions: bool
) -> Select[Any]:
    """Ids of live entries that hold every one of ``phrases`` and none of ``exclusions``."""
    statement = (
        select(ENTRIES.c.id)
        .select_from(SEARCH)
        .join(ENTRIES, ENTRIES.c.id == SEARCH.c.entry_id)
        .where(in_scope(SEARCH), is_live())
    )
    if phrases:
        statement = statement.where(dialect.holds_words("phrases"))
    if exclusions:
        statement = statement.where(~dialect.holds_words("exclusions"))
    return statement if condition is None else statement.where(condition)
