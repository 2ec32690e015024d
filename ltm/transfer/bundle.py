"""Bundles: a memory in one file of JSON Lines, in ASCII.

The first line is a header, the last one says how many entries there are and has the SHA-256 of all
lines before it, ends of lines included; so a bundle that was cut off is recognised. Each line
between is an entry in key order: its value as the canonical JSON text that *content_hash* is of,
and in *entry_hash* the SHA-256 of its other fields as JSON with sorted keys.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from ltm.backend.base import LTMBackend
from ltm.backend.reader import ReadEntry
from ltm.catalog.base import validate_limit
from ltm.catalog.commit import is_live
from ltm.clock import parse_instant
from ltm.entry import EntryRow, validate_metadata
from ltm.errors import IntegrityError, SerializationError, ValidationError
from ltm.hashing import canonical_json, hash_text, parse, parse_verified
from ltm.keys import validate_key
from ltm.transfer.delivery import Delivery
from ltm.transfer.source import PAGE_SIZE, Progress, Source, pages, require_calls

FORMAT = "ltm-bundle"
VERSION = 1

_ENTRY_FIELDS = {
    "key",
    "value_text",
    "content_hash",
    "metadata",
    "expires_at",
    "created_at",
    "updated_at",
    "entry_hash",
}
_END_FIELDS = {"end", "entries", "hash"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What a bundle holds."""

    total: int
    """Entries."""
    byte_size: int
    """Bytes of the bundle."""
    hash: str
    """``sha256:`` of all its lines but the last, which says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of the entries of a bundle.

    ``total`` is the sum of *imported*, *unchanged*, *kept* and *expired*.
    """

    total: int
    imported: int
    unchanged: int
    """Entries that the backend had already."""
    kept: int
    """Entries that are newer in the backend, and differ."""
    expired: int
    """Entries that have expired since the export, and are left out."""
    verified: int
    """Imported and unchanged entries that were read back and are equal."""


