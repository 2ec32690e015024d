"""Words of entries, from their feed in Firestore to a local index and back to entries."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ltm.catalog.commit import is_live
from ltm.catalog.document_queries import Found, Query
from ltm.catalog.documents import (
    TOMBSTONE_LIFE,
    Fields,
    TableDocument,
    Writes,
    read_entry,
    read_words,
)
from ltm.catalog.firestore_payloads import in_choices
from ltm.catalog.firestore_session import DOCUMENTS_PER_REQUEST, Session
from ltm.catalog.firestore_table import FirestoreTable
from ltm.catalog.pages import in_pages
from ltm.entry import EntryRow
from ltm.errors import CatalogUnavailableError
from ltm.search.duckdb_files import UnreadableIndexError
from ltm.search.duckdb_index import DuckDBIndex, IndexedWords
from ltm.search.filters import Filter, matches
from ltm.search.questions import Question
from ltm.search.ranking import Hit

CUT_AFTER = 200
"""Documents of the feed under one number, after which it is cut."""

_STALE_AFTER = timedelta(days=1)
"""An index that is older notes that it is up to date, though nothing has changed."""

_PAGE = 200

_log = logging.getLogger(__name__)


def default_directory() -> str:
    """Return where indexes are kept that nobody has given a place: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "ltm")


def read_found(
    documents: FirestoreTable, hits: Sequence[Hit], condition: Filter | None, now: datetime
) -> Iterator[tuple[EntryRow, float]]:
    """Yield the live rows of *hits* that fulfil *condition*, with scores, in their order.

    They are read in pages that grow: most often the first has all that is wanted.
    """
    session = documents.look()
    size, start = 16, 0
    while page := hits[start : start + size]:
        paths = [f"{documents.collections.entries}/{hit.entry_id}" for hit in page]
        found = session.get(paths)
        for hit, path in zip(page, paths, strict=True):
            if path in found:
                row = read_entry(hit.entry_id, found[path].fields)
                if is_live(row, now) and matches(condition, row.metadata):
                    yield row, hit.score
        start, size = start + size, min(size * 2, DOCUMENTS_PER_REQUEST)


