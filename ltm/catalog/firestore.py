"""The Firestore catalog: one document per entry, and the words of entries in a local index."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

from ltm.catalog.accounts import CatalogStatistics, IndexedEntry
from ltm.catalog.base import Catalog
from ltm.catalog.commit import Outcome, Put, Removal, documents_of, is_live
from ltm.catalog.decisions import Decision, decide_deletion, decide_put, decide_removal
from ltm.catalog.document_queries import Query, keys_between
from ltm.catalog.documents import (
    TableDocument,
    inline_limit,
    read_entry,
    table_fields,
)
from ltm.catalog.firestore_access import Place
from ltm.catalog.firestore_client import DEADLINE_SECONDS, FirestoreClient
from ltm.catalog.firestore_counts import count_all, count_live, expired_entries
from ltm.catalog.firestore_diagnosis import diagnose_firestore, probe_documents
from ltm.catalog.firestore_filters import Explanation, explain_filter, select_rows
from ltm.catalog.firestore_history import FirestoreHistory
from ltm.catalog.firestore_indexes import read_indexed
from ltm.catalog.firestore_leases import FirestoreLeases, end_with
from ltm.catalog.firestore_payloads import (
    deletable_uris,
    forget_objects,
    named_payloads,
    scheduled_under,
)
from ltm.catalog.firestore_search import WordIndex, default_directory, read_found
from ltm.catalog.firestore_session import DOCUMENTS_PER_REQUEST, Session
from ltm.catalog.firestore_steps import StoredEntry, WriteSteps
from ltm.catalog.firestore_table import FirestoreTable, TableBlock
from ltm.catalog.primitives import LogicalTable, mint_storage_prefix
from ltm.clock import Clock, utc_now
from ltm.entry import EntryRow, Metadata
from ltm.errors import ValidationError
from ltm.finding import Finding
from ltm.keys import DEFAULT_TABLE, require_storable, validate_prefix
from ltm.search.analysis import Document
from ltm.search.filters import Filter
from ltm.search.questions import Question

DEFAULT_DATABASE = "(default)"


class FirestoreCatalog(Catalog):
    """A catalog in a Firestore database in native mode."""

    def __init__(
        self,
        project: str | None = None,
        *,
        database: str = DEFAULT_DATABASE,
        collection_prefix: str = "",
        credentials: Any = None,
        client: Any = None,
        timeout: float = DEADLINE_SECONDS,
        index_directory: str | os.PathLike[str] | None = None,
        table: str = DEFAULT_TABLE,
        tenant: str = "",
        inline_threshold: int = 1024,
        language: str = "english",
        clock: Clock = utc_now,
    ) -> None:
        """Name the database; Google's libraries are imported on first use.

        Args:
            project: The Google Cloud project; by default that of the environment.
            database: The database in it.
            collection_prefix: What the names of all collections begin with, so that applications
                share a database and never meet; up to 100 letters, digits, ``_`` and ``-``.
            credentials: The path of a service account's JSON file, or credentials of
                ``google.auth``; by default those of the environment.
            client: A ``google.cloud.firestore.Client`` to use instead of one of *project*,
                *database* and *credentials*; it is left open, and is not for forked children.
                Otherwise a process has one client for each of these.
            timeout: Seconds that one request may take with its repetitions, above 0.
            index_directory: Where the local index of words is kept; by default beside a local
                payload store, or else in the user's cache.
            table: Logical table, made on first use.
            tenant: Name of the tenant, empty for none.
            inline_threshold: For a table that is made: values below this many bytes are inlined.
            language: For a table that is made: the language of its search words.
            clock: Tells the time.

        Raises:
            ValidationError: A bad argument.
        """
        prefix = require_storable(collection_prefix, "collection_prefix")
        if not re.fullmatch(r"[\w-]{0,100}", prefix, re.ASCII) or prefix.startswith("__"):
            raise ValidationError(
                f"collection_prefix: {prefix[:120]!r} is not up to 100 letters, digits, '_' and '-'"
            )
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
            raise ValidationError(f"timeout: expected seconds above 0, got {timeout!r}")
        super().__init__(
            table=table,
            tenant=tenant,
            inline_threshold=inline_threshold,
            language=language,
            clock=clock,
        )
        place = Place(project, database or DEFAULT_DATABASE, credentials)
        self._client = FirestoreClient(place, client=client, deadline=timeout)
        self._prefix = prefix
        self._index_directory = None if index_directory is None else os.fspath(index_directory)
        self._indexes: dict[str, WordIndex] = {}
        self._owns_client = True
        self._table: LogicalTable | None = None
        self._bind()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._client.where!r}, table={self.table_name!r})"

    def bind(self, table: str, *, inline_threshold: int, language: str) -> FirestoreCatalog:
        bound = copy(self)
        Catalog.__init__(
            bound,
            table=table,
            tenant=self.tenant,
            inline_threshold=inline_threshold,
            language=language,
            clock=self.clock,
        )
        bound._owns_client = False
        bound._bind()
        return bound

    def use_directory(self, directory: str) -> None:
        if self._index_directory is None:
            self._words.directory = directory

    @contextmanager
    def transaction(self) -> Iterator[FirestoreCatalog]:
        self.table()
        with self.documents.block() as block:
            inside = copy(self)
            inside.documents = block
            inside._owns_client = False
            yield inside

    @property
    def history(self) -> FirestoreHistory:
        return FirestoreHistory(self)

    @property
    def leases(self) -> FirestoreLeases:
        return FirestoreLeases(self.documents)

    def diagnose(self) -> Iterator[Finding]:
        return diagnose_firestore(self._client, self._prefix, self.clock)

    def close(self) -> None:
        if self._owns_client:
            for index in self._indexes.values():
                index.close()
            self._client.close()

    def table(self) -> LogicalTable:
        if self._table is None:
            state = self.documents.look().table or self.documents.write([], self._make_table)
            self._table = state.defaults
        return self._table

    def explain(
        self, prefix: str | None = None, metadata_filter: Mapping[str, Any] | None = None
    ) -> Explanation:
        """Return what of a listing Firestore selects by, and what is checked of its answer.

        Raises:
            ValidationError: A bad prefix or filter.
        """
        return explain_filter(validate_prefix(prefix), metadata_filter)

    # Reads

    def read(self, key: str, now: datetime) -> EntryRow | None:
        return self.read_many([key], now).get(key)

    def read_many(self, keys: Sequence[str], now: datetime) -> dict[str, EntryRow]:
        paths = [self._entry_path(self.entry_id(key)) for key in keys]
        session = self.documents.look(paths[: DOCUMENTS_PER_REQUEST - 1])
        rows = [read_entry(each.id, each.fields) for each in session.get(paths).values()]
        return {row.key: row for row in rows if is_live(row, now)}

    def rows_by_key(
        self, prefix: str, after: str, limit: int, condition: Filter | None, now: datetime
    ) -> list[EntryRow]:
        found = self.key_order(prefix, after)
        return select_rows(self.documents.look(), found, limit, condition, now)

    def rows_newest(self, limit: int, condition: Filter | None, now: datetime) -> list[EntryRow]:
        newest_first = Query(
            collection=self.documents.collections.entries,
            equal=self.documents.scope,
            order="updated_at",
            descending=True,
        )
        return select_rows(self.documents.look(), newest_first, limit, condition, now)

    def rows_found(
        self, question: Question, limit: int, condition: Filter | None, now: datetime
    ) -> list[tuple[EntryRow, float]]:
        block = self.documents.writes if isinstance(self.documents, TableBlock) else {}
        hits = self._words.find(question, now, block)
        return list(islice(read_found(self.documents, hits, condition, now), limit))

    def count_expired(self, now: datetime) -> int:
        return self.documents.look().total(self._expired(now), "byte_size")[0]

    def count_live(self, session: Session, now: datetime) -> tuple[int, int]:
        """Return how many live entries there are and their bytes, as *session* reads them."""
        return count_live(session, self._expired(now))

    def statistics(self, now: datetime) -> CatalogStatistics:
        return count_all(self.documents.look(), self._expired(now))

    # Writes

    def can_inline(self, metadata: Metadata, byte_size: int) -> bool:
        return byte_size <= inline_limit(metadata)

    def write(self, changes: Sequence[Put | Removal], now: datetime) -> list[Outcome]:
        self.table()
        documents = documents_of(changes)

        def write(session: Session) -> list[Outcome]:
            steps = self.steps(session, now)
            seq, newest = steps.state.snapshot_seq, steps.state.newest_snapshot
            stored = self._stored(session, [change.id for change in changes])
            end_with(session, self.documents.collections, changes)
            outcomes = []
            for change in changes:
                found = stored.get(change.id)
                row = None if found is None else found.row
                if isinstance(change, Put):
                    decision = decide_put(
                        change, row, now, snapshot_seq=seq, newest_snapshot=newest
                    )
                    words, same = documents[change.id], decision.outcome.deduplicated
                    outcome = steps.run(change.id, decision, found, words, words_changed=not same)
                else:
                    decision = decide_removal(change, row, now, newest_snapshot=newest)
                    outcome = steps.run(change.id, decision, found)
                outcomes.append(outcome)
            return outcomes

        return self.documents.write([self._entry_path(change.id) for change in changes], write)

    def remove_expired(self, limit: int, now: datetime) -> list[Outcome]:
        self.table()
        query = replace(self._expired(now), limit=limit)
        ids = [found.id for found in self.documents.look().run(query)]

        def remove(session: Session) -> list[Outcome]:
            steps = self.steps(session, now)
            newest = steps.state.newest_snapshot
            outcomes = []
            stored = self._stored(session, ids)
            for entry_id in ids:
                found = stored.get(entry_id)
                # It may have been removed or written anew since.
                if found is not None and not is_live(found.row, now):
                    decision = decide_deletion(found.row, newest_snapshot=newest)
                    outcomes.append(steps.run(entry_id, decision, found))
            return outcomes

        outcomes = self.documents.write([self._entry_path(each) for each in ids], remove)
        if len(ids) < limit:
            self.documents.sweep(now, limit)
        return outcomes

    def probe(self, now: datetime) -> None:
        """Use a document of its own among the deletions, which no query of theirs finds."""
        probe_documents(self.documents, self._client.where, now)

    # Indexes

    def indexed(self, rows: Sequence[EntryRow]) -> dict[str, IndexedEntry]:
        return read_indexed(self.documents.look(), self.documents.collections, rows)

    def index_again(self, entries: Sequence[tuple[EntryRow, Document | None]]) -> None:
        def index(session: Session) -> None:
            steps = self.steps(session, self.clock())
            stored = self._stored(session, [row.id for row, _ in entries])
            for row, document in entries:
                found = stored.get(row.id)
                if found is not None and found.row == row:
                    again = Decision(Outcome(row.key), row, replaces=True)
                    steps.run(row.id, again, found, document)

        self.documents.write([self._entry_path(row.id) for row, _ in entries], index)

    def check_search_index(self, *, repair: bool) -> str | None:
        return self._words.check(self.clock(), repair=repair)

    # Payload deletions

    def deletable_payloads(self, uris: Sequence[str]) -> list[str]:
        return deletable_uris(self.documents.look(), self.documents.collections, uris)

    def named_payloads(self, uris: Sequence[str]) -> set[str]:
        return named_payloads(self.documents.look(), self.documents.collections, uris)

    def forget_deletions(self, uris: Sequence[str]) -> None:
        collections = self.documents.collections
        self.documents.write([], lambda session: forget_objects(session, collections, uris))

    def move_payloads(self, moves: Mapping[str, str], now: datetime) -> None:
        self.documents.write([], lambda session: self.steps(session, now).move(moves))

    def scheduled_deletions(self, after: str, limit: int) -> list[str]:
        prefix = self.table().storage_prefix + "/"
        session, collections = self.documents.look(), self.documents.collections
        return scheduled_under(session, collections, prefix, after, limit)

    # Inside

    def key_order(self, prefix: str, after: str) -> Query:
        """Return the query for all entries that begin with *prefix*, above *after*, by key."""
        entries = self.documents.collections.entries
        return keys_between(entries, self.documents.scope, prefix, after)

    def state(self, session: Session) -> TableDocument:
        """Return the state of the logical table, to write by."""
        return session.table or self._make_table(session)

    def steps(self, session: Session, now: datetime) -> WriteSteps:
        """Return what writes decisions into *session*."""
        return WriteSteps(
            session,
            self.documents.collections,
            tenant=self.tenant,
            table=self.table_name,
            state=self.state(session),
            now=now,
        )

    def _bind(self) -> None:
        self.documents = FirestoreTable(self._client, self._prefix, self.tenant, self.table_name)
        self._table = None
        directory = self._index_directory or default_directory()
        self._words = self._indexes.setdefault(
            self.table_name, WordIndex(self.documents, directory)
        )

    def _make_table(self, session: Session) -> TableDocument:
        state = session.table
        if state is None:
            prefix = mint_storage_prefix(self.table_name)
            # One that was made once and is gone, as from an emulator, is made as it was.
            defaults = self._table or LogicalTable(
                self.table_name, prefix, self.inline_threshold, self.language
            )
            state = TableDocument(defaults, 0, -1, 0, None, self.clock())
            session.put(session.table_path, table_fields(state, self.tenant))
        return state

    def _expired(self, now: datetime) -> Query:
        return expired_entries(self.documents.collections.entries, self.documents.scope, now)

    def _stored(self, session: Session, ids: Sequence[str]) -> dict[str, StoredEntry]:
        found = session.get([self._entry_path(entry_id) for entry_id in ids])
        return {each.id: StoredEntry.of(each) for each in found.values()}

    def _entry_path(self, entry_id: str) -> str:
        return f"{self.documents.collections.entries}/{entry_id}"
