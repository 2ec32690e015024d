"""The schema of a SQLite catalog: which revision it has, and bringing it to the newest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ltm.errors import ValidationError

if TYPE_CHECKING:
    from sqlalchemy import Engine


def read_revision(path: str) -> str | None:
    """Return the revision of the catalog in the file at *path*, None where there is no schema.

    The file is opened read-only, and not made where it is missing.

    Raises:
        CatalogUnavailableError: The file can't be read, or is no database.
    """
    from ltm.sql.migrate import current_revision

    if not os.path.exists(_require_file(path)):
        return None
    with _opened(path, writes=False) as engine, engine.connect() as connection:
        return current_revision(connection)


def upgrade_schema(path: str) -> str:
    """Make the schema, or upgrade it, in the file at *path*; return the revision it has then.

    Raises:
        SchemaOutOfDateError: The schema is newer than this library.
        CatalogUnavailableError: The file can't be written, or is no database.
    """
    from ltm.sql.migrate import HEAD, ensure_schema

    with _opened(_require_file(path), writes=True) as engine:
        ensure_schema(engine)
    return HEAD


def newest_revision() -> str:
    """Return the revision that this library works with."""
    from ltm.sql.migrate import HEAD

    return HEAD


def schema_sql(scheme: str) -> str:
    """Return the SQL of all migrations for the database named by the *scheme* of its URL.

    Raises:
        ValidationError: There are no migrations for it.
    """
    from ltm.sql.dialects import DIALECTS
    from ltm.sql.migrate import upgrade_sql

    if scheme not in DIALECTS:
        raise ValidationError(f"no migrations for {scheme!r}: known are {', '.join(DIALECTS)}")
    return upgrade_sql(f"{scheme}://")


def _require_file(path: str) -> str:
    if path == ":memory:":
        raise ValidationError("catalog ':memory:' has no schema to manage: name a file")
    return path


@contextmanager
def _opened(path: str, *, writes: bool) -> Iterator[Engine]:
    from sqlalchemy import URL, NullPool, create_engine
    from sqlalchemy.exc import SQLAlchemyError

    from ltm.sql.dialects import DIALECTS
    from ltm.sql.engines import BUSY_TIMEOUT, SQLitePool

    location = os.path.abspath(path)
    if writes:
        engine = SQLitePool(location, durability="full", busy_timeout=BUSY_TIMEOUT).engine()
    else:
        # Not the pool's: it switches on the write-ahead log, which is a write.
        url = URL.create(
            "sqlite", database=Path(location).as_uri(), query={"mode": "ro", "uri": "true"}
        )
        engine = create_engine(url, poolclass=NullPool)
    try:
        yield engine
    except SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or error
        raise DIALECTS["sqlite"].translate(reason, location) from error
