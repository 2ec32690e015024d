"""The calls on many keys: batches, search, iteration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ltm.backend.batch import BatchWriter
from ltm.backend.parts import BackendCalls
from ltm.backend.reader import ReadEntry
from ltm.backend.results import (
    BatchEntry,
    RetrieveBatchAnswer,
    SearchAnswer,
    SearchResult,
    StoreBatchAnswer,
    answering,
)
from ltm.catalog.base import validate_limit
from ltm.entry import EntryRow, JSONValue, Metadata
from ltm.errors import ValidationError
from ltm.keys import validate_key, validate_prefix
from ltm.search.filters import parse_filter


class ManyCalls(BackendCalls):
    """Entries stored, found and read many at a time."""

    @answering
    def store_batch(
        self, entries: Iterable[Any], *, atomic: bool = True, batch_size: int = 500
    ) -> StoreBatchAnswer:
        self.require_open()
        validate_limit(batch_size, "batch_size")
        batch = BatchWriter(self.parts.writer, entries)
        if atomic:
            batch.store_all()
        else:
            batch.store_each(batch_size)
        first = batch.first_error()
        if first is not None and self.raise_errors:
            raise first
        return batch.answer()

    @answering
    def retrieve_batch(self, keys: Iterable[str]) -> RetrieveBatchAnswer:
        self.require_open()
        if isinstance(keys, str):
            raise ValidationError("keys: expected a list of keys, got str")
        wanted = list(dict.fromkeys(validate_key(key) for key in keys))
        rows = self.parts.catalog.read_many(wanted, self.parts.clock())
        entries = self.parts.reader.read_rows([rows[key] for key in wanted if key in rows])
        seen = {entry.row.key for entry in entries}
        whole = {entry.row.key: entry for entry in entries if entry.error is None}
        answer = RetrieveBatchAnswer(
            success=True,
            results={key: entry.value for key, entry in whole.items()},
            entries={key: _fields(entry) for key, entry in whole.items()},
            missing=[key for key in wanted if key not in seen],
            found=len(whole),
        )
        return self.with_failures(answer, entries)

    @answering
    def search(
        self,
        query: str | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        limit: int = 10,
    ) -> SearchAnswer:
        self.require_open()
        hits = self.parts.catalog.find(
            query, parse_filter(metadata_filter), validate_limit(limit), self.parts.clock()
        )
        scores = {row.key: score for row, score in hits}
        entries = self.parts.reader.read_rows([row for row, _ in hits])
        results = [
            SearchResult(
                key=entry.row.key,
                value=entry.value,
                metadata=entry.row.metadata,
                score=scores[entry.row.key],
                content_hash=entry.row.content_hash,
            )
            for entry in entries
            if entry.error is None
        ]
        answer = SearchAnswer(success=True, results=results, count=len(results))
        return self.with_failures(answer, entries)

    def iterate_all(self, prefix: str | None = None) -> Iterator[tuple[str, JSONValue, Metadata]]:
        self.require_open()
        rows = self.parts.catalog.iterate(validate_prefix(prefix), self.parts.clock)
        return self._iterate(rows)

    def _iterate(self, rows: Iterable[EntryRow]) -> Iterator[tuple[str, JSONValue, Metadata]]:
        for entry in self.parts.reader.stream(rows):
            self.require_open()
            yield entry.row.key, entry.value, entry.row.metadata


def _fields(entry: ReadEntry) -> BatchEntry:
    row = entry.row
    return BatchEntry(
        value=entry.value,
        metadata=row.metadata,
        content_hash=row.content_hash,
        inlined=row.storage_uri is None,
    )
