"""What differs between the databases; everything else is written once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Integer,
    Select,
    String,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    collate,
    column,
    exists,
    func,
    literal_column,
    select,
    table,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.sql.expression import UnaryExpression
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.types import TypeEngine

from ltm.errors import CatalogUnavailableError, IntegrityError, LTMError, ValidationError
from ltm.sql.clauses import ENTRIES, SEARCH, has_expired, in_scope
from ltm.sql.columns import JSONDocument, JSONText, UTCDateTime, spell_out
from ltm.sql.dialect import (
    LIMIT,
    BrokenConnectionError,
    ConnectionLostError,
    ContentionError,
    Gate,
    Rows,
    SQLDialect,
)

_FULL_TEXT = table("ltm_entry_fts", column("rowid", Integer))
_WORDS = table(
    "ltm_entry_fts_words", column("term", String), column("doc", Integer), column("offset", Integer)
)
_VECTOR: ColumnElement[Any] = literal_column("ltm_entry_search.words")
_TSQUERY = postgresql.TSQUERY()
_SIMPLE: ColumnElement[Any] = literal_column("'simple'::regconfig")

_RECORD_TYPES: dict[type, TypeEngine[Any]] = {
    BigInteger: BigInteger(),
    Integer: Integer(),
    UTCDateTime: DateTime(timezone=True),
    JSONDocument: postgresql.JSONB(),
}
"""Of what is not text, as it is read from JSON."""


# READ COMMITTED: a statement after a lock sees what was committed while it waited. And a commit is
# on disk before it is answered, as the payloads that it frees are deleted next.
_BEGIN_WRITE = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)

_CONTENTION = ("40001", "40P01")  # serialization_failure, deadlock_detected


class SQLiteDialect(SQLDialect):
    """SQLite 3.35 or newer with FTS5 and JSON."""

    name = "sqlite"
    begin_read = "BEGIN"
    makes_own_schema = True
    counts_first = False
    search_ddl = (
        # The words come analysed: the tokenizer must only split at spaces.
        "CREATE VIRTUAL TABLE ltm_entry_fts USING fts5(text, content='ltm_entry_search', "
        "content_rowid='document_id', tokenize='unicode61 remove_diacritics 0')",
        "CREATE VIRTUAL TABLE ltm_entry_fts_words USING fts5vocab(ltm_entry_fts, instance)",
        "CREATE TRIGGER ltm_entry_search_insert AFTER INSERT ON ltm_entry_search BEGIN "
        "INSERT INTO ltm_entry_fts(rowid, text) VALUES (new.document_id, new.text); END",
        "CREATE TRIGGER ltm_entry_search_delete AFTER DELETE ON ltm_entry_search BEGIN "
        "INSERT INTO ltm_entry_fts(ltm_entry_fts, rowid, text) "
        "VALUES ('delete', old.document_id, old.text); END",
        "CREATE TRIGGER ltm_entry_search_update AFTER UPDATE OF text ON ltm_entry_search BEGIN "
        "INSERT INTO ltm_entry_fts(ltm_entry_fts, rowid, text) "
        "VALUES ('delete', old.document_id, old.text); "
        "INSERT INTO ltm_entry_fts(rowid, text) VALUES (new.document_id, new.text); END",
        # SQLite enforces foreign keys only where a connection asks for it, and an engine that was
        # handed in may not: without this an entry's words would outlive it.
        "CREATE TRIGGER ltm_entries_delete AFTER DELETE ON ltm_entries BEGIN "
        "DELETE FROM ltm_entry_search WHERE entry_id = old.id; "
        "DELETE FROM ltm_entry_metadata WHERE entry_id = old.id; END",
    )

    # Rank 1 compares the index with its content table, not with itself alone.
    check_index = "INSERT INTO ltm_entry_fts(ltm_entry_fts, rank) VALUES ('integrity-check', 1)"
    rebuild_index = "INSERT INTO ltm_entry_fts(ltm_entry_fts) VALUES ('rebuild')"

    def begin_write(self, gate: Gate | None) -> str:  # noqa: ARG002 -- writers take turns anyway
        return "BEGIN IMMEDIATE"

    def enter(self, gate: Gate) -> None:  # noqa: ARG002 -- there is nothing to wait for
        return None

    def command(self, connection: Any, text: str) -> None:
        connection.execute(text)

    def sqlalchemy(self) -> Dialect:
        return sqlite.dialect(paramstyle="qmark")

    def insert(self, target: Table, columns: Sequence[str]) -> sqlite.Insert:
        return sqlite.insert(target).values({name: bindparam(name) for name in columns})

    def bind_rows(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        return rows

    def is_among(self, value: ColumnElement[str], name: str) -> ColumnElement[bool]:
        return value.in_(select(self.items(name)))

    def items(self, name: str) -> ColumnElement[str]:
        listed = func.json_each(bindparam(name, type_=String))
        return listed.table_valued(column("value", String)).c.value

    def bind_list(self, values: Sequence[str]) -> str:
        return json.dumps(values)

    def before(self, value: ColumnElement[str], mark: str) -> ColumnElement[str]:
        return func.substr(value, 1, func.instr(value + mark, mark) - 1)

    def first_from(
        self, column: ColumnElement[str], lower: ColumnElement[str]
    ) -> ColumnElement[str]:
        return select(column).where(column >= lower).order_by(column).limit(1).scalar_subquery()

    def begin_now(self, connection: Connection) -> None:
        # An engine that was handed in leaves it to the driver to begin, which does so too late.
        if not getattr(connection.connection.driver_connection, "in_transaction", False):
            connection.exec_driver_sql(self.begin_write(None))

    def lock_schema(self, connection: Connection) -> None:
        self.begin_now(connection)

    def postings(self) -> Select[Any]:
        # From the index alone: the texts stay unread. Lengths are beside the words of a document.
        expired = select(ENTRIES.c.id).where(in_scope(ENTRIES), has_expired())
        return (
            select(
                _WORDS.c.term,
                SEARCH.c.entry_id,
                SEARCH.c.length,
                func.count().label("frequency"),
            )
            .select_from(_WORDS)
            .join(SEARCH, SEARCH.c.document_id == _WORDS.c.doc)
            .where(self.is_among(_WORDS.c.term, "terms"))
            .where(in_scope(SEARCH), SEARCH.c.entry_id.not_in(expired))
            .group_by(_WORDS.c.term, _WORDS.c.doc)
        )

    def holds_words(self, name: str, *, every: bool) -> ColumnElement[bool]:  # noqa: ARG002 -- see bind_words
        match = literal_column("ltm_entry_fts", String).op("MATCH")(bindparam(name, type_=String))
        found = select(_FULL_TEXT.c.rowid).where(match)
        return SEARCH.c.document_id.in_(found)

    def bind_words(self, sequences: Sequence[Sequence[str]], *, every: bool) -> str:
        phrases = [f'"{" ".join(words)}"' for words in sequences]
        return (" AND " if every else " OR ").join(phrases)

    def is_missing_table(self, error: Exception) -> bool:
        return "no such table" in str(error)

    def translate(self, error: Exception, where: str) -> LTMError:
        if "Could not decode to UTF-8" in str(error):
            return IntegrityError(f"catalog {where}: {error}")
        return CatalogUnavailableError(f"catalog {where}: {error}")


class PostgreSQLDialect(SQLDialect):
    """PostgreSQL 12 or newer, through psycopg 3."""

    name = "postgresql"
    # A planner that takes a rare value for a common one walks the whole table before its LIMIT,
    # and one that does not know the value, in a generic plan, compares all rows with all rows.
    counts_first = True
    begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    makes_own_schema = False
    search_ddl = (
        "ALTER TABLE ltm_entry_search "
        "ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector('simple', text)) STORED",
        "CREATE INDEX ix_ltm_entry_search_words ON ltm_entry_search USING gin (words)",
    )
    # The index is made of the words by PostgreSQL itself.
    check_index = None
    rebuild_index = None

    def begin_write(self, gate: Gate | None) -> str:
        # All in one round trip.
        return _BEGIN_WRITE if gate is None else f"{_BEGIN_WRITE}; {self.enter(gate)}"

    def enter(self, gate: Gate) -> str:
        # In a statement of its own: the next one's view of the data is newer than the lock. Row
        # locks alone would keep a snapshot waiting for ever, and would lose versions: the newest
        # snapshot is not read again after a wait (tests/postgres/test_postgres_writers.py).
        digest = hashlib.sha256(f"ltm:{gate.table}".encode()).digest()
        number = int.from_bytes(digest[:8], signed=True)
        return f"SELECT pg_advisory_xact_lock{'' if gate.is_exclusive else '_shared'}({number})"

    def command(self, connection: Any, text: str) -> None:
        connection.execute(text, prepare=False)

    def sqlalchemy(self) -> Dialect:
        dialect: Dialect = psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]  # SQLAlchemy's
        return dialect

    def bind_rows(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        if not rows:
            return []
        return [{"rows": spell_out(json.dumps(rows, default=datetime.isoformat))}]

    def insert(self, target: Table, columns: Sequence[str]) -> postgresql.Insert:
        # Of all rows in one JSON text: a single statement, whatever their number.
        types = {name: _RECORD_TYPES.get(type(target.c[name].type), Text()) for name in columns}
        rows = func.jsonb_to_recordset(cast(bindparam("rows", type_=Text), postgresql.JSONB))
        record = rows.table_valued(
            *(column(name, kind) for name, kind in types.items()), name="given"
        ).render_derived(with_types=True)
        values = [
            cast(record.c[name], postgresql.JSON)
            if isinstance(target.c[name].type, JSONText)
            else record.c[name]
            for name in columns
        ]
        return postgresql.insert(target).from_select(list(columns), select(*values))

    def is_among(self, value: ColumnElement[str], name: str) -> ColumnElement[bool]:
        return value == any_(bindparam(name, type_=ARRAY(Text)))

    def items(self, name: str) -> ColumnElement[str]:
        listed = func.unnest(bindparam(name, type_=ARRAY(Text)))
        return listed.table_valued(column("value", Text), name=name).render_derived().c.value

    def bind_list(self, values: Sequence[str]) -> list[str]:
        return list(values)

    def before(self, value: ColumnElement[str], mark: str) -> ColumnElement[str]:
        return func.split_part(value, mark, 1)

    def first_from(
        self, column: ColumnElement[str], lower: ColumnElement[str]
    ) -> ColumnElement[str]:
        # By the operators of the index's class: those of the column's collation order differently.
        ascending: ColumnElement[str] = UnaryExpression(column, modifier=custom_op("USING ~<~"))
        is_from = column.bool_op("~>=~")(collate(lower, "default"))  # else it is not of the index
        found = select(column).where(is_from).order_by(ascending).limit(1)
        return collate(found.scalar_subquery(), "C")

    def begin_now(self, connection: Connection) -> None:
        # The driver begins with the first statement, which is soon enough; but in this mode never.
        if getattr(connection.connection.driver_connection, "autocommit", False):
            raise ValidationError("connection: is in AUTOCOMMIT mode, where nothing is begun")

    def lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(hashtextextended('ltm schema', 0))"
        )

    def postings(self) -> Select[Any]:
        terms = bindparam("terms", type_=ARRAY(Text))
        # Counted in the text: a tsvector keeps no more than 255 positions of a word. A document is
        # read once, whatever the number of terms.
        all_words = func.unnest(func.string_to_array(SEARCH.c.text, " "))
        word = all_words.table_valued("term", name="word").render_derived().c.term
        counted = (
            select(word, func.count().label("frequency"))
            .where(word == any_(terms))
            .group_by(word)
            .lateral("counted")
        )
        # Not IN: where those that have expired are too many for the memory of a hash table, it
        # would read all of them for every document.
        expired = exists().where(
            in_scope(ENTRIES), has_expired(), ENTRIES.c.id == SEARCH.c.entry_id
        )
        return (
            select(counted.c.term, SEARCH.c.entry_id, SEARCH.c.length, counted.c.frequency)
            .select_from(SEARCH)
            .join(counted, true())
            .where(_VECTOR.op("@@")(cast(func.array_to_string(terms, " | "), _TSQUERY)))
            .where(in_scope(SEARCH), ~expired)
        )

    def holds_any(self, name: str) -> ColumnElement[bool]:
        return _VECTOR.op("@@")(_any_of(bindparam(name, type_=Text)))

    def holds_words(self, name: str, *, every: bool) -> ColumnElement[bool]:
        given = bindparam(name, type_=Text)
        lines = func.string_to_array(given, func.chr(10))
        phrases = func.unnest(lines).table_valued("phrase", name="asked").render_derived()
        position = func.strpos(
            func.concat(" ", SEARCH.c.text, " "), func.concat(" ", phrases.c.phrase, " ")
        )
        # The vector knows of the words only: positions in it end at 16,383.
        if not every:
            found = exists(select(phrases.c.phrase).where(position > 0))
            return and_(_VECTOR.op("@@")(_any_of(given)), found)
        return and_(
            _VECTOR.op("@@")(func.plainto_tsquery(_SIMPLE, given)),
            ~exists(select(phrases.c.phrase).where(position == 0)),
        )

    def bind_words(self, sequences: Sequence[Sequence[str]], *, every: bool) -> str:  # noqa: ARG002 -- see holds_words
        return "\n".join(" ".join(words) for words in sequences)

    def first_of(self, branches: Sequence[Select[Any]], column: str) -> Rows:
        # PostgreSQL sorts the whole of a branch that is not told where it may stop.
        ends = [each.order_by(each.selected_columns[column]).limit(LIMIT) for each in branches]
        return super().first_of(ends, column) if len(ends) > 1 else ends[0]

    def is_missing_table(self, error: Exception) -> bool:
        return getattr(error, "sqlstate", None) == "42P01"

    def translate(self, error: Exception, where: str) -> LTMError:
        from psycopg import InterfaceError, OperationalError

        # SQLAlchemy's own errors wrap the driver's.
        original = getattr(error, "orig", None) or error
        sqlstate = getattr(original, "sqlstate", None) or ""
        message = f"catalog {where}: {original}"
        if sqlstate in _CONTENTION:
            return ContentionError(message)
        is_broken = not sqlstate and isinstance(original, OperationalError | InterfaceError)
        if is_broken or sqlstate.startswith(("08", "57P")):
            return ConnectionLostError(message)
        if sqlstate == "57014":  # query_canceled, of which our own timeout is one
            return BrokenConnectionError(message)
        return CatalogUnavailableError(message)


def _any_of(lines: ColumnElement[str]) -> ColumnElement[Any]:
    """Return the query for the words of any of *lines*: ``a b`` and ``c`` make ``a & b | c``."""
    words = func.replace(func.replace(lines, " ", " & "), func.chr(10), " | ")
    return cast(words, _TSQUERY)


DIALECTS: dict[str, SQLDialect] = {
    each.name: each for each in (SQLiteDialect(), PostgreSQLDialect())
}
"""By SQLAlchemy's name of the dialect."""
