"""A SQL database that holds catalogs: its connections, transactions and compiled statements."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ltm.errors import LTMError
from ltm.sql.dialects import DIALECTS
from ltm.sql.engines import DriverPool
from ltm.sql.execution import CompiledStatement, Row, Session
from ltm.sql.history import HistoryStatements
from ltm.sql.migrate import HEAD, VERSION_TABLE, ensure_schema, ensure_schema_within
from ltm.sql.statements import Statements

IDS_PER_STATEMENT = 500

SAVEPOINT = "ltm_verb"

T = TypeVar("T")


def in_chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield *items* in slices of as many as one statement may name."""
    for start in range(0, len(items), IDS_PER_STATEMENT):
        yield items[start : start + IDS_PER_STATEMENT]


class Database:
    """Runs statements on a pool of driver connections; shared by the catalogs of one database."""

    def __init__(self, pool: DriverPool, dialect_name: str) -> None:
        self.pool = pool
        self.dialect = DIALECTS[dialect_name]
        self.statements = Statements(self.dialect)
        self.history = HistoryStatements(self.dialect)
        self._is_ready = False
        self._preparing = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """Give a database whose statements all run in one transaction, which ends with the block.

        It is for the thread that opened it.
        """
        with self._connected() as connection:
            session = Session(connection)
            session.command(self.dialect.begin_write)
            try:
                yield BoundDatabase(self, connection)
            except BaseException:
                session.command("ROLLBACK")
                raise
            session.command("COMMIT")

    def join(self, connection: Connection) -> Database:
        """Return a database whose statements run in the transaction of a caller's *connection*.

        The transaction is begun if it isn't; the caller ends it. Where the schema is still to be
        made, it is made there too: the caller may hold the lock that another connection would need.
        """
        try:
            if not connection.in_transaction():
                connection.begin()
            self.dialect.begin_now(connection)
            if not self._is_ready:
                ensure_schema_within(connection)
        except SQLAlchemyError as error:
            raise self.dialect.translate(error, self.pool.where) from error
        return BoundDatabase(self, connection.connection)

    def row(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> Row | None:
        """Return the first row of one statement outside of any transaction, or None."""
        # The hottest path: without the context manager, which would cost as much as the statement.
        if not self._is_ready:
            self._prepare()
        connection = self.pool.acquire()
        try:
            row = Session(connection).row(statement, parameters)
        except BaseException as error:
            self._give_up(connection, error)
            raise
        self.pool.release(connection)
        return row

    def rows(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> list[Row]:
        """Return the rows of one statement outside of any transaction."""
        with self._connected() as connection:
            return Session(connection).rows(statement, parameters)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Run several statements that all see one state of the database."""
        with self._transaction(self.dialect.begin_read) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Run statements in a transaction that commits at the end, or rolls back on an error."""
        with self._transaction(self.dialect.begin_write) as session:
            yield session

    def close(self) -> None:
        """Close the pool; idempotent."""
        self.pool.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Session]:
        with self._connected() as connection:
            session = Session(connection)
            session.command(begin)
            try:
                yield session
            except LTMError:
                session.command("ROLLBACK")
                raise
            session.command("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        if not self._is_ready:
            self._prepare()
        connection = self.pool.acquire()
        try:
            yield connection
        except BaseException as error:
            self._give_up(connection, error)
            raise
        self.pool.release(connection)

    def _give_up(self, connection: Any, error: BaseException) -> None:
        """Give back a connection after an *error*, and raise what a driver's error means."""
        if isinstance(error, LTMError):
            # A refusal, not a fault: the connection is sound.
            self.pool.release(connection)
            return
        self.pool.discard(connection)
        if isinstance(error, self.pool.error | SQLAlchemyError):
            raise self.dialect.translate(error, self.pool.where) from error

    def _prepare(self) -> None:
        """Make or upgrade the schema unless it is at head already."""
        with self._preparing:
            if self._is_ready:
                return
            connection = self.pool.acquire()
            try:
                session = Session(connection)
                known = session.row(self.statements.has_table, {"name": VERSION_TABLE})
                revision = known and session.row(self.statements.select_revision, {})
                if revision != (HEAD,):
                    ensure_schema(self.pool.engine())
            except BaseException as error:
                self._give_up(connection, error)
                raise
            self.pool.release(connection)
            self._is_ready = True


class BoundDatabase(Database):
    """Statements on one connection, within a transaction that somebody else begins and ends."""

    def __init__(self, parent: Database, connection: Any) -> None:
        self.pool = parent.pool
        self.dialect = parent.dialect
        self.statements = parent.statements
        self.history = parent.history
        self._is_ready = True
        self._preparing = threading.Lock()
        self._connection = connection

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """Give this database: a block that fails is undone, the transaction goes on."""
        with self._undone_on_error():
            yield self

    def close(self) -> None:
        """Nothing to close: the connection is somebody else's."""

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Session]:
        if begin == self.dialect.begin_read:
            with self._connected() as connection:
                yield Session(connection)
            return
        with self._undone_on_error() as session:
            yield session

    @contextmanager
    def _undone_on_error(self) -> Iterator[Session]:
        with self._connected() as connection:
            session = Session(connection)
            session.command(f"SAVEPOINT {SAVEPOINT}")
            try:
                yield session
            except BaseException:
                session.command(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
                session.command(f"RELEASE SAVEPOINT {SAVEPOINT}")
                raise
            session.command(f"RELEASE SAVEPOINT {SAVEPOINT}")

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            yield self._connection
        except (self.pool.error, SQLAlchemyError) as error:
            raise self.dialect.translate(error, self.pool.where) from error

    def row(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> Row | None:
        with self._connected() as connection:
            return Session(connection).row(statement, parameters)
