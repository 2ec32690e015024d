"""What a write does to the row that is there: one set of rules for every catalog.

The functions here only decide. A catalog reads the current row and carries the decision out within
one transaction, and that transaction is the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    document: Document | None = None
    """Its analysed words, None where it is not to be found by search."""
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


class Decision(NamedTuple):
    """What a catalog has to carry out."""

    outcome: Outcome
    row: EntryRow | None = None
    """The row to write; None for none."""
    keep_version: bool = False
    """Whether the row that is there moves to the versions: a snapshot sees it."""
    replaces: bool = False
    """Whether there is a row, expired or not, that is replaced or deleted."""
    metadata_changed: bool = True
    """Whether the metadata differs from that of the row that is there."""


def bound_leases(changes: Sequence[Put | Removal]) -> list[Lease]:
    """Return the leases that must be in force for *changes* to be carried out."""
    return [each.lease for each in changes if isinstance(each, Put) and each.lease is not None]


def decide_put(
    put: Put, found: EntryRow | None, now: datetime, *, snapshot_seq: int, newest_snapshot: int
) -> Decision:
    """Return what *put* does, given the row *found* under its id, expired or not.

    Args:
        put: The write.
        found: The present row.
        now: The instant of the commit; a row that has expired by then counts as absent.
        snapshot_seq: How many snapshots the logical table has had.
        newest_snapshot: The greatest sequence number of a snapshot that still exists, or -1.

    Raises:
        ConflictError: A condition of the write does not hold.
    """
    live = found if found is not None and is_live(found, now) else None
    require_conditions(put.key, live, if_match=put.if_match, if_absent=put.if_absent)
    if put.based_on is not None and (live is None or not _same_row(live, put.based_on)):
        current_hash = None if live is None else live.content_hash
        raise StaleEntryError(put.key, current_hash, "the row that was read")
    same_value = (
        live is not None
        and live.content_hash == put.content_hash
        and _has_value(live) == put.has_value
        and not put.mends
    )
    if live is not None and same_value and same_terms(live, put.metadata, put.expires_at):
        return Decision(Outcome(put.key, deduplicated=True, storage_uri=live.storage_uri))
    source = live if live is not None and same_value else put
    row = EntryRow(
        put.id,
        put.key,
        put.content_hash,
        source.storage_uri,
        put.byte_size,
        source.inlined_text,
        put.metadata,
        put.expires_at,
        snapshot_seq,
        created_at=live.created_at if live is not None else put.created_at or now,
        updated_at=put.updated_at or now,
    )
    keep = found is not None and found.begin_seq <= newest_snapshot
    outcome = Outcome(
        put.key,
        stored=True,
        created=live is None,
        deduplicated=same_value,
        storage_uri=row.storage_uri,
        freed=None if keep or found is None else _freed(found, row.storage_uri),
    )
    metadata_changed = found is None or not same_metadata(found.metadata, put.metadata)
    return Decision(outcome, row, keep, found is not None, metadata_changed)


def decide_removal(
    removal: Removal, found: EntryRow | None, now: datetime, *, newest_snapshot: int
) -> Decision:
    """Return what *removal* does, given the row *found* under its id, expired or not.

    Raises:
        ConflictError: ``if_match`` does not hold.
    """
    live = found if found is not None and is_live(found, now) else None
    require_conditions(removal.key, live, if_match=removal.if_match, if_absent=False)
    if found is None:
        return Decision(Outcome(removal.key))
    # What has expired goes too, though nobody is told that it was there.
    decision = decide_deletion(found, newest_snapshot=newest_snapshot)
    outcome = decision.outcome._replace(deleted=live is not None)
    return decision._replace(outcome=outcome)


def decide_deletion(found: EntryRow, *, newest_snapshot: int) -> Decision:
    """Return what deleting the row *found* does: by a caller, or because it has expired."""
    keep = found.begin_seq <= newest_snapshot
    freed = None if keep else found.storage_uri
    return Decision(Outcome(found.key, deleted=True, freed=freed), None, keep, replaces=True)


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


def _has_value(row: EntryRow) -> bool:
    return row.storage_uri is not None or row.inlined_text is not None


def _same_row(one: AnyRow, other: AnyRow) -> bool:
    return (
        one.content_hash == other.content_hash
        and one.storage_uri == other.storage_uri
        and same_terms(one, other.metadata, other.expires_at)
    )


def _freed(found: EntryRow, kept_uri: str | None) -> str | None:
    return found.storage_uri if found.storage_uri != kept_uri else None
