"""Plain writes in SQL: of a value over nothing, of an inlined one over what nobody else needs.

Most writes are of this kind, and one statement does them, or sees that it must not. What it asks
for is in ``ltm.sql.clauses.is_plain``; the rules are those of :mod:`ltm.catalog.decisions`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ltm.catalog.commit import Outcome, PlainWrite, Put, is_live, same_metadata
from ltm.catalog.steps import IndexSteps
from ltm.entry import AnyRow, Metadata, ValueRow
from ltm.sql.dialects import ContentionError, RefusedError
from ltm.sql.execution import Row, Session, Statement
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ltm.catalog.sql import SQLCatalog
    from ltm.sql.statements import Statements

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
        outcome = _write_over(catalog, put, None, now)
        if outcome is not None:
            return outcome, None
    found = catalog.read_any_value(put.key)
    catalog.news = catalog.news + 1 if found is None else 0
    live = found if found is not None and is_live(found, now) else None
    is_plain = found is None or (
        found.storage_uri is None and found.content_hash != put.content_hash
    )
    return _write_over(catalog, put, found, now) if is_plain else None, live


def write_first(catalog: SQLCatalog, put: Put, now: datetime) -> Outcome | None:
    """Carry out *put* if no row is there; see ``CatalogPrimitives.write_first``."""
    if not _is_simple(catalog, put):
        return None
    if not catalog.database.dialect.indexes_within:
        return _write_over(catalog, put, None, now)
    insert, _, bound = _whole(catalog, put, now)
    is_new = _run(catalog, bound, lambda session: session.row(insert, bound))
    return None if is_new is None else _outcome(put, None, now)


def _is_simple(catalog: SQLCatalog, put: Put) -> bool:
    """Return whether a statement of its own may write *put*."""
    return catalog.database.writes_plain and not (put.created_at or put.updated_at)


def _write_over(
    catalog: SQLCatalog, put: Put, found: AnyRow | None, now: datetime
) -> Outcome | None:
    """Write *put* over *found*, or where there is nothing; None if there is something else."""
    database, statements = catalog.database, catalog.database.statements
    bound, outcome = _columns(catalog, put, now), _outcome(put, found, now)
    if found is not None:
        bound["seen_content_hash"] = found.content_hash
        bound["seen_metadata"] = found.metadata
        bound["seen_expires_at"] = found.expires_at
    if put.analyze is None and not put.metadata and not (found and found.metadata):
        statement = statements.insert_plain if found is None else statements.write_plain
        done = database.write_soon(lambda session: session.run(statement, bound) > 0, is_one=True)
        return outcome if done else None
    if found is None:
        statement, index = statements.insert_indexed, _first_index(put, bound)
    else:
        statement, steps = statements.write_indexed, IndexSteps(catalog.scope)
        steps.add(
            *(put.id, put.document(), put.metadata, now),
            replaces=True,
            metadata_changed=not same_metadata(found.metadata, put.metadata),
        )
        index = steps.run

    def write(session: Session) -> bool:
        if not session.run(statement, bound):
            return False
        index(session, statements)
        return True

    return outcome if database.write_soon(write, is_one=False) else None


def _first_index(put: Put, bound: dict[str, Any]) -> Callable[[Session, Statements], None]:
    """Return what indexes *put*, a new entry whose columns are *bound*."""
    document, (paths, codes) = put.document(), _index_columns(put.metadata)
    bound["entry_id"] = put.id
    if document is not None:
        bound["text"], bound["length"] = document

    def index(session: Session, statements: Statements) -> None:
        if document is not None:
            session.run(statements.insert_search, bound)
        session.write_rows(statements.insert_first_metadata, {"path": paths, "value": codes}, bound)

    return index


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
    bound["paths"], bound["codes"] = _index_columns(put.metadata)
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


def _index_columns(metadata: Metadata) -> tuple[list[str], list[str]]:
    """Return the paths and the codes of the metadata rows of an entry."""
    if not metadata:
        return [], []
    from ltm.search.codes import index_rows

    rows = index_rows(metadata)
    return [path for path, _ in rows], [code for _, code in rows]


def _outcome(put: Put, found: AnyRow | None, now: datetime) -> Outcome:
    """Return what becomes of *put*, whose value is another than that of *found*."""
    is_new = found is None or not is_live(found, now)
    return Outcome(put.key, stored=True, created=is_new, storage_uri=put.storage_uri)
