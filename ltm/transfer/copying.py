"""From one backend to another."""

from __future__ import annotations

from dataclasses import dataclass

from ltm.backend.base import LTMBackend
from ltm.catalog.base import validate_limit
from ltm.transfer.delivery import Delivery
from ltm.transfer.source import PAGE_SIZE, Progress, Source, pages


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReport:
    """What became of the entries of the source.

    ``total`` is the sum of *copied*, *unchanged* and *kept*.
    """

    total: int
    copied: int
    unchanged: int
    """Entries that the target had already."""
    kept: int
    """Entries that are newer in the target, and differ."""
    verified: int
    """Copied and unchanged entries that were read back from the target and are equal; without those
    that have expired meanwhile and are gone."""


def copy_memory(
    source: LTMBackend,
    target: LTMBackend,
    *,
    snapshot: str | None = None,
    prefix: str | None = None,
    batch_size: int = PAGE_SIZE,
    progress: Progress | None = None,
) -> CopyReport:
    """Copy every live entry of *source* to *target*, and read it back.

    Value, metadata, expiry and both times are carried; an entry that *target* has with the same
    value, metadata and expiry is left as it is, times included, and so is the creation time of one
    that is replaced. Nothing is deleted. Killed at any point, it goes on when it is run again; run
    again after that, it changes nothing. An entry of *target* that was updated later and differs is
    kept, unless it is written while its page is compared.

    Args:
        source: Backend over a catalog and a payload store.
        target: The same; a transaction of it that is open in this thread is joined.
        snapshot: Id or name of a snapshot of *source* to copy instead of the present. What has
            expired since is left out.
        prefix: Only keys that begin with it.
        batch_size: Entries in one transaction at most; 1 or more. 16 MiB of values end a batch too.
        progress: Called after every batch; the total is None with a prefix, and else a count made
            at the beginning.

    Raises:
        ValidationError: A bad argument.
        SnapshotNotFoundError: There is no such snapshot, or it was expired meanwhile.
        CatalogUnavailableError: One of the catalogs could not be reached; run again.
        PayloadError: A payload could not be read or written.
        IntegrityError: A value of *source* is damaged, or what *target* holds at the end is not
            what was carried.
    """
    validate_limit(batch_size, "batch_size")
    origin = Source(source, snapshot=snapshot, prefix=prefix)
    total = None if progress is None else origin.count()
    with Delivery(target) as delivery:
        for page in pages(origin.rows(), batch_size):
            delivery.store(origin.read(delivery.select(page)))
            if progress is not None:
                progress(delivery.total, total)
        return CopyReport(
            total=delivery.total,
            copied=delivery.stored,
            unchanged=delivery.unchanged,
            kept=delivery.kept,
            verified=delivery.verify(),
        )
