"""Plain writes in SQL: of a value over nothing, of an inlined one over what nobody else needs.

Most writes are of this kind, and one statement does them, or sees that it must not. What it asks
for is in ``ltm.sql.clauses.is_plain``; the rules are those of :mod:`ltm.catalog.decisions`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache

from ltm.catalog.commit import Outcome, PlainWrite, Put, is_live, same_metadata
from ltm.catalog.steps import IndexSteps
from ltm.entry import AnyRow, Metadata, ValueRow
from ltm.sql.conversions import write_document, write_instant
from ltm.sql.dialects import ContentionError, RefusedError
from ltm.sql.execution import Row, Session, Statement
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ltm.catalog.sql import SQLCatalog

EXPECTED = 3
"""After so many new keys in a row the next one is expected to be new, too."""


def write_plain(catalog: SQLCatalog, put: Put, now: datetime) -> PlainWrite:
    """Carry out *put* if it is plain; see ``CatalogPrimitives.write_plain``.

    Those who store many new keys mostly store another one. Where that is expected, it is written
    without a look; a guess that is wrong costs one statement.
    """
    if not _is_simple(catalog, put):
        return None, catalog.read(put.key, now)
    if catalog.database.dialect.indexes_within:
        return _write_unseen(catalog, put, now)
    if catalog.news >= EXPECTED:
        outcome = _insert(catalog, put, now)
        if outcome is not None:
            return outcome, None
    found = catalog.read_any_value(put.key)
    catalog.news = catalog.news + 1 if found is None else 0
    live = found if found is not None and is_live(found, now) else None
    if found is None:
        return _insert(catalog, put, now), None
    is_plain = found.storage_uri is None and found.content_hash != put.content_hash
    return _write_over(catalog, put, found, now) if is_plain else None, live


def write_first(catalog: SQLCatalog, put: Put, now: datetime) -> Outcome | None:
    """Carry out *put* if no row is there; see ``CatalogPrimitives.write_first``."""
    if not _is_simple(catalog, put):
        return None
    if not catalog.database.dialect.indexes_within:
        return _insert(catalog, put, now)
    insert, _, bound = _whole(catalog, put, now)
    is_new = _run(catalog, bound, lambda session: session.row(insert, bound))
    return None if is_new is None else _outcome(put, None, now)


def _is_simple(catalog: SQLCatalog, put: Put) -> bool:
    """Return whether a statement of its own may write *put*."""
    return catalog.database.writes_plain and put.created_at is None and put.updated_at is None


def _insert(catalog: SQLCatalog, put: Put, now: datetime) -> Outcome | None:
    """Write *put* and then what it is found by; None if its key is there.

    What most writes do: values are handed over as they are kept, in the order of the columns.
    """
    statements, instant = catalog.database.statements, write_instant(now)
    scope = catalog.tenant, catalog.table_name
    entry = (
        *(put.id, *scope, put.key, put.content_hash, put.storage_uri, put.byte_size),
        *(put.inlined_text, write_document(put.metadata)),
        None if put.expires_at is None else write_instant(put.expires_at),
        *(catalog.table_name, instant, instant),
    )
    document = put.document()
    rows: list[tuple[str, ...]] = []
    if put.metadata:
        rows = [(put.id, path, code, *scope, instant) for path, code in _index_rows()(put.metadata)]

    def insert(session: Session) -> bool:
        if not session.send(statements.insert_indexed, entry).rowcount:
            return False
        if document is not None:
            words = (put.id, *scope, document.length, document.text)
            session.send(statements.insert_search, words)
        if rows:
            session.send_many(statements.insert_first_metadata, rows)
        return True

    is_one = document is None and not rows
    done = catalog.database.write_soon(insert, is_one=is_one)
    return _outcome(put, None, now) if done else None


def _write_over(catalog: SQLCatalog, put: Put, found: AnyRow, now: datetime) -> Outcome | None:
    """Write *put* over *found*; None if there is something else."""
    database, statements = catalog.database, catalog.database.statements
    bound = _columns(catalog, put, now)
    bound["seen_content_hash"] = found.content_hash
    bound["seen_metadata"] = found.metadata
    bound["seen_expires_at"] = found.expires_at
    is_one = put.analyze is None and not put.metadata and not found.metadata
    statement = statements.write_plain if is_one else statements.write_indexed
    steps = IndexSteps(catalog.scope)
    if not is_one:
        steps.add(
            *(put.id, put.document(), put.metadata, now),
            replaces=True,
            metadata_changed=not same_metadata(found.metadata, put.metadata),
        )

    def write(session: Session) -> bool:
        if not session.run(statement, bound):
            return False
        steps.run(session, statements)
        return True

    return _outcome(put, found, now) if database.write_soon(write, is_one=is_one) else None


def _write_unseen(catalog: SQLCatalog, put: Put, now: datetime) -> PlainWrite:
    """Write *put* by the statement that reads what is there and indexes, too."""
    insert, write, bound = _whole(catalog, put, now)

    def run(session: Session) -> Row | None:
        if catalog.news >= EXPECTED and session.row(insert, bound) is not None:
            return (True,)
        return session.row(write, bound)

    answer = _run(catalog, bound, run)
    if answer is None:
        return None, catalog.read(put.key, now)
    is_new, *seen = answer
    catalog.news = catalog.news + 1 if is_new else 0
    if is_new:
        return _outcome(put, None, now), None
    found = None if seen[0] is None else ValueRow(put.key, *seen)
    outcome = None if is_new is None else _outcome(put, found, now)
    return outcome, found if found is not None and is_live(found, now) else None


def _whole(
    catalog: SQLCatalog, put: Put, now: datetime
) -> tuple[Statement, Statement, dict[str, Any]]:
    """Return what inserts *put* and what writes it over another, indexes included."""
    statements, dialect = catalog.database.statements, catalog.database.dialect
    bound = _columns(catalog, put, now)
    bound["gate"] = dialect.gate_number(catalog.gate)
    if put.analyze is None and not put.metadata:
        return statements.insert_plain, statements.write_plain, bound
    bound["text"], bound["length"] = put.document() or (None, None)
    rows = _index_rows()(put.metadata) if put.metadata else []
    bound["paths"], bound["codes"] = [path for path, _ in rows], [code for _, code in rows]
    return statements.insert_indexed, statements.write_indexed, bound


def _run(
    catalog: SQLCatalog, bound: dict[str, Any], run: Callable[[Session], Row | None]
) -> Row | None:
    """Return what *run* returns, which is given up at the deadline; None if nothing is written."""
    database = catalog.database

    def run_in_time(session: Session) -> Row | None:
        bound["deadline"] = database.pool.deadline(session.connection)
        return None if bound["deadline"] is None else run(session)

    try:
        return database.write_one(run_in_time)
    except (ContentionError, RefusedError):
        return None


def _columns(catalog: SQLCatalog, put: Put, now: datetime) -> dict[str, Any]:
    """Return the columns of the row that *put* is; what is there keeps its ``created_at``."""
    return {
        "id": put.id,
        "key": put.key,
        "content_hash": put.content_hash,
        "storage_uri": put.storage_uri,
        "byte_size": put.byte_size,
        "inlined_value": put.inlined_text,
        "metadata": put.metadata,
        "expires_at": put.expires_at,
        "created_at": now,
        "updated_at": now,
        **catalog.scope,
    }


@cache
def _index_rows() -> Callable[[Metadata], list[tuple[str, str]]]:
    """Return what makes metadata rows, imported where there are any."""
    from ltm.search.codes import index_rows

    return index_rows


def _outcome(put: Put, found: AnyRow | None, now: datetime) -> Outcome:
    """Return what becomes of *put*, whose value is another than that of *found*."""
    is_new = found is None or not is_live(found, now)
    return Outcome(put.key, stored=True, created=is_new, storage_uri=put.storage_uri)
