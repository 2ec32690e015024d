"""How values are converted on their way to a driver and back, by names that can be written down.

NULL is None both ways, and none of these is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ltm.errors import IntegrityError
from ltm.hashing import parse, write_json
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

# A string is taken as a whole, so that what looks like a number in it is none.
_LARGE_FLOAT = r'"(?:[^"\\]|\\.)*"|-?[\d.]+e\+\d+'


def mark_as_utc(value: datetime) -> datetime:
    """Return an instant that PostgreSQL has told in UTC, as such."""
    return value.replace(tzinfo=UTC)


def write_instant(value: datetime) -> str:
    """Return an instant as SQLite keeps it: ISO 8601 text of one width, whose order is time's."""
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    return value.isoformat(timespec="microseconds")


def read_instant(text: str) -> datetime:
    """Return the instant that :func:`write_instant` has written.

    Raises:
        IntegrityError: *text* is none of its.
    """
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise IntegrityError(f"catalog row: {error}") from error


def write_document(value: dict[str, Any]) -> str:
    """Return a JSON object as text."""
    return write_json(value) if value else "{}"


def write_jsonb(value: dict[str, Any]) -> str:
    """Return a JSON object as text for PostgreSQL's JSONB."""
    return spell_out(write_document(value))


def list_texts(values: Sequence[Any]) -> list[str | None]:
    """Return texts, JSON objects and None as the driver binds them: texts and None."""
    if dict in {*map(type, values)}:
        return [write_jsonb(value) if isinstance(value, dict) else value for value in values]
    return list(values)


def write_array(values: Sequence[Any]) -> str:
    """Return numbers, instants and None as a literal of PostgreSQL's arrays.

    The driver takes ten times as long for a list of what is not text.
    """
    if len({*map(id, values)}) == 1:
        return "{" + ",".join([_write_element(values[0])] * len(values)) + "}"
    return "{" + ",".join([_write_element(value) for value in values]) + "}"


def _write_element(value: Any) -> str:
    if value is None:
        return "NULL"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def read_document(text: str) -> dict[str, Any]:
    """Return the JSON object in *text*.

    Raises:
        IntegrityError: There is none.
    """
    if text == "{}":  # as most entries have it
        return {}
    document: dict[str, Any] = parse(text, where="metadata")
    return document


def spell_out(text: str) -> str:
    """Return JSON *text* whose large floats stay floats in JSONB.

    JSONB keeps a number as a decimal: of ``1e+16`` it makes an integer, of ``10000000000000000.0``
    it doesn't.
    """
    return re.sub(_LARGE_FLOAT, _spell_out, text) if "e+" in text else text


def _spell_out(token: re.Match[str]) -> str:
    from decimal import Decimal

    return token[0] if token[0][0] == '"' else f"{Decimal(token[0]):f}.0"


CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    each.__name__: each
    for each in (
        mark_as_utc,
        write_instant,
        read_instant,
        write_document,
        write_jsonb,
        list_texts,
        write_array,
        read_document,
    )
}
"""By their names."""
