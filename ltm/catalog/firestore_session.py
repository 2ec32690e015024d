"""Reading documents, with writes that are to be committed already among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ltm.catalog.document_queries import Found, Query
from ltm.catalog.documents import Fields, TableDocument, Writes, read_table
from ltm.catalog.firestore_client import FirestoreClient

DOCUMENTS_PER_REQUEST = 500


class Collections(NamedTuple):
    """The names of the collections of one application."""

    entries: str
    tables: str
    snapshots: str
    versions: str
    deletions: str
    words: str
    leases: str
    batches: str

    @classmethod
    def of(cls, prefix: str) -> Collections:
        """Return those whose names begin with *prefix*."""
        return cls(
            entries=f"{prefix}ltm_entries",
            tables=f"{prefix}ltm_tables",
            snapshots=f"{prefix}ltm_snapshots",
            versions=f"{prefix}ltm_entry_versions",
            deletions=f"{prefix}ltm_payload_deletions",
            words=f"{prefix}ltm_entry_search",
            leases=f"{prefix}ltm_leases",
            batches=f"{prefix}ltm_batches",
        )


class Session:
    """Reads documents as of one instant, or in one transaction, and collects writes.

    What is read by path is read once, and is what the database has, changed by the writes so far.
    """

    def __init__(
        self,
        client: FirestoreClient,
        table_path: str,
        *,
        transaction: bytes = b"",
        read_time: Any = None,
        earlier: Writes | None = None,
    ) -> None:
        """Read with *client*; nothing is read yet.

        Args:
            client: Sends the requests.
            table_path: Where the document of the logical table is.
            transaction: The transaction to read in.
            read_time: Or the instant to read as of.
            earlier: Writes of the same block that came before.
        """
        self.table_path = table_path
        self.writes: Writes = {}
        self.read: dict[str, Found | None] = {}
        """What the database has at the paths that were asked for; None for nothing."""
        self._client = client
        self._as_of: Any = {"transaction": transaction, "read_time": read_time}
        self._earlier = {} if earlier is None else earlier

    @property
    def table(self) -> TableDocument | None:
        """The state of the logical table; None where it is not made yet."""
        found = self.get([self.table_path]).get(self.table_path)
        return None if found is None else read_table(found.fields)

    def without_writes(self) -> Session:
        """Return a session that reads as of the same instant, or in the same transaction."""
        return Session(self._client, self.table_path, **self._as_of)

    def get(self, paths: Sequence[str]) -> dict[str, Found]:
        """Return the documents at *paths* that are there; one request for every 500 paths."""
        unread = [path for path in dict.fromkeys(paths) if not self._is_known(path)]
        for start in range(0, len(unread), DOCUMENTS_PER_REQUEST):
            chunk = unread[start : start + DOCUMENTS_PER_REQUEST]
            self.learn(chunk, self._client.get(chunk, **self._as_of).documents)
        found = {}
        for path in paths:
            for written in (self.writes, self._earlier):
                if path in written:
                    fields = written[path]
                    document = None if fields is None else Found(path, fields, "")
                    break
            else:
                document = self.read[path]
            if document is not None:
                found[path] = document
        return found

    def learn(self, paths: Sequence[str], documents: Mapping[str, Found]) -> None:
        """Take in that of *paths* the database has *documents*."""
        self.read |= {path: documents.get(path) for path in paths}

    def run(self, query: Query) -> list[Found]:
        """Return the documents that *query* selects, in its order."""
        own = self._written(query.collection)
        if not own:
            return self._client.run(query, **self._as_of)
        # Of what the database has, as many as there are writes may not count.
        more = None if query.limit is None else query.limit + len(own)
        stored = self._client.run(replace(query, limit=more), **self._as_of)
        found = [document for document in stored if document.path not in own]
        found += [
            Found(path, fields, "")
            for path, fields in own.items()
            if fields is not None and query.selects(path, fields)
        ]
        found.sort(key=query.sort_key, reverse=query.descending)
        return found[: query.limit]

    def pages(
        self, query: Query, size: int = DOCUMENTS_PER_REQUEST, *, growing: bool = False
    ) -> Iterator[list[Found]]:
        """Yield all documents that *query* selects, whatever its limit, in lists of *size*.

        With *growing* each list has twice as many as the one before, up to 500.
        """
        after = query.after
        while True:
            page = self.run(replace(query, after=after, limit=size))
            if page:
                yield page
            if len(page) < size:
                return
            after = query.position(page[-1])
            if growing:
                size = min(2 * size, DOCUMENTS_PER_REQUEST)

    def total(self, query: Query, field: str) -> tuple[int, int]:
        """Return how many documents *query* selects, and the sum of their *field*."""
        if not self._written(query.collection):
            return self._client.total(query, field, **self._as_of)
        values: list[Any] = [each.fields[field] for page in self.pages(query) for each in page]
        return len(values), sum(values)

    def put(self, path: str, fields: Fields) -> None:
        """Write the whole document at *path*."""
        self.writes[path] = fields

    def delete(self, path: str) -> None:
        """Delete the document at *path*."""
        self.writes[path] = None

    def _is_known(self, path: str) -> bool:
        return path in self.read or path in self.writes or path in self._earlier

    def _written(self, collection: str) -> Writes:
        return {
            path: fields
            for path, fields in (self._earlier | self.writes).items()
            if path.rpartition("/")[0] == collection
        }
