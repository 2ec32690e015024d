"""Column types that keep what they are given, on every database."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
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

from ltm.errors import IntegrityError
from ltm.hashing import canonical_json, parse

POSTGRESQL = "postgresql"

# A string is taken as a whole, so that what looks like a number in it is none.
_LARGE_FLOAT = re.compile(r'"(?:[^"\\]|\\.)*"|-?[\d.]+e\+\d+')

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


class UTCDateTime(TypeDecorator[datetime]):
    """An instant in UTC with microseconds.

    SQLite has no such type: there it is ISO 8601 text of one width, whose order is that of time.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return _NativeInstant() if dialect.name == POSTGRESQL else String(32)

    def bind_processor(self, dialect: Dialect) -> Any:
        # Without the two calls that the base class puts around it: every read binds an instant.
        return None if dialect.name == POSTGRESQL else _write_instant

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ARG002 -- the base class's
        return _mark_as_utc if dialect.name == POSTGRESQL else _read_instant


def _mark_as_utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.replace(tzinfo=UTC)


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


def spell_out(text: str) -> str:
    """Return JSON *text* whose large floats stay floats in JSONB.

    JSONB keeps a number as a decimal: of ``1e+16`` it makes an integer, of ``10000000000000000.0``
    it doesn't.
    """
    return _LARGE_FLOAT.sub(_spell_out, text) if "e+" in text else text


def _spell_out(token: re.Match[str]) -> str:
    return token[0] if token[0][0] == '"' else f"{Decimal(token[0]):f}.0"


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

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        text = canonical_json(value)
        return spell_out(text) if dialect.name == POSTGRESQL else text

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ARG002 -- the base class's
        return _read_document


def _read_document(text: str | None) -> dict[str, Any] | None:
    document: dict[str, Any] | None = None if text is None else parse(text, where="metadata")
    return document
