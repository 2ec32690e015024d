"""From the public arguments of ``track_entry`` to a validated write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ltm.catalog.commit import Put
from ltm.clock import require_utc
from ltm.entry import MISSING, resolve_expiry, validate_metadata
from ltm.errors import ValidationError
from ltm.hashing import canonical_json
from ltm.keys import validate_key
from ltm.search.analysis import get_analyzer

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
    storage_uri = fields.get("storage_uri")
    if storage_uri is not None and value is not MISSING:
        raise ValidationError("storage_uri and inlined_value: give one, not both")
    if storage_uri is not None and (not isinstance(storage_uri, str) or not storage_uri):
        raise ValidationError(f"storage_uri: expected a path, got {storage_uri!r}")
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
        document=get_analyzer(language).analyze_document(key, None if value is MISSING else value),
        expires_at=resolve_expiry(now, expires_at=fields.get("expires_at"), metadata=metadata),
        if_match=fields.get("if_match"),
        if_absent=bool(fields.get("if_absent", False)),
        created_at=_optional_instant(fields, "created_at"),
        updated_at=_optional_instant(fields, "updated_at"),
    )


def _validate_hash(content_hash: object) -> str:
    if not isinstance(content_hash, str) or not 1 <= len(content_hash) <= 71:
        raise ValidationError(
            f"content_hash: expected text of 1 to 71 characters, got {content_hash!r}"
        )
    return content_hash


def _validate_size(byte_size: object) -> int:
    if isinstance(byte_size, bool) or not isinstance(byte_size, int) or byte_size < 0:
        raise ValidationError(f"byte_size: expected bytes as int, 0 or more, got {byte_size!r}")
    return byte_size


def _optional_instant(fields: Mapping[str, Any], name: str) -> datetime | None:
    value = fields.get(name)
    return None if value is None else require_utc(value, name)
