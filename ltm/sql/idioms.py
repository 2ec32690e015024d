"""What differs between the databases in what is said to them; everything else is written once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
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
    case,
    cast,
    collate,
    column,
    exists,
    func,
    literal_column,
    null,
    select,
    table,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.expression import UnaryExpression
from sqlalchemy.sql.operators import custom_op, truediv
from sqlalchemy.types import NullType, TypeEngine

from ltm.sql.clauses import (
    ENTRIES,
    ENTRY_PARAMETERS,
    SEARCH,
    TABLES,
    in_scope,
    is_plain,
    plain_changes,
)
from ltm.sql.columns import JSONDocument, JSONText, UTCDateTime
from ltm.sql.dialects import DIALECTS
from ltm.sql.idiom import LIMIT, Idiom, Rows
from ltm.sql.plain_postgres import build_plain_insert, build_plain_write

_FULL_TEXT = table("ltm_entry_fts", column("rowid", Integer))
_WORDS = table(
    "ltm_entry_fts_words", column("term", String), column("doc", Integer), column("offset", Integer)
)
_VECTOR: ColumnElement[Any] = literal_column("ltm_entry_search.words")
_TSQUERY = postgresql.TSQUERY()
_SIMPLE: ColumnElement[Any] = literal_column("'simple'::regconfig")

FEW_REPEATED = 4
"""Up to so many words a text is short of distinct ones, how often each occurs is not asked."""

_ELEMENT_TYPES: dict[type, TypeEngine[Any]] = {
    BigInteger: BigInteger(),
    Integer: Integer(),
    UTCDateTime: DateTime(timezone=True),
}
"""Of the arrays that rows come in, where it is not text."""

_DOCUMENT_TYPES: dict[type, TypeEngine[Any]] = {
    JSONDocument: postgresql.JSONB(),
    JSONText: postgresql.JSON(),
}
"""What comes as text and is another type."""


class SQLiteIdiom(Idiom):
    """SQLite 3.35 or newer with FTS5 and JSON."""

    dialect = DIALECTS["sqlite"]
    url = "sqlite://"
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

    def sqlalchemy(self) -> Dialect:
        return sqlite.dialect(paramstyle="qmark")

    def insert(self, target: Table, columns: Sequence[str]) -> sqlite.Insert:
        return sqlite.insert(target).values({name: bindparam(name) for name in columns})

    def plain_write(self, *, indexes: bool) -> Insert:
        # Where it is to be is read before, and what is done depends on these three columns of it.
        statement = self._insert_entry()
        words = select(SEARCH.c.entry_id).where(SEARCH.c.entry_id == bindparam("id"))
        return statement.on_conflict_do_update(
            index_elements=["id"],
            set_=plain_changes(statement.excluded),
            where=and_(
                is_plain(statement.excluded),
                *(
                    ENTRIES.c[name].is_not_distinct_from(
                        bindparam(f"seen_{name}", type_=ENTRIES.c[name].type)
                    )
                    for name in ("content_hash", "metadata", "expires_at")
                ),
                true() if indexes else ~words.exists(),
            ),
        )

    def plain_insert(self, *, indexes: bool) -> Insert:  # noqa: ARG002 -- statements of their own
        return self._insert_entry().on_conflict_do_nothing()

    def _insert_entry(self) -> sqlite.Insert:
        table_name = ENTRY_PARAMETERS["table_name"]
        begin_seq = select(TABLES.c.snapshot_seq).where(TABLES.c.name == table_name)
        values = ENTRY_PARAMETERS | {"begin_seq": begin_seq.scalar_subquery()}
        return sqlite.insert(ENTRIES).values(values)

    def is_among(self, value: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        return value.in_(select(self.items(name)))

    def items(self, name: str) -> ColumnElement[str]:
        listed = func.json_each(bindparam(name, type_=String))
        return listed.table_valued(column("value", String)).c.value

    def before(self, value: ColumnElement[str], mark: str) -> ColumnElement[str]:
        return func.substr(value, 1, func.instr(value + mark, mark) - 1)

    def first_from(
        self, column: ColumnElement[str], lower: ColumnElement[str]
    ) -> ColumnElement[str]:
        return select(column).where(column >= lower).order_by(column).limit(1).scalar_subquery()

    def occurrences(self) -> Select[Any]:
        # From the index alone, which has a row for each occurrence: the texts stay unread.
        asked = func.json_each(bindparam("terms", type_=String)).table_valued("value")
        tenant, table = SEARCH.c.tenant_id, SEARCH.c.table_name
        ours = tenant == bindparam("tenant")
        # Words of other tables and tenants are in the same index. Whether there are any is four
        # look-ups, each at an end of a range; then the table's own documents are listed once.
        others = (
            *(tenant < bindparam("tenant"), tenant > bindparam("tenant")),
            *(ours & (table < bindparam("table")), ours & (table > bindparam("table"))),
        )
        is_alone = and_(*(~select(SEARCH.c.length).where(each).exists() for each in others))
        is_ours = _WORDS.c.doc.in_(select(SEARCH.c.document_id).where(in_scope(SEARCH)))
        documents = (
            select(self.listed(_WORDS.c.doc))
            .where(_WORDS.c.term == asked.c.value, is_alone | is_ours)
            .scalar_subquery()
        )
        return select(asked.c.value, documents, null())

    def listed(self, numbers: ColumnElement[int]) -> ColumnElement[Any]:
        return func.json_group_array(numbers)

    def holds_words(self, name: str, *, every: bool) -> ColumnElement[bool]:  # noqa: ARG002 -- see bind_words
        match = literal_column("ltm_entry_fts", String).op("MATCH")(bindparam(name, type_=String))
        found = select(_FULL_TEXT.c.rowid).where(match)
        return SEARCH.c.document_id.in_(found)


class PostgreSQLIdiom(Idiom):
    """PostgreSQL 12 or newer."""

    dialect = DIALECTS["postgresql"]
    url = "postgresql+psycopg://"
    # A planner that takes a rare value for a common one walks the whole table before its LIMIT,
    # and one that does not know the value, in a generic plan, compares all rows with all rows.
    counts_first = True
    search_ddl = (
        "ALTER TABLE ltm_entry_search "
        "ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector('simple', text)) STORED",
        "CREATE INDEX ix_ltm_entry_search_words ON ltm_entry_search USING gin (words)",
    )

    def sqlalchemy(self) -> Dialect:
        dialect: Dialect = psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]  # SQLAlchemy's
        return dialect

    def insert(self, target: Table, columns: Sequence[str]) -> postgresql.Insert:
        # Of all rows in one array for each column: a single statement, whatever their number.
        types = {name: target.c[name].type for name in columns}
        arrays = (
            bindparam(name, type_=ARRAY(_ELEMENT_TYPES.get(type(kind), Text())))
            for name, kind in types.items()
        )
        given = func.unnest(*arrays).table_valued(*columns, name="given").render_derived()
        values = [
            cast(given.c[name], _DOCUMENT_TYPES[type(kind)])
            if type(kind) in _DOCUMENT_TYPES
            else given.c[name]
            for name, kind in types.items()
        ]
        return postgresql.insert(target).from_select(list(columns), select(*values))

    def plain_write(self, *, indexes: bool) -> Select[Any]:
        return build_plain_write(indexes=indexes)

    def plain_insert(self, *, indexes: bool) -> Select[Any]:
        return build_plain_insert(indexes=indexes)

    def is_among(self, value: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        kind = BigInteger() if isinstance(value.type, BigInteger) else Text()
        return value == any_(bindparam(name, type_=ARRAY(kind)))

    def items(self, name: str) -> ColumnElement[str]:
        listed = func.unnest(bindparam(name, type_=ARRAY(Text)))
        return listed.table_valued(column("value", Text), name=name).render_derived().c.value

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

    def occurrences(self) -> Select[Any]:
        # From a query of its own, so that a plan costs the same whether the terms are known or not:
        # else PostgreSQL would plan the prepared statement each time.
        given = select(bindparam("terms", type_=ARRAY(Text))).scalar_subquery()
        asked = func.unnest(given)
        term = asked.table_valued("term", name="asked").render_derived().c.term
        found = (
            select(
                self.listed(SEARCH.c.document_id).label("documents"),
                self.listed(_bound_frequency(term)).label("bounds"),
            )
            .where(_VECTOR.op("@@")(cast(term, _TSQUERY)), in_scope(SEARCH))
            .lateral("found")
        )
        return select(term, found.c.documents, found.c.bounds).join(found, true())

    def listed(self, numbers: ColumnElement[int]) -> ColumnElement[Any]:
        return func.array_agg(numbers, type_=NullType())  # which the driver reads

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

    def first_of(self, branches: Sequence[Select[Any]], column: str) -> Rows:
        # PostgreSQL sorts the whole of a branch that is not told where it may stop.
        ends = [each.order_by(each.selected_columns[column]).limit(LIMIT) for each in branches]
        return super().first_of(ends, column) if len(ends) > 1 else ends[0]


def _bound_frequency(term: ColumnElement[str]) -> ColumnElement[int]:
    """Return how often *term* may occur in a search row that has it.

    Not by its positions in the tsvector, which are 255 at most. A short text has few words more
    than once, whose number the vector tells; a long text is searched, also within words.
    """
    text = SEARCH.c.text
    repeated = SEARCH.c.length - func.length(_VECTOR)
    found = func.octet_length(text) - func.octet_length(func.replace(text, term, ""))
    within = found.self_group(truediv).op("/", return_type=Integer())(func.octet_length(term))
    return case((repeated < FEW_REPEATED, repeated + 1), else_=within)


def _any_of(lines: ColumnElement[str]) -> ColumnElement[Any]:
    """Return the query for the words of any of *lines*: ``a b`` and ``c`` make ``a & b | c``."""
    words = func.replace(func.replace(lines, " ", " & "), func.chr(10), " | ")
    return cast(words, _TSQUERY)


IDIOMS: dict[str, Idiom] = {each.dialect.name: each for each in (SQLiteIdiom(), PostgreSQLIdiom())}
"""By the name of the dialect."""
