"""A SQL database that holds catalogs: its connections, transactions and compiled statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from sys import modules

from ltm import telemetry
from ltm.catalog.group_commit import GroupCommit
from ltm.catalog.schema import Identity, SchemaGuard, assume
from ltm.errors import CatalogUnavailableError, LTMError
from ltm.sql.dialects import (
    DIALECTS,
    BrokenConnectionError,
    BusyError,
    ConnectionLostError,
    ContentionError,
    Gate,
)
from ltm.sql.execution import Row, Session, Statement
from ltm.sql.pools import DriverPool, Errors
from ltm.sql.prepared import PreparedStatements
from ltm.typed import TYPE_CHECKING, AbstractContextManager

if TYPE_CHECKING:
    from typing import Any, TypeVar

    from sqlalchemy import Connection

    from ltm.sql.history import HistoryStatements
    from ltm.sql.idiom import Idiom
    from ltm.sql.search import SearchStatements
    from ltm.sql.statements import Statements

    T = TypeVar("T")

IDS_PER_STATEMENT = 500

VALUES_PER_STATEMENT = 1000
"""How many values are read at once, of which nothing but themselves is asked for."""


def in_chunks(items: Sequence[T], size: int = IDS_PER_STATEMENT) -> Iterator[Sequence[T]]:
    """Yield *items* in slices of as many as one statement may name."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Database:
    """Runs statements on a pool of driver connections; shared by the catalogs of one database."""

    def __init__(
        self,
        pool: DriverPool,
        dialect_name: str,
        *,
        schema: str | None = None,
        auto_migrate: bool = False,
        identity: Identity | None = None,
    ) -> None:
        """Put together what runs statements; nothing is opened.

        Args:
            pool: Hands out connections.
            dialect_name: A key of ``DIALECTS``.
            schema: Where the tables are; None for where the connections look first.
            auto_migrate: Whether a schema that is missing or old is seen to rather than refused.
            identity: As whom every transaction runs; None for whom the connections are of.
        """
        self.pool = pool
        self.dialect = dialect = DIALECTS[dialect_name]
        self.schema = schema
        self.identity = identity
        self.writes_plain = identity is None
        """Whether a statement of its own may be a transaction of its own."""
        prepared: Iterator[Any] = (
            PreparedStatements(group, dialect, schema)
            for group in ("Statements", "HistoryStatements", "SearchStatements")
        )
        self.statements: Statements = next(prepared)
        self.history: HistoryStatements = next(prepared)
        self.search: SearchStatements = next(prepared)
        self.migrates = auto_migrate or dialect.makes_own_schema
        """Whether a schema that is missing or old is seen to at first use."""
        self.guard = SchemaGuard(self)
        """Whom statements on the tables have to pass."""
        self._group_commit = GroupCommit(self)

    @property
    def idiom(self) -> Idiom:
        """Builds expressions for statements that have no fixed text."""
        from ltm.sql.idioms import IDIOMS

        return IDIOMS[self.dialect.name]

    def transaction(self, gate: Gate) -> AbstractContextManager[Database]:
        """Give a database whose statements all run in one transaction, which ends with the block.

        It is for the thread that opened it.

        Raises:
            CatalogUnavailableError: It could not be begun or committed; or, where a failure within
                was passed over, not committed any more.
        """
        from contextlib import contextmanager

        return contextmanager(self._transaction)(gate)

    def _transaction(self, gate: Gate) -> Iterator[Database]:
        from ltm.catalog.bound_database import BoundDatabase

        begin = self.dialect.begin_at(gate)
        session = self.persistently(lambda: self._begin(begin))
        try:
            yield BoundDatabase(self, session.connection)
            self._commit(session)
        except BaseException as error:
            self._roll_back(session.connection, error)
            raise
        self.pool.release(session.connection)

    def join(self, connection: Connection, gate: Gate) -> Database:
        """Return a database whose statements run in the transaction of a caller's *connection*.

        The transaction is begun if it isn't; the caller ends it. Where the schema is still to be
        made, it is made there too: the caller may hold the lock that another connection would need.

        Raises:
            SchemaOutOfDateError: The schema is to be made or upgraded by hand.
        """
        from sqlalchemy.exc import SQLAlchemyError

        from ltm.catalog.bound_database import BoundDatabase

        try:
            if not connection.in_transaction():
                connection.begin()
            self.dialect.begin_now(connection)
            self.guard.require_within(connection)
            enter = self.dialect.enter(gate)
            if enter is not None:
                connection.exec_driver_sql(enter)
        except SQLAlchemyError as error:
            raise self.dialect.translate(error, self.pool.where) from error
        errors = connection.dialect.loaded_dbapi.Error, SQLAlchemyError
        return BoundDatabase(self, connection.connection, self.identity, errors)

    def look_up(self, statement: Statement, values: Sequence[str]) -> Row | None:
        """Return the row that *statement* answers to the *values* of its parameters, or None."""
        # The hottest path: all that stands between a caller and the driver is said here once more.
        if self.identity is not None or telemetry.API in modules:
            return self.row(statement, statement.named(values))
        if not self.guard.is_passed:
            self.guard.require()
        connection = self.pool.acquire()
        try:
            row = connection.execute(statement.text, values).fetchone()
        except BaseException as error:
            try:
                self.give_up(connection, error)
            except (ConnectionLostError, ContentionError):
                return self.row(statement, statement.named(values))
            raise
        self.pool.release(connection)
        return None if row is None else statement.read(row)

    def row(self, statement: Statement, parameters: Mapping[str, Any]) -> Row | None:
        """Return the first row of one statement outside of any transaction, or None."""
        rows = self.rows(statement, parameters)
        return rows[0] if rows else None

    def rows(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        """Return the rows of one statement outside of any transaction."""
        if self.identity is not None:
            return self.read(lambda session: session.rows(statement, parameters))

        def read() -> list[Row]:
            self.guard.require()
            connection = self.pool.acquire()
            try:
                rows = Session(connection, self.dialect).rows(statement, parameters)
            except BaseException as error:
                self.give_up(connection, error)
                raise
            self.pool.release(connection)
            return rows

        return self.persistently(read)

    def read(self, work: Callable[[Session], T]) -> T:
        """Return what *work* returns, whose statements all see one state of the database."""
        begin = self.dialect.begin_read
        return self.persistently(lambda: self.transact(begin, work))

    def write(self, work: Callable[[Session], T], gate: Gate | None = None) -> T:
        """Return what *work* returns, run in a transaction that commits at its end.

        *work* is run anew, from its beginning, when another transaction got in its way; so it must
        change nothing but the database. It goes through *gate* first, if one is given.
        """
        begin = self.dialect.begin_write if gate is None else self.dialect.begin_at(gate)
        # What persistently() does, by two calls fewer: each store goes through here.
        try:
            return self.transact(begin, work)
        except (ConnectionLostError, ContentionError) as error:
            return self._anew(lambda: self.transact(begin, work), error)

    def transact(
        self, begin: str, work: Callable[[Session], T], *, makes_schema: bool = False
    ) -> T:
        """Return what *work* returns, run once, in a transaction of the pool's.

        Args:
            begin: Begins it.
            work: Runs its statements.
            makes_schema: Whether there need be no schema yet.
        """
        session = self._begin(begin, makes_schema=makes_schema)
        try:
            result = work(session)
            self._commit(session)
        except BaseException as error:
            self._roll_back(session.connection, error)
            raise
        self.pool.release(session.connection)
        return result

    @property
    def errors(self) -> Errors:
        """What a statement raises that fails."""
        return self.pool.error

    def write_one(self, work: Callable[[Session], T]) -> T:
        """Return what *work* returns, which runs one statement that is its own transaction.

        Raises:
            ContentionError: Another transaction got in its way; nothing is written.
        """
        try:
            return self._write_at_once(work)
        except BusyError as error:
            return self._anew(lambda: self._write_at_once(work), error)

    def write_soon(self, work: Callable[[Session], bool], *, is_one: bool) -> bool:
        """Return what *work* returns, run in a transaction that other threads' writes may share.

        *work* may be run more than once, and by any thread; with *is_one* it runs one statement.
        """
        alone = self.write_one if is_one and self.pool.commits_each else self.write
        return self._group_commit.run(work, alone)

    def revision(self) -> str | None:
        """Return the revision that the schema is at, None where there is none; make nothing."""
        return self.persistently(self.guard.read_revision)

    def persistently(self, call: Callable[[], T]) -> T:
        """Return what *call* returns, which does all or nothing, once nobody gets in its way."""
        try:
            return call()
        except (ConnectionLostError, ContentionError) as error:
            return self._anew(call, error)

    def give_up(self, connection: Any, error: BaseException) -> None:
        """Give back a connection after an *error*, and raise what a driver's error means."""
        if isinstance(error, LTMError) and not isinstance(error, BrokenConnectionError):
            # A refusal, not a fault: the connection is sound.
            self.pool.release(connection)
            return
        if not isinstance(error, self.pool.error):
            self.pool.discard(connection)
            return
        failure = self.dialect.translate(error, self.pool.where)
        if isinstance(failure, BusyError):
            self.pool.reset(connection)
        else:
            self.pool.discard(connection)
        raise failure from error

    def close(self) -> None:
        """Close the pool; idempotent."""
        self.pool.close()

    def _anew(self, call: Callable[[], T], error: CatalogUnavailableError) -> T:
        from ltm.catalog.attempts import try_anew  # here: mostly nobody gets in the way

        return try_anew(call, error, self.pool.patience)

    def _write_at_once(self, work: Callable[[Session], T]) -> T:
        self.guard.require()
        connection = self.pool.acquire()
        try:
            while self.pool.has_gone(connection):
                self.pool.discard(connection)
                connection = self.pool.acquire()
            result = work(Session(connection, self.dialect))
        except BaseException as error:
            try:
                self.give_up(connection, error)
            except ConnectionLostError as lost:
                raise _in_doubt(lost) from error
            raise
        self.pool.release(connection)
        return result

    def _begin(self, begin: str, *, makes_schema: bool = False) -> Session:
        """Return a session on a connection of the pool's, in a transaction."""
        if not (self.guard.is_passed or makes_schema):
            self.guard.require()
        connection = self.pool.acquire()
        try:
            session = Session(connection, self.dialect)
            session.command(begin)
            if self.identity is not None:
                assume(session, self.statements, self.identity)
        except BaseException as error:
            self._roll_back(connection, error)
            raise
        return session

    def _commit(self, session: Session) -> None:
        pool = self.pool
        if pool.has_failed(session.connection):
            # COMMIT would be answered by a rollback, and not by an error.
            raise CatalogUnavailableError(f"catalog {pool.where}: a statement has failed")
        try:
            session.command("COMMIT")
        except pool.error as error:
            failure = self.dialect.translate(error, pool.where)
            if isinstance(failure, BrokenConnectionError):
                raise _in_doubt(failure) from error
            raise

    def _roll_back(self, connection: Any, error: BaseException) -> None:
        """End a transaction after an *error*, and raise what a driver's error means."""
        if isinstance(error, LTMError) and not isinstance(error, BrokenConnectionError):
            try:
                Session(connection, self.dialect).command("ROLLBACK")
            except BaseException as failure:
                self.give_up(connection, failure)
                raise
        self.give_up(connection, error)


def _in_doubt(error: BrokenConnectionError) -> BrokenConnectionError:
    return BrokenConnectionError(f"{error}; whether it has committed is not known")
