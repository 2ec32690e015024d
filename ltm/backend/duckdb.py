"""The LTM backend over a catalog and a payload store."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from ltm.backend.base import LTMBackend
from ltm.backend.batch import BatchWriter
from ltm.backend.health import check_catalog, check_store, describe_failure, describe_part
from ltm.backend.reader import ReadEntry, ValueReader
from ltm.backend.results import (
    BatchEntry,
    CleanupAnswer,
    DeleteAnswer,
    HealthAnswer,
    RetrieveAnswer,
    RetrieveBatchAnswer,
    SearchAnswer,
    SearchResult,
    StatsAnswer,
    StoreAnswer,
    StoreBatchAnswer,
    answering,
)
from ltm.backend.writer import Condition, EntryWriter, PreparedEntry
from ltm.catalog.base import Catalog, validate_limit
from ltm.catalog.commit import Outcome, Removal
from ltm.clock import Clock
from ltm.entry import JSONValue, Metadata
from ltm.errors import ClosedError, ConflictError, LTMError, ValidationError
from ltm.garbage import delete_scheduled
from ltm.keys import validate_key, validate_prefix
from ltm.payload.base import PayloadStore
from ltm.payload.codecs import get_codec
from ltm.payload.store import open_payload_store
from ltm.search.filters import parse_filter

_ManyAnswer = TypeVar("_ManyAnswer", SearchAnswer, RetrieveBatchAnswer)

PAGE_SIZE = 500
EXPIRED_PER_COMMIT = 500


class DuckDBLTMBackend(LTMBackend):
    """Keeps rows in a catalog and large values as immutable payload objects."""

    def __init__(
        self,
        catalog: Catalog,
        storage_uri: str = "./ltm_data/",
        *,
        storage_options: Mapping[str, Any] | None = None,
        payload_format: str = "json",
        inline_threshold: int = 1024,
        enable_fts: bool = True,
        table: str | None = None,
        language: str | None = None,
        verify_reads: bool = True,
        raise_errors: bool = False,
        max_workers: int = 16,
        lazy: bool = True,
        clock: Clock | None = None,
        store: PayloadStore | None = None,
        owns_catalog: bool = False,
    ) -> None:
        """Put a catalog and a payload store together; with *lazy*, nothing is opened yet.

        Args:
            catalog: Where the rows are.
            storage_uri: Where payloads go: a directory or any fsspec URL.
            storage_options: Handed to fsspec.
            payload_format: ``json``.
            inline_threshold: Bytes; a value whose canonical JSON is shorter is kept in its row.
            enable_fts: Whether values can be found by their words.
            table: Logical table, made on first use; by default the one *catalog* is bound to.
            language: Language of the search words of a table that is made; by default the one
                *catalog* was given.
            verify_reads: Whether every read checks the content hash.
            raise_errors: Whether failures are raised instead of answered.
            max_workers: Payloads read or written at once; 1 or more.
            lazy: Whether the catalog is opened at the first call rather than now.
            clock: Tells the time; by default the catalog's clock.
            store: A payload store to use instead of *storage_uri*; it is left open.
            owns_catalog: Whether :meth:`close` closes *catalog*.

        Raises:
            ValidationError: A bad argument.
            LTMError: With ``lazy=False``, what opening the catalog raises.
        """
        if isinstance(inline_threshold, bool) or not isinstance(inline_threshold, int):
            raise ValidationError(f"inline_threshold: expected bytes, got {inline_threshold!r}")
        if inline_threshold < 0:
            raise ValidationError(f"inline_threshold: expected 0 or more, got {inline_threshold}")
        self.raise_errors = raise_errors
        self.catalog = catalog.bind(
            catalog.table_name if table is None else table,
            inline_threshold=inline_threshold,
            language=catalog.language if language is None else language,
        )
        self.clock = clock or catalog.clock
        self._closing: list[Callable[[], None]] = [catalog.close] if owns_catalog else []
        if store is None:
            store = open_payload_store(
                storage_uri, storage_options=storage_options, max_workers=max_workers
            )
            self._closing.append(store.close)
        self.payloads = store
        self._reader = ValueReader(self.catalog, store, self.clock, verify=verify_reads)
        self._writer = EntryWriter(
            self.catalog,
            store,
            get_codec(payload_format),
            self.clock,
            inline_threshold=inline_threshold,
            enable_fts=enable_fts,
        )
        self._is_closed = False
        if not lazy:
            self.catalog.table()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.catalog!r}, {self.payloads!r})"

    @answering
    def store(
        self,
        key: str,
        value: JSONValue,
        metadata: Mapping[str, Any] | None = None,
        *,
        ttl: float | None = None,
        expires_at: datetime | None = None,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> StoreAnswer:
        self._require_open()
        if if_match is not None and if_absent:
            raise ValidationError("if_match and if_absent: give one, not both")
        entry = self._writer.prepare(key, value, metadata, ttl=ttl, expires_at=expires_at)
        condition = Condition(if_match=if_match, if_absent=if_absent)
        return self._stored(entry, self._writer.write(entry, condition))

    @answering
    def retrieve(self, key: str, default: JSONValue = None) -> RetrieveAnswer:
        self._require_open()
        entry = self._reader.read(validate_key(key))
        if entry is None:
            return RetrieveAnswer(
                success=True,
                found=False,
                value=default,
                metadata=None,
                content_hash=None,
                inlined=False,
            )
        return RetrieveAnswer(
            success=True,
            found=True,
            value=entry.value,
            metadata=entry.row.metadata,
            content_hash=entry.row.content_hash,
            inlined=entry.row.storage_uri is None,
        )

    @answering
    def delete(self, key: str, *, if_match: str | None = None) -> DeleteAnswer:
        self._require_open()
        identity = self.catalog.entry_id(validate_key(key))
        removal = Removal(id=identity, key=key, if_match=if_match)
        (outcome,) = self.catalog.write([removal], self.clock())
        self._free([outcome])
        return DeleteAnswer(success=True, deleted=outcome.deleted, key=key)

    @answering
    def update(
        self,
        key: str,
        fn: Callable[[JSONValue], JSONValue],
        *,
        default: JSONValue = None,
        retries: int = 10,
    ) -> StoreAnswer:
        self._require_open()
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise ValidationError(f"retries: expected 0 or more, got {retries!r}")
        from tenacity import (
            Retrying,
            retry_if_exception_type,
            stop_after_attempt,
            wait_random_exponential,
        )

        retrying = Retrying(
            stop=stop_after_attempt(retries + 1),
            wait=wait_random_exponential(multiplier=0.002, max=0.5),
            retry=retry_if_exception_type(ConflictError),
            reraise=True,
        )
        return retrying(self._update_once, validate_key(key), fn, default)

    @answering
    def search(
        self,
        query: str | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        limit: int = 10,
    ) -> SearchAnswer:
        self._require_open()
        hits = self.catalog.find(
            query, parse_filter(metadata_filter), validate_limit(limit), self.clock()
        )
        scores = {row.key: score for row, score in hits}
        entries = self._reader.read_rows([row for row, _ in hits])
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
        return self._with_failures(answer, entries)

    @answering
    def store_batch(
        self, entries: Iterable[Any], *, atomic: bool = True, batch_size: int = 500
    ) -> StoreBatchAnswer:
        self._require_open()
        validate_limit(batch_size, "batch_size")
        batch = BatchWriter(self._writer, entries)
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
        self._require_open()
        if isinstance(keys, str):
            raise ValidationError("keys: expected a list of keys, got str")
        wanted = list(dict.fromkeys(validate_key(key) for key in keys))
        rows = self.catalog.read_many(wanted, self.clock())
        entries = self._reader.read_rows([rows[key] for key in wanted if key in rows])
        seen = {entry.row.key for entry in entries}
        whole = {entry.row.key: entry for entry in entries if entry.error is None}
        answer = RetrieveBatchAnswer(
            success=True,
            results={key: entry.value for key, entry in whole.items()},
            entries={key: _fields(entry) for key, entry in whole.items()},
            missing=[key for key in wanted if key not in seen],
            found=len(whole),
        )
        return self._with_failures(answer, entries)

    @answering
    def cleanup_expired(self, limit: int = 100, *, batch_size: int | None = None) -> CleanupAnswer:
        self._require_open()
        remaining = validate_limit(limit if batch_size is None else batch_size)
        deleted, failures = 0, []
        while remaining > 0:
            size = min(remaining, EXPIRED_PER_COMMIT)
            outcomes = self.catalog.remove_expired(size, self.clock())
            failures += self._free(outcomes)
            deleted += len(outcomes)
            remaining -= size
            if len(outcomes) < size:
                break
        return CleanupAnswer(
            success=True,
            deleted=deleted,
            remaining=self.catalog.statistics(self.clock()).expired,
            errors=[describe_failure(uri, error) for uri, error in failures],
        )

    def iterate_all(self, prefix: str | None = None) -> Iterator[tuple[str, JSONValue, Metadata]]:
        self._require_open()
        return self._iterate(validate_prefix(prefix))

    @answering
    def stats(self) -> StatsAnswer:
        self._require_open()
        counts = self.catalog.statistics(self.clock())
        return StatsAnswer(
            success=True,
            table=self.catalog.table_name,
            entries=counts.entries,
            inlined=counts.inlined,
            payloads=counts.entries - counts.inlined,
            total_bytes=counts.total_bytes,
            inlined_bytes=counts.inlined_bytes,
            payload_bytes=counts.total_bytes - counts.inlined_bytes,
            expired=counts.expired,
        )

    @answering
    def health_check(self) -> HealthAnswer:
        self._require_open()
        catalog_error = check_catalog(self.catalog, self.clock())
        store_error = check_store(self.payloads)
        error = catalog_error or store_error
        if error is not None and self.raise_errors:
            raise error
        answer = HealthAnswer(
            success=error is None,
            healthy=error is None,
            catalog=describe_part(catalog_error),
            storage=describe_part(store_error),
        )
        if error is not None:
            answer["error"], answer["error_type"] = str(error), error.error_type
        return answer

    def close(self) -> None:
        self._is_closed = True
        while self._closing:
            self._closing.pop()()

    def _require_open(self) -> None:
        if self._is_closed:
            raise ClosedError("the backend is closed")

    def _iterate(self, prefix: str) -> Iterator[tuple[str, JSONValue, Metadata]]:
        for page in self._reader.pages(prefix, PAGE_SIZE):
            for entry in page:
                self._require_open()
                if entry.error is not None:
                    raise entry.error
                yield entry.row.key, entry.value, entry.row.metadata

    def _update_once(
        self, key: str, fn: Callable[[JSONValue], JSONValue], default: JSONValue
    ) -> StoreAnswer:
        found = self._reader.read(key)
        if found is None:
            entry = self._writer.prepare(key, fn(copy.deepcopy(default)))
            return self._stored(entry, self._writer.write(entry, Condition(if_absent=True)))
        row = found.row
        entry = replace(
            self._writer.prepare(key, fn(found.value)),
            metadata=row.metadata,
            expires_at=row.expires_at,
        )
        return self._stored(entry, self._writer.write(entry, Condition(based_on=row)))

    def _stored(self, entry: PreparedEntry, outcome: Outcome) -> StoreAnswer:
        answer = StoreAnswer(
            success=True,
            stored=outcome.stored,
            created=outcome.created,
            key=entry.key,
            content_hash=entry.content_hash,
            inlined=outcome.storage_uri is None,
            byte_size=entry.byte_size,
            deduplicated=outcome.deduplicated,
        )
        if outcome.storage_uri is not None:
            answer["storage_uri"] = self.payloads.uri(outcome.storage_uri)
        return answer

    def _free(self, outcomes: Iterable[Outcome]) -> list[tuple[str, LTMError]]:
        freed = [outcome.freed for outcome in outcomes if outcome.freed is not None]
        return delete_scheduled(self.catalog, self.payloads, freed)

    def _with_failures(self, answer: _ManyAnswer, entries: Iterable[ReadEntry]) -> _ManyAnswer:
        """Put what could not be read into *answer*, which then is no success."""
        failed = [(entry.row.key, entry.error) for entry in entries if entry.error is not None]
        answer["errors"] = [describe_failure(key, error) for key, error in failed]
        if failed:
            key, error = failed[0]
            if self.raise_errors:
                raise error
            answer["success"] = False
            answer["error"] = f"{len(failed)} could not be read, the first {key!r}: {error}"
            answer["error_type"] = error.error_type
        return answer


def _fields(entry: ReadEntry) -> BatchEntry:
    row = entry.row
    return BatchEntry(
        value=entry.value,
        metadata=row.metadata,
        content_hash=row.content_hash,
        inlined=row.storage_uri is None,
    )
