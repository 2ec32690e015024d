"""Bringing a database to the schema that this library needs.

The revision is read with one statement; Alembic is imported only when there is something to do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
)

from ltm.errors import SchemaOutOfDateError
from ltm.sql.dialects import DIALECTS
from ltm.sql.models import Base

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0001"
"""The newest revision in the migrations; a test holds it equal to what Alembic finds there."""

VERSION_TABLE = "ltm_alembic_version"

VERSION = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)
"""Alembic's own table, to the letter."""


def migrations_directory() -> str:
    """Return where the migrations lie: inside an installed package, beside it in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = os.path.join(package, "_migrations")
    return (
        installed
        if os.path.isdir(installed)
        else os.path.join(os.path.dirname(package), "migrations")
    )


def current_revision(connection: Connection) -> str | None:
    """Return the revision that the database is at, or None where it has no schema."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(select(VERSION.c.version_num))


def create_schema(connection: Connection) -> None:
    """Make the whole schema at the newest revision in an empty database.

    The result equals that of all migrations in turn; a test reflects both and compares them.
    """
    Base.metadata.create_all(connection, checkfirst=False)
    for ddl in DIALECTS[connection.dialect.name].search_ddl:
        connection.exec_driver_sql(ddl)
    VERSION.create(connection, checkfirst=True)
    connection.execute(insert(VERSION).values(version_num=HEAD))


def ensure_schema(engine: Engine) -> None:
    """Make the schema where there is none and upgrade an older one, in one transaction.

    Processes that start at once wait for the first of them and then find the work done.

    Raises:
        SchemaOutOfDateError: The database is at a revision that this library doesn't know.
    """
    with engine.begin() as connection:
        ensure_schema_within(connection)


def ensure_schema_within(connection: Connection) -> None:
    """Do the same within the transaction of *connection*, which somebody else ends."""
    DIALECTS[connection.dialect.name].lock_schema(connection)
    revision = current_revision(connection)
    if revision is None:
        create_schema(connection)
    elif revision != HEAD:
        _require_known(revision)
        upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to *revision* within the transaction of *connection*."""
    from alembic import command

    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Undo the migrations down to *revision*, ``base`` for all, within the same transaction."""
    from alembic import command

    command.downgrade(_config(connection), revision)


def upgrade_sql(url: str) -> str:
    """Return the SQL of all migrations for the database that *url* names, without connecting."""
    from io import StringIO

    from alembic import command

    buffer = StringIO()
    config = _config(None, buffer)
    config.attributes["url"] = url
    command.upgrade(config, "head", sql=True)
    return buffer.getvalue()


def _config(connection: Connection | None, output: object = None) -> Config:
    from alembic.config import Config

    config = Config(output_buffer=output)  # type: ignore[arg-type]  # any text stream will do
    config.set_main_option("script_location", migrations_directory().replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _require_known(revision: str) -> None:
    from alembic.script import ScriptDirectory

    known = {each.revision for each in ScriptDirectory(migrations_directory()).walk_revisions()}
    if revision not in known:
        raise SchemaOutOfDateError(revision, HEAD, "the database is newer: upgrade ltm itself")
