"""The statements of snapshots: what was, what changed since, what no snapshot sees any more.

A row of ``ltm_entries`` is seen by the snapshots at or after its ``begin_seq``, a row of
``ltm_entry_versions`` by those from its ``begin_seq`` on and below its ``end_seq``. Of what a
snapshot sees, only that exists in it which had not expired when it was taken (``at``).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Delete,
    ScalarSelect,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
    union,
    union_all,
    update,
)
from sqlalchemy.sql.dml import Insert

from ltm.sql.clauses import ENTRIES, SNAPSHOTS, TABLES, VERSIONS, in_scope, is_next
from ltm.sql.columns import UTCDateTime
from ltm.sql.compiling import CompiledOnce
from ltm.sql.execution import ROW_COLUMNS
from ltm.sql.idiom import LIMIT, Idiom, Rows


class HistoryStatements:
    """Every statement about snapshots, each compiled once for one dialect."""

    def __init__(self, idiom: Idiom, schema: str | None) -> None:
        self.idiom = idiom
        self.schema = schema

    @CompiledOnce
    def lock_table(self) -> Select[Any]:
        """``snapshot_seq`` of ``table``; no write of another transaction comes between."""
        sequence = select(TABLES.c.snapshot_seq).where(TABLES.c.name == bindparam("table"))
        return sequence.with_for_update()

    @CompiledOnce
    def advance(self) -> Update:
        """Count one more snapshot of ``table``."""
        return (
            update(TABLES)
            .where(TABLES.c.name == bindparam("table"))
            .values(snapshot_seq=TABLES.c.snapshot_seq + 1)
        )

    @CompiledOnce
    def insert_snapshot(self) -> Insert:
        """Write a snapshot."""
        return insert(SNAPSHOTS)

    @CompiledOnce
    def select_snapshots(self) -> Select[Any]:
        """All snapshots of the table, in the order in which they were taken."""
        columns = ("id", "name", "seq", "entry_count", "total_bytes", "created_at")
        return (
            select(*(SNAPSHOTS.c[name] for name in columns))
            .where(in_scope(SNAPSHOTS))
            .order_by(SNAPSHOTS.c.seq)
        )

    @CompiledOnce
    def delete_snapshot(self) -> Delete:
        """Delete the snapshot ``id``."""
        return delete(SNAPSHOTS).where(SNAPSHOTS.c.id == bindparam("id"))

    @CompiledOnce
    def select_as_of(self) -> Rows:
        """Up to ``limit`` rows that snapshot ``seq`` sees, as :meth:`Statements.select_by_key`."""
        return self._select_as_of(ENTRIES, VERSIONS)

    @CompiledOnce
    def select_as_of_between(self) -> Rows:
        """The same of those below ``prefix_end``."""
        return self._select_as_of(ENTRIES, VERSIONS, bounded=True)

    @CompiledOnce
    def select_ends(self) -> Select[str, str]:
        """The keys that come ``count`` after the first ones from ``start`` on but for ``after``.

        One of the entries, one of the versions, each NULL where there are fewer: below the lesser
        of both not much is to be looked at, be it seen by a snapshot or not.
        """

        def end(of: Table) -> ScalarSelect[str]:
            keys = select(of.c.key).where(in_scope(of), is_next(of.c.key)).order_by(of.c.key)
            keys = keys if of is ENTRIES else keys.distinct()
            return keys.limit(1).offset(bindparam("count")).scalar_subquery()

        return select(end(ENTRIES).label("entry"), end(VERSIONS).label("version"))

    @CompiledOnce
    def select_superseded(self) -> Rows:
        """Those of :meth:`select_as_of` that are no longer there."""
        return self._select_as_of(VERSIONS)

    @CompiledOnce
    def select_superseded_between(self) -> Rows:
        """The same of those below ``prefix_end``."""
        return self._select_as_of(VERSIONS, bounded=True)

    @CompiledOnce
    def select_as_of_ids(self) -> CompoundSelect[Any]:
        """The rows among ``ids`` that snapshot ``seq`` sees, in no order."""
        return union_all(
            *(_seen(of).where(self.idiom.is_among(of.c.id, "ids")) for of in (ENTRIES, VERSIONS))
        )

    @CompiledOnce
    def select_changed_keys(self) -> CompoundSelect[Any]:
        """Up to ``limit`` keys above ``after`` that may differ from what snapshot ``seq`` sees.

        Those written or superseded after it, and those that expired from ``at`` to ``now``.
        """

        def branch(of: Table, changed: ColumnElement[bool]) -> Select[Any]:
            return select(of.c.key).where(in_scope(of), changed, of.c.key > bindparam("after"))

        expired = and_(
            ENTRIES.c.expires_at > bindparam("at", type_=UTCDateTime),
            ENTRIES.c.expires_at <= bindparam("now", type_=UTCDateTime),
        )
        keys = union(
            branch(ENTRIES, ENTRIES.c.begin_seq > bindparam("seq")),
            branch(ENTRIES, expired),
            branch(VERSIONS, VERSIONS.c.end_seq > bindparam("seq")),
        )
        ordered = keys.order_by(keys.selected_columns.key)
        return ordered.limit(LIMIT)

    @CompiledOnce
    def select_unseen_versions(self) -> Select[Any]:
        """Up to ``limit`` versions of the table that no snapshot sees: id, number and payload."""
        seen = exists().where(
            SNAPSHOTS.c.tenant_id == VERSIONS.c.tenant_id,
            SNAPSHOTS.c.table_name == VERSIONS.c.table_name,
            SNAPSHOTS.c.seq >= VERSIONS.c.begin_seq,
            SNAPSHOTS.c.seq < VERSIONS.c.end_seq,
        )
        return (
            select(VERSIONS.c.id, VERSIONS.c.begin_seq, VERSIONS.c.storage_uri)
            .where(in_scope(VERSIONS), ~seen)
            .limit(LIMIT)
        )

    @CompiledOnce
    def delete_version(self) -> Delete:
        """Delete one version."""
        return delete(VERSIONS).where(
            VERSIONS.c.id == bindparam("id"), VERSIONS.c.begin_seq == bindparam("begin_seq")
        )

    def _select_as_of(self, *tables: Table, bounded: bool = False) -> Rows:
        def branch(of: Table) -> Select[Any]:
            rows = _seen(of).where(
                in_scope(of),
                is_next(of.c.key),
            )
            return rows.where(of.c.key < bindparam("prefix_end")) if bounded else rows

        return self.idiom.first_of([branch(of) for of in tables], "key")


def _seen(of: Table) -> Select[Any]:
    sequence: BindParameter[int] = bindparam("seq")
    rows = select(*(of.c[name] for name in ROW_COLUMNS)).where(
        of.c.begin_seq <= sequence,
        or_(of.c.expires_at.is_(None), of.c.expires_at > bindparam("at", type_=UTCDateTime)),
    )
    return rows if of is ENTRIES else rows.where(of.c.end_seq > sequence)
