"""Migration from the older ``SQLiteBackend``: every row, once, verified."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ltm.backend.base import LTMBackend
from ltm.backend.reader import ReadEntry, ValueReader
from ltm.catalog.base import Catalog, validate_limit
from ltm.catalog.commit import is_live, same_metadata
from ltm.clock import BEGINNING
from ltm.entry import EntryRow
from ltm.errors import (
    CatalogUnavailableError,
    ClosedError,
    IntegrityError,
    LTMError,
    PayloadError,
    PayloadNotFoundError,
    ValidationError,
)
from ltm.legacy.rejected import RejectedRow, SideFile, side_file_path
from ltm.legacy.source import (
    LegacySource,
    SourceEntry,
    SourceRow,
    open_source,
    parse_row,
)
from ltm.payload.base import PayloadStore

PAGE_SIZE = 500

Progress = Callable[[int, int], object]
"""Called with how many rows are done and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """What became of each row of the old database.

    ``total`` is the sum of *migrated*, *unchanged*, *kept* and the number of *rejected*.
    """

    total: int
    migrated: int
    """Rows that were written; in a dry run, that would be."""
    unchanged: int
    """Rows that the target had already."""
    kept: int
    """Rows whose entry in the target is newer than the row and differs from it."""
    expired: int
    """How many of the migrated and unchanged rows had expired when the migration began."""
    rejected: tuple[RejectedRow, ...]
    """By rowid."""
    rejected_path: str | None
    """The file with the rejected rows in full; None where there are none, or in a dry run."""
    verified: int
    """Rows that were read back from the target and are equal; 0 in a dry run."""
    dry_run: bool

    @property
    def is_complete(self) -> bool:
        """Whether no row was rejected."""
        return not self.rejected


def migrate_sqlite_backend(
    path: str | os.PathLike[str],
    backend: LTMBackend,
    *,
    dry_run: bool = False,
    rejected_path: str | os.PathLike[str] | None = None,
    batch_size: int = PAGE_SIZE,
    progress: Progress | None = None,
) -> MigrationReport:
    """Copy every row of an old ``SQLiteBackend`` database to *backend*, and read it back.

    Creation and update times are kept, and ``_cache_expires_at`` in the metadata becomes the
    expiry. Rows that cannot be carried are written to a side file. Killed at any point, it goes on
    when it is run again; run again after that, it changes nothing. An entry that the target's own
    users changed since is kept as it is.

    Args:
        path: The old database; it is opened read-only.
        backend: Where the rows go: one over a catalog and a payload store.
        dry_run: Whether to report what would be done, and store nothing.
        rejected_path: The side file, JSON Lines; by default the name of *path* with the suffix
            ``.rejected.jsonl``, in the current directory. It is replaced where it exists, and left
            alone where no row is rejected.
        batch_size: Rows in one transaction and in memory at once; 1 or more.
        progress: Called after every page of rows.

    Raises:
        ValidationError: *path* is not a database of the old backend, or a bad argument.
        CatalogUnavailableError: The target, or the old database, could not be reached; run again.
        PayloadError: A payload or the side file could not be written.
        IntegrityError: What the target holds at the end is not what was carried, or the old
            database is damaged or was written to meanwhile.
    """
    validate_limit(batch_size, "batch_size")
    target = _Target(backend)
    with open_source(path) as source:
        with SideFile(side_file_path(path, rejected_path), dry_run=dry_run) as side_file:
            copying = _Copying(source, target, side_file, dry_run=dry_run)
            copying.run(batch_size, progress)
            side_file.publish()
        verified = 0 if dry_run else _Verification(source, target, copying).run(batch_size)
    return MigrationReport(
        total=source.total,
        migrated=copying.migrated,
        unchanged=copying.unchanged,
        kept=copying.kept,
        expired=copying.expired,
        rejected=tuple(copying.rejected),
        rejected_path=side_file.path if copying.rejected and not dry_run else None,
        verified=verified,
        dry_run=dry_run,
    )


class _Verdict(Enum):
    STORE = "store"
    UNCHANGED = "unchanged"
    KEPT = "kept"


class _Target:
    """The backend that rows go to, seen with its expired entries."""

    def __init__(self, backend: LTMBackend) -> None:
        catalog = getattr(backend, "catalog", None)
        payloads = getattr(backend, "payloads", None)
        if not isinstance(catalog, Catalog) or not isinstance(payloads, PayloadStore):
            raise ValidationError(
                f"backend: expected one over a catalog and a payload store, got {backend!r}"
            )
        self._backend = backend
        self._catalog = catalog
        self._now = catalog.clock()
        # As of the beginning of time nothing has expired.
        self._reader = ValueReader(payloads, catalog.read_many, lambda: BEGINNING, verify=True)

    def has_expired(self, entry: SourceEntry) -> bool:
        """Return whether *entry* had expired when the migration began."""
        return entry.expires_at is not None and entry.expires_at <= self._now

    def rows(self, entries: Sequence[SourceEntry]) -> dict[str, EntryRow]:
        """Return the rows that have the keys of *entries*, expired or not, by key."""
        return self._catalog.read_many([entry.key for entry in entries], BEGINNING)

    def judge(self, entry: SourceEntry, found: EntryRow | None) -> _Verdict:
        """Return what to do about *entry*, given the row *found* under its key."""
        if found is None:
            return _Verdict.STORE
        if (
            (found.storage_uri is not None or found.inlined_text is not None)
            and found.content_hash == entry.content_hash
            and found.expires_at == entry.expires_at
            and same_metadata(found.metadata, entry.metadata)
        ):
            return _Verdict.UNCHANGED
        is_newer = entry.updated_at is None or found.updated_at > entry.updated_at
        return _Verdict.KEPT if is_newer and is_live(found, self._now) else _Verdict.STORE

    def store(self, entries: Sequence[SourceEntry]) -> None:
        """Store *entries* in one transaction.

        Raises:
            LTMError: What the backend answered; none of them is stored.
        """
        answer = self._backend.store_batch(
            [
                {
                    "key": entry.key,
                    "value": entry.value,
                    "metadata": entry.metadata,
                    "expires_at": entry.expires_at,
                    "created_at": entry.created_at,
                    "updated_at": entry.updated_at,
                }
                for entry in entries
            ]
        )
        if not answer["success"]:
            raise _as_error(answer)

    def read(self, rows: Sequence[EntryRow]) -> list[ReadEntry]:
        """Return *rows* with their values, hashes verified; without those deleted meanwhile."""
        return self._reader.read_rows(rows)


