"""Entries as Firestore documents and back; pure, and knowing nothing of Firestore's client.

A document is a flat mapping of names to scalars, instants and lists of strings. What JSON can say
and Firestore can't keep (2**80, lists in lists, names such as ``__x__``) stands in a string that no
index reads: the canonical text of the value, and that of the metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from ltm.catalog.history import Snapshot
from ltm.catalog.primitives import LogicalTable
from ltm.entry import EntryRow, Metadata
from ltm.errors import IntegrityError, ValidationError
from ltm.hashing import canonical_json
from ltm.locations import object_path
from ltm.search.analysis import Document
from ltm.search.codes import index_rows

Scalar = str | int | bool | bytes | datetime | None
Fields = Mapping[str, Scalar | Sequence[str]]
"""The fields of a document."""

Writes = dict[str, Fields | None]
"""By path: the fields of the whole document, or None where it is deleted."""

Scope = Mapping[str, Scalar]
"""The fields by which documents of one logical table are told from others."""

MAX_DOCUMENT_BYTES = 1_048_576
"""Of a document with its name, as Firestore counts them."""

MAX_CODES = 500
"""Index entries that the metadata of one entry may cost; Firestore allows 40,000 a document."""

UNCODED = "*"
"""The one code of an entry whose metadata has more than ``MAX_CODES``: any filter may mean it."""

TOMBSTONE_LIFE = timedelta(days=30)
"""How long the feed of search words remembers that an entry has gone."""

_NAME_BYTES = 2_048
"""More than the path of any document takes: project, database and prefix are not known here."""

_OTHER_FIELDS_BYTES = 32_768
"""More than the name and all fields take but for the value and the text of the metadata."""

_ROW_FIELDS: Final = (
    "key",
    "content_hash",
    "storage_uri",
    "byte_size",
    "expires_at",
    "begin_seq",
    "created_at",
    "updated_at",
)


class TableDocument(NamedTuple):
    """The state of a logical table, which every write reads and few change."""

    defaults: LogicalTable
    snapshot_seq: int
    """How many snapshots the table has had."""
    newest_snapshot: int
    """The greatest number of a snapshot that still exists, or -1."""
    feed_seq: int
    """How often the feed of search words was cut; stamped on what is written to it."""
    pending: str | None
    """The id of a batch that is committed and not carried out yet."""
    created_at: datetime


class WordsDocument(NamedTuple):
    """What the feed of search words says of an entry."""

    document: Document | None
    """Its words; None where it is not to be found any more."""
    expires_at: datetime | None


def scope_fields(tenant: str, table: str) -> dict[str, Scalar]:
    """Return the fields by which documents of one logical table are told from others."""
    return {"tenant_id": tenant, "table_name": table}


def table_id(tenant: str, table: str) -> str:
    """Return the id of the document of a logical table; names hold no NUL, so none meet."""
    return hashlib.sha256(f"{tenant}\0{table}".encode()).hexdigest()


def payload_id(storage_uri: str) -> str:
    """Return the id of a payload: a path may be longer than what Firestore indexes."""
    return hashlib.sha256(storage_uri.encode()).hexdigest()


def place_fields(storage_uri: str | None) -> dict[str, Scalar]:
    """Return the fields that say where a payload is, by its id; in a part of what object, too."""
    if storage_uri is None:
        return {"storage_uri": None, "payload_id": None}
    fields: dict[str, Scalar] = {
        "storage_uri": storage_uri,
        "payload_id": payload_id(storage_uri),
    }
    path = object_path(storage_uri)
    return fields if path == storage_uri else fields | {"object_id": payload_id(path)}


def version_id(row: EntryRow) -> str:
    """Return the id of the document of a superseded *row*."""
    return f"{row.id}-{row.begin_seq}"


def metadata_code(path: str, code: str) -> str:
    """Return what stands for one index row of metadata: 32 hexadecimal digits."""
    return hashlib.sha256(f"{path}\0{code}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def metadata_codes(metadata: Metadata) -> list[str]:
    """Return the codes by which *metadata* is found, or ``[UNCODED]`` if there are too many."""
    rows = index_rows(metadata)
    if len(rows) > MAX_CODES:
        return [UNCODED]
    return sorted(metadata_code(path, code) for path, code in rows)


def entry_fields(row: EntryRow, tenant: str, table: str, *, has_words: bool) -> dict[str, Any]:
    """Return the fields of the document of *row*, whose id is that of the row.

    Raises:
        ValidationError: The document would pass what Firestore keeps.
    """
    fields = scope_fields(tenant, table) | _row_fields(row)
    fields |= {"metadata_codes": metadata_codes(row.metadata), "has_words": has_words}
    size = document_bytes(fields)
    if size > MAX_DOCUMENT_BYTES:
        raise ValidationError(
            f"entry {row.key!r}: {len(row.inlined_text or '')} bytes of inlined value and "
            f"{len(str(fields['metadata']))} of metadata don't fit into a Firestore document of "
            f"{MAX_DOCUMENT_BYTES} bytes"
        )
    return fields


def inline_limit(metadata: Metadata) -> int:
    """Return how many bytes an inlined value may have beside *metadata*, below 0 for none."""
    return MAX_DOCUMENT_BYTES - _OTHER_FIELDS_BYTES - len(canonical_json(metadata))


def read_entry(entry_id: str, fields: Fields) -> EntryRow:
    """Return the row that the document *entry_id* holds.

    Raises:
        IntegrityError: It isn't a document of ours.
    """
    try:
        metadata = json.loads(_text(fields["metadata"]))
        row = {name: fields[name] for name in _ROW_FIELDS}
        text = fields["inlined_value"]
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"document {entry_id!r}: is not an entry: {error!r}") from error
    return EntryRow(id=entry_id, inlined_text=text, metadata=metadata, **row)  # type: ignore[arg-type] # written by us


def version_fields(row: EntryRow, tenant: str, table: str, *, end_seq: int) -> dict[str, Any]:
    """Return the fields of the document of a *row* that a snapshot sees and that is superseded."""
    names = scope_fields(tenant, table)
    return names | _row_fields(row) | {"entry_id": row.id, "end_seq": end_seq}


def read_version(fields: Fields) -> EntryRow:
    """Return the superseded row that a document of the versions holds."""
    return read_entry(str(fields.get("entry_id")), fields)


def words_fields(
    document: Document, expires_at: datetime | None, tenant: str, table: str
) -> dict[str, Any]:
    """Return the fields of the document of an entry's words; ``feed_seq`` is still to come."""
    return scope_fields(tenant, table) | {
        "text": document.text,
        "length": document.length,
        "expires_at": expires_at,
        "is_gone": False,
    }


