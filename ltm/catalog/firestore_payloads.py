"""Which payloads the documents of a logical table name, and which are to be deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from ltm.catalog.document_queries import Query
from ltm.catalog.documents import payload_id
from ltm.catalog.firestore_session import Collections, Session
from ltm.keys import prefix_upper_bound

VALUES_PER_QUERY = 30
"""Values of which one query can ask for any."""

T = TypeVar("T")


def in_choices(values: Sequence[T]) -> Iterator[list[T]]:
    """Yield *values* in lists of as many as one query can ask for."""
    for start in range(0, len(values), VALUES_PER_QUERY):
        yield list(values[start : start + VALUES_PER_QUERY])


def named_uris(session: Session, collections: Collections, uris: Sequence[str]) -> set[str]:
    """Return those *uris* that an entry, expired or not, or a version names."""
    named: set[str] = set()
    for ids in in_choices([payload_id(uri) for uri in uris]):
        for collection in (collections.entries, collections.versions):
            query = Query(collection=collection, within=("payload_id", ids))
            for page in session.pages(query):
                named.update(str(found.fields["storage_uri"]) for found in page)
    return named


def scheduled_uris(session: Session, collections: Collections, uris: Sequence[str]) -> list[str]:
    """Return those *uris* that are scheduled for deletion, in their order."""
    paths = {uri: f"{collections.deletions}/{payload_id(uri)}" for uri in uris}
    found = session.get(list(paths.values()))
    return [uri for uri in uris if paths[uri] in found]


def scheduled_under(
    session: Session, collections: Collections, prefix: str, after: str, limit: int
) -> list[str]:
    """Return up to *limit* scheduled payloads that begin with *prefix*, in order, above *after*."""
    query = Query(
        collection=collections.deletions,
        order="storage_uri",
        at_least=prefix,
        below=prefix_upper_bound(prefix),
        # Not a bound, which may have 1,499 bytes.
        after=(after, payload_id(after)) if after >= prefix else None,
        limit=limit,
    )
    return [str(found.fields["storage_uri"]) for found in session.run(query)]
