"""Snapshots of one logical table: taking them, reading as of them, and what changed since.

A snapshot is a number. Rows carry the numbers between which they were true, and a row that a
snapshot sees is kept as a version when it is superseded. So taking a snapshot writes a constant
number of rows, and entries that never change cost nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, TypedDict

from ltm.catalog.base import PAGE_SIZE
from ltm.catalog.commit import same_terms
from ltm.catalog.pages import in_pages
from ltm.entry import EntryRow, Metadata
from ltm.errors import SnapshotNotFoundError, ValidationError

if TYPE_CHECKING:
    from ltm.search.filters import Filter

Operation = Literal["added", "modified", "deleted"]


class Snapshot(NamedTuple):
    """A named point of one logical table to which reads can go back."""

    id: str
    name: str
    seq: int
    """Its number within the table."""
    entry_count: int
    total_bytes: int
    created_at: datetime
    """What had expired by then does not exist in the snapshot."""


class EntryChange(TypedDict):
    """How the entry of one key differs between two points."""

    op: Operation
    key: str
    content_hash: str
    """Of the later value; of the earlier one where the entry was deleted."""
    previous_hash: str | None
    """Of the earlier value; None where there was none."""
    metadata: Metadata
    """Of the same row as *content_hash*, as are the fields below."""
    byte_size: int
    expires_at: datetime | None
    updated_at: datetime


class RowChange(NamedTuple):
    """The rows of one key at two points; not both are None."""

    earlier: EntryRow | None
    later: EntryRow | None

    @property
    def key(self) -> str:
        """Of both rows."""
        row = self.later or self.earlier
        assert row is not None  # noqa: S101 -- one of them is there by definition
        return row.key

    @property
    def operation(self) -> Operation:
        """What happened to the key."""
        if self.earlier is None:
            return "added"
        return "deleted" if self.later is None else "modified"

    def describe(self) -> EntryChange:
        """Return the change as the public dictionary."""
        row = self.later or self.earlier
        assert row is not None  # noqa: S101 -- one of them is there by definition
        return EntryChange(
            op=self.operation,
            key=row.key,
            content_hash=row.content_hash,
            previous_hash=None if self.earlier is None else self.earlier.content_hash,
            metadata=row.metadata,
            byte_size=row.byte_size,
            expires_at=row.expires_at,
            updated_at=row.updated_at,
        )


class History(ABC):
    """The snapshots of the logical table that a catalog is bound to."""

    keys_at_once: ClassVar[int] = PAGE_SIZE
    """So many of the keys that may have changed are asked for at once."""

    @abstractmethod
    def create(self, name: str, now: datetime) -> Snapshot:
        """Take a snapshot in one transaction that no write overlaps."""

    @abstractmethod
    def snapshots(self) -> list[Snapshot]:
        """Return all snapshots in the order in which they were taken."""

    @abstractmethod
    def expire(self, snapshot: Snapshot, now: datetime) -> list[str]:
        """Forget *snapshot* and the versions that only it saw, in one transaction.

        Returns:
            The payloads that were scheduled for deletion.
        """

    @abstractmethod
    def rows_as_of(
        self, snapshot: Snapshot, prefix: str, after: str, limit: int, *, superseded: bool = False
    ) -> list[EntryRow]:
        """Return up to *limit* rows that *snapshot* sees, in key order above *after*.

        With *superseded*, only those that have been replaced or deleted since.
        """

    @abstractmethod
    def read_as_of(self, snapshot: Snapshot, keys: Sequence[str]) -> dict[str, EntryRow]:
        """Return the rows of *keys* that *snapshot* sees, by key."""

    @abstractmethod
    def read_live(self, keys: Sequence[str], now: datetime) -> dict[str, EntryRow]:
        """Return the rows of *keys* that are live at *now*, by key."""

    @abstractmethod
    def keys_changed(self, snapshot: Snapshot, after: str, limit: int, now: datetime) -> list[str]:
        """Return up to *limit* keys above *after* that may have changed since *snapshot*.

        In key order. Keys too many do no harm; a key too few is a change that is missed.
        """

    @abstractmethod
    def rows_live(self, prefix: str, after: str, limit: int, now: datetime) -> list[EntryRow]:
        """Return up to *limit* live rows in key order above *after*."""

    def find(self, reference: str) -> Snapshot:
        """Return the snapshot with the id *reference*, or the newest with that name.

        Raises:
            ValidationError: *reference* is not text.
            SnapshotNotFoundError: There is none.
        """
        if not isinstance(reference, str):
            raise ValidationError(f"snapshot: expected an id or a name, got {reference!r}")
        named = [each for each in self.snapshots() if reference in (each.id, each.name)]
        if not named:
            raise SnapshotNotFoundError(f"no snapshot has the id or name {reference!r}")
        return next((each for each in named if each.id == reference), named[-1])

    def iterate_as_of(
        self, snapshot: Snapshot, prefix: str = "", *, superseded: bool = False
    ) -> Iterator[EntryRow]:
        """Yield every row that *snapshot* sees, as :meth:`rows_as_of`, read in pages.

        Raises:
            SnapshotNotFoundError: The snapshot was expired meanwhile.
        """
        after = ""
        while True:
            page = self.rows_as_of(snapshot, prefix, after, PAGE_SIZE, superseded=superseded)
            self.find(snapshot.id)
            yield from page
            if len(page) < PAGE_SIZE:
                return
            after = page[-1].key

    def superseded(self) -> Iterator[tuple[Snapshot, Iterator[EntryRow]]]:
        """Yield each snapshot with the versions that it sees and no snapshot before it does.

        The versions raise SnapshotNotFoundError if the snapshot was expired meanwhile.
        """
        before = -1
        for snapshot in self.snapshots():
            rows = self.iterate_as_of(snapshot, superseded=True)
            yield snapshot, _begun_after(before, rows)
            before = snapshot.seq

    def newest_as_of(
        self, snapshot: Snapshot, limit: int, condition: Filter | None
    ) -> list[EntryRow]:
        """Return up to *limit* rows of *snapshot* that fulfil *condition*, newest first.

        Reads every row that the snapshot sees: versions have no index of their metadata.
        """
        import heapq

        from ltm.search.filters import matches

        rows = (row for row in self.iterate_as_of(snapshot) if matches(condition, row.metadata))
        return heapq.nlargest(limit, rows, key=lambda row: (row.updated_at, row.id))

    def changes(
        self, since: Snapshot | None, until: Snapshot | None, now: datetime
    ) -> Iterator[RowChange]:
        """Yield what differs between two points, in key order.

        Args:
            since: The earlier point; None for the time before the first entry.
            until: The later point; None for *now*.
            now: The present instant.

        Raises:
            SnapshotNotFoundError: A snapshot was expired meanwhile.
        """
        if since is None:
            yield from self._all_added(until, now)
            return
        first = since if until is None or since.seq <= until.seq else until
        # Clocks differ and go back: what expired between the two counts, whichever was first.
        instants = since.created_at, now if until is None else until.created_at
        first = first._replace(created_at=min(instants))
        after = ""
        while True:
            keys = self.keys_changed(first, after, self.keys_at_once, max(instants))
            for page in in_pages(keys):
                yield from self._changes_of(page, since, until, now)
            if len(keys) < self.keys_at_once:
                return
            after = keys[-1]

    def _changes_of(
        self, keys: Sequence[str], since: Snapshot, until: Snapshot | None, now: datetime
    ) -> Iterator[RowChange]:
        earlier = self.read_as_of(since, keys)
        later = self.read_live(keys, now) if until is None else self.read_as_of(until, keys)
        for snapshot in (since, until):
            if snapshot is not None:
                self.find(snapshot.id)
        for key in keys:
            change = RowChange(earlier.get(key), later.get(key))
            if not _is_same(change):
                yield change

    def _all_added(self, until: Snapshot | None, now: datetime) -> Iterator[RowChange]:
        if until is not None:
            for row in self.iterate_as_of(until):
                yield RowChange(None, row)
            return
        after = ""
        while True:
            page = self.rows_live("", after, PAGE_SIZE, now)
            for row in page:
                yield RowChange(None, row)
            if len(page) < PAGE_SIZE:
                return
            after = page[-1].key


def _is_same(change: RowChange) -> bool:
    earlier, later = change
    if earlier is None or later is None:
        return earlier is later
    return earlier.content_hash == later.content_hash and same_terms(
        earlier, later.metadata, later.expires_at
    )


def _begun_after(seq: int, rows: Iterable[EntryRow]) -> Iterator[EntryRow]:
    return (row for row in rows if row.begin_seq > seq)
