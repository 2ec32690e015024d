"""Counting the entries of a logical table, by what Firestore adds up itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ltm.catalog.accounts import CatalogStatistics
from ltm.catalog.document_queries import Query
from ltm.catalog.documents import Scope
from ltm.catalog.firestore_session import Session


def expired_entries(collection: str, scope: Scope, now: datetime) -> Query:
    """Return the query for the entries that have expired by *now*, the earliest first."""
    return Query(collection=collection, equal=scope, order="expires_at", at_most=now)


def count_live(session: Session, expired: Query) -> tuple[int, int]:
    """Return how many entries are not among the *expired*, and their bytes."""
    entries, total_bytes = session.total(_whatever_expiry(expired), "byte_size")
    gone, gone_bytes = session.total(expired, "byte_size")
    return entries - gone, total_bytes - gone_bytes


def count_all(session: Session, expired: Query) -> CatalogStatistics:
    """Return the counts of all entries; each is the difference of two that one instant has."""
    inlined_expired = replace(expired, equal={**expired.equal, "payload_id": None})
    entries, total_bytes = count_live(session, expired)
    inlined, inlined_bytes = count_live(session, inlined_expired)
    gone, _ = session.total(expired, "byte_size")
    return CatalogStatistics(entries, inlined, total_bytes, inlined_bytes, gone)


def _whatever_expiry(expired: Query) -> Query:
    return replace(expired, order="", at_most=None)
