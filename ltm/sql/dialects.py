"""How SQLite and PostgreSQL are talked to; all other code is the same for both."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache

from ltm.errors import CatalogUnavailableError, IntegrityError, LTMError, ValidationError
from ltm.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, ClassVar

    from sqlalchemy import Connection

    from ltm.sql.execution import Columns, Statement

# READ COMMITTED: a statement after a lock sees what was committed while it waited. And a commit is
# on disk before it is answered, as the payloads that it frees are deleted next.
_BEGIN_WRITE = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)

_CONTENTION = ("40001", "40P01")  # serialization_failure, deadlock_detected
_SQLITE_BUSY = 5
_DUPLICATES = (1555, 2067)  # SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE


class ContentionError(CatalogUnavailableError):
    """Other transactions got in the way and nothing was written; the same work may be done anew."""


class BusyError(ContentionError):
    """Another connection had the database to itself for longer than a statement waits."""


class RefusedError(CatalogUnavailableError):
    """The server has refused a statement, and nothing of it is done; another one may do."""


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
    """How one database is talked to; what is said to it is in :mod:`ltm.sql.idiom`."""

    name: ClassVar[str]
    begin_read: ClassVar[str]
    """Begins a transaction whose statements all see one state."""
    begin_write: ClassVar[str]
    """Begins a transaction that may write."""
    makes_own_schema: ClassVar[bool]
    """Whether a catalog makes and upgrades its schema without being told to."""

    finds_by_key: ClassVar[bool]
    """Whether many values are found by their keys rather than by their ids."""

    indexes_within: ClassVar[bool]
    """Whether a plain write indexes in the statement that writes the entry."""

    works_aside: ClassVar[bool]
    """Whether it works on what it was sent while more is made."""

    rows_per_insert: ClassVar[int]
    """So many rows of a large batch are handed over at once."""

    command_options: ClassVar[Mapping[str, Any]]
    """How the driver is asked to run transaction control."""

    @abstractmethod
    def gate_number(self, gate: Gate) -> int:
        """Return the number of the lock that stands for *gate*."""

    def begin_at(self, gate: Gate) -> str:
        """Return what begins a transaction that may write, and waits at *gate* for its turn."""
        enter = self.enter(gate)
        # In one round trip.
        return self.begin_write if enter is None else f"{self.begin_write}; {enter}"

    @abstractmethod
    def enter(self, gate: Gate) -> str | None:
        """Return what waits at *gate* within a transaction; None where there is nothing to do."""

    @abstractmethod
    def write_rows(
        self, connection: Any, statement: Statement, columns: Columns, shared: Mapping[str, Any]
    ) -> Any:
        """Run an INSERT on a driver's *connection* and return its cursor.

        The values of the rows are in *columns*, by the names of the statement's parameters; those
        that are the same in each row are in *shared*.
        """

    def pipeline(self, connection: Any) -> AbstractContextManager[object]:  # noqa: ARG002 -- a file takes each at once
        """Return a block at whose end INSERTs are done; until then none need be waited for."""
        from contextlib import nullcontext

        return nullcontext()

    @abstractmethod
    def bind_list(self, values: Sequence[Any]) -> Any:
        """Return the one parameter that *values* are bound as."""

    @abstractmethod
    def read_list(self, listed: Any) -> list[int]:
        """Return the numbers in what a statement has listed."""

    @abstractmethod
    def bind_words(self, sequences: Sequence[Sequence[str]], *, every: bool) -> str:
        """Return the parameter for ``Idiom.holds_words``: each sequence a phrase of index words."""

    @abstractmethod
    def begin_now(self, connection: Connection) -> None:
        """Begin the transaction of *connection* in the database if only SQLAlchemy has begun."""

    @abstractmethod
    def lock_schema(self, connection: Connection) -> None:
        """Let one process at a time see to the schema, until the transaction ends."""

    check_index: ClassVar[str | None]
    """Fails where the full-text index disagrees with the words; None where it can't."""
    rebuild_index: ClassVar[str | None]
    """Makes the full-text index anew from the words."""

    @abstractmethod
    def is_missing_table(self, error: Exception) -> bool:
        """Return whether a driver's *error* says that a table isn't there."""

    @abstractmethod
    def is_duplicate(self, error: Exception) -> bool:
        """Return whether a driver's *error* says that a row with such a key is there already."""

    @abstractmethod
    def translate(self, error: Exception, where: str) -> LTMError:
        """Return what a driver's *error* means to a caller; *where* names the catalog."""


