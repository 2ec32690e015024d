"""How SQLite and PostgreSQL are talked to; all other code is the same for both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache

from ltm.errors import CatalogUnavailableError, IntegrityError, LTMError, ValidationError
from ltm.sql.conversions import write_array
from ltm.sql.dialect import (
    BrokenConnectionError,
    ConnectionLostError,
    ContentionError,
    Gate,
    RefusedError,
    SQLDialect,
)
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Connection

# READ COMMITTED: a statement after a lock sees what was committed while it waited. And a commit is
# on disk before it is answered, as the payloads that it frees are deleted next.
_BEGIN_WRITE = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)

_CONTENTION = ("40001", "40P01")  # serialization_failure, deadlock_detected


@cache
def _number_of(table: str) -> int:
    digest = hashlib.sha256(f"ltm:{table}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


class SQLiteDialect(SQLDialect):
    """SQLite 3.35 or newer with FTS5 and JSON."""

    name = "sqlite"
    begin_read = "BEGIN"
    makes_own_schema = True
    finds_by_key = True
    indexes_within = False

    # Rank 1 compares the index with its content table, not with itself alone.
    check_index = "INSERT INTO ltm_entry_fts(ltm_entry_fts, rank) VALUES ('integrity-check', 1)"
    rebuild_index = "INSERT INTO ltm_entry_fts(ltm_entry_fts) VALUES ('rebuild')"

    def gate_number(self, gate: Gate) -> int:  # noqa: ARG002 -- see enter
        return 0

    def begin_write(self, gate: Gate | None) -> str:  # noqa: ARG002 -- writers take turns anyway
        return "BEGIN IMMEDIATE"

    def enter(self, gate: Gate) -> None:  # noqa: ARG002 -- there is nothing to wait for
        return None

    def command(self, connection: Any, text: str) -> None:
        connection.execute(text)

    def write_rows(self, connection: Any, text: str, columns: Sequence[Sequence[Any]]) -> int:
        cursor = connection.cursor()
        # A row is made when the driver takes it: no more than one is there at a time.
        cursor.executemany(text, zip(*columns, strict=True))
        return int(cursor.rowcount)

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
            connection.exec_driver_sql(self.begin_write(None))

    def lock_schema(self, connection: Connection) -> None:
        self.begin_now(connection)

    def is_missing_table(self, error: Exception) -> bool:
        return "no such table" in str(error)

    def translate(self, error: Exception, where: str) -> LTMError:
        if "Could not decode to UTF-8" in str(error):
            return IntegrityError(f"catalog {where}: {error}")
        return CatalogUnavailableError(f"catalog {where}: {error}")


class PostgreSQLDialect(SQLDialect):
    """PostgreSQL 12 or newer, through psycopg 3."""

    name = "postgresql"
    begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    makes_own_schema = False
    finds_by_key = False
    indexes_within = True
    # The index is made of the words by PostgreSQL itself.
    check_index = None
    rebuild_index = None

    def gate_number(self, gate: Gate) -> int:
        return _number_of(gate.table)

    def begin_write(self, gate: Gate | None) -> str:
        # All in one round trip.
        return _BEGIN_WRITE if gate is None else f"{_BEGIN_WRITE}; {self.enter(gate)}"

    def enter(self, gate: Gate) -> str:
        # In a statement of its own: the next one's view of the data is newer than the lock. Row
        # locks alone would keep a snapshot waiting for ever, and would lose versions: the newest
        # snapshot is not read again after a wait (tests/postgres/test_postgres_writers.py).
        shared = "" if gate.is_exclusive else "_shared"
        return f"SELECT pg_advisory_xact_lock{shared}({self.gate_number(gate)})"

    def command(self, connection: Any, text: str) -> None:
        connection.execute(text, prepare=False)

    def write_rows(self, connection: Any, text: str, columns: Sequence[Sequence[Any]]) -> int:
        return int(connection.execute(text, [*map(write_array, columns)]).rowcount)

    def bind_list(self, values: Sequence[Any]) -> str:
        return write_array(values)

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
