"""Rewriting payload objects of which little is alive.

An object that many values share goes when the last of them is gone. Until then it takes the space
of all; compaction writes the values that are left into fewer objects, and lets go of the old ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from ltm.backend.parts import Parts
from ltm.catalog.base import Catalog
from ltm.catalog.pages import in_pages
from ltm.clock import BEGINNING
from ltm.entry import EntryRow
from ltm.errors import IntegrityError, LTMError, SnapshotNotFoundError
from ltm.garbage import Failures, delete_scheduled, drop_unreferenced
from ltm.hashing import hash_text, write_json
from ltm.locations import object_path
from ltm.payload.base import is_payload_path
from ltm.payload.codecs import MAX_OBJECT_BYTES, Codec, Record
from ltm.payload.formats import codec_for_path
from ltm.payload.values import read_texts


@dataclass(slots=True, kw_only=True)
class Compaction:
    """What a compaction rewrote, or would rewrite."""

    objects: set[str] = field(default_factory=set)
    """Paths of those that are mostly dead."""
    failures: Failures = field(default_factory=list)
    """Values that could not be moved, which stay where they are."""


def find_sparse(parts: Parts) -> Compaction:
    """Return the objects that compaction would rewrite, at least halving their bytes.

    Raises:
        LTMError: The catalog or the store could not be read to the end.
    """
    catalog = parts.catalog
    prefix = catalog.table().storage_prefix
    objects: dict[str, _SharedObject] = {}
    for each in parts.payloads.list(prefix):
        codec = _codec_of(each.path) if is_payload_path(each.path, prefix) else None
        if codec is not None:
            objects[each.path] = _SharedObject(codec, each.byte_size)
    for row in _all_rows(catalog):
        shared = objects.get(object_path(row.storage_uri or ""))
        if shared is not None:
            shared.add(row)
    sparse: defaultdict[Codec, list[str]] = defaultdict(list)
    for path, shared in objects.items():
        if shared.rows and 2 * shared.need < shared.byte_size:
            sparse[shared.codec].append(path)
    found = Compaction()
    for codec, paths in sparse.items():
        total = sum(objects[path].need for path in paths)
        count = 1 + sum(objects[path].rows for path in paths) // codec.max_records
        count += total // MAX_OBJECT_BYTES
        bytes_now = sum(objects[path].byte_size for path in paths)
        if 2 * (total + count * codec.object_overhead) < bytes_now:
            found.objects.update(paths)
    return found


@dataclass(slots=True)
class _SharedObject:
    """An object in which many values may be."""

    codec: Codec
    byte_size: int
    rows: int = 0
    """Those that name a part of it."""
    need: int = 0
    """Bytes that their values would take at most in another object."""

    def add(self, row: EntryRow) -> None:
        """Count a row that names a part of it."""
        texts = row.byte_size + len(row.key.encode()) + len(write_json(row.metadata))
        self.rows += 1
        self.need += texts + self.codec.record_overhead


def rewrite(parts: Parts, now: datetime) -> Compaction:
    """Rewrite what :func:`find_sparse` finds.

    Whoever reads a value meanwhile finds it in its old place or the new one; whoever replaces it is
    not held up, and what was moved of it is dead again.

    Raises:
        LTMError: As ``find_sparse``, or the catalog failed in between.
    """
    found = find_sparse(parts)
    pending: defaultdict[Codec, dict[str, EntryRow]] = defaultdict(dict)
    sizes: Counter[Codec] = Counter()
    moved: list[str] = []
    for row in _all_rows(parts.catalog) if found.objects else ():
        uri = row.storage_uri or ""
        if object_path(uri) not in found.objects:
            continue
        codec = codec_for_path(object_path(uri))
        if pending[codec] and (
            len(pending[codec]) >= codec.max_records
            or sizes[codec] + row.byte_size > MAX_OBJECT_BYTES
        ):
            moved += _move(parts, codec, pending.pop(codec), now, found.failures)
            sizes[codec] = 0
        pending[codec][uri] = row
        sizes[codec] += row.byte_size
    for codec, rows in pending.items():
        moved += _move(parts, codec, rows, now, found.failures)
    for page in in_pages(moved):
        found.failures += delete_scheduled(parts.catalog, parts.payloads, page)
    return found


def _move(
    parts: Parts, codec: Codec, rows: dict[str, EntryRow], now: datetime, failures: Failures
) -> list[str]:
    """Write the values of *rows*, by their location, into new objects; return those that moved."""
    records: dict[str, Record] = {}
    for (uri, row), text in zip(rows.items(), read_texts(parts.payloads, [*rows]), strict=True):
        if isinstance(text, LTMError):
            failures.append((uri, text))
        elif hash_text(text) != row.content_hash:
            message = f"entry {row.key!r} in {parts.payloads.uri(uri)}: its hash is another"
            failures.append((uri, IntegrityError(message)))
        else:
            records[uri] = Record(row.key, text, row.metadata, row.content_hash)
    places = parts.writer.write_records([*records.values()], codec)
    moves: dict[str, str] = {}
    for uri, place in zip(records, places, strict=True):
        if isinstance(place, str):
            moves[uri] = place
        else:
            failures.append((uri, place))
    if moves:
        parts.catalog.move_payloads(moves, now)
        written = {object_path(new) for new in moves.values()}
        named = parts.catalog.named_payloads(sorted(written))
        drop_unreferenced(parts.payloads, sorted(written - named))
    return [*moves]


def _all_rows(catalog: Catalog) -> Iterator[EntryRow]:
    """Yield every row, expired or not, and every version."""
    yield from catalog.iterate("", lambda: BEGINNING)
    for _, versions in catalog.history.superseded():
        with suppress(SnapshotNotFoundError):
            yield from versions


def _codec_of(path: str) -> Codec | None:
    """Return the codec of an object in which many values may be."""
    try:
        codec = codec_for_path(path)
    except IntegrityError:
        return None
    return codec if codec.max_records > 1 else None
