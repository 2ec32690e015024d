"""What is to be written, on which conditions, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from ltm.entry import AnyRow, EntryRow, Metadata
from ltm.errors import ConflictError
from ltm.hashing import write_json
from ltm.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

    from ltm.catalog.leases import Lease
    from ltm.search.analysis import Document


class StaleEntryError(ConflictError):
    """The live row is not the one that the write was decided by; read it again and decide anew."""


class Put(NamedTuple):
    """A write of one entry, validated, hashed, and with its payload already uploaded."""

    id: str
    key: str
    content_hash: str
    byte_size: int
    metadata: Metadata
    storage_uri: str | None = None
    inlined_text: str | None = None
    analyze: Callable[[], Document] | None = None
    """Returns the words that it is to be found by; None where search is not to find it."""
    expires_at: datetime | None = None
    if_match: str | None = None
    """The content hash that the live entry must have."""
    if_absent: bool = False
    """Whether there must be no live entry."""
    based_on: AnyRow | None = None
    """The live row as the writer read it; it must be the same still."""
    mends: bool = False
    """Whether the live entry is known to have lost its value: it is written even if it is equal."""
    lease: Lease | None = None
    """The lease that must be in force; it ends with this write, whatever that finds to do."""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    """Times to keep from elsewhere; None for the instant of the commit."""

    @property
    def has_value(self) -> bool:
        """Whether the entry has a value, inlined or as a payload."""
        return self.storage_uri is not None or self.inlined_text is not None

    def document(self) -> Document | None:
        """Return the words that it is to be found by, analysed now."""
        return None if self.analyze is None else self.analyze()


class Removal(NamedTuple):
    """A deletion of one entry."""

    id: str
    key: str
    if_match: str | None = None


class Outcome(NamedTuple):
    """What became of one write or deletion."""

    key: str
    stored: bool = False
    """Whether the row was written."""
    created: bool = False
    """Whether there was no live entry before."""
    deduplicated: bool = False
    """Whether the live entry had this very value already."""
    deleted: bool = False
    storage_uri: str | None = None
    """The payload that the live row names now."""
    freed: str | None = None
    """The payload that was scheduled for deletion."""


PlainWrite: TypeAlias = "tuple[Outcome | None, AnyRow | None]"
"""What became of a write that was to be done at once, if it is plain, and the live row there was.

No outcome if nothing was written.
"""

NewWrite: TypeAlias = "tuple[list[Outcome] | None, dict[str, EntryRow]]"
"""What became of writes that were to be done at once, if all their entries are new.

No outcomes if nothing was written; then the live rows that there were, by key.
"""


def documents_of(changes: Sequence[Put | Removal]) -> dict[str, Document | None]:
    """Return the words of those *changes* that are writes, by id."""
    return {each.id: each.document() for each in changes if isinstance(each, Put)}


def bound_leases(changes: Sequence[Put | Removal]) -> list[Lease]:
    """Return the leases that must be in force for *changes* to be carried out."""
    return [each.lease for each in changes if isinstance(each, Put) and each.lease is not None]


def is_live(row: AnyRow, now: datetime) -> bool:
    """Return whether *row* exists at *now*; it is gone at its ``expires_at``."""
    return row.expires_at is None or row.expires_at > now


def require_conditions(
    key: str, live: AnyRow | None, *, if_match: str | None, if_absent: bool
) -> None:
    """Do nothing if the *live* row lets a conditional write through.

    Raises:
        ConflictError: It doesn't.
    """
    current_hash = None if live is None else live.content_hash
    if if_absent and live is not None:
        raise ConflictError(key, current_hash, "if_absent")
    if if_match is not None and if_match != current_hash:
        raise ConflictError(key, current_hash, f"if_match={if_match!r}")


def same_terms(row: AnyRow, metadata: Metadata, expires_at: datetime | None) -> bool:
    """Return whether *row* has this metadata and expiry."""
    return row.expires_at == expires_at and same_metadata(row.metadata, metadata)


def same_metadata(one: Metadata, other: Metadata) -> bool:
    """Return whether two objects are the same JSON, where ``1``, ``1.0`` and ``true`` differ."""
    return one == other and (not one or write_json(one) == write_json(other))
