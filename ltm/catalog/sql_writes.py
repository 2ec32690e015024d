"""Writes in SQL that are decided upon: the rows there are read and locked, then changed.

The rules are those of :mod:`ltm.catalog.decisions`; they are carried out in as few statements as
there are kinds of changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ltm.catalog.commit import Outcome, Put, Removal, bound_leases, documents_of
from ltm.catalog.database import in_chunks
from ltm.catalog.decisions import Decision, decide_deletion, decide_put, decide_removal
from ltm.catalog.steps import IndexSteps
from ltm.entry import EntryRow
from ltm.search.analysis import Document
from ltm.sql.dialects import ContentionError
from ltm.sql.execution import ROW_COLUMNS, Columns, Session

if TYPE_CHECKING:
    from ltm.catalog.sql import SQLCatalog


def write(catalog: SQLCatalog, changes: Sequence[Put | Removal], now: datetime) -> list[Outcome]:
    """Carry out *changes* in one transaction; see ``CatalogPrimitives.write``."""
    # Two transactions that lock or insert rows in one order never wait for one another.
    ordered = sorted(changes, key=lambda change: change.id)
    leases, documents = bound_leases(ordered), documents_of(ordered)

    def carry_out(session: Session) -> list[Outcome]:
        snapshot_seq, newest, found = catalog.read_current(session, [each.id for each in ordered])
        if leases:
            from ltm.catalog.sql_leases import end_leases

            end_leases(session, catalog.database, leases)
        outcomes: dict[str, Outcome] = {}
        for chunk in in_chunks(ordered):
            steps = WriteSteps(catalog, now)
            for change in chunk:
                row = found.get(change.id)
                if isinstance(change, Put):
                    decision = decide_put(
                        change, row, now, snapshot_seq=snapshot_seq, newest_snapshot=newest
                    )
                    steps.add(change.id, decision, documents[change.id])
                else:
                    decision = decide_removal(change, row, now, newest_snapshot=newest)
                    steps.add(change.id, decision)
            steps.run(session, end_seq=snapshot_seq)
            outcomes |= zip((change.id for change in chunk), steps.outcomes, strict=True)
        return [outcomes[change.id] for change in changes]

    return catalog.database.write(carry_out, catalog.gate)


def remove_expired(catalog: SQLCatalog, limit: int, now: datetime) -> list[Outcome]:
    """Delete entries that have expired; see ``CatalogPrimitives.remove_expired``."""
    select_expired = catalog.database.statements.select_expired
    bound = catalog.scope_at(now) | {"limit": limit}

    def remove(session: Session) -> list[Outcome]:
        snapshot_seq, newest, _ = catalog.read_current(session, [])
        steps = WriteSteps(catalog, now)
        for row in session.rows(select_expired, bound):
            expired = EntryRow._make(row)
            steps.add(expired.id, decide_deletion(expired, newest_snapshot=newest))
        steps.run(session, end_seq=snapshot_seq)
        return steps.outcomes

    return catalog.database.write(remove, catalog.gate)


def index_again(catalog: SQLCatalog, entries: Sequence[tuple[EntryRow, Document | None]]) -> None:
    """Write those *entries* that are as they were, and their index rows, once more."""

    def index(session: Session) -> None:
        _, _, found = catalog.read_current(session, sorted(row.id for row, _ in entries))
        for chunk in in_chunks(entries):
            steps = WriteSteps(catalog, catalog.clock())
            for row, document in chunk:
                if found.get(row.id) == row:
                    again = Decision(Outcome(row.key), row, replaces=True, metadata_changed=True)
                    steps.add(row.id, again, document)
            steps.run(session, end_seq=0)

    catalog.database.write(index, catalog.gate)


def _columns_of(rows: Sequence[EntryRow]) -> Columns:
    """Return the columns of *rows*, of which there is one at least."""
    return dict(zip(ROW_COLUMNS, zip(*rows, strict=True), strict=True))


class WriteSteps:
    """Collects what is to be done to the rows of one table within one transaction."""

    def __init__(self, catalog: SQLCatalog, now: datetime) -> None:
        self._statements = catalog.database.statements
        self._scope = {"tenant_id": catalog.tenant, "table_name": catalog.table_name}
        self._now = now
        self.outcomes: list[Outcome] = []
        """In the order of the decisions."""
        self._versions: list[str] = []
        self._freed: list[str] = []
        self._removed: list[str] = []
        self._new: list[EntryRow] = []
        self._changed: list[EntryRow] = []
        self._indexes = IndexSteps(self._scope)

    def add(self, entry_id: str, decision: Decision, document: Document | None = None) -> None:
        """Take in a *decision* on the row *entry_id*, with the words to be found by."""
        outcome, row = decision.outcome, decision.row
        self.outcomes.append(outcome)
        if decision.keep_version and decision.replaces:
            self._versions.append(entry_id)
        if outcome.freed is not None:
            self._freed.append(outcome.freed)
        if row is not None:
            (self._changed if decision.replaces else self._new).append(row)
            self._indexes.add(
                *(row.id, document, row.metadata, row.updated_at),
                replaces=decision.replaces,
                metadata_changed=decision.metadata_changed,
            )
        elif decision.replaces:
            self._removed.append(entry_id)

    def run(self, session: Session, *, end_seq: int) -> None:
        """Run the statements; *end_seq* is the table's ``snapshot_seq`` at this commit.

        Raises:
            ContentionError: Another transaction has written one of the new entries first.
        """
        statements, bind_list = self._statements, session.dialect.bind_list
        if self._versions:
            kept = {"ids": bind_list(self._versions), "end_seq": end_seq}
            session.run(statements.keep_versions, kept)
        session.write_rows(
            statements.schedule_deletion,
            {"storage_uri": self._freed},
            {**self._scope, "scheduled_at": self._now},
        )
        if self._removed:
            session.run(statements.delete_entries, {"ids": bind_list(self._removed)})
        if self._new:
            columns = _columns_of(self._new)
            written = session.write_rows(statements.insert_entry, columns, self._scope)
            if written != len(self._new):
                raise ContentionError("an entry that was not there has been written meanwhile")
        if self._changed:
            columns = _columns_of(self._changed)
            session.write_rows(statements.upsert_entry, columns, self._scope)
        self._indexes.run(session, statements)
