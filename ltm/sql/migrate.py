"""Bringing a database to the schema that this library needs.

Imported only when there is something to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateSchema

from ltm.sql.building import build_schema
from ltm.sql.dialects import DIALECTS
from ltm.sql.idioms import IDIOMS
from ltm.sql.prepared import HEAD
from ltm.sql.revision import VERSION_TABLE, is_known, migrations_directory, out_of_date
from ltm.sql.version import VERSION

if TYPE_CHECKING:
    from alembic.config import Config


def current_revision(connection: Connection, schema: str | None = None) -> str | None:
    """Return the revision that the database is at, or None where it has no schema."""
    if not inspect(connection).has_table(VERSION_TABLE, schema=schema):
        return None
    # A map to None would mean the default schema, not the one that the connection looks in first.
    options = {} if schema is None else {"schema_translate_map": {None: schema}}
    return connection.scalar(select(VERSION.c.version_num), execution_options=options)


def create_schema(connection: Connection) -> None:
    """Make the whole schema at the newest revision in an empty database.

    The result equals that of all migrations in turn; a test reflects both and compares them.
    """
    for ddl in build_schema(IDIOMS[connection.dialect.name]):
        connection.exec_driver_sql(ddl)


def ensure_schema(engine: Engine, schema: str | None = None) -> None:
    """Make the schema where there is none and upgrade an older one, in one transaction.

    Processes that start at once wait for the first of them and then find the work done.

    Args:
        engine: Connects to the database.
        schema: PostgreSQL's schema for the tables, made if it isn't there; None for the first that
            the connections look in.

    Raises:
        SchemaOutOfDateError: The database is at a revision that this library doesn't know.
    """
    with engine.begin() as connection:
        ensure_schema_within(connection, schema)


def ensure_schema_within(connection: Connection, schema: str | None = None) -> None:
    """Do the same within the transaction of *connection*, which somebody else ends."""
    dialect = DIALECTS[connection.dialect.name]
    # Somebody else's transaction may be long, and would hold the lock to its end for nothing.
    if not dialect.makes_own_schema and current_revision(connection, schema) == HEAD:
        return
    dialect.lock_schema(connection)
    with working_in(connection, schema):
        revision = current_revision(connection)
        if revision is None and dialect.makes_own_schema:
            # All at once and without Alembic, whose import would cost more than the schema.
            create_schema(connection)
        elif revision != HEAD:
            if revision is not None and not is_known(revision):
                raise out_of_date(revision)
            upgrade(connection)


@contextmanager
def working_in(connection: Connection, schema: str | None) -> Iterator[None]:
    """Let names without a schema mean those in *schema*, made if it isn't there; None for as is."""
    if schema is None:
        yield
        return
    # PostgreSQL asks for the privilege to make it even where IF NOT EXISTS would find it made.
    if not inspect(connection).has_schema(schema):
        connection.execute(CreateSchema(schema, if_not_exists=True))
    before = connection.scalar(select(func.current_setting("search_path")))
    # Quoted by the server: SQLAlchemy's quotes are for the text of a statement, with % doubled.
    connection.execute(select(func.set_config("search_path", func.quote_ident(schema), True)))
    try:
        yield
    finally:
        # For this transaction only, and only for the work in it that is ours. Where the transaction
        # has failed this fails too, and it ends with its settings.
        with suppress(SQLAlchemyError):
            connection.execute(select(func.set_config("search_path", before, True)))


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to *revision* within the transaction of *connection*."""
    from alembic import command

    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Undo the migrations down to *revision*, ``base`` for all, within the same transaction."""
    from alembic import command

    command.downgrade(_config(connection), revision)


def upgrade_sql(dialect_name: str, schema: str | None = None) -> str:
    """Return the SQL of all migrations for a dialect of SQLAlchemy's, without connecting."""
    from io import StringIO

    from alembic import command

    buffer = StringIO()
    config = _config(None, buffer)
    config.attributes |= {"dialect": dialect_name, "schema": schema}
    command.upgrade(config, "head", sql=True)
    return buffer.getvalue()


def _config(connection: Connection | None, output: object = None) -> Config:
    from alembic.config import Config

    config = Config(output_buffer=output)  # type: ignore[arg-type]  # any text stream will do
    config.set_main_option("script_location", migrations_directory().replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
