"""Snapshots in Firestore."""

from __future__ import annotations

import heapq
import secrets
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from ltm.catalog.commit import is_live
from ltm.catalog.document_queries import Query
from ltm.catalog.documents import read_entry, read_snapshot, read_version, snapshot_fields
from ltm.catalog.firestore_counts import expired_entries
from ltm.catalog.firestore_payloads import in_choices, named_uris
from ltm.catalog.firestore_session import Session
from ltm.catalog.history import History, Snapshot
from ltm.catalog.pages import in_pages
from ltm.entry import EntryRow

if TYPE_CHECKING:
    from ltm.catalog.firestore import FirestoreCatalog

VERSIONS_PER_COMMIT = 200


class FirestoreHistory(History):
    """The snapshots of a Firestore catalog's table.

    Numbers of snapshots are asked for one by one, up to 30 in a query, so that keys can give the
    order: it costs a query for every 30 snapshots that have been taken since.
    """

    def __init__(self, catalog: FirestoreCatalog) -> None:
        self._catalog = catalog
        self._documents = catalog.documents
        self._collections = catalog.documents.collections

    def create(self, name: str, now: datetime) -> Snapshot:
        self._catalog.table()

        def create(session: Session) -> Snapshot:
            state = self._catalog.state(session)
            entries, total_bytes = self._catalog.count_live(session, now)
            snapshot = Snapshot(
                id=secrets.token_hex(16),
                name=name,
                seq=state.snapshot_seq,
                entry_count=entries,
                total_bytes=total_bytes,
                created_at=now,
            )
            names = self._catalog.tenant, self._catalog.table_name
            path = f"{self._collections.snapshots}/{snapshot.id}"
            session.put(path, snapshot_fields(snapshot, *names))
            self._write_state(session, snapshot_seq=snapshot.seq + 1, newest_snapshot=snapshot.seq)
            return snapshot

        return self._documents.write([], create)

    def snapshots(self) -> list[Snapshot]:
        return self._snapshots(self._documents.look())

    def expire(self, snapshot: Snapshot, now: datetime) -> list[str]:
        def forget(session: Session) -> list[int]:
            others = [each for each in self._snapshots(session) if each.id != snapshot.id]
            seqs = [each.seq for each in others]
            session.delete(f"{self._collections.snapshots}/{snapshot.id}")
            self._write_state(session, newest_snapshot=max(seqs, default=-1))
            return seqs

        # From here on nobody sees its versions. They go in pieces; what a crash leaves of them goes
        # with the next snapshot that sees the same time.
        remaining = self._documents.write([], forget)
        freed: list[str] = []
        for paths in in_pages(self._unseen(snapshot, remaining), VERSIONS_PER_COMMIT):
            freed += self._documents.write(
                paths,
                lambda session, paths=paths: self._drop(session, paths, now),  # type: ignore[misc] # bound now
            )
        return sorted(freed)

    def rows_as_of(
        self, snapshot: Snapshot, prefix: str, after: str, limit: int, *, superseded: bool = False
    ) -> list[EntryRow]:
        session = self._documents.look()
        in_order = self._catalog.key_order(prefix, after)
        sources = [self._superseded(session, snapshot, in_order, min(limit, 500))]
        if not superseded:
            sources.append(self._unchanged(session, snapshot, in_order, min(limit, 500)))
        return list(islice(heapq.merge(*sources, key=attrgetter("key")), limit))

    def read_as_of(self, snapshot: Snapshot, keys: Sequence[str]) -> dict[str, EntryRow]:
        session = self._documents.look()
        ids = {self._catalog.entry_id(key): key for key in keys}
        paths = {f"{self._collections.entries}/{entry_id}": entry_id for entry_id in ids}
        rows = [read_entry(each.id, each.fields) for each in session.get(list(paths)).values()]
        unchanged = [row for row in rows if row.begin_seq <= snapshot.seq]
        changed = sorted(ids.keys() - {row.id for row in unchanged})
        versions: list[EntryRow] = []
        for chunk in in_choices(changed):
            query = Query(collection=self._collections.versions, within=("entry_id", list(chunk)))
            for page in session.pages(query):
                versions += [
                    read_version(each.fields)
                    for each in page
                    if each.fields["begin_seq"] <= snapshot.seq < each.fields["end_seq"]  # type: ignore[operator] # ints
                ]
        seen = [row for row in unchanged + versions if is_live(row, snapshot.created_at)]
        return {row.key: row for row in seen}

    def read_live(self, keys: Sequence[str], now: datetime) -> dict[str, EntryRow]:
        return self._catalog.read_many(keys, now)

    def rows_live(self, prefix: str, after: str, limit: int, now: datetime) -> list[EntryRow]:
        return self._catalog.rows_by_key(prefix, after, limit, None, now)

    def keys_changed(self, snapshot: Snapshot, after: str, limit: int, now: datetime) -> list[str]:
        session = self._documents.look()
        in_order = replace(self._catalog.key_order("", after), limit=limit)
        keys: set[str] = set()
        for seqs in in_choices(self._later(session, snapshot)):
            written = replace(in_order, within=("begin_seq", seqs))
            superseded = replace(
                in_order, collection=self._collections.versions, within=("end_seq", seqs)
            )
            for query in (written, superseded):
                keys.update(str(each.fields["key"]) for each in session.run(query))
        expired = replace(
            expired_entries(self._collections.entries, self._documents.scope, now),
            above=snapshot.created_at,
        )
        for page in session.pages(expired):
            keys.update(key for each in page if (key := str(each.fields["key"])) > after)
        return heapq.nsmallest(limit, keys)

    def _snapshots(self, session: Session) -> list[Snapshot]:
        query = Query(
            collection=self._collections.snapshots, equal=self._documents.scope, order="seq"
        )
        return [read_snapshot(each.fields) for page in session.pages(query) for each in page]

    def _write_state(self, session: Session, **changed: int) -> None:
        path = self._documents.path
        session.put(path, {**session.get([path])[path].fields, **changed})

    def _unseen(self, snapshot: Snapshot, remaining: Sequence[int]) -> list[str]:
        """Return the versions that *snapshot* saw and none of the *remaining* ones sees."""
        before = max((seq for seq in remaining if seq < snapshot.seq), default=-1)
        query = Query(
            collection=self._collections.versions,
            equal=self._documents.scope,
            order="begin_seq",
            above=before,
            at_most=snapshot.seq,
        )
        paths: list[str] = []
        for page in self._documents.look().pages(query):
            for each in page:
                # The first snapshot that may see it: does it come before the version ends?
                first = bisect_left(remaining, each.fields["begin_seq"])  # type: ignore[type-var] # ints
                if first == len(remaining) or remaining[first] >= each.fields["end_seq"]:  # type: ignore[operator] # ints
                    paths.append(each.path)
        return paths

    def _drop(self, session: Session, paths: Sequence[str], now: datetime) -> list[str]:
        """Delete versions; return the payloads that nothing names any more, scheduled."""
        found = session.get(paths)
        for path in found:
            session.delete(path)
        uris = {str(uri) for each in found.values() if (uri := each.fields["storage_uri"])}
        freed = sorted(uris - named_uris(session, self._collections, sorted(uris)))
        steps = self._catalog.steps(session, now)
        for uri in freed:
            steps.schedule(uri)
        return freed

    def _unchanged(
        self, session: Session, snapshot: Snapshot, in_order: Query, size: int
    ) -> Iterator[EntryRow]:
        for page in session.pages(in_order, size):
            for each in page:
                row = read_entry(each.id, each.fields)
                if row.begin_seq <= snapshot.seq and is_live(row, snapshot.created_at):
                    yield row

    def _superseded(
        self, session: Session, snapshot: Snapshot, in_order: Query, size: int
    ) -> Iterator[EntryRow]:
        def rows(seqs: list[int]) -> Iterator[EntryRow]:
            query = replace(
                in_order, collection=self._collections.versions, within=("end_seq", seqs)
            )
            for page in session.pages(query, size):
                for each in page:
                    row = read_version(each.fields)
                    if row.begin_seq <= snapshot.seq and is_live(row, snapshot.created_at):
                        yield row

        choices = in_choices(self._later(session, snapshot))
        return heapq.merge(*map(rows, choices), key=attrgetter("key"))

    def _later(self, session: Session, snapshot: Snapshot) -> list[int]:
        """Return the numbers under which something was written since *snapshot*."""
        state = session.table
        return [] if state is None else list(range(snapshot.seq + 1, state.snapshot_seq + 1))
