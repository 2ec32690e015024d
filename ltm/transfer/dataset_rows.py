"""The rows of a dataset: what a snapshot sees, values verified, as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ltm.backend.reader import ReadEntry
from ltm.catalog.history import Snapshot
from ltm.entry import EntryRow
from ltm.errors import IntegrityError
from ltm.hashing import canonical_json, hash_text, write_json
from ltm.transfer.source import PAGE_SIZE, Progress, Source, pages

EXTRA = "duckdb"
"""The extra of ``ltm`` that brings what datasets need."""

# What a row takes in memory beside its texts, about.
_ROW_BYTES = 600


class DatasetRow(NamedTuple):
    """One entry, its columns in the order in which readers find them."""

    key: str
    value: str
    """The canonical JSON text that the hash is of."""
    metadata: str
    """JSON text with sorted keys."""
    content_hash: str
    byte_size: int
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def weight(self) -> int:
        """How many bytes of memory it takes, about."""
        return len(self.value) + len(self.metadata) + len(self.key) + _ROW_BYTES


# JSON is plain text here: DuckDB's type of that name refuses the escape of a lone surrogate.
COLUMNS = {
    "key": "VARCHAR",
    "value": "VARCHAR",
    "metadata": "VARCHAR",
    "content_hash": "VARCHAR",
    "byte_size": "BIGINT",
    "expires_at": "TIMESTAMPTZ",
    "created_at": "TIMESTAMPTZ",
    "updated_at": "TIMESTAMPTZ",
}
"""The columns and their types, as SQL has them."""


class DatasetPage(NamedTuple):
    """Some entries in key order, with the rows they are made of."""

    entries: Sequence[EntryRow]
    rows: Sequence[DatasetRow]


def read_pages(
    source: Source, snapshot: Snapshot, progress: Progress | None
) -> Iterator[DatasetPage]:
    """Yield all that *snapshot* sees of *source*, a source as of it, in pages that fit in memory.

    After a page was dealt with, *progress* is called.

    Raises:
        SnapshotNotFoundError: The snapshot was expired meanwhile.
        PayloadError: A value could not be read.
        IntegrityError: A value is not what was written.
    """
    found = source.catalog.history.iterate_as_of(snapshot, source.prefix)
    expected = None if source.prefix else snapshot.entry_count
    done = 0
    for page in pages(found, PAGE_SIZE):
        entries = source.read(page)
        if len(entries) != len(page):
            lost = {row.key for row in page} - {entry.row.key for entry in entries}
            raise IntegrityError(f"entry {min(lost)!r} has left snapshot {snapshot.name!r}")
        yield DatasetPage([each.row for each in entries], [_row(each) for each in entries])
        done += len(page)
        if progress is not None:
            progress(done, expected)


def arrow_schema() -> Any:
    """Return the ``pyarrow.Schema`` of the columns."""
    import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

    types = {
        "BIGINT": pa.int64(),
        "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
        "VARCHAR": pa.string(),
    }
    return pa.schema(
        [
            pa.field(name, types[kind], nullable=name == "expires_at")
            for name, kind in COLUMNS.items()
        ]
    )


def to_arrow(rows: Sequence[DatasetRow]) -> Any:
    """Return *rows* as a ``pyarrow.Table``."""
    import pyarrow as pa

    schema = arrow_schema()
    columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
    # Arrow's own pools keep what is freed, some 40 MB of it; the system's gives it back.
    pool = pa.system_memory_pool()
    arrays = [
        pa.array(values, field.type, memory_pool=pool)
        for values, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _row(entry: ReadEntry) -> DatasetRow:
    row = entry.row
    text = row.inlined_text if row.storage_uri is None else None
    if text is None:
        text = canonical_json(entry.value)
    if hash_text(text) != row.content_hash:
        raise IntegrityError(f"entry {row.key!r}: its text is not canonical JSON")
    return DatasetRow(
        key=row.key,
        value=text,
        metadata=write_json(row.metadata),
        content_hash=row.content_hash,
        byte_size=row.byte_size,
        expires_at=row.expires_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
