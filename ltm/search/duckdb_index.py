"""A local full-text index of one logical table, for a catalog that has none of its own.

The catalog is the truth; what is here is derived from its feed of changes and may be deleted at any
time. Most of the index is an immutable file that processes share; what has changed since is in
memory, and a question looks at both. The file is made anew when too much has changed, because
DuckDB's full-text index can't be changed in part. The shared ranker scores, so that the answer is
that of every other catalog.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from ltm.errors import ClosedError
from ltm.search.analysis import Document
from ltm.search.duckdb_changes import Change, from_microseconds, holds, is_live, to_microseconds
from ltm.search.duckdb_files import Head, IndexFile, Row, UnreadableIndexError, pad_sequences
from ltm.search.questions import Question
from ltm.search.ranking import Hit, Posting, rank

_LOGGER = logging.getLogger(__name__)

REBUILD_AFTER = 1000
"""So many changes are kept in memory, or a twentieth of the file where that is more."""


class IndexedWords(NamedTuple):
    """What the index is told of one entry."""

    entry_id: str
    document: Document | None
    """None where the entry is gone, or is not to be found by its words."""
    expires_at: datetime | None = None
    """When the entry ceases to exist; aware."""
    stamp: str = ""
    """Which state of the entry this is, in words of the catalog; of no meaning here."""


class IndexState(NamedTuple):
    """How far an index has come."""

    position: int
    """Where in the catalog's feed; -1 for an index that has nothing yet."""
    refreshed_at: datetime | None
    """What the last :meth:`DuckDBIndex.apply` was given."""


_NOTHING: Mapping[str, IndexedWords] = MappingProxyType({})


class _View(NamedTuple):
    """All that an index knows at one moment. It is replaced, never changed, so readers need no lock
    and a fork finds it whole."""

    base: IndexFile | None = None
    changes: Mapping[str, Change] = MappingProxyType({})
    position: int = -1
    refreshed_at: int | None = None

    @property
    def is_stored(self) -> bool:
        """Whether a file has everything."""
        return not self.changes and (self.base is None or self.base.path is not None)


