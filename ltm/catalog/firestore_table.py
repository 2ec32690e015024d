"""Transactions on the documents of one logical table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from ltm.catalog.document_queries import Found, Query
from ltm.catalog.documents import (
    Fields,
    Writes,
    read_snapshot,
    read_table,
    scope_fields,
    table_id,
)
from ltm.catalog.firestore_access import ContentionError
from ltm.catalog.firestore_batches import Batches, in_commits
from ltm.catalog.firestore_client import Answer, FirestoreClient, while_contended
from ltm.catalog.firestore_counts import count_live, expired_entries
from ltm.catalog.firestore_session import (
    DOCUMENTS_PER_REQUEST,
    Collections,
    Session,
)
from ltm.errors import CatalogUnavailableError

_log = logging.getLogger(__name__)

T = TypeVar("T")


class FirestoreTable:
    """Reads and writes the documents of one logical table.

    Every transaction that writes reads the document of the table first, and so does every read that
    must be right: it carries what belongs to all entries at once. Firestore lets transactions that
    read one document run side by side, and keeps them apart from one that writes it.
    """

    def __init__(self, client: FirestoreClient, prefix: str, tenant: str, name: str) -> None:
        """Bind to the logical table *name* of *tenant*, in the collections of *prefix*."""
        self.client = client
        self.collections = Collections.of(prefix)
        self.scope = scope_fields(tenant, name)
        self.path = f"{self.collections.tables}/{table_id(tenant, name)}"
        self.batches = Batches(client, self.collections, self.path, self.scope)

    def look(self, paths: Sequence[str] = ()) -> Session:
        """Return a session that reads as of now, with the documents at *paths* read already.

        One request, for up to 499 paths; what follows in the session is read as of the same
        instant.
        """
        while True:
            first = [self.path, *paths]
            # Known before the documents are read, so that they are read after it was carried out.
            carried_out = self.batches.carried_out
            answer = self.client.get(first)
            batch = self.batches.pending(answer)
            if batch is None or batch == carried_out:
                session = self._session(answer)
                session.learn(first, answer.documents)
                return session
            try:
                self.batches.settle(batch)
            except ContentionError:
                if self.batches.carried_out != batch:
                    raise

    def write(self, paths: Sequence[str], work: Callable[[Session], T]) -> T:
        """Return what *work* returns, run in a transaction that commits its writes at the end.

        *work* is run anew, from its beginning, when another transaction got in its way; so it must
        change nothing but its session. The documents at *paths* are read beforehand.
        """
        result: T
        for attempt in while_contended():
            with attempt:
                result = self.write_once(paths, work)
        return result

    @contextmanager
    def block(self) -> Iterator[TableBlock]:
        """Give this table with writes that are committed together when the block ends."""
        block = TableBlock(self)
        yield block
        block.commit()

    def sweep(self, now: datetime, limit: int) -> None:
        """Delete up to *limit* of what the feed and the batches need no longer, best effort."""
        collection = self.collections.words
        old = Query(
            collection=collection,
            equal=self.scope,
            order="forget_at",
            at_most=now,
            limit=limit,
        )

        def forget(session: Session) -> None:
            # Written anew since, one may be of an entry that has come back.
            for path, found in session.get(paths).items():
                if old.selects(path, found.fields):
                    session.delete(path)

        try:
            paths = [found.path for found in self.look().run(old)]
            if paths:
                self.write(paths, forget)
            self.batches.sweep(limit)
        except CatalogUnavailableError as error:
            _log.debug("nothing is swept: %s", error)

    def write_once(self, paths: Sequence[str], work: Callable[[Session], T]) -> T:
        """Return what *work* returns, as :meth:`write`, but for trying again.

        Raises:
            ContentionError: Another transaction got in the way; nothing was done.
        """
        first = [self.path, *paths][:DOCUMENTS_PER_REQUEST]
        transaction = self.client.begin()
        try:
            answer = self.client.get(first, transaction=transaction)
            batch = self.batches.pending(answer)
            if batch is not None:
                raise _PendingError(batch)
            session = Session(self.client, self.path, transaction=transaction)
            session.learn(first, answer.documents)
            result = work(session)
            self._commit(session, transaction)
        except _PendingError as error:
            self.client.roll_back(transaction)
            self.batches.settle(error.batch)
            raise ContentionError(f"catalog {self.client.where}: a batch was pending") from None
        except BaseException:  # an interrupt, too, would leave its locks behind
            self.client.roll_back(transaction)
            raise
        return result

    def _commit(self, session: Session, transaction: bytes) -> None:
        if not session.writes:
            self.client.roll_back(transaction)
            return
        self._stamp(session)
        portions = list(in_commits(session.writes))
        if len(portions) > 1:
            self.batches.commit(session, transaction, portions)
            return
        self.client.commit(session.writes, transaction=transaction)

    def _session(self, answer: Answer) -> Session:
        return Session(self.client, self.path, read_time=answer.read_time)

    def _stamp(self, session: Session) -> None:
        """Let the feed of search words say since which cut each document of it is as it is."""
        words = [path for path in session.writes if path.startswith(f"{self.collections.words}/")]
        state = session.table if words else None
        for path in words:
            fields = session.writes[path]
            if fields is not None and state is not None:
                session.writes[path] = {**fields, "feed_seq": state.feed_seq}


class TableBlock(FirestoreTable):
    """The documents of a logical table with writes that are still to be committed together.

    The block locks nothing. Its commit fails if a document that it has read to write by is not as
    it was any more.
    """

    def __init__(self, parent: FirestoreTable) -> None:
        """Begin with no writes on what *parent* has."""
        self.client = parent.client
        self.collections = parent.collections
        self.scope = parent.scope
        self.path = parent.path
        self.batches = parent.batches
        self.writes: Writes = {}
        self._parent = parent
        self._seen: dict[str, Found | None] = {}
        self._counted: dict[str, tuple[int, int]] = {}

    def write(self, paths: Sequence[str], work: Callable[[Session], T]) -> T:
        session = self.look(paths[: DOCUMENTS_PER_REQUEST - 1])
        result = work(session)
        self._remember(session)
        for path, fields in session.writes.items():
            if path.startswith(f"{self.collections.snapshots}/") and fields is not None:
                self._counted[path] = self._count(session, fields)
        self.writes |= session.writes
        return result

    @contextmanager
    def block(self) -> Iterator[TableBlock]:
        """Give this block itself; if what is nested raises, only the writes in it are undone."""
        before = dict(self.writes)
        try:
            yield self
        except BaseException:  # whatever it is, the caller may catch it and go on
            self.writes = before
            raise

    def sweep(self, now: datetime, limit: int) -> None:
        """Nothing: what is old can wait for the end of the block."""

    def commit(self) -> None:
        """Commit the writes, all or nothing.

        Raises:
            CatalogUnavailableError: They are not committed: another writer came first, or it failed
                otherwise. Where it is not known whether it failed, the message says so.
        """
        if self.writes:
            self._parent.write(list(self._seen), self._check_and_write)

    def _session(self, answer: Answer) -> Session:
        return Session(self.client, self.path, read_time=answer.read_time, earlier=self.writes)

    def _remember(self, session: Session) -> None:
        for path, found in session.read.items():
            if not self._is_same(path, self._seen.setdefault(path, found), found):
                raise self._overtaken(path)

    def _check_and_write(self, session: Session) -> None:
        session.get(list(self._seen))
        for path, seen in self._seen.items():
            if not self._is_same(path, seen, session.read[path]):
                raise self._overtaken(path)
        for path, counts in self._counted.items():
            fields = self.writes.get(path)
            # A snapshot sees what others have written meanwhile.
            if fields is not None and self._count(session, fields) != counts:
                raise self._overtaken(path)
        session.writes |= self.writes
        state, own = session.read[self.path], self.writes.get(self.path)
        if state is not None and own is not None:
            current = {name: state.fields[name] for name in ("feed_seq", "pending")}
            session.writes[self.path] = {**own, **current}

    def _count(self, session: Session, fields: Fields) -> tuple[int, int]:
        """Return what the database alone has to be counted for a snapshot that is taken."""
        taken = read_snapshot(fields)
        expired = expired_entries(self.collections.entries, self.scope, taken.created_at)
        return count_live(session.without_writes(), expired)

    def _is_same(self, path: str, seen: Found | None, found: Found | None) -> bool:
        if path == self.path and seen is not None and found is not None:
            # Others cut the feed of words and carry out batches, which is nothing to this block.
            one, other = read_table(seen.fields), read_table(found.fields)
            return (one.snapshot_seq, one.newest_snapshot) == other[1:3]
        return (seen and seen.stamp) == (found and found.stamp)

    def _overtaken(self, path: str) -> CatalogUnavailableError:
        return CatalogUnavailableError(
            f"catalog {self.client.where}: document {path!r} was changed by another writer in the "
            f"meantime; nothing of the transaction is written, and to do it again is safe"
        )


class _PendingError(Exception):
    """There is a batch to be carried out first."""

    def __init__(self, batch: str) -> None:
        super().__init__(batch)
        self.batch = batch
