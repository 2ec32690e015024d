"""Which payloads the documents of a logical table name, and which are to be deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from ltm.catalog.document_queries import Found, Query
from ltm.catalog.documents import payload_id
from ltm.catalog.firestore_session import Collections, Session
from ltm.keys import prefix_upper_bound
from ltm.locations import object_path

VALUES_PER_QUERY = 30
"""Values of which one query can ask for any."""

WHOLE_VALUES = ".json"
"""What objects end in of which no parts are ever named."""

T = TypeVar("T")


def in_choices(values: Sequence[T]) -> Iterator[list[T]]:
    """Yield *values* in lists of as many as one query can ask for."""
    for start in range(0, len(values), VALUES_PER_QUERY):
        yield list(values[start : start + VALUES_PER_QUERY])


def named_uris(session: Session, collections: Collections, uris: Sequence[str]) -> set[str]:
    """Return those *uris* that an entry, expired or not, or a version names as they are."""
    named: set[str] = set()
    for found in naming(session, collections, uris):
        named.add(str(found.fields["storage_uri"]))
    return named


def named_payloads(session: Session, collections: Collections, uris: Sequence[str]) -> set[str]:
    """Return those *uris* that an entry, expired or not, or a version names, whole or in part."""
    return named_uris(session, collections, uris) | _named_in_part(session, collections, uris)


def _named_in_part(session: Session, collections: Collections, uris: Sequence[str]) -> set[str]:
    """Return those *uris* that are objects of which an entry or a version names a part.

    One query for each of them, and one for every 30 others that might be.
    """
    named: set[str] = set()
    for collection in (collections.entries, collections.versions):
        shared = [uri for uri in uris if uri not in named and not uri.endswith(WHOLE_VALUES)]
        by_id = {payload_id(uri): uri for uri in shared}
        for ids in in_choices([*by_id]):
            left = ids
            while left:
                # One document of the hundreds that may name an object tells enough.
                query = Query(collection=collection, within=("object_id", left), limit=1)
                found = session.run(query)
                if not found:
                    break
                object_id = str(found[0].fields["object_id"])
                named.add(by_id[object_id])
                left = [each for each in left if each != object_id]
    return named


def naming(session: Session, collections: Collections, uris: Sequence[str]) -> Iterator[Found]:
    """Yield the documents of the entries and versions that name *uris*."""
    for ids in in_choices([payload_id(uri) for uri in uris]):
        for collection in (collections.entries, collections.versions):
            query = Query(collection=collection, within=("payload_id", ids))
            for page in session.pages(query):
                yield from page


def deletable_uris(session: Session, collections: Collections, uris: Sequence[str]) -> list[str]:
    """Return those *uris* that are scheduled, in their order, if nothing names their object."""
    paths = {uri: f"{collections.deletions}/{payload_id(uri)}" for uri in uris}
    found = session.get(list(paths.values()))
    scheduled = [uri for uri in uris if paths[uri] in found]
    objects = [*dict.fromkeys(object_path(uri) for uri in scheduled)]
    named = named_payloads(session, collections, objects)
    return [uri for uri in scheduled if object_path(uri) not in named]


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


def forget_objects(session: Session, collections: Collections, paths: Sequence[str]) -> None:
    """Strike objects off the schedule, and all their parts."""
    for path in paths:
        session.delete(f"{collections.deletions}/{payload_id(path)}")
        if path.endswith(WHOLE_VALUES):
            continue
        parts = f"{path}#"
        query = Query(
            collection=collections.deletions,
            order="storage_uri",
            at_least=parts,
            below=prefix_upper_bound(parts),
        )
        for page in session.pages(query):
            for found in page:
                session.delete(found.path)
