"""The public protocol of a catalog, in plain dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, runtime_checkable

from ltm.entry import MISSING, JSONValue, Metadata

if TYPE_CHECKING:
    from ltm.catalog.history import Operation


class Entry(TypedDict):
    """One catalog row, as the public catalog methods answer it."""

    id: str
    key: str
    content_hash: str
    storage_uri: str | None
    byte_size: int
    inlined_value: JSONValue
    """The value where ``storage_uri`` is None; None otherwise."""
    metadata: Metadata
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class TrackAnswer(TypedDict):
    """What :meth:`CatalogBackend.track_entry` answers."""

    success: bool
    entry_id: str
    created: bool


class SearchHit(Entry):
    """An entry that a search found; a higher *score* is better."""

    score: float


class ChangedEntry(Entry):
    """An entry that changed, and how: ``added``, ``modified`` or ``deleted``."""

    op: Operation


@runtime_checkable
class CatalogBackend(Protocol):
    """One row per key, on the logical table that the catalog is bound to. Methods raise."""

    def track_entry(
        self,
        key: str,
        content_hash: str,
        storage_uri: str | None,
        byte_size: int,
        metadata: Mapping[str, Any] | None,
        inlined_value: JSONValue = MISSING,
        expires_at: datetime | None = None,
    ) -> TrackAnswer:
        """Insert or replace the row of *key*."""

    def get_entry(self, key: str) -> Entry | None:
        """Return the live entry of *key*, or None."""

    def list_entries(
        self,
        prefix: str | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Entry]:
        """Return live entries in bytewise key order."""

    def delete_entry(self, key: str) -> bool:
        """Delete the entry of *key* and return whether there was one."""

    def store_batch(self, entries: Iterable[Mapping[str, Any]]) -> list[TrackAnswer]:
        """Track many entries, all or none."""

    def retrieve_batch(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return the live entries among *keys*, by key."""

    def cleanup_expired(self, limit: int = 100) -> int:
        """Delete up to *limit* expired entries and return how many."""

    def search(
        self,
        query: str | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        limit: int = 10,
    ) -> list[SearchHit]:
        """Return the entries that answer *query* best."""

    def create_snapshot(self, name: str) -> str:
        """Take a snapshot and return its id."""

    def get_changed_entries(self, since_snapshot_id: str | None = None) -> list[ChangedEntry]:
        """Return the live entries that were added or modified since a snapshot."""

    def close(self) -> None:
        """Close what the catalog opened; idempotent."""
