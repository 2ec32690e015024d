"""Deleting payloads that nobody references any more.

Collection fails closed: whatever can't be read, nothing is deleted on a guess. An object goes only
if its name is one of ours, under the prefix of our own table, old enough, and named by no row and
no version at the moment of deletion. What is found is noted on disk, so that memory is bounded.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ltm.catalog.base import PAGE_SIZE, Catalog
from ltm.catalog.pages import in_pages
from ltm.errors import LTMError
from ltm.locations import object_path
from ltm.payload.base import PayloadStore, is_payload_path, is_temporary_path
from ltm.scratch import scratch_database

_log = logging.getLogger(__name__)

Failures = list[tuple[str, LTMError]]
"""Payloads that could not be deleted, with the reason."""


@dataclass(slots=True, kw_only=True)
class Garbage:
    """How much a collection found, and deleted unless it was a dry run."""

    scheduled: int = 0
    """Objects on the schedule, whole or in part, that no row names."""
    unreferenced: int = 0
    """Objects that neither a row nor the schedule names."""
    unreferenced_bytes: int = 0
    spared: int = 0
    """Unreferenced objects younger than the grace period."""
    foreign: int = 0
    """Files under our prefix whose names are none of ours."""
    failures: Failures = field(default_factory=list)


def delete_scheduled(catalog: Catalog, store: PayloadStore, uris: Sequence[str]) -> Failures:
    """Delete the objects of those *uris* that are scheduled, if no row names any part of them.

    To be called after the commit that scheduled them. A payload leaves the schedule only when it is
    gone, so whatever fails here is done by a later collection. What is not of this table's making
    stays where it is, scheduled or not.
    """
    if not uris:
        return []
    try:
        deletable = _objects_of(_deletable(catalog, uris))
        if deletable:
            catalog.make_durable()
        errors = dict(zip(deletable, store.delete_many(deletable), strict=True))
        gone = [path for path, error in errors.items() if error is None]
        if gone:
            catalog.forget_deletions(gone)
    except LTMError as error:
        _log.debug("payloads stay scheduled for deletion: %s", error)
        return [(uri, error) for uri in uris]
    return [(path, error) for path, error in errors.items() if error is not None]


def drop_unreferenced(store: PayloadStore, uris: Sequence[str]) -> None:
    """Delete the objects of *uris*, written for a commit that is known not to have happened.

    Best effort: what stays behind is an unreferenced object, which a collection finds.
    """
    paths = _objects_of(uris)
    if not paths:
        return
    for path, error in zip(paths, store.delete_many(paths), strict=True):
        if error is not None:
            _log.debug("unreferenced payload %s stays: %s", path, error)


def find_garbage(catalog: Catalog, store: PayloadStore, now: datetime, grace: timedelta) -> Garbage:
    """Return how much a collection at *now* would delete.

    Raises:
        LTMError: The catalog or the store could not be read to the end.
    """
    with _noted() as notes:
        return _look(catalog, store, now, grace, notes)


def collect_garbage(
    catalog: Catalog, store: PayloadStore, now: datetime, grace: timedelta
) -> Garbage:
    """Delete what :func:`find_garbage` finds, and return how much it was.

    Raises:
        LTMError: Nothing was deleted, because the catalog or the store could not be read to the
            end; or the catalog failed in between.
    """
    with _noted() as notes:
        garbage = _look(catalog, store, now, grace, notes)
        for uris in in_pages(notes.scheduled()):
            garbage.failures += delete_scheduled(catalog, store, uris)
        for paths in in_pages(notes.unreferenced()):
            # Named since? A slow write may have committed after the listing.
            named = catalog.named_payloads(paths)
            doomed = [path for path in paths if path not in named]
            for path, error in zip(doomed, store.delete_many(doomed), strict=True):
                if error is not None:
                    garbage.failures.append((path, error))
    return garbage


def _look(
    catalog: Catalog, store: PayloadStore, now: datetime, grace: timedelta, notes: _Notes
) -> Garbage:
    """Return how much garbage there is, and note which."""
    garbage = Garbage()
    after = ""
    while page := catalog.scheduled_deletions(after, PAGE_SIZE):
        notes.add_scheduled(_deletable(catalog, page))
        after = page[-1]
    garbage.scheduled = notes.count_scheduled()
    prefix = catalog.table().storage_prefix
    for objects in in_pages(store.list(prefix)):
        ours = [
            each
            for each in objects
            if is_payload_path(each.path, prefix) or is_temporary_path(each.path, prefix)
        ]
        garbage.foreign += len(objects) - len(ours)
        named = catalog.named_payloads([each.path for each in ours])
        doomed: list[str] = []
        for each in ours:
            if each.path in named or notes.is_scheduled(each.path):
                continue
            if now - each.modified_at < grace:
                garbage.spared += 1
            else:
                doomed.append(each.path)
                garbage.unreferenced_bytes += each.byte_size
        garbage.unreferenced += len(doomed)
        notes.add_unreferenced(doomed)
    return garbage


class _Notes:
    """What is to be deleted, noted on disk: nothing is before all of it is known."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add_scheduled(self, uris: Sequence[str]) -> None:
        rows = [(object_path(uri), uri) for uri in uris]
        self._database.executemany("INSERT OR IGNORE INTO scheduled VALUES (?, ?)", rows)

    def add_unreferenced(self, paths: Sequence[str]) -> None:
        self._database.executemany("INSERT INTO unreferenced VALUES (?)", zip(paths))

    def scheduled(self) -> Iterator[str]:
        """Yield the locations, those in one object after another."""
        rows = self._database.execute("SELECT uri FROM scheduled ORDER BY path, uri")
        return (uri for (uri,) in rows)

    def unreferenced(self) -> Iterator[str]:
        return (path for (path,) in self._database.execute("SELECT path FROM unreferenced"))

    def count_scheduled(self) -> int:
        """Return of how many objects there are locations."""
        counted = self._database.execute("SELECT count(DISTINCT path) FROM scheduled")
        return int(counted.fetchone()[0])

    def is_scheduled(self, path: str) -> bool:
        found = self._database.execute("SELECT 1 FROM scheduled WHERE path = ?", (path,))
        return found.fetchone() is not None


@contextmanager
def _noted() -> Iterator[_Notes]:
    with scratch_database(
        "CREATE TABLE scheduled (path TEXT, uri TEXT, PRIMARY KEY (path, uri)) WITHOUT ROWID",
        "CREATE TABLE unreferenced (path TEXT)",
    ) as database:
        yield _Notes(database)


def _deletable(catalog: Catalog, uris: Sequence[str]) -> list[str]:
    """Return those *uris* of the catalog's table that are scheduled, their whole object unnamed.

    A row can name anything, and where tenants are kept apart the rows that name another tenant's
    payload are not seen: what is somebody else's is not ours to delete, whatever the rows say.
    """
    prefix = catalog.table().storage_prefix
    ours = [uri for uri in uris if is_payload_path(object_path(uri), prefix)]
    return catalog.deletable_payloads(ours) if ours else []


def _objects_of(uris: Sequence[str]) -> list[str]:
    return [*dict.fromkeys(object_path(uri) for uri in uris)]
