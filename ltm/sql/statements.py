"""The statements of the SQL catalogs, as SQLAlchemy expressions; nothing here runs them.

Parameters are bound by name; ``tenant`` and ``table`` narrow a statement to one logical table.
Statements that read many entries take ``now`` and see only those that exist at that instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.sql.dml import Insert

from ltm.sql.clauses import (
    ENTRIES,
    ENTRY_COLUMNS,
    FOUND_COLUMNS,
    METADATA,
    REPLACED,
    SEARCH,
    TABLES,
    VALUE_COLUMNS,
    VERSIONS,
    WORD_COLUMNS,
    Condition,
    has_expired,
    in_scope,
    is_live,
    is_next,
    newest_snapshot,
)
from ltm.sql.columns import UTCDateTime
from ltm.sql.compiling import CompiledOnce, ShapedStatements
from ltm.sql.execution import ROW_COLUMNS, Statement
from ltm.sql.idiom import LIMIT, Idiom, Rows
from ltm.sql.leases import LeaseStatements
from ltm.sql.payloads import PayloadStatements
from ltm.sql.plain import PlainStatements
from ltm.sql.search import FilterCondition, walk_unless_few
from ltm.sql.version import VERSION

_METADATA_ROW = ("path", "path"), ("value", "code")


class Statements(PlainStatements, PayloadStatements, LeaseStatements):
    """Every statement of a SQL catalog, each compiled once for one dialect."""

    def __init__(self, idiom: Idiom, schema: str | None) -> None:
        self.idiom = idiom
        self.schema = schema
        self._shaped = ShapedStatements(idiom, schema)

    # Schema and logical tables

    @CompiledOnce
    def select_revision(self) -> Select[Any]:
        """The revision that the schema is at."""
        return select(VERSION.c.version_num)

    @CompiledOnce
    def assume(self) -> Select[Any]:
        """Take on ``role`` and ``claims`` until the transaction ends, as PostgREST does."""
        return select(
            func.set_config("role", bindparam("role"), true()),
            func.set_config("request.jwt.claims", bindparam("claims"), true()),
        )

    @CompiledOnce
    def select_identity(self) -> Select[Any]:
        """The role and the claims that the transaction has now."""
        return select(
            func.current_setting("role"),
            func.coalesce(func.current_setting("request.jwt.claims", true()), ""),
        )

    @CompiledOnce
    def insert_table(self) -> Insert:
        """Make a logical table unless it is there."""
        return self.idiom.insert_new(TABLES, [column.name for column in TABLES.c])

    @CompiledOnce
    def select_table(self) -> Select[Any]:
        """Storage prefix, inline threshold and language of ``table``."""
        columns = TABLES.c.storage_prefix, TABLES.c.inline_threshold, TABLES.c.language
        return select(*columns).where(TABLES.c.name == bindparam("table"))

    # Reads

    @CompiledOnce
    def select_entry(self) -> Select[Any]:
        """The entry ``id``, expired or not: whoever asks for one row can tell without SQL."""
        return select(*ENTRY_COLUMNS).where(ENTRIES.c.id == bindparam("id"))

    @CompiledOnce
    def select_value(self) -> Select[Any]:
        """The value of the entry ``key`` or ``id`` and what to know of it, expired or not."""
        named = ENTRIES.c.id == bindparam("id")
        if self.idiom.dialect.finds_by_key:
            named = and_(in_scope(ENTRIES), ENTRIES.c.key == bindparam("key"))
        return select(*VALUE_COLUMNS).where(named)

    @CompiledOnce
    def select_entries(self) -> Select[Any]:
        """The live entries among ``ids``, in no order."""
        return select(*ENTRY_COLUMNS).where(self.idiom.is_among(ENTRIES.c.id, "ids"), is_live())

    @CompiledOnce
    def select_values(self) -> Select[Any]:
        """Key and value of the live entries among ``keys`` or ``ids``, in no order.

        On SQLite they are found by their keys, which need not be hashed for that. PostgreSQL's
        planner may take an index that knows no more than tenant and table.
        """
        named = self.idiom.is_among(ENTRIES.c.id, "ids")
        if self.idiom.dialect.finds_by_key:
            named = and_(in_scope(ENTRIES), self.idiom.is_among(ENTRIES.c.key, "keys"))
        return select(*FOUND_COLUMNS).where(named, is_live())

    @CompiledOnce
    def select_hits(self) -> Select[Any]:
        """Id, key and value of the live entries among ``ids``, in no order."""
        columns = ENTRIES.c.id, *FOUND_COLUMNS
        return select(*columns).where(self.idiom.is_among(ENTRIES.c.id, "ids"), is_live())

    @CompiledOnce
    def select_from(self) -> Select[Any]:
        """Up to ``limit`` live entries from ``start`` on but for ``after``, in key order."""
        return self._by_key(bounded=False).order_by(ENTRIES.c.key).limit(LIMIT)

    @CompiledOnce
    def select_between(self) -> Select[Any]:
        """The same, below ``prefix_end``."""
        return self._by_key(bounded=True).order_by(ENTRIES.c.key).limit(LIMIT)

    def select_by_key(self, condition: FilterCondition, *, bounded: bool) -> Statement:
        """The same of the entries that fulfil *condition*, below ``prefix_end`` if *bounded*."""

        def build() -> Rows:
            statement = self._by_key(bounded=bounded).where(condition.clause)
            walk = statement.order_by(ENTRIES.c.key).limit(LIMIT)
            return walk_unless_few(walk, statement, condition, lambda row: [row.key])

        return self._shaped.get(("by_key", bounded, condition.shape), build)

    def _by_key(self, *, bounded: bool) -> Select[Any]:
        # Not LIKE: SQLite's ignores case and has wildcards. Bytewise bounds give one answer on
        # every database and use the unique index.
        statement = select(*ENTRY_COLUMNS).where(
            in_scope(ENTRIES),
            is_next(ENTRIES.c.key),
            is_live(),
        )
        return statement.where(ENTRIES.c.key < bindparam("prefix_end")) if bounded else statement

    @CompiledOnce
    def select_latest(self) -> Select[Any]:
        """Up to ``limit`` live entries, newest first."""
        return self._latest(ENTRY_COLUMNS)

    @CompiledOnce
    def select_latest_values(self) -> Select[Any]:
        """Key and value of the same."""
        return self._latest(FOUND_COLUMNS)

    def _latest(self, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
        entries = select(*columns).where(in_scope(ENTRIES), is_live())
        return entries.order_by(ENTRIES.c.updated_at.desc(), ENTRIES.c.id.desc()).limit(LIMIT)

    @CompiledOnce
    def select_equal(self) -> Select[Any]:
        """Up to ``limit`` live entries with the metadata row ``path``, ``code``, newest first."""
        return self._equal(ENTRY_COLUMNS)

    @CompiledOnce
    def select_equal_values(self) -> Select[Any]:
        """Key and value of the same."""
        return self._equal(FOUND_COLUMNS)

    def _equal(self, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
        # Along the index of the metadata, which holds the matches in this very order.
        entries = select(*columns).join_from(METADATA, ENTRIES, ENTRIES.c.id == METADATA.c.entry_id)
        row = (METADATA.c[name] == bindparam(bound) for name, bound in _METADATA_ROW)
        order = METADATA.c.updated_at.desc(), METADATA.c.entry_id.desc()
        return entries.where(in_scope(METADATA), *row, is_live()).order_by(*order).limit(LIMIT)

    def select_newest(
        self, condition: FilterCondition | None, driver: Condition | None
    ) -> Statement:
        """Up to ``limit`` live entries that fulfil a *condition*, newest first.

        Those that are older than ``before_at``, ``before_id``.

        Args:
            condition: What entries must fulfil, or None.
            driver: An equality on the metadata rows, or None. With it the walk goes along their
                index, which holds the matches in this very order, and stops at the limit.
        """
        shape = ("newest", condition and condition.shape, driver and driver.shape)
        return self._shaped.get(shape, lambda: self._newest(condition, driver))

    def _newest(self, condition: FilterCondition | None, driver: Condition | None) -> Rows:
        entries = select(*ENTRY_COLUMNS).where(is_live())
        if condition is not None:
            entries = entries.where(condition.clause)
        before = tuple_(bindparam("before_at", type_=UTCDateTime), bindparam("before_id"))
        order = [ENTRIES.c.updated_at, ENTRIES.c.id]
        found = entries.where(in_scope(ENTRIES), tuple_(*order) < before)
        walk, position = found, order
        if driver is not None:
            position = [METADATA.c.updated_at, METADATA.c.entry_id]
            walk = (
                entries.select_from(METADATA)
                .join(ENTRIES, ENTRIES.c.id == METADATA.c.entry_id)
                .where(in_scope(METADATA), driver.clause, tuple_(*position) < before)
            )
            named = select(METADATA.c.entry_id).where(METADATA.c.entry_id == ENTRIES.c.id)
            found = found.where(named.where(driver.clause).offset(0).exists())
        walk = walk.order_by(*(column.desc() for column in position)).limit(LIMIT)
        if condition is None:
            return walk
        return walk_unless_few(
            walk, found, condition, lambda row: [row.updated_at.desc(), row.id.desc()]
        )

    @CompiledOnce
    def select_statistics(self) -> Select[Any]:
        """Counts and bytes of the live entries, and how many have expired but are still there."""
        live, inlined = is_live(), ENTRIES.c.storage_uri.is_(None)
        size = func.sum(ENTRIES.c.byte_size)
        return select(
            func.count().filter(live),
            func.count().filter(live, inlined),
            func.coalesce(size.filter(live), 0),
            func.coalesce(size.filter(live, inlined), 0),
            func.count().filter(has_expired()),
        ).where(in_scope(ENTRIES))

    # Writes

    @CompiledOnce
    def select_current(self) -> Select[Any]:
        """Snapshot counters of ``table`` beside its rows among ``ids``, expired ones too; locked.

        There is always a row: where no entry is found its columns are NULL. The counters are the
        table's ``snapshot_seq`` and the newest snapshot that still exists, -1 without one. The rows
        are locked in the order of their ids, so that no two writers wait for one another.
        """
        newest = newest_snapshot(TABLES.c.name)
        counters = (
            select(TABLES.c.snapshot_seq, newest.label("newest"))
            .where(TABLES.c.name == bindparam("table"))
            .with_for_update(read=True, of=TABLES)
            .cte("counters")
        )
        found = (
            select(*ENTRIES.c)
            .where(self.idiom.is_among(ENTRIES.c.id, "ids"))
            .order_by(ENTRIES.c.id)
            .with_for_update()
            .cte("found")
        )
        columns = (found.c[name] for name in ROW_COLUMNS)
        return select(counters.c.snapshot_seq, counters.c.newest, *columns).select_from(
            counters.outerjoin(found, true())
        )

    @CompiledOnce
    def insert_entry(self) -> Insert:
        """Write an entry unless its id is there."""
        return self.idiom.insert_new(ENTRIES, [column.name for column in ENTRIES.c])

    @CompiledOnce
    def insert_first_entry(self) -> Insert:
        """Write an entry that is new; an error where its id is there."""
        return self.idiom.insert(ENTRIES, [column.name for column in ENTRIES.c])

    @CompiledOnce
    def upsert_entry(self) -> Insert:
        """Write an entry that is there; every column but its identity is replaced."""
        columns = [column.name for column in ENTRIES.c]
        return self.idiom.upsert(ENTRIES, columns, keys=["id"], changed=REPLACED)

    @CompiledOnce
    def insert_search(self) -> Insert:
        """Write the analysed words of an entry that is new."""
        return self.idiom.insert(SEARCH, WORD_COLUMNS)

    @CompiledOnce
    def upsert_search(self) -> Insert:
        """Write the analysed words of an entry."""
        return self.idiom.upsert(
            SEARCH,
            WORD_COLUMNS,
            keys=["entry_id"],
            changed=["length", "text"],
            unless_equal="text",
        )

    @CompiledOnce
    def select_wordy(self) -> Select[Any]:
        """Those among the entries ``ids`` that have words."""
        return select(SEARCH.c.entry_id).where(self.idiom.is_among(SEARCH.c.entry_id, "ids"))

    @CompiledOnce
    def delete_search(self) -> Delete:
        """Forget the words of the entries ``ids``."""
        return delete(SEARCH).where(self.idiom.is_among(SEARCH.c.entry_id, "ids"))

    @CompiledOnce
    def insert_first_metadata(self) -> Insert:
        """Write rows of the metadata of entries that are new."""
        return self.idiom.insert(METADATA, [column.name for column in METADATA.c])

    @CompiledOnce
    def insert_metadata(self) -> Insert:
        """Write rows of entries' metadata."""
        return self.idiom.insert_new(METADATA, [column.name for column in METADATA.c])

    @CompiledOnce
    def delete_metadata(self) -> Delete:
        """Forget the metadata rows of the entries ``ids``."""
        return delete(METADATA).where(self.idiom.is_among(METADATA.c.entry_id, "ids"))

    @CompiledOnce
    def touch_metadata(self) -> Update:
        """Carry the new ``updated_at`` of the entries ``ids`` into their metadata rows."""
        updated_at = (
            select(ENTRIES.c.updated_at)
            .where(ENTRIES.c.id == METADATA.c.entry_id)
            .scalar_subquery()
        )
        return (
            update(METADATA)
            .where(self.idiom.is_among(METADATA.c.entry_id, "ids"))
            .values(updated_at=updated_at)
        )

    @CompiledOnce
    def delete_entries(self) -> Delete:
        """Delete the entries ``ids`` with their words and metadata rows."""
        return delete(ENTRIES).where(self.idiom.is_among(ENTRIES.c.id, "ids"))

    @CompiledOnce
    def keep_versions(self) -> Insert:
        """Copy the entries ``ids`` to the versions, superseded at ``end_seq``."""
        shared = [column.name for column in VERSIONS.c if column.name != "end_seq"]
        rows = select(
            *(ENTRIES.c[name] for name in shared),
            bindparam("end_seq", type_=VERSIONS.c.end_seq.type).label("end_seq"),
        ).where(self.idiom.is_among(ENTRIES.c.id, "ids"))
        return insert(VERSIONS).from_select([*shared, "end_seq"], rows)

    @CompiledOnce
    def select_expired(self) -> Select[Any]:
        """Up to ``limit`` expired entries that are not locked, the earliest first; locks them."""
        return (
            select(*ENTRY_COLUMNS)
            .where(in_scope(ENTRIES), has_expired())
            .order_by(ENTRIES.c.expires_at)
            .limit(LIMIT)
            .with_for_update(skip_locked=True)
        )

    @CompiledOnce
    def count_expired(self) -> Select[Any]:
        """How many expired entries are still there."""
        return select(func.count()).select_from(ENTRIES).where(in_scope(ENTRIES), has_expired())

    # What the indexes hold

    @CompiledOnce
    def select_words(self) -> Select[Any]:
        """Entry id, text and length of the words of the entries ``ids``."""
        columns = SEARCH.c.entry_id, SEARCH.c.text, SEARCH.c.length
        return select(*columns).where(self.idiom.is_among(SEARCH.c.entry_id, "ids"))

    @CompiledOnce
    def select_metadata(self) -> Select[Any]:
        """Entry id, path and code of the metadata rows of the entries ``ids``."""
        columns = METADATA.c.entry_id, METADATA.c.path, METADATA.c.value
        return select(*columns).where(self.idiom.is_among(METADATA.c.entry_id, "ids"))
