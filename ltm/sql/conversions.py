"""How values are converted on their way to a driver and back, by names that can be written down."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from ltm.errors import IntegrityError
from ltm.hashing import canonical_json, parse
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

# A string is taken as a whole, so that what looks like a number in it is none.
_LARGE_FLOAT = r'"(?:[^"\\]|\\.)*"|-?[\d.]+e\+\d+'


def mark_as_utc(value: datetime | None) -> datetime | None:
    """Return an instant that PostgreSQL has told in UTC, as such."""
    return None if value is None else value.replace(tzinfo=UTC)


def write_instant(value: datetime | None) -> str | None:
    """Return an instant as SQLite keeps it: ISO 8601 text of one width, whose order is time's."""
    if value is None:
        return None
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    return value.isoformat(timespec="microseconds")


def read_instant(text: str | None) -> datetime | None:
    """Return the instant that :func:`write_instant` has written.

    Raises:
        IntegrityError: *text* is none of its.
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise IntegrityError(f"catalog row: {error}") from error


def write_document(value: dict[str, Any] | None) -> str | None:
    """Return a JSON object as text."""
    if not value:
        return None if value is None else "{}"
    return canonical_json(value)


def write_jsonb(value: dict[str, Any] | None) -> str | None:
    """Return a JSON object as text for PostgreSQL's JSONB."""
    text = write_document(value)
    return None if text is None else spell_out(text)


def read_document(text: str | None) -> dict[str, Any] | None:
    """Return the JSON object in *text*.

    Raises:
        IntegrityError: There is none.
    """
    if text == "{}":  # as most entries have it
        return {}
    document: dict[str, Any] | None = None if text is None else parse(text, where="metadata")
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
        read_document,
    )
}
"""By their names."""
