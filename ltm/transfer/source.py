"""Where memories come from: the live entries of a backend, or those of one of its snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ltm.backend.base import LTMBackend
from ltm.backend.parts import BackendCalls
from ltm.backend.reader import ReadEntry, ValueReader
from ltm.catalog.commit import is_live
from ltm.entry import EntryRow
from ltm.errors import ValidationError
from ltm.keys import validate_prefix

PAGE_SIZE = 500

PAGE_BYTES = 16 * 1024 * 1024
"""A page ends early once the values of its entries are this large."""

Progress = Callable[[int, int | None], object]
"""Called with how many entries are done and how many there are, None where that is not known."""


class Source:
    """The entries of one backend that are to be carried."""

    def __init__(self, backend: LTMBackend, *, snapshot: str | None, prefix: str | None) -> None:
        """Find the snapshot.

        Args:
            backend: One over a catalog and a payload store.
            snapshot: Id or name of the snapshot to read; None for the present.
            prefix: Only keys that begin with it.

        Raises:
            ValidationError: Another kind of backend, or a bad prefix.
            SnapshotNotFoundError: There is no such snapshot.
        """
        # Values are verified here even where the backend itself doesn't.
        self._parts = require_calls(backend, "source").parts._replace(verify_reads=True)
        self.catalog = self._parts.catalog
        self.prefix = validate_prefix(prefix)
        self.snapshot = None if snapshot is None else self.catalog.history.find(snapshot)

    def count(self) -> int | None:
        """Return how many entries there are, about; None where that is as much work as reading."""
        if self.prefix:
            return None
        if self.snapshot is not None:
            return self.snapshot.entry_count
        return self.catalog.statistics(self._parts.clock()).entries

    def rows(self) -> Iterator[EntryRow]:
        """Yield the rows in key order, read in pages, without any that has expired by now."""
        clock = self._parts.clock
        if self.snapshot is None:
            found = self.catalog.iterate(self.prefix, clock)
        else:
            found = self.catalog.history.iterate_as_of(self.snapshot, self.prefix)
        return (row for row in found if is_live(row, clock()))

    def read(self, rows: Sequence[EntryRow]) -> list[ReadEntry]:
        """Return *rows* with their values; one that is deleted meanwhile is left out.

        Raises:
            PayloadError: A value could not be read.
            IntegrityError: A value is not what was written.
        """
        reader = (
            ValueReader(
                self._parts.payloads, self.catalog.read_many, self._parts.clock, verify=True
            )
            if self.snapshot is None
            else self._parts.reader_as_of(self.snapshot)
        )
        entries = reader.read_rows(rows)
        for entry in entries:
            if entry.error is not None:
                raise entry.error
        return entries


def require_calls(backend: LTMBackend, what: str) -> BackendCalls:
    """Return *backend*, or its open transaction in this thread, with the parts it works with.

    Raises:
        ValidationError: It is not one over a catalog and a payload store.
        ClosedError: It is closed.
    """
    if not isinstance(backend, BackendCalls):
        raise ValidationError(
            f"{what}: expected a backend over a catalog and a payload store, got {backend!r}"
        )
    calls = backend.active()
    calls.require_open()
    return calls


def pages(rows: Iterable[EntryRow], size: int) -> Iterator[list[EntryRow]]:
    """Yield *rows* in pages of up to *size* that fit in memory with their values.

    The last page comes once *rows* has ended well.
    """
    page: list[EntryRow] = []
    byte_size = 0
    for row in rows:
        page.append(row)
        byte_size += row.byte_size
        if len(page) == size or byte_size >= PAGE_BYTES:
            yield page
            page, byte_size = [], 0
    if page:
        yield page
