"""Plain writes in SQL: an inlined value over nothing, or over a value that nobody else needs.

Most writes are of this kind, and one statement does them, or sees that it must not. What it asks
for is in ``ltm.sql.clauses.is_plain``; the rules are those of :mod:`ltm.catalog.commit`.
"""

from __future__ import annotations

from datetime import datetime

from ltm.catalog.commit import Decision, Outcome, PlainWrite, Put, decide_put, is_live
from ltm.catalog.steps import IndexSteps, columns_of
from ltm.entry import EntryRow
from ltm.search.codes import index_rows
from ltm.sql.dialect import ContentionError, RefusedError
from ltm.sql.execution import Row, Session
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ltm.catalog.sql import SQLCatalog


def write_plain(catalog: SQLCatalog, put: Put, now: datetime) -> PlainWrite:
    """Carry out *put* if it is plain; see ``CatalogPrimitives.write_plain``."""
    if not catalog.database.writes_plain or put.created_at or put.updated_at:
        return PlainWrite(None, catalog.read(put.key, now))
    if catalog.database.dialect.indexes_within:
        return _write_unseen(catalog, put, now)
    found = catalog.read_any(put.id)
    live = found if found is not None and is_live(found, now) else None
    is_plain = found is None or (
        found.storage_uri is None and found.content_hash != put.content_hash
    )
    return PlainWrite(_write_over(catalog, put, found, now) if is_plain else None, live)


def _write_over(
    catalog: SQLCatalog, put: Put, found: EntryRow | None, now: datetime
) -> Outcome | None:
    """Write *put* over *found*, and index it; None if the row is another by now."""
    database, statement = catalog.database, catalog.database.statements.write_plain
    decision = _decide(put, found, now)
    assert decision.row is not None  # noqa: S101 -- the value is another
    bound = {**columns_of(decision.row, catalog.scope), "tenant": catalog.tenant, **_seen(found)}
    if found is None and put.document is None and not put.metadata:
        done = database.write_soon(lambda session: session.run(statement, bound) > 0, is_one=True)
        return decision.outcome if done else None
    steps = IndexSteps(catalog.scope)
    steps.add(decision.row, decision, put.document)

    def write(session: Session) -> bool:
        if not session.run(statement, bound):
            return False
        steps.run(session, database.statements)
        return True

    return decision.outcome if database.write_soon(write, is_one=False) else None


def _seen(found: EntryRow | None) -> dict[str, Any]:
    """Return what tells *found* from another row under its id, as far as a decision goes."""
    if found is None:
        return _NOTHING_SEEN
    return {
        "seen_content_hash": found.content_hash,
        "seen_metadata": found.metadata,
        "seen_expires_at": found.expires_at,
        "seen_created_at": found.created_at,
        "seen_updated_at": found.updated_at,
    }


_NOTHING_SEEN = {
    "seen_content_hash": None,
    "seen_metadata": None,
    "seen_expires_at": None,
    "seen_created_at": None,
    "seen_updated_at": None,
}


def _write_unseen(catalog: SQLCatalog, put: Put, now: datetime) -> PlainWrite:
    """Write *put* by the statement that reads what is there and indexes, too."""
    database, statement = catalog.database, catalog.database.statements.write_plain
    bound: dict[str, Any] = {
        "gate": database.dialect.gate_number(catalog.gate),
        "id": put.id,
        "key": put.key,
        "content_hash": put.content_hash,
        "storage_uri": None,
        "byte_size": put.byte_size,
        "inlined_value": put.inlined_text,
        "metadata": put.metadata,
        "expires_at": put.expires_at,
        "created_at": now,
        "updated_at": now,
        **catalog.scope,
    }
    if put.document is not None or put.metadata:
        statement = database.statements.write_indexed
        rows = index_rows(put.metadata)
        bound["text"], bound["length"] = put.document or (None, None)
        bound["paths"], bound["codes"] = [path for path, _ in rows], [code for _, code in rows]

    def write(session: Session) -> Row | None:
        bound["deadline"] = database.pool.deadline(session.connection)
        if bound["deadline"] is None:
            return None
        return session.row(statement, bound)

    try:
        answer = database.write_one(write)
    except (ContentionError, RefusedError):
        answer = None  # nothing is written
    if answer is None:
        return PlainWrite(None, catalog.read(put.key, now))
    is_new, *seen = answer
    if is_new:
        return PlainWrite(Outcome(put.key, stored=True, created=True), None)
    found = None if seen[0] is None else EntryRow(put.id, put.key, *seen)
    outcome = None if is_new is None else _decide(put, found, now).outcome
    return PlainWrite(outcome, found if found is not None and is_live(found, now) else None)


def _decide(put: Put, found: EntryRow | None, now: datetime) -> Decision:
    """Return what *put* does to *found*, which no snapshot sees."""
    sequence = 0 if found is None else found.begin_seq
    return decide_put(put, found, now, snapshot_seq=sequence, newest_snapshot=sequence - 1)
