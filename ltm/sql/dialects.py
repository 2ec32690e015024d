"""What differs between the databases; everything else is written once."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Integer,
    Select,
    String,
    Table,
    bindparam,
    column,
    func,
    literal_column,
    select,
    table,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.dml import Insert

from ltm.errors import CatalogUnavailableError, IntegrityError, LTMError
from ltm.sql.models import EntrySearchModel

_FULL_TEXT = table("ltm_entry_fts", column("rowid", Integer))
_WORDS = table(
    "ltm_entry_fts_words", column("term", String), column("doc", Integer), column("offset", Integer)
)


class SQLDialect(ABC):
    """How one database says what SQLAlchemy has no common word for."""

    name: ClassVar[str]
    begin_read: ClassVar[str]
    """Begins a transaction whose statements all see one state."""
    begin_write: ClassVar[str]
    """Begins a transaction that may write; waits here, not at its first write, for its turn."""
    search_ddl: ClassVar[tuple[str, ...]]
    """What the models cannot say of the full-text index, run after their tables are made."""

    @abstractmethod
    def sqlalchemy(self) -> Dialect:
        """Return SQLAlchemy's dialect, whose SQL takes parameters by position."""

    @abstractmethod
    def upsert(
        self,
        target: Table,
        columns: Sequence[str],
        *,
        keys: Sequence[str],
        changed: Sequence[str],
        unless_equal: str | None = None,
    ) -> Insert:
        """Return INSERT of *columns* that, where *keys* are there, sets its *changed* columns.

        With *unless_equal* a row in which that column is the same already stays untouched.
        """

    @abstractmethod
    def insert_new(self, target: Table) -> Insert:
        """Return INSERT that leaves a row that is there as it is."""

    @abstractmethod
    def is_among(self, value: ColumnElement[str], name: str) -> ColumnElement[bool]:
        """Return whether *value* is in the list bound as one parameter *name*."""

    @abstractmethod
    def bind_list(self, values: Sequence[str]) -> Any:
        """Return the parameter for :meth:`is_among`."""

    @abstractmethod
    def begin_now(self, connection: Connection) -> None:
        """Begin the transaction of *connection* in the database if only SQLAlchemy has begun."""

    @abstractmethod
    def lock_schema(self, connection: Connection) -> None:
        """Let one process at a time see to the schema, until the transaction ends."""

    @abstractmethod
    def has_table(self) -> Select[Any]:
        """Select a row if there is a table ``name``."""

    @abstractmethod
    def postings(self) -> Select[Any]:
        """Select term, entry id, length and frequency for words among the list ``terms``.

        To be narrowed to a table by conditions on ``ltm_entry_search``, grouped already.
        """

    @abstractmethod
    def holds_words(self, name: str) -> ColumnElement[bool]:
        """Return whether a search row matches the words that :meth:`bind_words` bound as *name*."""

    @abstractmethod
    def bind_words(self, sequences: Sequence[Sequence[str]], *, every: bool) -> str:
        """Return the parameter for :meth:`holds_words`: each sequence a phrase of index words."""

    @abstractmethod
    def contains(self, value: ColumnElement[str], name: str) -> ColumnElement[bool]:
        """Return whether *value* has the text bound as *name* in it, with case."""

    check_index: ClassVar[str | None]
    """Fails where the full-text index disagrees with the words; None where it can't."""
    rebuild_index: ClassVar[str | None]
    """Makes the full-text index anew from the words."""

    @abstractmethod
    def translate(self, error: Exception, where: str) -> LTMError:
        """Return what a driver's *error* means to a caller; *where* names the catalog."""


class SQLiteDialect(SQLDialect):
    """SQLite 3.35 or newer with FTS5 and JSON."""

    name = "sqlite"
    begin_read = "BEGIN"
    begin_write = "BEGIN IMMEDIATE"
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

    def sqlalchemy(self) -> Dialect:
        return sqlite.dialect(paramstyle="qmark")

    def upsert(
        self,
        target: Table,
        columns: Sequence[str],
        *,
        keys: Sequence[str],
        changed: Sequence[str],
        unless_equal: str | None = None,
    ) -> Insert:
        statement = sqlite.insert(target).values({name: bindparam(name) for name in columns})
        differs = (
            None
            if unless_equal is None
            else target.c[unless_equal].is_distinct_from(statement.excluded[unless_equal])
        )
        return statement.on_conflict_do_update(
            index_elements=keys,
            set_={name: statement.excluded[name] for name in changed},
            where=differs,
        )

    def insert_new(self, target: Table) -> Insert:
        return sqlite.insert(target).on_conflict_do_nothing()

    def is_among(self, value: ColumnElement[str], name: str) -> ColumnElement[bool]:
        items = func.json_each(bindparam(name, type_=String)).table_valued("value")
        return value.in_(select(items.c.value))

    def bind_list(self, values: Sequence[str]) -> str:
        return json.dumps(values)

    def begin_now(self, connection: Connection) -> None:
        # An engine that was handed in leaves it to the driver to begin, which does so too late.
        if not getattr(connection.connection.driver_connection, "in_transaction", False):
            connection.exec_driver_sql(self.begin_write)

    def lock_schema(self, connection: Connection) -> None:
        self.begin_now(connection)

    def has_table(self) -> Select[Any]:
        catalog = table("sqlite_master", column("type", String), column("name", String))
        return select(catalog.c.name).where(
            catalog.c.type == "table", catalog.c.name == bindparam("name")
        )

    def postings(self) -> Select[Any]:
        # From the index alone: the texts stay unread. Lengths are beside the words of a document.
        search = EntrySearchModel.__table__
        return (
            select(
                _WORDS.c.term,
                search.c.entry_id,
                search.c.length,
                func.count().label("frequency"),
            )
            .select_from(_WORDS)
            .join(search, search.c.document_id == _WORDS.c.doc)
            .where(self.is_among(_WORDS.c.term, "terms"))
            .group_by(_WORDS.c.term, _WORDS.c.doc)
        )

    def holds_words(self, name: str) -> ColumnElement[bool]:
        match = literal_column("ltm_entry_fts", String).op("MATCH")(bindparam(name, type_=String))
        found = select(_FULL_TEXT.c.rowid).where(match)
        return EntrySearchModel.__table__.c.document_id.in_(found)

    def bind_words(self, sequences: Sequence[Sequence[str]], *, every: bool) -> str:
        phrases = [f'"{" ".join(words)}"' for words in sequences]
        return (" AND " if every else " OR ").join(phrases)

    def contains(self, value: ColumnElement[str], name: str) -> ColumnElement[bool]:
        return func.instr(value, bindparam(name, type_=String)) > 0

    def translate(self, error: Exception, where: str) -> LTMError:
        if "Could not decode to UTF-8" in str(error):
            return IntegrityError(f"catalog {where}: {error}")
        return CatalogUnavailableError(f"catalog {where}: {error}")


DIALECTS: dict[str, SQLDialect] = {each.name: each for each in (SQLiteDialect(),)}
"""By SQLAlchemy's name of the dialect."""
