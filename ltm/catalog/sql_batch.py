"""Batches of new entries in SQL, written without a look at what is there.

An INSERT fails where it meets a row. So of entries that most probably have no old rows not all are
asked for, and none is locked or decided upon; and it costs less than one that would leave alone
what it meets.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ltm.catalog.commit import NewWrite, Outcome, Put, StaleEntryError
from ltm.catalog.database import in_chunks
from ltm.catalog.steps import IndexSteps
from ltm.sql.execution import Columns, Session
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ltm.catalog.sql import SQLCatalog


def write_new(catalog: SQLCatalog, puts: Sequence[Put], now: datetime) -> NewWrite:
    """Carry out *puts* if no row is there; see ``CatalogPrimitives.write_new``."""
    database = catalog.database
    # In the order in which all writers lock rows; and as ids are hashes, those that are asked for
    # first are a random sample: the many that are there are found before anything is written.
    ordered = sorted(puts, key=lambda put: put.id)
    first, *others = in_chunks([put.id for put in ordered])
    found = catalog.rows_of(first, now)
    if found:
        for chunk in others:
            found |= catalog.rows_of(chunk, now)
        return None, {row.key: row for row in found.values()}

    chunks = [*in_chunks(ordered, database.dialect.rows_per_insert)]
    # A file is locked no longer than need be; a server is at work while the rest is made.
    made = None if database.dialect.works_aside else [_index(catalog, each, now) for each in chunks]

    def write(session: Session) -> None:
        begin_seq = catalog.read_current(session, [])[0]
        insert = database.statements.insert_first_entry
        indexes = made or (_index(catalog, each, now) for each in chunks)
        try:
            with session.pipeline():
                for chunk, index in zip(chunks, indexes, strict=True):
                    shared = {**catalog.scope, "begin_seq": begin_seq}
                    session.send_rows(insert, _columns_of(chunk, now), shared)
                    index.run_first(session, database.statements)
        except database.errors as error:
            if not database.dialect.is_duplicate(error):
                raise
            expected = "no row for any entry of the batch"
            raise StaleEntryError(ordered[0].key, None, expected) from error

    try:
        database.write(write, catalog.gate)
    except StaleEntryError:
        # One was there and not asked for, has expired, or was written meanwhile.
        return None, catalog.read_many([put.key for put in puts], now)
    return [Outcome(put.key, stored=True, created=True) for put in puts], {}


def _index(catalog: SQLCatalog, puts: Sequence[Put], now: datetime) -> IndexSteps:
    """Return what indexes the entries that *puts* make."""
    steps = IndexSteps(catalog.scope)
    for put in puts:
        steps.add(
            *(put.id, put.document(), put.metadata, put.updated_at or now),
            replaces=False,
            metadata_changed=True,
        )
    return steps


def _columns_of(puts: Sequence[Put], now: datetime) -> Columns:
    """Return the columns of the rows that *puts* make, of which there is one at least."""
    columns: dict[str, Sequence[Any]] = dict(zip(Put._fields, zip(*puts, strict=True), strict=True))
    columns["inlined_value"] = columns["inlined_text"]
    for name in ("created_at", "updated_at"):
        columns[name] = [given or now for given in columns[name]]
    return columns
