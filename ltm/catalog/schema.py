"""Seeing to the schema of a SQL database before it is used."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Mapping

from ltm.sql.execution import Session
from ltm.sql.prepared import HEAD, schema_of
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ltm.catalog.database import Database
    from ltm.errors import SchemaOutOfDateError
    from ltm.sql.statements import Statements

Identity = Callable[[], Mapping[str, str]]
"""Returns the ``role`` and ``claims`` that a transaction is to take on now, or raises."""


def assume(session: Session, statements: Statements, identity: Identity) -> None:
    """Become, until the transaction ends, whoever the verbs are to run as."""
    session.row(statements.assume, identity())


class SchemaGuard:
    """Lets nobody to the tables of a database before they are what this library needs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._preparing = allocate_lock()
        self.is_passed = False
        """Whether the schema is known to be at the right revision."""

    def require(self) -> None:
        """Read the revision of the schema, and make or upgrade it where that is asked for.

        Raises:
            SchemaOutOfDateError: It is to be made or upgraded by hand.
        """
        if self.is_passed:
            return
        # Without the lock: during an outage nobody waits for the others' time to run out.
        revision = self._database.revision()
        if revision != HEAD:
            if not self._database.migrates:
                raise _out_of_date(revision)
            with self._preparing:
                if not self.is_passed:
                    self._migrate()
        self.is_passed = True

    def require_within(self, connection: Connection) -> None:
        """Do the same in the transaction of a caller's *connection*, which may yet roll back."""
        if self.is_passed:
            return
        from ltm.sql.migrate import current_revision, ensure_schema_within

        if self._database.migrates:
            ensure_schema_within(connection, self._database.schema)
        else:
            revision = current_revision(connection, self._database.schema)
            if revision != HEAD:
                raise _out_of_date(revision)

    def read_revision(self) -> str | None:
        """Return the revision that the schema is at, None where there is none."""
        database = self._database
        connection = database.pool.acquire()
        session = Session(connection, database.dialect)
        try:
            if database.identity is not None:
                session.command(database.dialect.begin_read)
                assume(session, database.statements, database.identity)
            row = session.row(database.statements.select_revision, {})
            if database.identity is not None:
                session.command("COMMIT")
        except BaseException as error:
            # Whatever it was, a transaction may be open.
            database.pool.discard(connection)
            if not isinstance(error, database.pool.error):
                raise
            if database.dialect.is_missing_table(error):
                return None
            raise database.dialect.translate(error, database.pool.where) from error
        database.pool.release(connection)
        return None if row is None else row[0]

    def _migrate(self) -> None:
        database = self._database
        if not database.dialect.makes_own_schema or self._make() != HEAD:
            from sqlalchemy.exc import SQLAlchemyError

            from ltm.sql.migrate import ensure_schema

            try:
                ensure_schema(database.pool.engine(), database.schema)
            except SQLAlchemyError as error:
                raise database.dialect.translate(error, database.pool.where) from error
        self.is_passed = True

    def _make(self) -> str:
        """Make the schema if there is none, and return the revision that is there then."""
        database = self._database

        def make(session: Session) -> str:
            try:
                row = session.row(database.statements.select_revision, {})
            except database.pool.error as error:
                if not database.dialect.is_missing_table(error):
                    raise
                row = None
            if row is not None:
                revision: str = row[0]
                return revision
            for ddl in schema_of(database.dialect):
                session.command(ddl)
            return HEAD

        begin = database.dialect.begin_write
        return database.persistently(lambda: database.transact(begin, make, makes_schema=True))


def _out_of_date(revision: str | None) -> SchemaOutOfDateError:
    from ltm.sql.revision import out_of_date  # here: mostly it isn't

    return out_of_date(revision)
