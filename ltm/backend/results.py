"""What a backend answers."""

from __future__ import annotations

from datetime import datetime
from typing import NotRequired, TypedDict

from ltm.entry import JSONValue, Metadata


class Answer(TypedDict):
    """Every answer: ``success`` is true only if what was asked for was done and is durable."""

    success: bool
    error: NotRequired[str]
    """What went wrong, for people; only in a failure."""
    error_type: NotRequired[str]
    """The same for machines; only in a failure."""
    current_hash: NotRequired[str | None]
    """Content hash of the live entry, None where there is none; only in a ``conflict``."""


class StoreAnswer(Answer, total=False):
    """What ``store`` and ``update`` answer."""

    stored: bool
    """Whether the catalog was written; an unchanged entry is not."""
    created: bool
    """Whether there was no live entry before."""
    key: str
    content_hash: str
    inlined: bool
    byte_size: int
    """Bytes of the value's canonical JSON."""
    deduplicated: bool
    """Whether the entry had this very value already, so that no payload was written."""
    storage_uri: str
    """Address of the payload; only where the value is not inlined."""


class RetrieveAnswer(Answer, total=False):
    """What ``retrieve`` answers."""

    found: bool
    value: JSONValue
    """The default that was asked for where nothing is found."""
    metadata: Metadata | None
    """``{}`` where none was given, None where nothing is found."""
    content_hash: str | None
    inlined: bool
    stale: bool
    """True for an answer from memory, while the catalog is unavailable; absent otherwise."""


class DeleteAnswer(Answer, total=False):
    """What ``delete`` answers."""

    deleted: bool
    key: str


class SearchResult(TypedDict):
    """One entry that a search found."""

    key: str
    value: JSONValue
    metadata: Metadata
    score: float
    content_hash: str


class KeyFailure(TypedDict):
    """Why one key of many failed."""

    key: str | None
    error: str
    error_type: str


class EntryFailure(KeyFailure):
    """Why one entry of a batch failed."""

    index: int
    """Its position in the batch, from 0."""


class SearchAnswer(Answer, total=False):
    """What ``search`` answers."""

    results: list[SearchResult]
    """Best first."""
    count: int
    errors: list[KeyFailure]
    """Entries that were found but could not be read; not empty only in a failure."""


class StoreBatchAnswer(Answer, total=False):
    """What ``store_batch`` answers."""

    stored: int
    failed: int
    deduplicated: int
    errors: list[EntryFailure]
    """In the order of the batch."""


class BatchEntry(TypedDict):
    """One entry that ``retrieve_batch`` found."""

    value: JSONValue
    metadata: Metadata
    content_hash: str
    inlined: bool


class RetrieveBatchAnswer(Answer, total=False):
    """What ``retrieve_batch`` answers."""

    results: dict[str, JSONValue]
    entries: dict[str, BatchEntry]
    missing: list[str]
    found: int
    errors: list[KeyFailure]
    """Keys that are there but could not be read: they are not missing."""
    stale: bool
    """True where what was found is from memory, as the catalog is unavailable; else absent."""


class CleanupAnswer(Answer, total=False):
    """What ``cleanup_expired`` answers."""

    deleted: int
    remaining: int
    """Expired entries still there."""
    errors: list[KeyFailure]
    """Payloads that could not be deleted yet; they stay scheduled."""


class StatsAnswer(Answer, total=False):
    """What ``stats`` answers; bytes are those of canonical JSON."""

    table: str
    entries: int
    inlined: int
    payloads: int
    total_bytes: int
    inlined_bytes: int
    payload_bytes: int
    expired: int
    """Expired entries that are still to be cleaned up; in none of the other numbers."""


class SnapshotInfo(TypedDict, total=False):
    """One snapshot."""

    snapshot_id: str
    name: str
    entry_count: int
    total_bytes: int
    """Bytes of the canonical JSON of its values."""
    created_at: datetime


class SnapshotAnswer(Answer, SnapshotInfo, total=False):
    """What ``create_snapshot`` answers."""


class SnapshotsAnswer(Answer, total=False):
    """What ``list_snapshots`` answers."""

    snapshots: list[SnapshotInfo]
    """In the order in which they were taken."""
    count: int


class RestoreAnswer(Answer, total=False):
    """What ``restore`` answers."""

    restored: int
    """Entries that are as they were in the snapshot again."""
    deleted: int
    """Entries that were not in the snapshot."""


class ExpireAnswer(Answer, total=False):
    """What ``expire_snapshot`` answers."""

    snapshot_id: str
    errors: list[KeyFailure]
    """Payloads that could not be deleted yet; they stay scheduled."""


class GarbageAnswer(Answer, total=False):
    """What ``gc`` answers; of a dry run, what would be done."""

    dry_run: bool
    scheduled: int
    """Payloads deleted because a commit had scheduled them."""
    unreferenced: int
    """Objects deleted because nothing names them: the remains of crashes."""
    freed_bytes: int
    """Bytes of the unreferenced objects."""
    spared: int
    """Unreferenced objects younger than the grace period."""
    foreign: int
    """Files under the table's prefix that are none of ours; they stay."""
    compacted: int
    """Objects rewritten because little in them was alive."""
    errors: list[KeyFailure]


class Problem(TypedDict):
    """Something that ``verify`` found."""

    kind: str
    """``payload_missing``, ``integrity_error``, ``storage_error``, ``words``, ``metadata`` or
    ``index``."""
    key: str | None
    detail: str
    repaired: bool


class VerifyAnswer(Answer, total=False):
    """What ``verify`` answers; a success if nothing is wrong, or nothing any more."""

    checked: int
    """Rows that were read, expired ones and versions included."""
    problems: list[Problem]
    unreferenced: int
    """Objects that nothing names; ``gc`` deletes them after the grace period."""


class PartHealth(TypedDict):
    """Whether one part of a backend works."""

    healthy: bool
    error: str | None
    error_type: str | None
    circuit: NotRequired[str]
    """``closed``, ``open`` or ``half_open``: of the circuit breaker after the check, if any."""


class HealthAnswer(Answer, total=False):
    """What ``health_check`` answers."""

    healthy: bool
    catalog: PartHealth
    storage: PartHealth
