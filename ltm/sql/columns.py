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
        if value.tzinfo is not UTC:
            value = value.astimezone(UTC)
        return value.isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, _dialect: Dialect) -> datetime | None:
        if isinstance(value, str):
            # Written by the method above, so in UTC.
            try:
                return datetime.fromisoformat(value)
            except ValueError as error:
                raise IntegrityError(f"catalog row: {error}") from error
        return value if value is None else value.astimezone(UTC)


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

    def process_result_value(self, value: Any, _dialect: Dialect) -> dict[str, Any] | None:
        parsed: dict[str, Any] | None = (
            parse(value, where="metadata") if isinstance(value, str) else value
        )
        return parsed
