"""The schema of a catalog: which revision it has, and bringing it to the newest."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltm.errors import SchemaOutOfDateError, ValidationError
from ltm.keys import validate_name

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ltm.catalog.sql import SQLCatalog
    from ltm.config import CatalogSettings, PostgresSettings, SQLiteSettings, SupabaseSettings

DIALECT_NAMES = ("sqlite", "postgresql")
"""The databases that there are migrations for."""

UPGRADE_SECONDS = 86_400.0
"""What a statement of an upgrade may take, unless the settings say otherwise."""


class CatalogSchema(ABC):
    """The schema in the database of one catalog."""

    where: str
    """Names the database in messages, without secrets."""
    _command: str
    """What upgrades it."""

    def remedy(self, revision: str | None) -> str:
        """Return what to do about a schema that is at *revision*, which is not the newest."""
        from ltm.sql.revision import is_known

        is_older = revision is None or is_known(revision)
        return f"run '{self._command}'" if is_older else "it is newer: upgrade ltm itself"

    @abstractmethod
    def read_revision(self) -> str | None:
        """Return the revision that it is at, None where there is no schema; make nothing.

        Raises:
            CatalogUnavailableError: The database can't be reached, or read.
        """

    @abstractmethod
    def upgrade(self) -> None:
        """Make the schema, or upgrade it to the newest revision, in one transaction.

        Raises:
            SchemaOutOfDateError: It is newer than this library.
            CatalogUnavailableError: The database can't be reached, or written.
        """


class FileSchema(CatalogSchema):
    """The schema in a file of SQLite."""

    def __init__(self, settings: SQLiteSettings) -> None:
        if settings.path == ":memory:":
            raise ValidationError("catalog ':memory:' has no schema to manage: name a file")
        self.where = settings.path
        self._command = f"ltm --catalog {settings.path} db upgrade"

    def read_revision(self) -> str | None:
        from ltm.sql.migrate import current_revision

        if not os.path.exists(self.where):
            return None
        with self._opened(writes=False) as engine, engine.connect() as connection:
            return current_revision(connection)

    def upgrade(self) -> None:
        from ltm.sql.migrate import ensure_schema

        with self._opened(writes=True) as engine:
            ensure_schema(engine)

    @contextmanager
    def _opened(self, *, writes: bool) -> Iterator[Engine]:
        from sqlalchemy import URL, NullPool, create_engine
        from sqlalchemy.exc import SQLAlchemyError

        from ltm.sql.dialects import DIALECTS
        from ltm.sql.sqlite import BUSY_TIMEOUT, SQLitePool

        location = os.path.abspath(self.where)
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


class ServerSchema(CatalogSchema):
    """The schema in a database of PostgreSQL, or of a Supabase project."""

    def __init__(self, settings: PostgresSettings | SupabaseSettings) -> None:
        self._settings = settings
        with self._opened() as catalog:
            self.where = catalog.database.pool.where
        if settings.schema is not None:
            self.where = f"{self.where}, schema {settings.schema}"
        # Without the address: its password must stay where it is.
        self._command = "ltm db upgrade"

    def read_revision(self) -> str | None:
        from ltm.sql.prepared import HEAD

        with self._opened() as catalog:
            try:
                # Whatever a catalog is asked, it looks at the revision before; and as whom its
                # access token says, who may read it where the login may not.
                catalog.database.read(lambda _session: None)
            except SchemaOutOfDateError as error:
                return error.found
        return HEAD

    def upgrade(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        from ltm.sql.migrate import ensure_schema

        with self._opened() as catalog:
            database = catalog.database
            try:
                ensure_schema(catalog.engine, database.schema)
            except SQLAlchemyError as error:
                raise database.dialect.translate(error, database.pool.where) from error

    @contextmanager
    def _opened(self) -> Iterator[SQLCatalog]:
        from ltm.catalog.sql import SQLCatalog
        from ltm.factory import create_catalog_backend

        options = {"statement_timeout": UPGRADE_SECONDS} | self._settings.options()
        options["auto_migrate"] = False
        catalog = create_catalog_backend(self._settings.type, **options)
        if not isinstance(catalog, SQLCatalog):
            raise _without_schema(self._settings)
        with closing(catalog):
            yield catalog


def schema_of(settings: CatalogSettings) -> CatalogSchema:
    """Return the schema of the catalog in *settings*; nothing is opened.

    Raises:
        ValidationError: That catalog has none, or its settings are bad.
        MissingDependencyError: The driver is not installed.
    """
    from ltm.config import PostgresSettings, SQLiteSettings, SupabaseSettings

    if isinstance(settings, SQLiteSettings):
        return FileSchema(settings)
    if isinstance(settings, PostgresSettings | SupabaseSettings):
        return ServerSchema(settings)
    raise _without_schema(settings)


def newest_revision() -> str:
    """Return the revision that this library works with."""
    from ltm.sql.prepared import HEAD

    return HEAD


def schema_sql(settings: CatalogSettings, dialect: str | None, schema: str | None) -> str:
    """Return the SQL of all migrations, without connecting to anything.

    Args:
        settings: Of the catalog that it is for.
        dialect: One of ``DIALECT_NAMES``; None for that of the catalog.
        schema: PostgreSQL's schema for the tables; None for that in *settings*, if any.

    Raises:
        ValidationError: There are no migrations for it, or no schemas.
    """
    from ltm.config import PostgresSettings, SQLiteSettings, SupabaseSettings
    from ltm.sql.migrate import upgrade_sql

    is_server = isinstance(settings, PostgresSettings | SupabaseSettings)
    if dialect is None:
        if not is_server and not isinstance(settings, SQLiteSettings):
            raise _without_schema(settings)
        dialect = "postgresql" if is_server else "sqlite"
    if dialect == "sqlite":
        if schema is not None:
            raise ValidationError("schema: SQLite has none")
        return upgrade_sql(dialect)
    if schema is None and isinstance(settings, PostgresSettings | SupabaseSettings):
        schema = settings.schema
    return upgrade_sql(dialect, None if schema is None else validate_name(schema, "schema"))


def schema_indexes(settings: CatalogSettings, *, expire_entries: bool) -> dict[str, Any]:
    """Return the index definitions for a Firestore catalog, without connecting to anything.

    Args:
        settings: Of the catalog that they are for.
        expire_entries: Whether Firestore is to delete expired entries by itself.

    Raises:
        ValidationError: The catalog is another one, or its settings are bad.
    """
    from ltm.catalog.firestore_setup import index_definitions
    from ltm.config import FirestoreSettings
    from ltm.factory import create_catalog_backend

    if not isinstance(settings, FirestoreSettings):
        raise ValidationError(f"catalog {settings.type!r} has no indexes to deploy: Firestore has")
    # It checks the prefix, and opens nothing.
    create_catalog_backend(settings.type, **settings.options()).close()
    return index_definitions(settings.collection_prefix or "", expire_entries=expire_entries)


def _without_schema(settings: CatalogSettings) -> ValidationError:
    from ltm.config import FirestoreSettings

    if isinstance(settings, FirestoreSettings):
        return ValidationError(
            "catalog 'firestore' has no schema: 'ltm db indexes' prints the indexes that it needs"
        )
    return ValidationError(f"catalog {settings.type!r} has no schema to manage here")