def gone_fields(now: datetime, tenant: str, table: str) -> dict[str, Any]:
    """Return the fields of the document that says that an entry's words are gone.

    No other has ``forget_at``, so a policy of Firestore's may delete what is past it.
    """
    try:
        forget_at = now + TOMBSTONE_LIFE
    except OverflowError:
        forget_at = datetime.max.replace(tzinfo=now.tzinfo)
    return scope_fields(tenant, table) | {"forget_at": forget_at, "is_gone": True}


def read_words(fields: Fields) -> WordsDocument:
    """Return what a document of the feed of search words says."""
    found: Any = fields
    document = None if found["is_gone"] else Document(found["text"], found["length"])
    return WordsDocument(document, found.get("expires_at"))


def table_fields(state: TableDocument, tenant: str) -> dict[str, Any]:
    """Return the fields of the document of a logical table."""
    name, storage_prefix, inline_threshold, language = state.defaults
    return scope_fields(tenant, name) | {
        "type": "memory",
        "storage_prefix": storage_prefix,
        "inline_threshold": inline_threshold,
        "language": language,
        "snapshot_seq": state.snapshot_seq,
        "newest_snapshot": state.newest_snapshot,
        "feed_seq": state.feed_seq,
        "pending": state.pending,
        "created_at": state.created_at,
    }


def read_table(fields: Fields) -> TableDocument:
    """Return the state of the logical table that a document holds."""
    found: Any = fields
    return TableDocument(
        LogicalTable(
            found["table_name"],
            found["storage_prefix"],
            found["inline_threshold"],
            found["language"],
        ),
        found["snapshot_seq"],
        found["newest_snapshot"],
        found["feed_seq"],
        found["pending"],
        found["created_at"],
    )


def snapshot_fields(snapshot: Snapshot, tenant: str, table: str) -> dict[str, Any]:
    """Return the fields of the document of a snapshot."""
    return scope_fields(tenant, table) | snapshot._asdict()


def read_snapshot(fields: Fields) -> Snapshot:
    """Return the snapshot that a document holds."""
    return Snapshot(**{name: fields[name] for name in Snapshot._fields})  # type: ignore[arg-type] # written by us


def deletion_fields(uri: str, now: datetime, tenant: str, table: str) -> dict[str, Any]:
    """Return the fields of the document that schedules the deletion of a payload."""
    return scope_fields(tenant, table) | {"storage_uri": uri, "scheduled_at": now}


def document_bytes(fields: Fields) -> int:
    """Return at most how many bytes Firestore counts for a document with these *fields*.

    Source: "Storage size calculations" of Firestore's documentation.
    """
    size = _NAME_BYTES + 32
    for name, value in fields.items():
        size += len(name) + 1 + _value_bytes(value)
    return size


def _row_fields(row: EntryRow) -> dict[str, Any]:
    fields = {name: getattr(row, name) for name in _ROW_FIELDS} | place_fields(row.storage_uri)
    return fields | {
        "inlined_value": row.inlined_text,
        "metadata": canonical_json(row.metadata),
    }


def _value_bytes(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode()) + 1
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, list):
        return sum(map(_value_bytes, value))
    return 8  # at most, for an integer, an instant, a truth or nothing


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value
