"""Runs the migrations on the connection that `ltm` hands over, or on a URL of one's own."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.schema import CreateSchema

from ltm.sql.dialects import DIALECTS
from ltm.sql.engines import open_engine
from ltm.sql.migrate import working_in
from ltm.sql.models import Base
from ltm.sql.revision import VERSION_TABLE

config = context.config


def database_url() -> str:
    """Return the URL by precedence: handed over, `-x url=`, LTM_CATALOG_URL, alembic.ini."""
    return (
        config.attributes.get("url")
        or context.get_x_argument(as_dictionary=True).get("url")
        or os.environ.get("LTM_CATALOG_URL")
        or config.get_main_option("sqlalchemy.url")
    )


def schema_name() -> str | None:
    """Return PostgreSQL's schema for the tables: handed over, or `-x schema=`."""
    arguments = context.get_x_argument(as_dictionary=True)
    return config.attributes.get("schema") or arguments.get("schema")


def is_ours(_object, name, kind, _reflected, _compare_to) -> bool:
    """Compare neither an application's own tables nor what the models leave to one database."""
    if kind == "table":
        return name.startswith("ltm_") and "_fts" not in name
    if name == "ix_ltm_entries_metadata":
        return context.get_bind().dialect.name == "postgresql"
    return name not in ("words", "ix_ltm_entry_search_words")


def migrate(connection: Connection) -> None:
    """Run the migrations in the transaction of *connection*."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        include_object=is_ours,
        transactional_ddl=True,
    )
    context.run_migrations()
    if not context.get_context().get_current_heads():
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {VERSION_TABLE}")


def print_sql() -> None:
    """Print the SQL of the migrations instead of running it."""
    dialect_name = config.attributes.get("dialect") or open_engine(database_url()).dialect.name
    context.configure(
        dialect_name=dialect_name,
        version_table=VERSION_TABLE,
        literal_binds=True,
        transactional_ddl=True,
        # For people to run: a % that is not a driver's placeholder is not doubled.
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        schema = schema_name()
        if schema is not None:
            quoted = context.get_context().dialect.identifier_preparer.quote_identifier(schema)
            context.execute(CreateSchema(schema, if_not_exists=True))
            context.execute(f"SET LOCAL search_path = {quoted}".replace(":", r"\:"))
        context.run_migrations()


if context.is_offline_mode():
    print_sql()
elif config.attributes.get("connection") is not None:
    migrate(config.attributes["connection"])
else:
    with open_engine(database_url()).begin() as own_connection:
        DIALECTS[own_connection.dialect.name].lock_schema(own_connection)
        with working_in(own_connection, schema_name()):
            migrate(own_connection)
