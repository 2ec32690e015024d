"""A SQL database that holds catalogs: its connections, transactions and compiled statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from sys import modules
from types import TracebackType

from ltm import telemetry
from ltm.catalog.group_commit import GroupCommit
from ltm.catalog.schema import Identity, SchemaGuard, assume
from ltm.errors import CatalogUnavailableError, LTMError
from ltm.sql.dialects import (
    DIALECTS,
    BrokenConnectionError,
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

CONTENTION_SECONDS = 30.0
"""For how long a write is tried anew while others get in its way."""


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
        from contextlib import ExitStack

        from ltm.catalog.bound_database import BoundDatabase

        begin = self.dialect.begin_write(gate)
        with ExitStack() as stack:
            session = _once_more(lambda: stack.enter_context(Transaction(self, begin)))
            yield BoundDatabase(self, session.connection)

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

        return persistently(read)

    def read(self, work: Callable[[Session], T]) -> T:
        """Return what *work* returns, whose statements all see one state of the database."""

        def read() -> T:
            with Transaction(self, self.dialect.begin_read) as session:
                return work(session)

        return persistently(read)

    def write(self, work: Callable[[Session], T], gate: Gate | None = None) -> T:
        """Return what *work* returns, run in a transaction that commits at its end.

        *work* is run anew, from its beginning, when another transaction got in its way; so it must
        change nothing but the database. It goes through *gate* first, if one is given.
        """

        begin = self.dialect.begin_write(gate)

        def write() -> T:
            with Transaction(self, begin) as session:
                return work(session)

        return persistently(write)

    @property
    def errors(self) -> Errors:
        """What a statement raises that fails."""
        return self.pool.error

    def write_one(self, work: Callable[[Session], T]) -> T:
        """Return what *work* returns, which runs one statement that is its own transaction.

        Raises:
            ContentionError: Another transaction got in its way; nothing is written.
        """
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

    def write_soon(self, work: Callable[[Session], bool], *, is_one: bool) -> bool:
        """Return what *work* returns, run in a transaction that other threads' writes may share.

        *work* may be run more than once, and by any thread; with *is_one* it runs one statement.
        """
        alone = self.write_one if is_one and self.pool.commits_each else self.write
        return self._group_commit.run(work, alone)

    def revision(self) -> str | None:
        """Return the revision that the schema is at, None where there is none; make nothing."""
        return persistently(self.guard.read_revision)

    def require_schema(self) -> None:
        """See to the schema at first use.

        Raises:
            SchemaOutOfDateError: It is to be made or upgraded by hand.
        """
        self.guard.require()

    def give_up(self, connection: Any, error: BaseException) -> None:
        """Give back a connection after an *error*, and raise what a driver's error means."""
        if isinstance(error, LTMError) and not isinstance(error, BrokenConnectionError):
            # A refusal, not a fault: the connection is sound.
            self.pool.release(connection)
            return
        self.pool.discard(connection)
        if isinstance(error, self.pool.error):
            raise self.dialect.translate(error, self.pool.where) from error

    def close(self) -> None:
        """Close the pool; idempotent."""
        self.pool.close()


class Transaction:
    """A transaction on a connection of the pool's, for the length of a block."""

    __slots__ = ("_begin", "_connection", "_database", "_makes_schema", "_session")

    def __init__(self, database: Database, begin: str, *, makes_schema: bool = False) -> None:
        """Describe it; nothing is begun.

        Args:
            database: Whose pool.
            begin: Begins it.
            makes_schema: Whether there need be no schema yet.
        """
        self._database = database
        self._begin = begin
        self._makes_schema = makes_schema

    def __enter__(self) -> Session:
        database = self._database
        if not (database.guard.is_passed or self._makes_schema):
            database.guard.require()
        self._connection = database.pool.acquire()
        try:
            self._session = session = Session(self._connection, database.dialect)
            session.command(self._begin)
            if database.identity is not None:
                assume(session, database)
        except BaseException as error:
            self._fail(error)
            raise
        return session

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._fail(error)
            return
        try:
            self._commit()
        except BaseException as failure:
            self._fail(failure)
            raise
        self._database.pool.release(self._connection)

    def _fail(self, error: BaseException) -> None:
        """End the transaction after an *error*, and raise what a driver's error means."""
        if isinstance(error, LTMError) and not isinstance(error, BrokenConnectionError):
            try:
                self._session.command("ROLLBACK")
            except BaseException as failure:
                self._database.give_up(self._connection, failure)
                raise
        self._database.give_up(self._connection, error)

    def _commit(self) -> None:
        database = self._database
        if database.pool.has_failed(self._connection):
            # COMMIT would be answered by a rollback, and not by an error.
            where = database.pool.where
            raise CatalogUnavailableError(f"catalog {where}: a statement has failed")
        try:
            self._session.command("COMMIT")
        except database.pool.error as error:
            failure = database.dialect.translate(error, database.pool.where)
            if isinstance(failure, BrokenConnectionError):
                raise _in_doubt(failure) from error
            raise


def _in_doubt(error: BrokenConnectionError) -> BrokenConnectionError:
    return BrokenConnectionError(f"{error}; whether it has committed is not known")


def _once_more(call: Callable[[], T]) -> T:
    """Return what *call* returns, on a fresh connection if its own one turns out to be broken."""
    try:
        return call()
    except ConnectionLostError:
        return call()


def persistently(call: Callable[[], T]) -> T:
    """Return what *call* returns once no other transaction gets in its way."""
    try:
        return call()
    except ConnectionLostError:
        try:
            return call()
        except ContentionError:
            pass
    except ContentionError:
        pass
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        stop_after_delay,
        wait_random_exponential,
    )

    retrying = Retrying(
        retry=retry_if_exception_type(ContentionError),
        wait=wait_random_exponential(0.01, max=1),
        stop=stop_after_delay(CONTENTION_SECONDS),
        reraise=True,
    )
    result: T = retrying(_once_more, call)
    return result
