"""One statement of PostgreSQL's that writes an entry with its words and metadata rows.

All of it sees the data as they were when it began. So it writes over the row that it sees, told by
its transaction id, or not at all: what another transaction has written meanwhile has words and
metadata rows that it does not see.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.selectable import CTE, Subquery

from ltm.sql.clauses import (
    ENTRIES,
    ENTRY_PARAMETERS,
    METADATA,
    SEARCH,
    TABLES,
    VALUE_COLUMNS,
    WORD_COLUMNS,
    is_plain,
    plain_changes,
)
from ltm.sql.columns import UTCDateTime

_XMIN: ColumnElement[Any] = literal_column("ltm_entries.xmin")
_IS_NEW: ColumnElement[Any] = literal_column("ltm_entries.xmax = 0")
"""Whether a row was inserted: one that is updated has been locked for it.

The row that is seen may be gone when it is this statement's turn.
"""
_SEEN = [column.name for column in VALUE_COLUMNS]
"""Of the row that was there, all but what it is known by."""

_SHARED = "tenant_id", "table_name", "updated_at"
"""What metadata rows repeat of their entry; words do so but for the last."""

_WRITTEN = [ENTRIES.c[name] for name in ("id", *_SHARED)]
"""What is told of the entry that is written."""

_SETTING: ColumnElement[Any] = literal_column("'synchronous_commit'")


def build_plain_write(*, indexes: bool) -> Select[Any]:
    """Return the statement; see ``PlainStatements.write_plain``."""
    there = ENTRIES.alias("e")
    columns: list[ColumnElement[Any]] = [there.c[name] for name in _SEEN]
    columns.append(literal_column("e.xmin").label("xmin"))
    if not indexes:
        words = exists(select(SEARCH.c.entry_id).where(SEARCH.c.entry_id == there.c.id))
        columns.append(words.label("has_words"))
    seen = select(*columns).where(there.c.id == ENTRY_PARAMETERS["id"]).cte("seen")
    written = _write_entry(_pass_gate(), seen, indexes=indexes)
    indexing = (*_write_words(written), *_write_metadata(written)) if indexes else ()
    nothing = select(literal_column("1").label("one")).subquery("nothing")
    return (
        select(select(written.c.is_new).scalar_subquery(), *(seen.c[name] for name in _SEEN))
        .select_from(nothing.outerjoin(seen, true()))
        .add_cte(seen, *indexing)
    )


def build_plain_insert(*, indexes: bool) -> Select[Any]:
    """Return the statement; see ``PlainStatements.insert_plain``."""
    # Whoever inserts the entry at the same time waits for this, or makes this one do nothing.
    statement = _insert_entry(_pass_gate()).on_conflict_do_nothing()
    written = statement.returning(*_WRITTEN).cte("written")
    if not indexes:
        return select(written.c.id)
    metadata = _insert_metadata(written, _given_metadata().subquery("given"))
    return select(written.c.id).add_cte(
        _insert_words(written).cte("words"), metadata.cte("indexed")
    )


def _pass_gate() -> CTE:
    """Return ``snapshot_seq`` of the table, read after the lock that keeps snapshots out."""
    is_durable = case(
        (
            func.current_setting(_SETTING) == literal_column("'off'"),
            func.set_config(_SETTING, literal_column("'on'"), true()),
        )
    )
    gate = select(
        func.pg_advisory_xact_lock_shared(bindparam("gate", type_=BigInteger)).label("passed"),
        is_durable.label("is_durable"),
    ).cte("gate")
    # Locked, for only so the row is read again if it was changed while this waited at the gate.
    return (
        select(TABLES.c.snapshot_seq)
        .select_from(gate.join(TABLES, true()))
        .where(TABLES.c.name == ENTRY_PARAMETERS["table_name"])
        .with_for_update(read=True, of=TABLES)
        .cte("counters")
    )


def _is_in_time() -> ColumnElement[bool]:
    """Whether nobody has been told yet that the statement has failed."""
    return func.clock_timestamp() < bindparam("deadline", type_=UTCDateTime)


def _insert_entry(counters: CTE) -> postgresql.Insert:
    """Return the INSERT of an entry, of none if the server gets to see it too late."""
    values = ENTRY_PARAMETERS | {"begin_seq": counters.c.snapshot_seq}
    row = select(*(value.label(name) for name, value in values.items())).where(_is_in_time())
    return postgresql.insert(ENTRIES).from_select(list(values), row)


def _write_entry(counters: CTE, seen: CTE, *, indexes: bool) -> CTE:
    statement = _insert_entry(counters)
    new = statement.excluded
    replaceable = select(seen.c.xmin)
    if not indexes:
        # What has neither words nor metadata rows that were to be deleted.
        replaceable = replaceable.where(
            seen.c.metadata == literal_column("'{}'"), ~seen.c.has_words
        )
    return (
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_=plain_changes(new),
            where=and_(
                is_plain(new),
                replaceable.scalar_subquery() == _XMIN,
                _is_in_time(),
            ),
        )
        .returning(*_WRITTEN, _IS_NEW.label("is_new"))
        .cte("written")
    )


def _write_words(written: CTE) -> tuple[CTE, CTE]:
    statement = _insert_words(written)
    new = statement.excluded
    words = statement.on_conflict_do_update(
        index_elements=["entry_id"],
        set_={"length": new.length, "text": new.text},
        where=SEARCH.c.text != new.text,
    )
    has_none = bindparam("text", type_=Text).is_(None)
    forgotten = select(written.c.id).where(has_none).scalar_subquery()
    return words.cte("words"), delete(SEARCH).where(SEARCH.c.entry_id == forgotten).cte("wordless")


def _insert_words(written: CTE) -> postgresql.Insert:
    text = bindparam("text", type_=Text)
    length = bindparam("length", type_=SEARCH.c.length.type)
    row = select(written.c.id, written.c.tenant_id, written.c.table_name, length, text)
    return postgresql.insert(SEARCH).from_select(WORD_COLUMNS, row.where(text.is_not(None)))


def _write_metadata(written: CTE) -> tuple[CTE, CTE]:
    given = _given_metadata().cte("given")
    outdated = delete(METADATA).where(
        METADATA.c.entry_id == select(written.c.id).scalar_subquery(),
        tuple_(METADATA.c.path, METADATA.c.value).not_in(select(given.c.path, given.c.value)),
    )
    statement = _insert_metadata(written, given)
    indexed = statement.on_conflict_do_update(
        index_elements=["entry_id", "path", "value"],
        set_={"updated_at": statement.excluded.updated_at},
    )
    return outdated.cte("outdated"), indexed.cte("indexed")


def _insert_metadata(written: CTE, given: CTE | Subquery) -> postgresql.Insert:
    row = select(
        written.c.id, given.c.path, given.c.value, *(written.c[name] for name in _SHARED)
    ).select_from(written.join(given, true()))
    columns = ["entry_id", "path", "value", *_SHARED]
    return postgresql.insert(METADATA).from_select(columns, row)


def _given_metadata() -> Select[Any]:
    arrays = (bindparam(name, type_=ARRAY(Text)) for name in ("paths", "codes"))
    unnested = func.unnest(*arrays).table_valued("path", "value", name="unnested").render_derived()
    return select(unnested.c.path, unnested.c.value)
