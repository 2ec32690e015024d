"""Deleting payloads that nobody references any more.

Collection fails closed: whatever can't be read, nothing is deleted on a guess. An object goes only
if its name is one of ours, under the prefix of our own table, old enough, and named by no row and
no version at the moment of deletion.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ltm.catalog.base import Catalog
from ltm.catalog.history import PAGE_SIZE, in_pages
from ltm.errors import LTMError
from ltm.locations import object_path
from ltm.payload.base import PayloadObject, PayloadStore, is_payload_path, is_temporary_path

_log = logging.getLogger(__name__)

Failures = list[tuple[str, LTMError]]
"""Payloads that could not be deleted, with the reason."""


@dataclass(slots=True, kw_only=True)
class Garbage:
    """What a collection found, and deleted unless it was a dry run."""

    scheduled: list[str] = field(default_factory=list)
    """Locations on the schedule whose objects no row names."""
    unreferenced: list[PayloadObject] = field(default_factory=list)
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
    """Return what a collection at *now* would delete.

    Raises:
        LTMError: The catalog or the store could not be read to the end.
    """
    garbage = Garbage()
    after = ""
    while page := catalog.scheduled_deletions(after, PAGE_SIZE):
        garbage.scheduled += _deletable(catalog, page)
        after = page[-1]
    scheduled = set(_objects_of(garbage.scheduled))
    prefix = catalog.table().storage_prefix
    for objects in in_pages(store.list(prefix)):
        ours = [
            each
            for each in objects
            if is_payload_path(each.path, prefix) or is_temporary_path(each.path, prefix)
        ]
        garbage.foreign += len(objects) - len(ours)
        named = catalog.named_payloads([each.path for each in ours])
        for each in ours:
            if each.path in named or each.path in scheduled:
                continue
            if now - each.modified_at < grace:
                garbage.spared += 1
            else:
                garbage.unreferenced.append(each)
    return garbage


def collect_garbage(
    catalog: Catalog, store: PayloadStore, now: datetime, grace: timedelta
) -> Garbage:
    """Delete what :func:`find_garbage` finds, and return it.

    Raises:
        LTMError: Nothing was deleted, because the catalog or the store could not be read to the
            end; or the catalog failed in between.
    """
    garbage = find_garbage(catalog, store, now, grace)
    for page in in_pages(garbage.scheduled):
        garbage.failures += delete_scheduled(catalog, store, page)
    for objects in in_pages(garbage.unreferenced):
        paths = [each.path for each in objects]
        # Named since? A slow write may have committed after the listing.
        named = catalog.named_payloads(paths)
        doomed = [path for path in paths if path not in named]
        for path, error in zip(doomed, store.delete_many(doomed), strict=True):
            if error is not None:
                garbage.failures.append((path, error))
    return garbage


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
