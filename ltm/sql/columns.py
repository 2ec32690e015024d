"""Column types that keep what they are given, on every database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    Integer,
    String,
    Text,
    TypeDecorator,
    cast,
    func,
    literal_column,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine, UserDefinedType

from ltm.sql.conversions import (
    mark_as_utc,
    read_document,
    read_instant,
    write_document,
    write_instant,
    write_jsonb,
)

POSTGRESQL = "postgresql"

BigId = BigInteger().with_variant(Integer(), "sqlite")
"""A generated number. Only as INTEGER is it SQLite's own row number, which VACUUM keeps then."""


def bytewise(length: int | None) -> TypeEngine[str]:
    """Return text compared by its UTF-8 bytes, at most *length* characters long."""
    plain: TypeEngine[str] = Text() if length is None else String(length)
    return plain.with_variant(postgresql.VARCHAR(length, collation="C"), POSTGRESQL)


class _NativeInstant(UserDefinedType[datetime]):
    """PostgreSQL's own instants, read as UTC whatever the time zone of the session is.

    In a zone ahead of UTC the driver could not even read the last hours of the year 9999.
    """

    cache_ok = True
    render_bind_cast = True

    def get_col_spec(self, **_: Any) -> str:
        return "TIMESTAMP WITH TIME ZONE"

    def column_expression(self, column: ColumnElement[datetime]) -> ColumnElement[Any]:
        return func.timezone(literal_column("'UTC'"), column)


class _NativeJSON(UserDefinedType[str]):
    """PostgreSQL's own JSON, read and written as text: the driver would parse it its own way."""

    cache_ok = True
    render_bind_cast = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name

    def column_expression(self, column: ColumnElement[str]) -> ColumnElement[Any]:
        return cast(column, Text)


def _unless_null(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return *convert* as SQLAlchemy wants it; statements of ours go by its name."""

    @wraps(convert)
    def convert_or_none(value: Any) -> Any:
        return None if value is None else convert(value)

    return convert_or_none


class UTCDateTime(TypeDecorator[datetime]):
    """An instant in UTC with microseconds.

    SQLite has no such type: there it is ISO 8601 text of one width, whose order is that of time.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return _NativeInstant() if dialect.name == POSTGRESQL else String(32)

    def bind_processor(self, dialect: Dialect) -> Any:
        return None if dialect.name == POSTGRESQL else _unless_null(write_instant)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ARG002 -- the base class's
        return _unless_null(mark_as_utc if dialect.name == POSTGRESQL else read_instant)


class JSONText(TypeDecorator[str]):
    """The text of a JSON value, kept to the letter: JSONB would drop ``-0.0`` and refuse NUL."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return _NativeJSON("JSON") if dialect.name == POSTGRESQL else Text()


class JSONDocument(TypeDecorator[dict[str, Any]]):
    """A JSON object for people's own SQL: JSONB on PostgreSQL, text on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return _NativeJSON("JSONB") if dialect.name == POSTGRESQL else Text()

    def bind_processor(self, dialect: Dialect) -> Any:
        return _unless_null(write_jsonb if dialect.name == POSTGRESQL else write_document)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ARG002 -- the base class's
        return _unless_null(read_document)
