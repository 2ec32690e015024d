"""Checking rows against payloads, hashes and indexes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta

from ltm.backend.parts import Parts
from ltm.backend.reader import ReadEntry, ValueReader
from ltm.backend.results import Problem
from ltm.catalog.accounts import IndexedEntry
from ltm.catalog.history import Snapshot
from ltm.catalog.pages import in_pages
from ltm.clock import BEGINNING
from ltm.entry import EntryRow
from ltm.errors import SnapshotNotFoundError
from ltm.garbage import find_garbage
from ltm.search.analysis import Document
from ltm.search.codes import index_rows

PAGE_SIZE = 200


class Verification:
    """One walk over all rows of a logical table."""

    def __init__(self, parts: Parts, *, repair: bool) -> None:
        self._parts = parts
        self._repair = repair
        self._reader = ValueReader(
            parts.payloads, parts.catalog.read_many, lambda: BEGINNING, verify=True
        )
        self.checked = 0
        self.unreferenced = 0
        self.problems: list[Problem] = []

    def run(self) -> None:
        """Check every row that is there, every version, the index as a whole and the objects.

        Raises:
            LTMError: The catalog or the store could not be read to the end.
        """
        catalog = self._parts.catalog
        # First, because nothing can be indexed again where the index is broken.
        wrong = catalog.check_search_index(repair=self._repair)
        if wrong is not None:
            self._report("index", None, f"full-text index: {wrong}", repaired=self._repair)
        for page in in_pages(catalog.iterate("", lambda: BEGINNING), PAGE_SIZE):
            self._check_entries(page)
        for snapshot, versions in catalog.history.superseded():
            # A snapshot that is expired meanwhile has no versions to check.
            with suppress(SnapshotNotFoundError):
                self._check_versions(snapshot, versions)
        now = self._parts.clock()
        garbage = find_garbage(catalog, self._parts.payloads, now, timedelta(0))
        self.unreferenced = garbage.unreferenced + garbage.spared

    def _check_versions(self, snapshot: Snapshot, versions: Iterable[EntryRow]) -> None:
        reader = self._parts.reader_as_of(snapshot)
        for page in in_pages(versions, PAGE_SIZE):
            for entry in reader.read_rows(page):
                self._check_value(entry)

    def _check_entries(self, rows: Sequence[EntryRow]) -> None:
        entries = self._reader.read_rows(rows)
        catalog = self._parts.catalog
        indexed = catalog.indexed([entry.row for entry in entries])
        # Rows that were written after they were read have other index rows by now.
        present = catalog.read_many([entry.row.key for entry in entries], BEGINNING)
        again: list[tuple[EntryRow, Document | None]] = []
        for entry in entries:
            if not self._check_value(entry) or present.get(entry.row.key) != entry.row:
                continue
            if not self._is_indexed(entry, indexed[entry.row.id]):
                again.append((entry.row, self._document_of(entry)))
        if again and self._repair:
            self._parts.catalog.index_again(again)

    def _check_value(self, entry: ReadEntry) -> bool:
        self.checked += 1
        is_valueless = entry.row.storage_uri is None and entry.row.inlined_text is None
        if entry.error is not None and not is_valueless:
            self._report(entry.error.error_type, entry.row.key, str(entry.error))
        return entry.error is None

    def _is_indexed(self, entry: ReadEntry, indexed: IndexedEntry) -> bool:
        """Report what the indexes hold wrong of *entry*."""
        row = entry.row
        document = self._document_of(entry)
        has_words = document is None or document == indexed.document
        if not has_words:
            detail = f"entry {row.key!r} is not indexed by its words"
            self._report("words", row.key, detail, repaired=self._repair)
        has_metadata = frozenset(index_rows(row.metadata)) == indexed.metadata_rows
        if not has_metadata:
            detail = f"entry {row.key!r} is not indexed by its metadata"
            self._report("metadata", row.key, detail, repaired=self._repair)
        return has_words and has_metadata

    def _document_of(self, entry: ReadEntry) -> Document | None:
        analyze = self._parts.writer.read_document(entry.row.key, entry.value)
        return analyze and analyze()

    def _report(self, kind: str, key: str | None, detail: str, *, repaired: bool = False) -> None:
        self.problems.append(Problem(kind=kind, key=key, detail=detail, repaired=repaired))