def export_bundle(
    backend: LTMBackend,
    stream: IO[bytes] | IO[str],
    *,
    snapshot: str | None = None,
    prefix: str | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write every live entry of *backend* to *stream*, hashes verified.

    Args:
        backend: Backend over a catalog and a payload store.
        stream: Of bytes, or of text without translation of line ends; it is not flushed.
        snapshot: Id or name of a snapshot to export instead of the present. What has expired since
            is left out.
        prefix: Only keys that begin with it.
        progress: Called after every 500 entries at most; the total is None with a prefix.

    Raises:
        SnapshotNotFoundError: There is no such snapshot, or it was expired meanwhile.
        CatalogUnavailableError: The catalog could not be reached.
        PayloadError: A payload could not be read.
        IntegrityError: A value is not what was written.
        OSError: *stream* could not be written to.
    """
    source = Source(backend, snapshot=snapshot, prefix=prefix)
    total = None if progress is None else source.count()
    lines = _LineWriter(stream)
    lines.write(_header(source))
    done = 0
    for page in pages(source.rows(), PAGE_SIZE):
        entries = source.read(page)
        for entry in entries:
            lines.write(_fields(entry))
        done += len(entries)
        if progress is not None:
            progress(done, total)
    digest = lines.hash
    lines.write({"end": True, "entries": done, "hash": digest})
    return ExportReport(total=done, byte_size=lines.byte_size, hash=digest)


def import_bundle(
    backend: LTMBackend,
    stream: IO[bytes] | IO[str],
    *,
    batch_size: int = PAGE_SIZE,
    progress: Progress | None = None,
) -> ImportReport:
    """Store the entries of the bundle in *stream* in *backend*, and read them back.

    Every entry is verified before the batch it is in is stored, and the end of the bundle before
    the last batch that is not full. Where a bundle is damaged or cut off further on, the batches
    before that stay; with a whole copy of it the import can be run again, and goes on. What is
    unchanged, kept and carried is as in :func:`~ltm.transfer.copying.copy_memory`.

    Args:
        backend: Backend over a catalog and a payload store.
        stream: Of bytes or of text; it is read once, to its end.
        batch_size: Entries in one transaction at most; 1 or more. 16 MiB of values end a batch too.
        progress: Called after every batch; the total is None.

    Raises:
        ValidationError: Not a bundle, or a line that makes no sense; the message has its number.
        IntegrityError: An entry or the end does not have its hash, or the bundle was cut off; or
            what *backend* holds at the end is not what was carried.
        CatalogUnavailableError: The catalog could not be reached; run again.
        PayloadError: A payload could not be written.
    """
    validate_limit(batch_size, "batch_size")
    clock = require_calls(backend, "backend").clock
    lines = _LineReader(stream)
    lines.require_header()
    expired = 0
    with Delivery(backend) as delivery:
        for page in pages(lines.entries(), batch_size):
            now = clock()
            live = [row for row in page if is_live(row, now)]
            expired += len(page) - len(live)
            delivery.store([_read(row) for row in delivery.select(live)])
            if progress is not None:
                progress(delivery.total + expired, None)
        return ImportReport(
            total=delivery.total + expired,
            imported=delivery.stored,
            unchanged=delivery.unchanged,
            kept=delivery.kept,
            expired=expired,
            verified=delivery.verify(),
        )


class _LineWriter:
    """Writes JSON Lines and hashes them."""

    def __init__(self, stream: IO[bytes] | IO[str]) -> None:
        self._stream: Any = stream
        self._is_text = isinstance(stream, io.TextIOBase)
        self._digest = hashlib.sha256()
        self.byte_size = 0

    @property
    def hash(self) -> str:
        """The hash of all lines so far."""
        return f"sha256:{self._digest.hexdigest()}"

    def write(self, fields: Mapping[str, Any]) -> None:
        text = json.dumps(fields) + "\n"
        line = text.encode("ascii")
        self._digest.update(line)
        self.byte_size += len(line)
        self._stream.write(text if self._is_text else line)


class _LineReader:
    """Reads the lines of a bundle, each checked as it comes."""

    def __init__(self, stream: IO[bytes] | IO[str]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._number = 0

    def require_header(self) -> None:
        header = self._next()
        if header.get("format") != FORMAT:
            raise self._invalid("is not the header of a bundle")
        if header.get("version") != VERSION:
            raise self._invalid(
                f"the bundle has version {header.get('version')!r}, supported is {VERSION}"
            )

    def entries(self) -> Iterator[EntryRow]:
        """Yield the entries as rows with their values inlined, and check the end."""
        last_key, count = "", 0
        while True:
            expected = f"sha256:{self._digest.hexdigest()}"
            fields = self._next()
            if "end" in fields:
                self._require_end(fields, count, expected)
                return
            row = self._entry(fields)
            if row.key <= last_key:
                raise self._invalid(f"key {row.key!r} is not above the one before it")
            last_key = row.key
            count += 1
            yield row

    def _next(self) -> dict[str, Any]:
        line = self._stream.readline()
        self._number += 1
        try:
            content = line.encode("ascii") if isinstance(line, str) else line
            text = content.decode("ascii")
        except UnicodeError as error:
            raise self._invalid("is not ASCII") from error
        if not text.endswith("\n"):
            raise IntegrityError(f"line {self._number}: the bundle was cut off here")
        self._digest.update(content)
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._invalid(f"is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise self._invalid(f"expected an object, got {type(fields).__name__}")
        return fields

    def _require_end(self, fields: Mapping[str, Any], count: int, expected: str) -> None:
        self._require_fields(fields, _END_FIELDS)
        if fields["entries"] != count:
            raise IntegrityError(
                f"line {self._number}: expected {fields['entries']!r} entries, read {count}"
            )
        if fields["hash"] != expected:
            raise IntegrityError(
                f"line {self._number}: expected {fields['hash']!r} of all lines, read {expected}"
            )
        if self._stream.readline():
            self._number += 1
            raise self._invalid("comes after the end of the bundle")

    def _entry(self, fields: dict[str, Any]) -> EntryRow:
        self._require_fields(fields, _ENTRY_FIELDS)
        entry_hash = fields.pop("entry_hash")
        try:
            actual = _entry_hash(fields)
        except (ValueError, RecursionError) as error:
            raise self._invalid(f"is not JSON: {error}") from error
        if entry_hash != actual:
            raise IntegrityError(
                f"line {self._number}: expected {entry_hash!r} of the entry, read {actual}"
            )
        for name in ("value_text", "content_hash"):
            if not isinstance(fields[name], str):
                raise self._invalid(f"{name}: expected a string")
        try:
            return self._row(fields)
        except (ValidationError, SerializationError) as error:
            raise self._invalid(str(error)) from error

    def _row(self, fields: Mapping[str, Any]) -> EntryRow:
        key, text = validate_key(fields["key"]), fields["value_text"]
        if not isinstance(fields["metadata"], dict):
            raise ValidationError("metadata: expected an object")
        metadata = validate_metadata(fields["metadata"])
        where = f"line {self._number}: entry {key!r}"
        value = parse_verified(text, fields["content_hash"], where=where)
        if canonical_json(value) != text:
            raise ValidationError("value_text: is not canonical JSON")
        created_at, updated_at = (
            parse_instant(fields[name], name) for name in ("created_at", "updated_at")
        )
        expiry = fields["expires_at"]
        return EntryRow(
            id="",
            key=key,
            content_hash=fields["content_hash"],
            storage_uri=None,
            byte_size=len(text),
            inlined_text=text,
            metadata=metadata,
            expires_at=None if expiry is None else parse_instant(expiry, "expires_at"),
            begin_seq=0,
            created_at=created_at,
            updated_at=updated_at,
        )

    def _require_fields(self, fields: Mapping[str, Any], expected: set[str]) -> None:
        wrong = expected ^ fields.keys()
        if wrong:
            name = min(wrong)
            raise self._invalid(f"{name}: is {'missing' if name in expected else 'unknown'}")

    def _invalid(self, reason: str) -> ValidationError:
        return ValidationError(f"line {self._number}: {reason}")


def _header(source: Source) -> dict[str, Any]:
    point = source.snapshot
    return {
        "format": FORMAT,
        "version": VERSION,
        "table": source.catalog.table_name,
        "created_at": source.catalog.clock().isoformat(),
        "snapshot": None
        if point is None
        else {"id": point.id, "name": point.name, "created_at": point.created_at.isoformat()},
        "prefix": source.prefix,
    }


def _fields(entry: ReadEntry) -> dict[str, Any]:
    row = entry.row
    text = canonical_json(entry.value)
    if hash_text(text) != row.content_hash:
        raise IntegrityError(f"entry {row.key!r}: its text is not canonical JSON")
    fields = {
        "key": row.key,
        "value_text": text,
        "content_hash": row.content_hash,
        "metadata": row.metadata,
        "expires_at": None if row.expires_at is None else row.expires_at.isoformat(),
        "created_at": row.created_at.isoformat(),
        "updated_at": row.updated_at.isoformat(),
    }
    return fields | {"entry_hash": _entry_hash(fields)}


def _entry_hash(fields: Mapping[str, Any]) -> str:
    # Not canonical_json, which allows metadata no deeper inside of an entry than alone.
    return hash_text(json.dumps(fields, sort_keys=True, allow_nan=False))


def _read(row: EntryRow) -> ReadEntry:
    return ReadEntry(row, parse(row.inlined_text or "", where=f"entry {row.key!r}"))
