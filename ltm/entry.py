"""The values that all layers speak: entries, what is asked of a catalog, what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from math import isfinite

from ltm.clock import parse_instant, require_utc
from ltm.errors import SerializationError, ValidationError
from ltm.hashing import copy_json
from ltm.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing import Final, TypeAlias

JSONValue: TypeAlias = Any
"""What JSON can hold: None, bool, int, float, str, lists and string-keyed dicts of these."""

Metadata: TypeAlias = dict[str, Any]

EXPIRY_NAMES = ("_cache_expires_at", "expires_at", "ttl")
"""Names in metadata that are read for an expiry, in this order, where no argument gives one."""


class _Missing(Enum):
    MISSING = "MISSING"


MISSING: Final = _Missing.MISSING
"""Says that an argument was not given, where None is a value."""

Missing = _Missing


class EntryRow(NamedTuple):
    """One catalog row inside the library: the value still as its JSON text."""

    id: str
    key: str
    content_hash: str
    storage_uri: str | None
    byte_size: int
    inlined_text: str | None
    metadata: Metadata
    expires_at: datetime | None
    begin_seq: int
    created_at: datetime
    updated_at: datetime


class ValueRow(NamedTuple):
    """As much of a catalog row as whoever asks for its value has to know."""

    key: str
    content_hash: str
    storage_uri: str | None
    byte_size: int
    inlined_text: str | None
    metadata: Metadata
    expires_at: datetime | None


AnyRow: TypeAlias = EntryRow | ValueRow
"""A row as far as its value and terms go."""


_OBJECTS = (dict, Mapping)  # the first is told at once


def validate_metadata(metadata: object) -> Metadata:
    """Return *metadata* as a dict of its own, ``{}`` for None.

    ``-0.0`` becomes ``0.0`` on every catalog: PostgreSQL's JSONB has no other zero.

    Raises:
        ValidationError: Not a JSON object, or a string in it holds NUL or a lone surrogate, which
            PostgreSQL's JSONB cannot keep.
    """
    if metadata is None or metadata == {}:
        return {}
    if not isinstance(metadata, _OBJECTS):
        raise ValidationError(f"metadata: expected an object, got {type(metadata).__name__}")
    plain = dict(metadata)
    if not plain:
        return plain
    try:
        copied, text = copy_json(plain)
    except SerializationError as error:
        raise ValidationError(f"metadata: {error}") from error
    # Canonical text is ASCII: NUL and surrogates can only be there as escapes.
    if "\\u0000" in text or "\\ud" in text:
        _refuse_unstorable(plain, "metadata")
    kept: Metadata = json.loads(text, parse_float=_parse_float) if "-0.0" in text else copied
    return kept


def resolve_expiry(
    now: datetime,
    *,
    ttl: object = None,
    expires_at: object = None,
    metadata: Mapping[str, Any] | None = None,
) -> datetime | None:
    """Return the UTC instant at which an entry ceases to exist, or None for never.

    Args:
        now: The instant from which *ttl* counts.
        ttl: Seconds, int or float, above 0.
        expires_at: An aware datetime; it may lie in the past.
        metadata: Where neither is given, ``_cache_expires_at`` or ``expires_at`` (ISO 8601 with an
            offset) or ``ttl`` (seconds) in it count: the first that is there; null means never.

    Raises:
        ValidationError: Rubbish in any of these, or both *ttl* and *expires_at*.
    """
    if ttl is not None and expires_at is not None:
        raise ValidationError("ttl and expires_at: give one, not both")
    if ttl is not None:
        return _after(now, ttl, "ttl")
    if expires_at is not None:
        return require_utc(expires_at, "expires_at")
    for name in EXPIRY_NAMES:
        if metadata and name in metadata:
            given = metadata[name]
            if given is None:
                return None
            where = f"metadata.{name}"
            return _after(now, given, where) if name == "ttl" else parse_instant(given, where)
    return None


def _after(now: datetime, seconds: object, name: str) -> datetime:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValidationError(f"{name}: expected seconds as int or float, got {seconds!r}")
    if not (isinstance(seconds, int) or isfinite(seconds)) or seconds <= 0:
        raise ValidationError(f"{name}: expected seconds above 0, got {seconds!r}")
    try:
        return now + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValidationError(f"{name}: {seconds!r} seconds is past the year 9999") from error


def _parse_float(text: str) -> float:
    return float(text) or 0.0


def _refuse_unstorable(item: object, path: str) -> None:
    if isinstance(item, Mapping):
        for key, child in item.items():
            _refuse_unstorable(key, f"{path} key {key!r}")
            _refuse_unstorable(child, f"{path}.{key}")
    elif isinstance(item, list):
        for index, child in enumerate(item):
            _refuse_unstorable(child, f"{path}[{index}]")
    elif isinstance(item, str):
        if "\0" in item:
            raise ValidationError(f"{path}: holds NUL")
        if any("\ud800" <= character <= "\udfff" for character in item):
            raise ValidationError(f"{path}: holds a lone surrogate")