class DuckDBIndex:
    """A full-text index in a file that processes share; threads share the object.

    Entries that are gone are forgotten, and their stamps with them. A file that can't be read is
    taken for none, and one that can't be written is done without, each with one warning in the log.

    Every method raises :class:`ClosedError` after :meth:`close`,
    :class:`MissingDependencyError` where DuckDB or its extension ``fts`` is not installed, and
    :class:`CatalogUnavailableError` where the file turns out to be damaged: it is deleted then, and
    the position is -1 again.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, *, rebuild_after: int = REBUILD_AFTER
    ) -> None:
        """Name the file; it is opened on first use.

        Args:
            path: The file; directories on the way are made. None keeps the index in memory only.
            rebuild_after: The file is made anew when more changes than this are in memory, and more
                than a twentieth of its documents.
        """
        self._path = None if path is None else os.path.abspath(path)
        self._rebuild_after = rebuild_after
        self._lock = threading.RLock()  # held by who replaces the view
        self._view: _View | None = None
        self._inherited: _View | None = None
        self._closed = False
        self._warned: set[str] = set()
        _INDEXES.add(self)

    @property
    def state(self) -> IndexState:
        """How far the index has come."""
        view = self._current()
        at = view.refreshed_at
        return IndexState(view.position, None if at is None else from_microseconds(at))

    def stamps(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the stamps of those of *ids* that have a document here, expired ones included."""
        view, wanted = self._current(), list(ids)
        found = {
            entry_id: change.stamp
            for entry_id in wanted
            if (change := view.changes.get(entry_id)) is not None and change.document is not None
        }
        if view.base is not None:
            below = [entry_id for entry_id in wanted if entry_id not in view.changes]
            with self._reading(view.base):
                heads = view.base.heads(below)
            found.update((entry_id, head.stamp) for entry_id, head in heads.items())
        return found

    def ids(self) -> set[str]:
        """Return the ids of all entries that have a document here, expired ones included."""
        view, found = self._current(), set()
        if view.base is not None:
            with self._reading(view.base):
                found.update(view.base.ids())
        for entry_id, change in view.changes.items():
            if change.document is None:
                found.discard(entry_id)
            else:
                found.add(entry_id)
        return found

    def documents(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return the documents of those of *ids* that have one here, expired ones included."""
        view = self._current()
        found = {
            entry_id: change.document
            for entry_id in ids
            if (change := view.changes.get(entry_id)) is not None and change.document is not None
        }
        if view.base is not None:
            below = [entry_id for entry_id in ids if entry_id not in view.changes]
            with self._reading(view.base):
                found.update(view.base.documents(below))
        return found

    def apply(self, changes: Iterable[IndexedWords], *, position: int, at: datetime) -> None:
        """Take in *changes* of the feed up to *position*; of one entry the last counts.

        At the same position as before, changes are added. Below it they are ignored: the index has
        them already. Making the file anew takes 3 seconds for 100,000 documents of 20 words, so
        many changes belong in one call. Where another process has published a file that is further
        on, that is taken instead, and :attr:`state` is its state.

        Args:
            changes: They are all in memory until the file is made.
            position: 0 or more. The index has all changes up to here, but for some with this number
                itself, which may still come.
            at: Kept as ``refreshed_at``.
        """
        words = {change.entry_id: change for change in changes}
        with self._lock:
            view = self._current()
            if position < view.position:
                return
            merged = {**view.changes, **self._compare(view, words)}
            for entry_id in words:
                if merged[entry_id].document is None and merged[entry_id].hidden is None:
                    del merged[entry_id]
            view = self._view = _View(view.base, merged, position, to_microseconds(at))
            stored = 0 if view.base is None else view.base.document_count
            if len(merged) > max(self._rebuild_after, stored // 20):
                self._view = self._rebuild(view)

    def reset(self) -> None:
        """Forget everything and delete the file; who has it open keeps what it has."""
        with self._lock:
            self._current()
            self._view = _View()
            if self._path is not None:
                try:
                    os.unlink(self._path)
                except (FileNotFoundError, NotADirectoryError):
                    return
                except OSError as error:
                    self._warn("search index %r can't be deleted: %s", self._path, error)

    def find(
        self,
        question: Question,
        now: datetime,
        *,
        overlay: Mapping[str, IndexedWords] = _NOTHING,
    ) -> list[Hit]:
        """Return all entries live at *now* that answer *question*, best first.

        Args:
            question: What is asked.
            now: An entry is live before it expires, not at that instant.
            overlay: Changes by entry id that count for this question only.
        """
        view, instant = self._current(), to_microseconds(now)
        changes = view.changes
        if overlay:
            changes = {**changes, **self._compare(view, overlay)}
        postings: dict[str, list[Posting]] = {term: [] for term in question.terms}
        allowed: set[str] | None = set() if question.phrases or question.excluded else None
        count = length = 0
        if view.base is not None:
            with self._reading(view.base):
                count, length = view.base.size(instant)
                found = view.base.postings(question, instant)
            for term, entry_id, words, frequency, is_allowed in found:
                if entry_id not in changes:
                    postings[term].append((entry_id, words, frequency))
                    if allowed is not None and is_allowed:
                        allowed.add(entry_id)
        required, excluded = map(pad_sequences, (question.phrases, question.excluded))
        for entry_id, change in changes.items():
            if change.hidden is not None and is_live(change.hidden.expires_at, instant):
                count -= 1
                length -= change.hidden.length
            document = change.live_document(instant)
            if document is None:
                continue
            count += 1
            length += document.length
            counts = change.counts(document)
            for term in postings.keys() & counts.keys():
                postings[term].append((entry_id, document.length, counts[term]))
            if allowed is not None and holds(document.text, required, excluded):
                allowed.add(entry_id)
        return rank(
            postings, document_count=count, total_length=length, allowed=allowed, limit=None
        )

    def close(self) -> None:
        """Publish what no file has yet, and let go of the file; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            view, self._view, self._closed = self._view, None, True
            if view is None or view.is_stored or self._path is None:
                return
            try:
                if self._open_newer(view.position) is None:
                    self._build(self._path, view)
            except OSError as error:
                self._warn_unwritten(error)

    def leave_to_parent(self) -> None:
        """Begin with connections of its own in a forked child, and leave the parent's alone."""
        self._lock = threading.RLock()
        view = self._view
        if view is not None and view.base is not None:
            view.base.abandon()
            self._inherited, self._view = view, None

    def _current(self) -> _View:
        view = self._view
        if view is None:
            with self._lock:
                if self._closed:
                    raise ClosedError("the search index is closed")
                view = self._view = self._view or self._open()
        return view

    def _open(self) -> _View:
        base = self._open_file()
        view, self._inherited = self._inherited, None
        if base is None:
            return _View()
        if view is not None and view.base is not None and view.base.build_id == base.build_id:
            return view._replace(base=base)
        return _View(base, position=base.position, refreshed_at=base.refreshed_at)

    def _open_file(self) -> IndexFile | None:
        try:
            return IndexFile.open(self._path)
        except UnreadableIndexError as error:
            self._warn("%s", error)
            return None

    def _open_newer(self, position: int) -> IndexFile | None:
        """Return the published file if its position is above *position*.

        It has all changes up to *position* then, those with this very number included, as its
        process has gone past them.
        """
        base = self._open_file()
        return base if base is not None and base.position > position else None

    def _compare(self, view: _View, words: Mapping[str, IndexedWords]) -> dict[str, Change]:
        """Return *words* with what they hide of the view's file."""
        heads: dict[str, Head] = {}
        if view.base is not None:
            with self._reading(view.base):
                heads = view.base.heads([key for key in words if key not in view.changes])
        return {
            entry_id: Change(
                change.document,
                change.expires_at,
                change.stamp,
                known.hidden
                if (known := view.changes.get(entry_id)) is not None
                else heads.get(entry_id),
            )
            for entry_id, change in words.items()
        }

    def _rebuild(self, view: _View) -> _View:
        """Return *view* with everything in a new file, or else in memory but in DuckDB."""
        base = self._open_newer(view.position) or self._build_anywhere(view)
        if base is None:
            return view
        return _View(base, position=base.position, refreshed_at=base.refreshed_at)

    def _build_anywhere(self, view: _View) -> IndexFile | None:
        for path in dict.fromkeys((self._path, None)):
            try:
                return self._build(path, view)
            except UnreadableIndexError:
                raise
            except OSError as error:
                self._warn_unwritten(error)
        return None

    def _build(self, path: str | None, view: _View) -> IndexFile:
        rows = (
            Row(entry_id, *change.document, change.expires_at, change.stamp)
            for entry_id, change in view.changes.items()
            if change.document is not None
        )
        if view.base is None:
            return IndexFile.build(path, rows, view.position, view.refreshed_at)
        with self._reading(view.base):
            kept = (row for row in view.base.rows() if row.entry_id not in view.changes)
            return IndexFile.build(path, chain(kept, rows), view.position, view.refreshed_at)

    @contextmanager
    def _reading(self, base: IndexFile) -> Iterator[None]:
        """Forget *base* where it can't be read, so that the next refresh makes it anew."""
        try:
            yield
        except UnreadableIndexError:
            with self._lock:
                if self._view is not None and self._view.base is base:
                    self._view = _View()
                base.remove()
            raise

    def _warn_unwritten(self, error: OSError) -> None:
        self._warn("search index %r can't be kept: %s", self._path, error)

    def _warn(self, message: str, *values: object) -> None:
        if message not in self._warned:
            self._warned.add(message)
            _LOGGER.warning(message, *values)


_INDEXES: weakref.WeakSet[DuckDBIndex] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for index in list(_INDEXES):
        index.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
