"""Words of entries, from their feed in Firestore to a local index and back to entries."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ltm.catalog.document_queries import Found, Query
from ltm.catalog.documents import TOMBSTONE_LIFE, Fields, TableDocument, read_words
from ltm.catalog.firestore_payloads import in_choices
from ltm.catalog.firestore_session import Session, Writes
from ltm.catalog.firestore_table import FirestoreTable
from ltm.errors import CatalogUnavailableError
from ltm.search.analysis import Question
from ltm.search.duckdb_index import DuckDBIndex, IndexedWords
from ltm.search.ranking import Hit

CUT_AFTER = 200
"""Documents of the feed under one number, after which it is cut."""

_PAGE = 200

_log = logging.getLogger(__name__)


class WordIndex:
    """The local index of one logical table, brought up to date before it is asked.

    Every document of the feed carries a number that stands in the document of the table. To cut the
    feed is to raise that number, in a transaction that no writer overlaps: after it nothing is
    written any more under the old one. So an index that knows all numbers below the present one
    reads what is under the present one, and misses nothing whatever the clocks say.
    """

    def __init__(self, documents: FirestoreTable, directory: str) -> None:
        """Index what *documents* feed; opened at the first question."""
        self._documents = documents
        self.directory = directory
        """Where the file of the index is, or will be."""
        self._index: DuckDBIndex | None = None
        self._refreshing = threading.Lock()

    def refresh(self, now: datetime) -> DuckDBIndex | None:
        """Return the index, up to date; None where there is no table yet.

        Raises:
            CatalogUnavailableError: The feed could not be read.
        """
        with self._refreshing:
            session = self._documents.look()
            state = session.table
            if state is None:
                return None
            if self._index is None:
                # Named like nothing else: another database, or a table made anew, has its own.
                name = f"{state.defaults.storage_prefix}.duckdb"
                self._index = DuckDBIndex(os.path.join(self.directory, name))
            index = self._index
            position, refreshed_at = index.state
            is_usable = 0 <= position <= state.feed_seq and refreshed_at is not None
            # The feed forgets in time what has gone from it.
            if is_usable and refreshed_at and now - refreshed_at < TOMBSTONE_LIFE / 2:
                self._follow(index, session, state, position, now)
            else:
                self._rebuild(index, now)
            return index

    def find(self, question: Question, now: datetime, writes: Writes) -> list[Hit]:
        """Return all entries that answer *question*, best first, with *writes* counted in.

        Raises:
            CatalogUnavailableError: The feed could not be read.
        """
        index = self.refresh(now)
        if index is None:
            return []
        collection = self._documents.collections.words
        own = {
            entry_id: _as_words(entry_id, fields, "")
            for path, fields in writes.items()
            if path.startswith(f"{collection}/") and fields is not None
            for entry_id in (path.rpartition("/")[2],)
        }
        return index.find(question, now, overlay=own)

    def check(self, now: datetime, *, repair: bool) -> str | None:
        """Return what the index holds wrong, or None; with *repair*, make it anew if so."""
        index = self.refresh(now)
        problem = None if index is None else self._compare(index)
        if index is not None and problem is not None and repair:
            index.reset()
            self.refresh(now)
        return problem

    def close(self) -> None:
        """Close the index; idempotent."""
        if self._index is not None:
            self._index.close()

    def _compare(self, index: DuckDBIndex) -> str | None:
        session = self._documents.look()
        for page in session.pages(self._feed({"is_gone": False}), _PAGE):
            held = index.documents([found.id for found in page])
            for found in page:
                if held.get(found.id) != read_words(found.fields).document:
                    return f"the local index is not that of document {found.path!r}"
        return None

    def _rebuild(self, index: DuckDBIndex, now: datetime) -> None:
        self._cut()
        index.reset()
        session = self._documents.look()
        state = session.table
        assert state is not None  # noqa: S101 -- tables are never deleted
        pages = session.pages(self._feed({"is_gone": False}), _PAGE)
        words = (_as_words(each.id, each.fields, each.stamp) for page in pages for each in page)
        index.apply(words, position=state.feed_seq, at=now)

    def _follow(
        self,
        index: DuckDBIndex,
        session: Session,
        state: TableDocument,
        position: int,
        now: datetime,
    ) -> None:
        changed: list[IndexedWords] = []
        under_present = 0
        for numbers in in_choices(range(position, state.feed_seq + 1)):
            query = self._feed({}, within=("feed_seq", numbers))
            for page in session.pages(query, _PAGE):
                under_present += sum(each.fields["feed_seq"] == state.feed_seq for each in page)
                changed += self._unknown(index, page)
        if changed or position != state.feed_seq:
            index.apply(changed, position=state.feed_seq, at=now)
        if under_present >= CUT_AFTER:
            self._cut()

    def _unknown(self, index: DuckDBIndex, page: Sequence[Found]) -> list[IndexedWords]:
        """Return what of *page* the index doesn't know yet."""
        stamps = index.stamps([found.id for found in page])
        words = [_as_words(found.id, found.fields, found.stamp) for found in page]
        return [
            each
            for each in words
            if (each.document is not None or each.entry_id in stamps)
            and stamps.get(each.entry_id) != each.stamp
        ]

    def _cut(self) -> None:
        """Raise the number of the feed, best effort: without it more is read again next time."""

        def cut(session: Session) -> None:
            found = session.get([session.table_path])[session.table_path]
            number: Any = found.fields["feed_seq"]
            session.put(session.table_path, {**found.fields, "feed_seq": number + 1})

        try:
            self._documents.write([], cut)
        except CatalogUnavailableError as error:
            _log.debug("the feed of words is not cut: %s", error)

    def _feed(self, equal: Mapping[str, bool], *, within: Any = None) -> Query:
        return Query(
            collection=self._documents.collections.words,
            equal={**self._documents.scope, **equal},
            within=within,
        )


def _as_words(entry_id: str, fields: Fields, stamp: str) -> IndexedWords:
    document, expires_at, _ = read_words(fields)
    return IndexedWords(entry_id, document, expires_at, stamp)
