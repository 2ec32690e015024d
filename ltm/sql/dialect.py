"""What a database has to say for itself, and what its errors mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Connection,
    Dialect,
    Select,
    Table,
    bindparam,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from ltm.errors import CatalogUnavailableError, LTMError

ConflictInsert = sqlite.Insert | postgresql.Insert
"""An INSERT that can say what becomes of a row that is there."""

Rows = Select[Any] | CompoundSelect[Any]

LIMIT: BindParameter[int] = bindparam("limit", type_=BigInteger)
"""How many rows a statement answers at most."""


class ContentionError(CatalogUnavailableError):
    """Other transactions got in the way and nothing was written; the same work may be done anew."""


class BrokenConnectionError(CatalogUnavailableError):
    """The connection is of no more use; what it was in the middle of is not known to be done."""


class ConnectionLostError(BrokenConnectionError):
    """The connection broke, and what was under way is undone; another connection may do better."""


class Gate(NamedTuple):
    """Keeps snapshots of a logical table apart from writes to it, in the order of arrival."""

    table: str
    is_exclusive: bool = False
    """Whether a snapshot goes through rather than a write."""


class SQLDialect(ABC):
    """How one database says what SQLAlchemy has no common word for."""

    name: ClassVar[str]
    begin_read: ClassVar[str]
    """Begins a transaction whose statements all see one state."""
    makes_own_schema: ClassVar[bool]
    """Whether a catalog makes and upgrades its schema without being told to."""
    counts_first: ClassVar[bool]
    """Whether a filter looks for the rarest of its conditions rather than trust the planner."""
    search_ddl: ClassVar[tuple[str, ...]]
    """What the models cannot say of the full-text index, run after their tables are made."""

    @abstractmethod
    def begin_write(self, gate: Gate | None) -> str:
        """Return what begins a transaction that may write, and waits at *gate* for its turn."""

    @abstractmethod
    def enter(self, gate: Gate) -> str | None:
        """Return what waits at *gate* within a transaction; None where there is nothing to do."""

    @abstractmethod
    def command(self, connection: Any, text: str) -> None:
        """Run transaction control on a driver's *connection*."""

    @abstractmethod
    def sqlalchemy(self) -> Dialect:
        """Return SQLAlchemy's dialect, whose SQL takes parameters by position."""

    @abstractmethod
    def insert(self, target: Table, columns: Sequence[str]) -> ConflictInsert:
        """Return INSERT of *columns*, whose parameters are those of :meth:`bind_rows`."""

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
    def bind_rows(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Return the parameters with which an INSERT is run to write all of *rows*."""

    @abstractmethod
    def is_among(self, value: ColumnElement[str], name: str) -> ColumnElement[bool]:
        """Return whether *value* is in the list bound as one parameter *name*."""

    @abstractmethod
    def items(self, name: str) -> ColumnElement[str]:
        """Return the column of the texts in the list bound as one parameter *name*."""

    @abstractmethod
    def bind_list(self, values: Sequence[str]) -> Any:
        """Return the parameter for :meth:`is_among` and :meth:`items`."""

    @abstractmethod
    def before(self, value: ColumnElement[str], mark: str) -> ColumnElement[str]:
        """Return *value* up to the first *mark*; all of it where there is none."""

    @abstractmethod
    def first_from(
        self, column: ColumnElement[str], lower: ColumnElement[str]
    ) -> ColumnElement[str]:
        """Return the first value of an indexed *column*, byte by byte, from *lower* on, or NULL."""

    @abstractmethod
    def begin_now(self, connection: Connection) -> None:
        """Begin the transaction of *connection* in the database if only SQLAlchemy has begun."""

    @abstractmethod
    def lock_schema(self, connection: Connection) -> None:
        """Let one process at a time see to the schema, until the transaction ends."""

    @abstractmethod
    def postings(self) -> Select[Any]:
        """Select term, entry id, length and frequency of the words ``terms`` in live entries."""

    @abstractmethod
    def holds_words(self, name: str, *, every: bool) -> ColumnElement[bool]:
        """Return whether a search row holds the phrases bound as *name*: *every* one, or any."""

    @abstractmethod
    def bind_words(self, sequences: Sequence[Sequence[str]], *, every: bool) -> str:
        """Return the parameter for :meth:`holds_words`: each sequence a phrase of index words."""

    def holds_any(self, name: str) -> ColumnElement[bool]:
        """Return whether a search row holds any of the words bound as *name*, each a phrase."""
        return self.holds_words(name, every=False)

    def first_of(self, branches: Sequence[Select[Any]], column: str) -> Rows:
        """Return the first ``limit`` rows of all *branches* in the order of *column*."""
        rows = union_all(*branches)
        return rows.order_by(rows.selected_columns[column]).limit(LIMIT)

    check_index: ClassVar[str | None]
    """Fails where the full-text index disagrees with the words; None where it can't."""
    rebuild_index: ClassVar[str | None]
    """Makes the full-text index anew from the words."""

    @abstractmethod
    def is_missing_table(self, error: Exception) -> bool:
        """Return whether a driver's *error* says that a table isn't there."""

    @abstractmethod
    def translate(self, error: Exception, where: str) -> LTMError:
        """Return what a driver's *error* means to a caller; *where* names the catalog."""
