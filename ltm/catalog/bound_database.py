"""A database within a transaction that somebody else begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from ltm.catalog.database import Database
from ltm.catalog.schema import Identity, assume
from ltm.errors import CatalogUnavailableError
from ltm.sql.dialects import ContentionError, Gate
from ltm.sql.execution import Row, Session, Statement
from ltm.sql.pools import Errors
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

SAVEPOINT = "ltm_verb"


class BoundDatabase(Database):
    """Statements on one connection, within a transaction that somebody else begins and ends."""

    def __init__(
        self,
        parent: Database,
        connection: Any,
        identity: Identity | None = None,
        errors: Errors | None = None,
    ) -> None:
        """Bind to a *connection*.

        Args:
            parent: Whose database it is.
            connection: Of the driver's, in a transaction.
            identity: Whom each verb becomes for its own length.
            errors: What *connection* raises, if others than those of the parent's.
        """
        self.pool = parent.pool
        self.dialect = parent.dialect
        self.schema = parent.schema
        self.statements = parent.statements
        self.history = parent.history
        self.search = parent.search
        self._connection = connection
        self.identity = identity
        self.writes_plain = False
        self._errors = errors or parent.pool.error

    @contextmanager
    def transaction(self, gate: Gate) -> Iterator[Database]:  # noqa: ARG002 -- passed already
        """Give this database: a failing block is undone, and its verbs alone are the tenant's."""
        with self._savepoint():
            yield self

    @property
    def errors(self) -> Errors:
        return self._errors

    def look_up(self, statement: Statement, values: Sequence[str]) -> Row | None:
        return self.row(statement, statement.named(values))

    def rows(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        with self._connected() as connection:
            return Session(connection, self.dialect).rows(statement, parameters)

    def read(self, work: Callable[[Session], T]) -> T:
        with self._connected() as connection:
            return work(Session(connection, self.dialect))

    def write(self, work: Callable[[Session], T], gate: Gate | None = None) -> T:
        def write() -> T:
            with self._connected() as connection, self._savepoint():
                session = Session(connection, self.dialect)
                enter = None if gate is None else self.dialect.enter(gate)
                if enter is not None:
                    session.command(enter)
                return work(session)

        return self.persistently(write)

    def close(self) -> None:
        """Nothing to close: the connection is somebody else's."""

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        self._command(f"SAVEPOINT {SAVEPOINT}")
        try:
            yield
        except BaseException:  # an interrupt, too: the transaction is somebody else's and goes on
            self._command(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
            self._command(f"RELEASE SAVEPOINT {SAVEPOINT}")
            raise
        self._command(f"RELEASE SAVEPOINT {SAVEPOINT}")

    def _command(self, text: str) -> None:
        try:
            Session(self._connection, self.dialect).command(text)
        except self._errors as error:
            raise self.dialect.translate(error, self.pool.where) from error

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            if self.identity is None:
                yield self._connection
                return
            session = Session(self._connection, self.dialect)
            role, claims = session.rows(self.statements.select_identity, {})[0]
            assume(session, self.statements, self.identity)
            try:
                yield self._connection
            finally:
                # Where this fails the transaction has failed already, and ends with its settings.
                with suppress(*self._errors):
                    session.row(self.statements.assume, {"role": role, "claims": claims})
        except self._errors as error:
            failure = self.dialect.translate(error, self.pool.where)
            if isinstance(failure, ContentionError):
                # Not to be tried anew: what got in the way does so until the transaction ends.
                failure = CatalogUnavailableError(str(failure))
            raise failure from error