class _Refresh(NamedTuple):
    """The last time the index was brought up to date."""

    began_at: float
    """By the monotonic clock."""
    error: CatalogUnavailableError | None = None


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
        self._refresh = _Refresh(-math.inf)
        # By process: a forked child could inherit a lock that nobody will release.
        self._locks: dict[int, threading.Lock] = {}

    def find(self, question: Question, now: datetime, writes: Writes) -> list[Hit]:
        """Return all entries that answer *question*, best first, with *writes* counted in.

        Raises:
            CatalogUnavailableError: The feed could not be read.
        """
        prefix = f"{self._documents.collections.words}/"
        own = {
            (entry_id := path.removeprefix(prefix)): _as_words(entry_id, fields, "")
            for path, fields in writes.items()
            if path.startswith(prefix) and fields is not None
        }
        is_damaged = False
        while True:
            index = self._refreshed(now)
            if index is None:
                return []
            position = index.state.position
            try:
                hits = index.find(question, now, overlay=own)
            except UnreadableIndexError:
                # Its file is deleted now, and the index is made anew; once.
                if is_damaged:
                    raise
                is_damaged = True
                continue
            # Otherwise it was emptied meanwhile, to be made anew.
            if 0 <= position <= index.state.position:
                return hits

    def check(self, now: datetime, *, repair: bool) -> str | None:
        """Return what the index holds wrong, or None; with *repair*, make it anew if so."""
        index = self._refreshed(now)
        problem = None if index is None else self._compare(index, now)
        if index is not None and problem is not None and repair:
            index.reset()
            self._refreshed(now)
        return problem

    def close(self) -> None:
        """Close the index; idempotent."""
        if self._index is not None:
            self._index.close()

    def _refreshed(self, now: datetime) -> DuckDBIndex | None:
        """Return the index as of this call or later; None where there is no table yet.

        Raises:
            CatalogUnavailableError: The feed could not be read.
        """
        called_at = time.monotonic()
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            if self._refresh.began_at < called_at:
                began_at = time.monotonic()
                try:
                    try:
                        self._bring_up_to_date(now)
                    except UnreadableIndexError:
                        self._bring_up_to_date(now)
                except CatalogUnavailableError as error:
                    self._refresh = _Refresh(began_at, error)
                else:
                    self._refresh = _Refresh(began_at)
            # Or another thread has done it for all that were waiting.
            if self._refresh.error is not None:
                raise CatalogUnavailableError(str(self._refresh.error)) from self._refresh.error
            return self._index

    def _bring_up_to_date(self, now: datetime) -> None:
        session = self._documents.look()
        state = session.table
        if state is None:
            return
        if self._index is None:
            self._index = DuckDBIndex(os.path.join(self.directory, _file_name(state)))
        position, refreshed_at = self._index.state
        is_known = 0 <= position <= state.feed_seq and refreshed_at is not None
        # The feed forgets in time what has gone from it.
        if is_known and refreshed_at and abs(now - refreshed_at) < TOMBSTONE_LIFE / 2:
            self._follow(self._index, session, state, now)
        else:
            self._rebuild(self._index, now)

    def _compare(self, index: DuckDBIndex, now: datetime) -> str | None:
        unfed = index.ids()
        suspects: list[str] = []
        for page in self._documents.look().pages(self._feed({"is_gone": False}), _PAGE):
            held = index.documents([found.id for found in page])
            for found in page:
                unfed.discard(found.id)
                if held.get(found.id) != read_words(found.fields).document:
                    suspects.append(found.id)
        # Where there is an entry, it is the feed that lacks its words.
        entries = self._documents.collections.entries
        for ids in in_pages(sorted(unfed), _PAGE):
            present = self._documents.look().get([f"{entries}/{entry_id}" for entry_id in ids])
            suspects += [each for each in ids if f"{entries}/{each}" not in present]
        for ids in in_pages(suspects, _PAGE):
            wrong = self._confirm(index, ids, now)
            if wrong is not None:
                return f"the local index has not what {wrong!r} has"
        return None

    def _confirm(self, index: DuckDBIndex, ids: Sequence[str], now: datetime) -> str | None:
        """Return a document of *ids* that the index has wrong, though no writer has been there."""
        paths = [f"{self._documents.collections.words}/{entry_id}" for entry_id in ids]
        before = self._documents.look().get(paths)
        self._refreshed(now)
        held, stamps = index.documents(ids), index.stamps(ids)
        after = self._documents.look().get(paths)
        for entry_id, path in zip(ids, paths, strict=True):
            found = before.get(path)
            words = None if found is None else read_words(found.fields).document
            is_known = found is not None and stamps.get(entry_id, "") > found.stamp
            if held.get(entry_id) != words and not is_known and after.get(path) == found:
                return path
        return None

    def _rebuild(self, index: DuckDBIndex, now: datetime) -> None:
        self._cut()
        index.reset()
        session = self._documents.look()
        state = session.table
        if state is None:
            return
        pages = session.pages(self._feed({"is_gone": False}), _PAGE)
        words = (_as_words(each.id, each.fields, each.stamp) for page in pages for each in page)
        index.apply(words, position=state.feed_seq, at=now)

    def _follow(
        self,
        index: DuckDBIndex,
        session: Session,
        state: TableDocument,
        now: datetime,
    ) -> None:
        position, refreshed_at = index.state
        changed: list[IndexedWords] = []
        under_present = 0
        for numbers in in_choices(range(position, state.feed_seq + 1)):
            query = self._feed({}, within=("feed_seq", numbers))
            for page in session.pages(query, _PAGE):
                under_present += sum(each.fields["feed_seq"] == state.feed_seq for each in page)
                changed += self._unknown(index, page)
        is_stale = refreshed_at is None or now - refreshed_at > _STALE_AFTER
        if changed or position != state.feed_seq or is_stale:
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
            found = session.get([session.table_path]).get(session.table_path)
            if found is not None:
                number: Any = found.fields["feed_seq"]
                session.put(session.table_path, {**found.fields, "feed_seq": number + 1})

        try:
            self._documents.write_once([], cut)
        except CatalogUnavailableError as error:
            _log.debug("the feed of words is not cut: %s", error)

    def _feed(self, equal: Mapping[str, bool], *, within: Any = None) -> Query:
        return Query(
            collection=self._documents.collections.words,
            equal={**self._documents.scope, **equal},
            within=within,
        )


def _file_name(state: TableDocument) -> str:
    """Return a name that no other table has, nor this one before it was lost and made again."""
    made_at = state.created_at.strftime("%Y%m%dT%H%M%S%f")
    return f"{state.defaults.storage_prefix}-{made_at}.duckdb"


def _as_words(entry_id: str, fields: Fields, stamp: str) -> IndexedWords:
    return IndexedWords(entry_id, *read_words(fields), stamp)
