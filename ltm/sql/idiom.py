"""How one database says what SQLAlchemy has no common word for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Dialect,
    Select,
    Table,
    bindparam,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from ltm.sql.dialects import SQLDialect

ConflictInsert = sqlite.Insert | postgresql.Insert
"""An INSERT that can say what becomes of a row that is there."""

Rows = Select[Any] | CompoundSelect[Any]

LIMIT: BindParameter[int] = bindparam("limit", type_=BigInteger)
"""How many rows a statement answers at most."""


class Idiom(ABC):
    """Builds the expressions of one dialect."""

    dialect: ClassVar[SQLDialect]
    """Runs what is built, and binds its parameters."""
    url: ClassVar[str]
    """Of an engine of SQLAlchemy's that connects to nothing."""
    counts_first: ClassVar[bool]
    """Whether a filter looks for the rarest of its conditions rather than trust the planner."""
    search_ddl: ClassVar[tuple[str, ...]]
    """What the models cannot say of the full-text index, run after their tables are made."""

    @abstractmethod
    def sqlalchemy(self) -> Dialect:
        """Return SQLAlchemy's dialect, whose SQL takes parameters by position."""

    @abstractmethod
    def insert(self, target: Table, columns: Sequence[str]) -> ConflictInsert:
        """Return INSERT of *columns*; its parameters are those of ``SQLDialect.write_rows``."""

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
        statement = self.insert(target, columns)
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

    def insert_new(self, target: Table, columns: Sequence[str]) -> Insert:
        """Return INSERT of *columns* that leaves a row that is there as it is."""
        return self.insert(target, columns).on_conflict_do_nothing()

    @abstractmethod
    def plain_write(self, *, indexes: bool) -> Insert | Select[Any]:
        """Write an entry in no need of a version, a deletion of a payload or a condition.

        See :class:`ltm.sql.plain.PlainStatements`, as to *indexes*, too.
        """

    @abstractmethod
    def plain_insert(self, *, indexes: bool) -> Insert | Select[Any]:
        """Write an entry that is not there, and leave alone one that is.

        See :class:`ltm.sql.plain.PlainStatements`, as to *indexes*, too.
        """

    @abstractmethod
    def is_among(self, value: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """Return whether a text or number is in the list bound as one parameter *name*."""

    @abstractmethod
    def items(self, name: str) -> ColumnElement[str]:
        """Return the column of the texts in the list bound as one parameter *name*."""

    @abstractmethod
    def before(self, value: ColumnElement[str], mark: str) -> ColumnElement[str]:
        """Return *value* up to the first *mark*; all of it where there is none."""

    @abstractmethod
    def first_from(
        self, column: ColumnElement[str], lower: ColumnElement[str]
    ) -> ColumnElement[str]:
        """Return the first value of an indexed *column*, byte by byte, from *lower* on, or NULL."""

    @abstractmethod
    def occurrences(self) -> Select[Any]:
        """Select each of ``terms``, the documents of the table with it, and how often it may occur.

        Both are lists as of :meth:`listed`, in one order. Where the second one is NULL, documents
        are listed once for every occurrence. Documents of expired entries are among them.
        """

    @abstractmethod
    def listed(self, numbers: ColumnElement[int]) -> ColumnElement[Any]:
        """Aggregate *numbers* to what ``SQLDialect.read_list`` reads."""

    @abstractmethod
    def holds_words(self, name: str, *, every: bool) -> ColumnElement[bool]:
        """Return whether a search row holds the phrases bound as *name*: *every* one, or any."""

    def holds_any(self, name: str) -> ColumnElement[bool]:
        """Return whether a search row holds any of the words bound as *name*, each a phrase."""
        return self.holds_words(name, every=False)

    def first_of(self, branches: Sequence[Select[Any]], column: str) -> Rows:
        """Return the first ``limit`` rows of all *branches* in the order of *column*."""
        rows = union_all(*branches)
        return rows.order_by(rows.selected_columns[column]).limit(LIMIT)
