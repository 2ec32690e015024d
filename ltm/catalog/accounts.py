"""What a catalog tells of what it holds."""

from __future__ import annotations

from typing import NamedTuple

from ltm.search.analysis import Document


class CatalogStatistics(NamedTuple):
    """Counts over one logical table at one instant."""

    entries: int
    inlined: int
    total_bytes: int
    inlined_bytes: int
    expired: int
    """Expired entries that are still to be cleaned up; in none of the other numbers."""


class IndexedEntry(NamedTuple):
    """What the indexes hold of an entry."""

    document: Document | None
    """Its words, None where it is not to be found by search."""
    metadata_rows: frozenset[tuple[str, str]]
    """Paths and codes."""