class _Copying:
    """The first pass: every row is stored, found unchanged, kept or rejected."""

    def __init__(
        self, source: LegacySource, target: _Target, side_file: SideFile, *, dry_run: bool
    ) -> None:
        self._source = source
        self._target = target
        self._side_file = side_file
        self._dry_run = dry_run
        self.migrated = 0
        self.unchanged = 0
        self.kept = 0
        self.expired = 0
        self.rejected: list[RejectedRow] = []

    def run(self, page_size: int, progress: Progress | None) -> None:
        done = 0
        for page in self._source.pages(page_size):
            self._copy(self._parse(page))
            done += len(page)
            if progress is not None:
                progress(done, self._source.total)

    def _parse(self, page: Sequence[SourceRow]) -> list[SourceEntry]:
        entries: list[SourceEntry] = []
        for row in page:
            try:
                entries.append(parse_row(row))
            except ValidationError as error:
                key = row.key if isinstance(row.key, str) else None
                self.rejected.append(RejectedRow(rowid=row.rowid, key=key, reason=str(error)))
                self._side_file.write(row, str(error))
        return entries

    def _copy(self, entries: Sequence[SourceEntry]) -> None:
        found = self._target.rows(entries)
        fresh: list[SourceEntry] = []
        for entry in entries:
            verdict = self._target.judge(entry, found.get(entry.key))
            if verdict is _Verdict.KEPT:
                self.kept += 1
                continue
            self.expired += self._target.has_expired(entry)
            if verdict is _Verdict.STORE:
                fresh.append(entry)
            else:
                self.unchanged += 1
        if fresh and not self._dry_run:
            self._target.store(fresh)
        self.migrated += len(fresh)


class _Verification:
    """The second pass: what the target holds is what the source says."""

    def __init__(self, source: LegacySource, target: _Target, copying: _Copying) -> None:
        self._source = source
        self._target = target
        self._copying = copying
        self._kept = 0
        self._gone = 0

    def run(self, page_size: int) -> int:
        """Return how many rows were read back.

        Raises:
            IntegrityError: A row is not there, or not as it was carried.
        """
        verified = 0
        rejected = {row.rowid for row in self._copying.rejected}
        for page in self._source.pages(page_size):
            verified += self._verify([parse_row(row) for row in page if row.rowid not in rejected])
        counted = (verified + self._gone, self._kept)
        expected = (self._copying.migrated + self._copying.unchanged, self._copying.kept)
        if counted != expected:
            raise IntegrityError(
                f"{self._source.name}: carried {expected[0]} rows and kept {expected[1]}, "
                f"found {counted[0]} and {counted[1]}: if others write to the same keys, run again"
            )
        return verified

    def _verify(self, entries: Sequence[SourceEntry]) -> int:
        found = self._target.rows(entries)
        expected: dict[str, SourceEntry] = {}
        for entry in entries:
            row = found.get(entry.key)
            verdict = self._target.judge(entry, row)
            if verdict is _Verdict.UNCHANGED:
                expected[entry.key] = entry
            elif verdict is _Verdict.KEPT:
                self._kept += 1
            elif row is None and self._target.has_expired(entry):
                # Cleaning up what has expired is everyone's right, at any time.
                self._gone += 1
            else:
                raise self._mismatch(entry, "is missing" if row is None else "differs")
        reads = {read.row.key: read for read in self._target.read([found[key] for key in expected])}
        for key, entry in expected.items():
            self._require_equal(entry, reads.get(key))
        return len(expected)

    def _require_equal(self, entry: SourceEntry, read: ReadEntry | None) -> None:
        if read is None:
            raise self._mismatch(entry, "is missing")
        if isinstance(read.error, PayloadError) and not isinstance(
            read.error, PayloadNotFoundError
        ):
            raise read.error
        if read.error is not None:
            raise self._mismatch(entry, str(read.error)) from read.error
        # The hash of the very text that was read: equal hashes are equal values, type for type.
        if read.row.content_hash != entry.content_hash:
            raise self._mismatch(entry, "differs")

    def _mismatch(self, entry: SourceEntry, reason: str) -> IntegrityError:
        return IntegrityError(
            f"{self._source.name}: row {entry.rowid}, key {entry.key!r}, in the target: {reason}"
        )


_SIMPLE_ERRORS = {
    error.error_type: error
    for error in (
        CatalogUnavailableError,
        ClosedError,
        IntegrityError,
        PayloadError,
        PayloadNotFoundError,
        ValidationError,
    )
}


def _as_error(answer: Mapping[str, Any]) -> LTMError:
    """Return the exception that a failure *answer* stands for."""
    kind = _SIMPLE_ERRORS.get(answer["error_type"])
    return LTMError(answer["error"]) if kind is None else kind(answer["error"])
