"""The rows that a query reads, out of the catalog and the payload store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from ltm.backend.parts import Parts
from ltm.backend.query_plan import Demand
from ltm.backend.reader import ReadEntry
from ltm.catalog.base import PAGE_SIZE
from ltm.catalog.history import Snapshot
from ltm.catalog.pages import in_pages
from ltm.entry import EntryRow
from ltm.hashing import canonical_json, write_json
from ltm.search.filters import matches

BATCH_ROWS = 5_000
BATCH_BYTES = 8 * 2**20
"""Of values; a batch that has so many is complete."""


class EntrySource:
    """The entries that are live now, or that a snapshot sees."""

    def __init__(self, parts: Parts, snapshot: Snapshot | None) -> None:
        self._parts = parts
        self._snapshot = snapshot
        self._reader = parts.reader if snapshot is None else parts.reader_as_of(snapshot)
        self._now = parts.clock()

    def batches(self, demand: Demand) -> Iterator[list[tuple[Any, ...]]]:
        """Yield what *demand* asks for, in key order; a row has the columns in their order.

        Raises:
            LTMError: The catalog or a payload could not be read.
        """
        fields = [_FIELDS[column] for column in demand.columns]
        batch: list[tuple[Any, ...]] = []
        size = 0
        for entry in islice(self._entries(demand), demand.limit):
            batch.append(tuple(field(entry) for field in fields))
            size += entry.row.byte_size if demand.needs_values else 0
            if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _entries(self, demand: Demand) -> Iterator[ReadEntry]:
        for page in self._pages(demand):
            # Page by page, so that no page is fetched for the sake of a window.
            if demand.needs_values:
                yield from self._reader.stream(page)
            else:
                yield from (ReadEntry(row, None) for row in page)

    def _pages(self, demand: Demand) -> Iterator[list[EntryRow]]:
        keys, until = demand.bounds.keys, demand.bounds.until
        if keys is not None:
            for chunk in in_pages(sorted(keys)):
                found = self._read_many(chunk)
                rows = (found[key] for key in chunk if key in found)
                yield [row for row in rows if matches(demand.condition, row.metadata)]
            return
        size = PAGE_SIZE if demand.limit is None else min(PAGE_SIZE, demand.limit)
        after = demand.bounds.after
        while True:
            page = self._read_page(demand, after, size)
            wanted = [row for row in page if until is None or row.key <= until]
            if self._snapshot is None:
                yield wanted
            else:
                # Versions have no index of their metadata.
                yield [row for row in wanted if matches(demand.condition, row.metadata)]
            if len(page) < size or len(wanted) < len(page):
                return
            after = page[-1].key

    def _read_page(self, demand: Demand, after: str, size: int) -> list[EntryRow]:
        prefix, catalog = demand.bounds.prefix, self._parts.catalog
        if self._snapshot is None:
            return catalog.rows_by_key(prefix, after, size, demand.condition, self._now)
        rows = catalog.history.rows_as_of(self._snapshot, prefix, after, size)
        catalog.history.find(self._snapshot.id)  # they may have gone with it
        return rows

    def _read_many(self, keys: Sequence[str]) -> dict[str, EntryRow]:
        catalog = self._parts.catalog
        if self._snapshot is None:
            return catalog.read_many(keys, self._now)
        rows = catalog.history.read_as_of(self._snapshot, keys)
        catalog.history.find(self._snapshot.id)
        return rows


def _value_text(entry: ReadEntry) -> str:
    """Return the JSON text of the value: as it is in its row, or as it was uploaded."""
    text = entry.row.inlined_text
    if entry.row.storage_uri is None and text is not None:
        return text
    return canonical_json(entry.value)


_FIELDS: dict[str, Callable[[ReadEntry], Any]] = {
    "key": lambda entry: entry.row.key,
    "value": _value_text,
    "metadata": lambda entry: write_json(entry.row.metadata),
    "content_hash": lambda entry: entry.row.content_hash,
    "byte_size": lambda entry: entry.row.byte_size,
    "expires_at": lambda entry: entry.row.expires_at,
    "created_at": lambda entry: entry.row.created_at,
    "updated_at": lambda entry: entry.row.updated_at,
}
