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
        path = lease_path(self._collections, lease)

        def in_force(session: Session) -> Lease | None:
            found = session.get([path]).get(path)
            held = None if found is None else _read(found)
            return held if held is not None and held.expires_at > now else None

        def take(session: Session) -> Lease:
            held = in_force(session)
            if held is not None:
                return held
            session.put(path, self._fields(lease, now) | {"acquired_at": now})
            return lease

        # Seen to be held by a read alone, which gets in nobody's way.
        return in_force(self._documents.look([path])) or self._documents.write([path], take)

    def renew(self, lease: Lease, now: datetime) -> bool:
        path = lease_path(self._collections, lease)

        def renew(session: Session) -> bool:
            found = session.get([path]).get(path)
            if found is None or _read(found).owner != lease.owner:
                return False
            session.put(path, {**found.fields, **self._fields(lease, now)})
            return True

        return self._documents.write([path], renew)

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
