"""The calls on many keys: batches, search, iteration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ltm.backend.answering import answering
from ltm.backend.base import RetrieveBatchAnswer, SearchAnswer, StoreBatchAnswer
from ltm.backend.parts import BackendCalls
from ltm.backend.reader import ReadEntry, ValueReader
from ltm.catalog.base import validate_limit
from ltm.entry import EntryRow, JSONValue, Metadata
from ltm.errors import CatalogUnavailableError, LTMError, ValidationError
from ltm.keys import validate_key, validate_prefix
from ltm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltm.backend.recall import Recall
    from ltm.backend.results import BatchEntry, SearchResult


class ManyCalls(BackendCalls):
    """Entries stored, found and read many at a time."""

    @answering
    def store_batch(
        self, entries: Iterable[Any], *, atomic: bool = True, batch_size: int = 500
    ) -> StoreBatchAnswer:
        self.require_open()
        validate_limit(batch_size, "batch_size")
        from ltm.backend.batch import BatchWriter

        epoch = self.outage.epoch
        batch = BatchWriter(self.parts.writer, entries)
        if atomic:
            batch.store_all()
        else:
            batch.store_each(batch_size)
        failures = batch.failures()
        for _, error in failures:
            self.outage.began(error, epoch)
        # Also those that failed before their commit, and those that were spared the attempt.
        self.parts.attempted([key for key, _ in failures if key is not None])
        first = batch.first_error()
        if first is not None and self.raise_errors:
            raise first
        return batch.answer()

    @answering
    def retrieve_batch(self, keys: Iterable[str]) -> RetrieveBatchAnswer:
        self.require_open()
        if isinstance(keys, str):
            raise ValidationError("keys: expected a list of keys, got str")
        wanted = list(dict.fromkeys(map(validate_key, keys)))
        recall = self.parts.recall
        if recall is None:
            entries: Sequence[ReadEntry] = self._read_many(wanted)
        else:
            epoch = self.outage.epoch
            try:
                entries = recall.observe(wanted, lambda: self._read_many(wanted))
            except CatalogUnavailableError as error:
                self.outage.began(error, epoch)
                return self._recall_many(wanted, recall, error)
        results: dict[str, JSONValue] = {}
        found: dict[str, BatchEntry] = {}
        for row, value, failure in entries:
            if failure is None:
                results[row.key] = value
                found[row.key] = {
                    "value": value,
                    "metadata": row.metadata,
                    "content_hash": row.content_hash,
                    "inlined": row.storage_uri is None,
                }
        failed = _failed(entries) if len(found) < len(entries) else []
        seen = found.keys() | {key for key, _ in failed} if failed else found
        answer: RetrieveBatchAnswer = {
            "success": True,
            "results": results,
            "entries": found,
            "missing": [key for key in wanted if key not in seen],
            "found": len(found),
        }
        return self.with_failures(answer, failed)

    def _read_many(self, keys: Sequence[str]) -> list[ReadEntry]:
        rows = self.parts.catalog.read_values(keys, self.parts.clock())
        # Of a row that is not replaced no more is looked at than there is here.
        given = [rows[key] for key in keys if key in rows]
        return self.parts.reader.read_values(given)

    def _recall_many(
        self, keys: Sequence[str], recall: Recall, error: CatalogUnavailableError
    ) -> RetrieveBatchAnswer:
        """Return what is kept of *keys*; the others have failed, as *error* says."""
        kept = {key: entry for key in keys if (entry := recall.get(key)) is not None}
        unknown = [key for key in keys if key not in kept]
        if unknown and not kept:
            raise error
        answer: RetrieveBatchAnswer = {
            "success": True,
            "results": {key: entry["value"] for key, entry in kept.items()},
            "entries": kept,
            "missing": [],
            "found": len(kept),
            "stale": True,
        }
        return self.with_failures(answer, [(key, error) for key in unknown])

    @answering
    def search(
        self,
        query: str | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        limit: int = 10,
        *,
        snapshot: str | None = None,
    ) -> SearchAnswer:
        from ltm.search.filters import parse_filter

        self.require_open()
        condition = parse_filter(metadata_filter)
        validate_limit(limit)
        if snapshot is None:
            hits = self.catalog.find_values(query, condition, limit, self.clock())
            reader = self.parts.reader
        else:
            if query is not None and query.strip():
                raise ValidationError("query: a snapshot is searched by metadata_filter only")
            history = self.catalog.history
            point = history.find(snapshot)
            hits = [(row, 0.0) for row in history.newest_as_of(point, limit, condition)]
            reader = self.parts.reader_as_of(point)
        scores = {row.key: score for row, score in hits}
        entries = reader.read_values([row for row, _ in hits])
        results: list[SearchResult] = [
            {
                "key": row.key,
                "value": value,
                "metadata": row.metadata,
                "score": scores[row.key],
                "content_hash": row.content_hash,
            }
            for row, value, failure in entries
            if failure is None
        ]
        answer: SearchAnswer = {"success": True, "results": results, "count": len(results)}
        return self.with_failures(answer, _failed(entries))

    def iterate_all(
        self, prefix: str | None = None, *, snapshot: str | None = None
    ) -> Iterator[tuple[str, JSONValue, Metadata]]:
        backend = self.active()
        backend.require_open()
        start, catalog = validate_prefix(prefix), backend.catalog
        if snapshot is None:
            return backend._iterate(backend.parts.reader, catalog.iterate(start, backend.clock))
        with backend.outage.watching():
            point = catalog.history.find(snapshot)
        rows = catalog.history.iterate_as_of(point, start)
        return backend._iterate(backend.parts.reader_as_of(point), rows)

    def _iterate(
        self, reader: ValueReader, rows: Iterable[EntryRow]
    ) -> Iterator[tuple[str, JSONValue, Metadata]]:
        with self.outage.watching():
            for entry in reader.stream(rows):
                self.require_open()
                yield entry.row.key, entry.value, entry.row.metadata


def _failed(entries: Iterable[ReadEntry]) -> list[tuple[str, LTMError]]:
    return [(entry.row.key, entry.error) for entry in entries if entry.error is not None]
