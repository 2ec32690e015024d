"""Runs the migrations on the connection that `ltm` hands over, or on a URL of one's own."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from ltm.sql.engines import open_engine
from ltm.sql.migrate import VERSION_TABLE
from ltm.sql.models import Base

config = context.config


def database_url() -> str:
    """Return the URL by precedence: handed over, `-x url=`, LTM_CATALOG_URL, alembic.ini."""
    return (
        config.attributes.get("url")
        or context.get_x_argument(as_dictionary=True).get("url")
        or os.environ.get("LTM_CATALOG_URL")
        or config.get_main_option("sqlalchemy.url")
    )


def is_ours(_object, name, _type, _reflected, _compare_to) -> bool:
    """Compare neither an application's own tables nor what one kind of database alone has."""
    if name is None:
        return True
    is_foreign = name == "ix_ltm_entries_metadata" and context.get_bind().dialect.name == "sqlite"
    return name.startswith(("ltm_", "ix_ltm_")) and "_fts" not in name and not is_foreign


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


if context.is_offline_mode():
    context.configure(
        dialect_name=make_url(database_url()).get_backend_name(),
        version_table=VERSION_TABLE,
        literal_binds=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()
elif config.attributes.get("connection") is not None:
    migrate(config.attributes["connection"])
else:
    with open_engine(database_url()).begin() as own_connection:
        migrate(own_connection)
