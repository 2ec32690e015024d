"""What a write does to the row that is there: one set of rules for every catalog.

The functions here only decide. A catalog reads the current row and carries the decision out within
one transaction, and that transaction is the commit.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from ltm.catalog.commit import (
    Outcome,
    Put,
    Removal,
    StaleEntryError,
    is_live,
    require_conditions,
    same_metadata,
    same_terms,
)
from ltm.entry import AnyRow, EntryRow


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
