"""Leases as documents of Firestore."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ltm.catalog.commit import Put, Removal, bound_leases
from ltm.catalog.document_queries import Found, Query
from ltm.catalog.firestore_session import Collections, Session
from ltm.catalog.firestore_table import FirestoreTable
from ltm.catalog.leases import Lease, LeaseLostError, Leases


class FirestoreLeases(Leases):
    """The leases of one logical table."""

    def __init__(self, documents: FirestoreTable) -> None:
        self._documents = documents
        self._collections = documents.collections

    def take(self, lease: Lease, now: datetime) -> Lease:
        # In no transaction: many that read the document first and write it then would keep one
        # another waiting for their locks.
        path = lease_path(self._collections, lease)
        while True:
            found = self._documents.look([path]).get([path]).get(path)
            held = None if found is None else _read(found)
            if held is not None and held.expires_at > now:
                return held
            fields = self._fields(lease, now) | {"acquired_at": now}
            if self._documents.client.replace(path, fields, found):
                return lease

    def renew(self, lease: Lease, now: datetime) -> bool:
        path = lease_path(self._collections, lease)
        while True:
            found = self._documents.look([path]).get([path]).get(path)
            if found is None or _read(found).owner != lease.owner:
                return False
            fields = {**found.fields, **self._fields(lease, now)}
            if self._documents.client.replace(path, fields, found):
                return True

    def end(self, leases: Sequence[Lease]) -> None:
        paths = [lease_path(self._collections, lease) for lease in leases]

        def end(session: Session) -> None:
            for lease in leases:
                _end(session, self._collections, lease)

        if paths:
            self._documents.write(paths, end)

    def under(self, prefix: str) -> list[Lease]:
        query = Query(collection=self._collections.leases, equal=self._documents.scope)
        pages = self._documents.look().pages(query)
        leases = [_read(found) for page in pages for found in page]
        return [lease for lease in leases if lease.key.startswith(prefix)]

    def _fields(self, lease: Lease, now: datetime) -> dict[str, Any]:
        kept = {"key": lease.key, "owner": lease.owner, "expires_at": lease.expires_at}
        return {**self._documents.scope, **kept, "renewed_at": now}


def lease_path(collections: Collections, lease: Lease) -> str:
    """Return where the document of *lease* is."""
    return f"{collections.leases}/{lease.id}"


def end_with(session: Session, collections: Collections, changes: Sequence[Put | Removal]) -> None:
    """End the leases that *changes* are bound to.

    Raises:
        LeaseLostError: One of them is not there any more.
    """
    for lease in bound_leases(changes):
        if not _end(session, collections, lease):
            raise LeaseLostError(lease)


def _end(session: Session, collections: Collections, lease: Lease) -> bool:
    """Delete the document of *lease* and return whether it was there."""
    path = lease_path(collections, lease)
    found = session.get([path]).get(path)
    if found is None or _read(found).owner != lease.owner:
        return False
    session.delete(path)
    return True


def _read(found: Found) -> Lease:
    fields: Any = found.fields
    return Lease(found.id, fields["key"], fields["owner"], fields["expires_at"])