@cache
def _number_of(table: str) -> int:
    digest = hashlib.sha256(f"ltm:{table}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


class SQLiteDialect(SQLDialect):
    """SQLite 3.35 or newer with FTS5 and JSON."""

    name = "sqlite"
    begin_read = "BEGIN"
    begin_write = "BEGIN IMMEDIATE"
    makes_own_schema = True
    finds_by_key = True
    indexes_within = False
    works_aside = False
    rows_per_insert = 500
    command_options: ClassVar = {}

    # Rank 1 compares the index with its content table, not with itself alone.
    check_index = "INSERT INTO ltm_entry_fts(ltm_entry_fts, rank) VALUES ('integrity-check', 1)"
    rebuild_index = "INSERT INTO ltm_entry_fts(ltm_entry_fts) VALUES ('rebuild')"

    def gate_number(self, gate: Gate) -> int:  # noqa: ARG002 -- see enter
        return 0

    def enter(self, gate: Gate) -> None:  # noqa: ARG002 -- writers take turns anyway
        return None

    def write_rows(
        self, connection: Any, statement: Statement, columns: Columns, shared: Mapping[str, Any]
    ) -> Any:
        return connection.executemany(statement.text, statement.bind_rows(columns, shared))

    def bind_list(self, values: Sequence[Any]) -> str:
        return json.dumps(values)

    def read_list(self, listed: str) -> list[int]:
        numbers: list[int] = json.loads(listed)
        return numbers

    def bind_words(self, sequences: Sequence[Sequence[str]], *, every: bool) -> str:
        phrases = [f'"{" ".join(words)}"' for words in sequences]
        return (" AND " if every else " OR ").join(phrases)

    def begin_now(self, connection: Connection) -> None:
        # An engine that was handed in leaves it to the driver to begin, which does so too late.
        if not getattr(connection.connection.driver_connection, "in_transaction", False):
            connection.exec_driver_sql(self.begin_write)

    def lock_schema(self, connection: Connection) -> None:
        self.begin_now(connection)

    def is_missing_table(self, error: Exception) -> bool:
        return "no such table" in str(error)

    def is_duplicate(self, error: Exception) -> bool:
        return getattr(error, "sqlite_errorcode", None) in _DUPLICATES

    def translate(self, error: Exception, where: str) -> LTMError:
        if "Could not decode to UTF-8" in str(error):
            return IntegrityError(f"catalog {where}: {error}")
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == _SQLITE_BUSY:
            return BusyError(f"catalog {where}: {error}")
        return CatalogUnavailableError(f"catalog {where}: {error}")


class PostgreSQLDialect(SQLDialect):
    """PostgreSQL 12 or newer, through psycopg 3."""

    name = "postgresql"
    begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    begin_write = _BEGIN_WRITE
    makes_own_schema = False
    finds_by_key = False
    indexes_within = True
    works_aside = True
    rows_per_insert = 250  # so that the server begins early
    command_options: ClassVar = {"prepare": False}
    # The index is made of the words by PostgreSQL itself.
    check_index = None
    rebuild_index = None

    def gate_number(self, gate: Gate) -> int:
        return _number_of(gate.table)

    def enter(self, gate: Gate) -> str:
        # In a statement of its own: the next one's view of the data is newer than the lock. Row
        # locks alone would keep a snapshot waiting for ever, and would lose versions: the newest
        # snapshot is not read again after a wait (tests/postgres/test_postgres_writers.py).
        shared = "" if gate.is_exclusive else "_shared"
        return f"SELECT pg_advisory_xact_lock{shared}({self.gate_number(gate)})"

    def write_rows(
        self, connection: Any, statement: Statement, columns: Columns, shared: Mapping[str, Any]
    ) -> Any:
        count = len(next(iter(columns.values())))
        repeated = {name: [value] * count for name, value in shared.items()}
        return connection.execute(statement.text, statement.bind({**repeated, **columns}))

    def pipeline(self, connection: Any) -> AbstractContextManager[object]:
        from psycopg import Pipeline

        # Not with a libpq before 14.
        block: AbstractContextManager[object] = (
            connection.pipeline() if Pipeline.is_supported() else super().pipeline(connection)
        )
        return block

    def bind_list(self, values: Sequence[Any]) -> Sequence[Any]:
        return values

    def read_list(self, listed: list[int] | None) -> list[int]:
        return [] if listed is None else listed

    def bind_words(self, sequences: Sequence[Sequence[str]], *, every: bool) -> str:  # noqa: ARG002 -- see holds_words
        return "\n".join(" ".join(words) for words in sequences)

    def begin_now(self, connection: Connection) -> None:
        # The driver begins with the first statement, which is soon enough; but in this mode never.
        if getattr(connection.connection.driver_connection, "autocommit", False):
            raise ValidationError("connection: is in AUTOCOMMIT mode, where nothing is begun")

    def lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(hashtextextended('ltm schema', 0))"
        )

    def is_missing_table(self, error: Exception) -> bool:
        return getattr(error, "sqlstate", None) == "42P01"

    def is_duplicate(self, error: Exception) -> bool:
        return getattr(error, "sqlstate", None) == "23505"

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
        return RefusedError(message) if sqlstate else CatalogUnavailableError(message)


DIALECTS: dict[str, SQLDialect] = {
    each.name: each for each in (SQLiteDialect(), PostgreSQLDialect())
}
"""By SQLAlchemy's name of the dialect."""
