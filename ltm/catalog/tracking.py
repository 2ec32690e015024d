"""From the public arguments of ``track_entry`` to a validated write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from ltm.catalog.commit import Put
from ltm.clock import require_utc
from ltm.entry import MISSING, resolve_expiry, validate_metadata
from ltm.errors import ValidationError
from ltm.hashing import canonical_json
from ltm.keys import require_storable, validate_key
from ltm.search.analysis import get_analyzer
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

MAX_HASH_CHARACTERS = 71
"""``sha256:`` and 64 hexadecimal digits."""

MAX_URI_BYTES = 2048
"""Of the path of a payload, in UTF-8: a row of PostgreSQL's index over them ends at 2,704 bytes."""

MAX_BYTE_SIZE = 2**50
"""So that the sizes of a table's entries add up to what a database can count."""

_TRACKED = {
    "key",
    "content_hash",
    "storage_uri",
    "byte_size",
    "metadata",
    "inlined_value",
    "expires_at",
    "if_match",
    "if_absent",
    "created_at",
    "updated_at",
}


def build_put(
    catalog_id: Callable[[str], str], language: str, now: datetime, fields: Mapping[str, Any]
) -> Put:
    """Return the write that the arguments of ``track_entry`` ask for.

    Args:
        catalog_id: Gives the id of a key in the catalog's table.
        language: The language of the table's search words.
        now: The instant of the call.
        fields: The arguments by name.

    Raises:
        ValidationError: A bad argument, or one that is unknown or missing.
        SerializationError: The inlined value is not JSON.
    """
    unknown = fields.keys() - _TRACKED
    if unknown:
        raise ValidationError(f"unknown field {min(unknown)!r}")
    missing = {"key", "content_hash"} - fields.keys()
    if missing:
        raise ValidationError(f"{min(missing)}: is missing")
    key = validate_key(fields["key"])
    value = fields.get("inlined_value", MISSING)
    storage_uri = _validate_uri(fields.get("storage_uri"))
    if storage_uri is not None and value is not MISSING:
        raise ValidationError("storage_uri and inlined_value: give one, not both")
    metadata = validate_metadata(fields.get("metadata"))
    text = None if value is MISSING else canonical_json(value)
    return Put(
        id=catalog_id(key),
        key=key,
        content_hash=_validate_hash(fields["content_hash"]),
        byte_size=_validate_size(fields.get("byte_size", len(text or ""))),
        metadata=metadata,
        storage_uri=storage_uri,
        inlined_text=text,
        analyze=get_analyzer(language).read_document(key, None if value is MISSING else value),
        expires_at=resolve_expiry(now, expires_at=fields.get("expires_at"), metadata=metadata),
        if_match=fields.get("if_match"),
        if_absent=bool(fields.get("if_absent", False)),
        created_at=_optional_instant(fields, "created_at"),
        updated_at=_optional_instant(fields, "updated_at"),
    )


def _validate_hash(content_hash: object) -> str:
    if not isinstance(content_hash, str) or not 1 <= len(content_hash) <= MAX_HASH_CHARACTERS:
        raise ValidationError(
            f"content_hash: expected text of 1 to {MAX_HASH_CHARACTERS} characters, "
            f"got {_shorten(content_hash)}"
        )
    return require_storable(content_hash, "content_hash")


def _validate_uri(storage_uri: object) -> str | None:
    if storage_uri is None:
        return None
    if not isinstance(storage_uri, str) or not storage_uri:
        raise ValidationError(f"storage_uri: expected a path, got {_shorten(storage_uri)}")
    size = len(require_storable(storage_uri, "storage_uri").encode())
    if size > MAX_URI_BYTES:
        raise ValidationError(
            f"storage_uri: {size} bytes in UTF-8, at most {MAX_URI_BYTES} are allowed: "
            f"{storage_uri[:40]!r}..."
        )
    return storage_uri


def _validate_size(byte_size: object) -> int:
    if isinstance(byte_size, bool) or not isinstance(byte_size, int) or byte_size < 0:
        raise ValidationError(
            f"byte_size: expected bytes as int, 0 or more, got {_shorten(byte_size)}"
        )
    if byte_size > MAX_BYTE_SIZE:
        raise ValidationError(f"byte_size: over {MAX_BYTE_SIZE} bytes")
    return byte_size


def _shorten(value: object) -> str:
    """Return *value* for a message, whatever its size."""
    try:
        text = repr(value)
    except ValueError:  # an integer past the interpreter's digit limit
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}..."


def _optional_instant(fields: Mapping[str, Any], name: str) -> datetime | None:
    value = fields.get(name)
    return None if value is None else require_utc(value, name)
