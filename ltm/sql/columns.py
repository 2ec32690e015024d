"""Column types that keep what they are given, on every database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, String, Text, TypeDecorator
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from ltm.errors import IntegrityError
from ltm.hashing import canonical_json, parse

POSTGRESQL = "postgresql"

BigId = BigInteger().with_variant(Integer(), "sqlite")
"""A generated number. Only as INTEGER is it SQLite's own row number, which VACUUM keeps then."""


def bytewise(length: int | None) -> TypeEngine[str]:
    """Return text compared by its UTF-8 bytes, at most *length* characters long."""
    plain: TypeEngine[str] = Text() if length is None else String(length)
    return plain.with_variant(postgresql.VARCHAR(length, collation="C"), POSTGRESQL)


class UTCDateTime(TypeDecorator[datetime]):
    """An instant in UTC with microseconds.

    SQLite has no such type: there it is ISO 8601 text of one width, whose order is that of time.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        native = DateTime(timezone=True) if dialect.name == POSTGRESQL else String(32)
        return dialect.type_descriptor(native)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == POSTGRESQL:
            return value
        return _write_instant(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != POSTGRESQL:
            return _read_instant(value)
        utc: datetime = value.astimezone(UTC)
        return utc

    def bind_processor(self, dialect: Dialect) -> Any:
        # Without the two calls that the base class puts around it: every read binds an instant.
        return super().bind_processor(dialect) if dialect.name == POSTGRESQL else _write_instant

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        if dialect.name == POSTGRESQL:
            return super().result_processor(dialect, coltype)
        return _read_instant


def _write_instant(value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    return value.isoformat(timespec="microseconds")


def _read_instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        # Written by the function above, so in UTC.
        return datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise IntegrityError(f"catalog row: {error}") from error


class JSONText(TypeDecorator[str]):
    """The text of a JSON value, kept to the letter: JSONB would drop ``-0.0`` and refuse NUL."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        native = postgresql.JSON() if dialect.name == POSTGRESQL else Text()
        return dialect.type_descriptor(native)


class JSONDocument(TypeDecorator[dict[str, Any]]):
    """A JSON object for people's own SQL: JSONB on PostgreSQL, text on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        native = postgresql.JSONB() if dialect.name == POSTGRESQL else Text()
        return dialect.type_descriptor(native)

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == POSTGRESQL else canonical_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> dict[str, Any] | None:
        if value is None or dialect.name != POSTGRESQL:
            return _read_document(value)
        document: dict[str, Any] = value
        return document

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        if dialect.name == POSTGRESQL:
            return super().result_processor(dialect, coltype)
        return _read_document


def _read_document(text: str | None) -> dict[str, Any] | None:
    document: dict[str, Any] | None = None if text is None else parse(text, where="metadata")
    return document
