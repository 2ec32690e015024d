"""A SQL database that holds catalogs: its connections, transactions and compiled statements."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ltm.errors import CatalogUnavailableError, LTMError
from ltm.sql.dialect import BrokenConnectionError, ConnectionLostError, ContentionError, Gate
from ltm.sql.dialects import DIALECTS
from ltm.sql.engines import DriverPool
from ltm.sql.execution import CompiledStatement, Row, Session
from ltm.sql.history import HistoryStatements
from ltm.sql.migrate import (
    HEAD,
    current_revision,
    ensure_schema,
    ensure_schema_within,
    out_of_date,
)
from ltm.sql.search import SearchStatements
from ltm.sql.statements import Statements

IDS_PER_STATEMENT = 500

CONTENTION_SECONDS = 30.0
"""For how long a write is tried anew while others get in its way."""

SAVEPOINT = "ltm_verb"

Identity = Callable[[], Mapping[str, str]]
"""Returns the ``role`` and ``claims`` that a transaction is to take on now, or raises."""

T = TypeVar("T")


def in_chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield *items* in slices of as many as one statement may name."""
    for start in range(0, len(items), IDS_PER_STATEMENT):
        yield items[start : start + IDS_PER_STATEMENT]


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
        self.dialect = DIALECTS[dialect_name]
        self.schema = schema
        self.statements = Statements(self.dialect, schema)
        self.history = HistoryStatements(self.dialect, schema)
        self.search = SearchStatements(self.dialect, schema)
        self._identity = identity
        self.migrates = auto_migrate or self.dialect.makes_own_schema
        """Whether a schema that is missing or old is seen to at first use."""
        self._is_ready = False
        self._preparing = threading.Lock()

    @contextmanager
    def transaction(self, gate: Gate) -> Iterator[Database]:
        """Give a database whose statements all run in one transaction, which ends with the block.

        It is for the thread that opened it.

        Raises:
            CatalogUnavailableError: It could not be begun or committed; or, where a failure within
                was passed over, not committed any more.
        """
        begin = self.dialect.begin_write(gate)
        with ExitStack() as stack:
            connection = _once_more(lambda: stack.enter_context(self._begun(begin)))
            yield BoundDatabase(self, connection)

    def join(self, connection: Connection, gate: Gate) -> Database:
        """Return a database whose statements run in the transaction of a caller's *connection*.

        The transaction is begun if it isn't; the caller ends it. Where the schema is still to be
        made, it is made there too: the caller may hold the lock that another connection would need.

        Raises:
            SchemaOutOfDateError: The schema is to be made or upgraded by hand.
        """
        try:
            if not connection.in_transaction():
                connection.begin()
            self.dialect.begin_now(connection)
            if not self._is_ready:
                self._prepare_within(connection)
            enter = self.dialect.enter(gate)
            if enter is not None:
                connection.exec_driver_sql(enter)
        except SQLAlchemyError as error:
            raise self.dialect.translate(error, self.pool.where) from error
        return BoundDatabase(self, connection.connection, self._identity)

    def row(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> Row | None:
        """Return the first row of one statement outside of any transaction, or None."""
        # The hottest path: without the context manager, which would cost as much as the statement.
        if not self._is_ready:
            self._prepare()
        if self._identity is not None:
            return self.read(lambda session: session.row(statement, parameters))
        connection = self.pool.acquire()
        try:
            row = Session(connection, self.dialect).row(statement, parameters)
        except BaseException as error:
            try:
                self._give_up(connection, error)
            except (ConnectionLostError, ContentionError):
                rows = self.rows(statement, parameters)
                return rows[0] if rows else None
            raise
        self.pool.release(connection)
        return row

    def rows(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> list[Row]:
        """Return the rows of one statement outside of any transaction."""
        if self._identity is not None:
            return self.read(lambda session: session.rows(statement, parameters))

        def read() -> list[Row]:
            with self._connected() as connection:
                return Session(connection, self.dialect).rows(statement, parameters)

        return _persistently(read)

    def read(self, work: Callable[[Session], T]) -> T:
        """Return what *work* returns, whose statements all see one state of the database."""

        def read() -> T:
            with self._transaction(self.dialect.begin_read) as session:
                return work(session)

        return _persistently(read)

    def write(self, work: Callable[[Session], T], gate: Gate | None = None) -> T:
        """Return what *work* returns, run in a transaction that commits at its end.

        *work* is run anew, from its beginning, when another transaction got in its way; so it must
        change nothing but the database. It goes through *gate* first, if one is given.
        """

        def write() -> T:
            with self._transaction(self.dialect.begin_write(gate), gate) as session:
                return work(session)

        return _persistently(write)

    def revision(self) -> str | None:
        """Return the revision that the schema is at, None where there is none; make nothing."""
        return _persistently(self._read_revision)

    def close(self) -> None:
        """Close the pool; idempotent."""
        self.pool.close()

    @contextmanager
    def _transaction(self, begin: str, gate: Gate | None = None) -> Iterator[Session]:  # noqa: ARG002 -- in begin
        with self._begun(begin) as connection:
            yield Session(connection, self.dialect)

    @contextmanager
    def _begun(self, begin: str) -> Iterator[Any]:
        """Give a connection in a transaction, which ends with the block."""
        with self._connected() as connection:
            session = Session(connection, self.dialect)
            session.command(begin)
            try:
                self._assume_identity(session)
                yield connection
                if self.pool.has_failed(connection):
                    # COMMIT would be answered by a rollback, and not by an error.
                    where = self.pool.where
                    raise CatalogUnavailableError(f"catalog {where}: a statement has failed")
            except BrokenConnectionError:
                raise
            except LTMError:
                session.command("ROLLBACK")
                raise
            self._commit(session)

    def _assume_identity(self, session: Session) -> None:
        """Become, until the transaction ends, whoever the verbs are to run as."""
        if self._identity is not None:
            session.row(self.statements.assume, self._identity())

    def _commit(self, session: Session) -> None:
        try:
            session.command("COMMIT")
        except self.pool.error as error:
            failure = self.dialect.translate(error, self.pool.where)
            if isinstance(failure, BrokenConnectionError):
                message = f"{failure}; whether it has committed is not known"
                raise BrokenConnectionError(message) from error
            raise

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
        if isinstance(error, LTMError) and not isinstance(error, BrokenConnectionError):
            # A refusal, not a fault: the connection is sound.
            self.pool.release(connection)
            return
        self.pool.discard(connection)
        if isinstance(error, self.pool.error | SQLAlchemyError):
            raise self.dialect.translate(error, self.pool.where) from error

    def _prepare(self) -> None:
        """Read the revision of the schema, and make or upgrade it where that is asked for."""
        # Without the lock: during an outage nobody waits for the others' time to run out.
        revision = self.revision()
        if revision != HEAD:
            if not self.migrates:
                raise out_of_date(revision)
            with self._preparing:
                if not self._is_ready:
                    self._migrate()
        self._is_ready = True

    def _migrate(self) -> None:
        try:
            ensure_schema(self.pool.engine(), self.schema)
        except SQLAlchemyError as error:
            raise self.dialect.translate(error, self.pool.where) from error
        self._is_ready = True

    def _read_revision(self) -> str | None:
        connection = self.pool.acquire()
        session = Session(connection, self.dialect)
        try:
            if self._identity is not None:
                session.command(self.dialect.begin_read)
                self._assume_identity(session)
            row = session.row(self.statements.select_revision, {})
            if self._identity is not None:
                session.command("COMMIT")
        except BaseException as error:
            # Whatever it was, a transaction may be open.
            self.pool.discard(connection)
            if not isinstance(error, self.pool.error):
                raise
            if self.dialect.is_missing_table(error):
                return None
            raise self.dialect.translate(error, self.pool.where) from error
        self.pool.release(connection)
        return None if row is None else row[0]

    def _prepare_within(self, connection: Connection) -> None:
        if self.migrates:
            ensure_schema_within(connection, self.schema)
        else:
            revision = current_revision(connection, self.schema)
            if revision != HEAD:
                raise out_of_date(revision)


class BoundDatabase(Database):
    """Statements on one connection, within a transaction that somebody else begins and ends."""

    def __init__(self, parent: Database, connection: Any, identity: Identity | None = None) -> None:
        """Bind to a *connection*; *identity* is whom each verb becomes for its own length."""
        self.pool = parent.pool
        self.dialect = parent.dialect
        self.schema = parent.schema
        self.statements = parent.statements
        self.history = parent.history
        self.search = parent.search
        self._connection = connection
        self._identity = identity

    @contextmanager
    def transaction(self, gate: Gate) -> Iterator[Database]:  # noqa: ARG002 -- passed already
        """Give this database: a failing block is undone, and its verbs alone are the tenant's."""
        with self._savepoint():
            yield self

    def row(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> Row | None:
        with self._connected() as connection:
            return Session(connection, self.dialect).row(statement, parameters)

    def close(self) -> None:
        """Nothing to close: the connection is somebody else's."""

    @contextmanager
    def _transaction(self, begin: str, gate: Gate | None = None) -> Iterator[Session]:
        if begin == self.dialect.begin_read:
            with self._connected() as connection:
                yield Session(connection, self.dialect)
            return
        with self._connected() as connection, self._savepoint():
            session = Session(connection, self.dialect)
            enter = None if gate is None else self.dialect.enter(gate)
            if enter is not None:
                session.command(enter)
            yield session

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        self._command(f"SAVEPOINT {SAVEPOINT}")
        try:
            yield
        except BaseException:
            self._command(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
            self._command(f"RELEASE SAVEPOINT {SAVEPOINT}")
            raise
        self._command(f"RELEASE SAVEPOINT {SAVEPOINT}")

    def _command(self, text: str) -> None:
        try:
            Session(self._connection, self.dialect).command(text)
        except self.pool.error as error:
            raise self.dialect.translate(error, self.pool.where) from error

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            if self._identity is None:
                yield self._connection
                return
            session = Session(self._connection, self.dialect)
            role, claims = session.rows(self.statements.select_identity, {})[0]
            self._assume_identity(session)
            try:
                yield self._connection
            finally:
                # Where this fails the transaction has failed already, and ends with its settings.
                with suppress(self.pool.error):
                    session.row(self.statements.assume, {"role": role, "claims": claims})
        except (self.pool.error, SQLAlchemyError) as error:
            failure = self.dialect.translate(error, self.pool.where)
            if isinstance(failure, ContentionError):
                # Not to be tried anew: what got in the way does so until the transaction ends.
                failure = CatalogUnavailableError(str(failure))
            raise failure from error


def _once_more(call: Callable[[], T]) -> T:
    """Return what *call* returns, on a fresh connection if its own one turns out to be broken."""
    try:
        return call()
    except ConnectionLostError:
        return call()


def _persistently(call: Callable[[], T]) -> T:
    """Return what *call* returns once no other transaction gets in its way."""
    try:
        return _once_more(call)
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
