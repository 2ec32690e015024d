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
from sqlalchemy.sql.selectable import CTE

from ltm.sql.clauses import (
    ENTRIES,
    METADATA,
    REPLACED,
    ROW_COLUMNS,
    SEARCH,
    TABLES,
    is_plain,
)
from ltm.sql.columns import UTCDateTime

_XMIN: ColumnElement[Any] = literal_column("ltm_entries.xmin")
_IS_NEW: ColumnElement[Any] = literal_column("ltm_entries.xmax = 0")
"""Whether a row was inserted: one that is updated has been locked for it.

The row that is seen may be gone when it is this statement's turn.
"""
_SEEN = ROW_COLUMNS[2:]
"""Of the row that was there, all but what it is known by."""

_SHARED = "tenant_id", "table_name", "updated_at"
"""What metadata rows repeat of their entry; words do so but for the last."""

_GIVEN = {name: bindparam(name, type_=each.type) for name, each in ENTRIES.c.items()}
_SETTING: ColumnElement[Any] = literal_column("'synchronous_commit'")


def build_plain_write(*, indexes: bool) -> Select[Any]:
    """Return the statement; see ``Statements.write_plain``."""
    there = ENTRIES.alias("e")
    columns: list[ColumnElement[Any]] = [there.c[name] for name in _SEEN]
    columns.append(literal_column("e.xmin").label("xmin"))
    if not indexes:
        words = exists(select(SEARCH.c.entry_id).where(SEARCH.c.entry_id == there.c.id))
        columns.append(words.label("has_words"))
    seen = select(*columns).where(there.c.id == _GIVEN["id"]).cte("seen")
    written = _write_entry(_pass_gate(), seen, indexes=indexes)
    indexing = (*_write_words(written), *_write_metadata(written)) if indexes else ()
    nothing = select(literal_column("1").label("one")).subquery("nothing")
    return (
        select(select(written.c.is_new).scalar_subquery(), *(seen.c[name] for name in _SEEN))
        .select_from(nothing.outerjoin(seen, true()))
        .add_cte(seen, *indexing)
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
        .where(TABLES.c.name == _GIVEN["table_name"])
        .with_for_update(read=True, of=TABLES)
        .cte("counters")
    )


def _write_entry(counters: CTE, seen: CTE, *, indexes: bool) -> CTE:
    values = _GIVEN | {"begin_seq": counters.c.snapshot_seq}
    # The server may get to see it long after whoever sent it was told that it has failed.
    in_time = func.clock_timestamp() < bindparam("deadline", type_=UTCDateTime)
    row = select(*values.values()).where(in_time)
    statement = postgresql.insert(ENTRIES).from_select(list(values), row)
    new = statement.excluded
    # An entry that has expired is another one.
    is_live = ENTRIES.c.expires_at.is_(None) | (ENTRIES.c.expires_at > new.updated_at)
    kept = {"created_at": case((is_live, ENTRIES.c.created_at), else_=new.created_at)}
    replaceable = select(seen.c.xmin)
    if not indexes:
        # What has neither words nor metadata rows that were to be deleted.
        replaceable = replaceable.where(
            seen.c.metadata == literal_column("'{}'"), ~seen.c.has_words
        )
    return (
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_={name: kept.get(name, new[name]) for name in REPLACED},
            where=and_(
                # As no snapshot has been taken since it was written.
                is_plain(new, unseen=ENTRIES.c.begin_seq == new.begin_seq),
                replaceable.scalar_subquery() == _XMIN,
                in_time,
            ),
        )
        .returning(*(ENTRIES.c[name] for name in ("id", *_SHARED)), _IS_NEW.label("is_new"))
        .cte("written")
    )


def _write_words(written: CTE) -> tuple[CTE, CTE]:
    columns = ["entry_id", "tenant_id", "table_name", "length", "text"]
    given = select(
        bindparam("length", type_=SEARCH.c.length.type).label("length"),
        bindparam("text", type_=Text).label("text"),
    ).cte("document")
    row = select(
        written.c.id, written.c.tenant_id, written.c.table_name, given.c.length, given.c.text
    ).select_from(written.join(given, given.c.text.is_not(None)))
    statement = postgresql.insert(SEARCH).from_select(columns, row)
    new = statement.excluded
    words = statement.on_conflict_do_update(
        index_elements=["entry_id"],
        set_={"length": new.length, "text": new.text},
        where=SEARCH.c.text != new.text,
    )
    forgotten = select(written.c.id).select_from(written.join(given, given.c.text.is_(None)))
    wordless = delete(SEARCH).where(SEARCH.c.entry_id == forgotten.scalar_subquery())
    return words.cte("words"), wordless.cte("wordless")


def _write_metadata(written: CTE) -> tuple[CTE, CTE]:
    arrays = (bindparam(name, type_=ARRAY(Text)) for name in ("paths", "codes"))
    unnested = func.unnest(*arrays).table_valued("path", "value", name="unnested").render_derived()
    given = select(unnested.c.path, unnested.c.value).cte("given")
    outdated = delete(METADATA).where(
        METADATA.c.entry_id == select(written.c.id).scalar_subquery(),
        tuple_(METADATA.c.path, METADATA.c.value).not_in(select(given.c.path, given.c.value)),
    )
    row = select(
        written.c.id, given.c.path, given.c.value, *(written.c[name] for name in _SHARED)
    ).select_from(written.join(given, true()))
    columns = ["entry_id", "path", "value", *_SHARED]
    statement = postgresql.insert(METADATA).from_select(columns, row)
    indexed = statement.on_conflict_do_update(
        index_elements=["entry_id", "path", "value"],
        set_={"updated_at": statement.excluded.updated_at},
    )
    return outdated.cte("outdated"), indexed.cte("indexed")
