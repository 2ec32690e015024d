"""Files of search words in DuckDB: immutable, each a whole state of an index, published by rename.

A file holds the documents, the full-text index over them that DuckDB's extension ``fts`` makes, and
the state to which they belong. The extension splits texts at spaces and keeps which word occurs how
often where; scores are computed elsewhere.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ltm.clock import utc_now
from ltm.duckdb_forks import abandon
from ltm.errors import CatalogUnavailableError
from ltm.fork_gate import forks_wait
from ltm.search.analysis import Document
from ltm.search.duckdb_connection import attach, connect
from ltm.search.questions import Question

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FORMAT = 1
"""Of the tables in a file. A file of another format is not read."""

STRAY_SECONDS = 3600
"""A file that was begun so long ago is not being built any more."""

_BUILDING = ".building"
_CHUNK_ROWS = 10_000
_CHUNK_CHARACTERS = 4_000_000

_CREATE = """
    CREATE TABLE base.main.documents
        (number BIGINT, entry_id VARCHAR, text VARCHAR, length BIGINT, expires_at BIGINT,
         stamp VARCHAR);
    CREATE TABLE base.main.state
        (format INTEGER, build VARCHAR, position BIGINT, refreshed_at BIGINT, documents BIGINT)
"""
# A list bound as such costs DuckDB 0.06 ms an element, and a row of executemany more. As one text
# of JSON for each column, 10,000 rows take 0.05 s.
_INSERT = """
    INSERT INTO base.main.documents
    SELECT unnest(range(?, ?)), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["BIGINT"]')),
        unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["VARCHAR"]'))
"""
# Not one text: the pragma is resolved when the whole text is parsed, before USE has run.
_INDEX = (
    "USE base",
    "PRAGMA create_fts_index('documents', 'number', 'text', "
    "stemmer='none', stopwords='none', ignore=' ', strip_accents=0, lower=0)",
    "USE memory",
)
_SELECT_STATE = "SELECT format, build, position, refreshed_at, documents FROM base.main.state"
_SELECT_ROWS = "SELECT entry_id, text, length, expires_at, stamp FROM base.main.documents"
_SELECT_IDS = "SELECT entry_id FROM base.main.documents"
_SELECT_HEADS = """
    SELECT entry_id, length, expires_at, stamp FROM base.main.documents
    WHERE entry_id IN (SELECT unnest(from_json(?, '["VARCHAR"]')))
"""
_SELECT_TEXTS = """
    SELECT entry_id, text, length FROM base.main.documents
    WHERE entry_id IN (SELECT unnest(from_json(?, '["VARCHAR"]')))
"""
_SELECT_SIZE = """
    SELECT count(*), coalesce(sum(length), 0) FROM base.main.documents
    WHERE expires_at IS NULL OR expires_at > ?
"""
_SELECT_POSTINGS = """
    WITH wanted AS (
        SELECT termid, term FROM base.fts_main_documents.dict
        WHERE term IN (SELECT unnest(from_json(?, '["VARCHAR"]')))
    ), found AS (
        SELECT termid, docid, count(*) AS frequency
        FROM base.fts_main_documents.terms JOIN wanted USING (termid) GROUP BY termid, docid
    )
    SELECT term, entry_id, length, frequency, {is_allowed}
    FROM found JOIN wanted USING (termid) JOIN base.fts_main_documents.docs USING (docid)
        JOIN base.main.documents ON documents.number = docs.name
    WHERE expires_at IS NULL OR expires_at > ?
"""
_IS_ALLOWED = """
    coalesce(list_bool_and(
        [contains(' ' || text || ' ', words) FOR words IN from_json(?, '["VARCHAR"]')]), true)
    AND NOT coalesce(list_bool_or(
        [contains(' ' || text || ' ', words) FOR words IN from_json(?, '["VARCHAR"]')]), false)
"""


class UnreadableIndexError(CatalogUnavailableError):
    """A file is damaged, of another format, not DuckDB's, or locked by a foreign program."""


class Head(NamedTuple):
    """What a document is, without its text."""

    length: int
    expires_at: int | None
    """Microseconds since 1970 in UTC; None for never."""
    stamp: str


class Row(NamedTuple):
    """A document as it is stored; the fields are those of :class:`Document` and :class:`Head`."""

    entry_id: str
    text: str
    length: int
    expires_at: int | None
    stamp: str


PostingRow = tuple[str, str, int, int, bool]
"""Term, entry id, length of the document, how often the term occurs in it, and whether it has all
phrases of the question and nothing that it excludes."""


class IndexFile:
    """One state of an index, open to be read and never changed; threads share it.

    Its methods raise :class:`UnreadableIndexError` where DuckDB can't read. It is closed when
    nobody refers to it any more, so that a thread may finish its question.

    Attributes:
        position: The position of the state.
        refreshed_at: The instant of the state in microseconds since 1970, or None.
        build_id: An id of its own of this file.
        document_count: How many documents it has, expired ones included.
        path: Where it was published; None where it is in memory only.
    """

    def __init__(
        self, connection: DuckDBPyConnection, path: str | None, status: os.stat_result | None
    ) -> None:
        self._connection = connection
        self._status = status
        self.path = path
        # A server that answers many questions has threads enough.
        with forks_wait():
            connection.execute("SET threads = 1")
        states = self._query(_SELECT_STATE)
        if len(states) != 1 or states[0][0] != FORMAT:
            raise UnreadableIndexError(f"search index {path!r} is not of format {FORMAT}")
        _, self.build_id, self.position, self.refreshed_at, self.document_count = states[0]

    @classmethod
    def open(cls, path: str | None) -> Self | None:
        """Open the file at *path*; None where there is none.

        Raises:
            UnreadableIndexError: There is something else.
            MissingDependencyError: DuckDB or its extension is not installed.
        """
        with forks_wait():
            connection = connect()
            if path is None or (status := _stat(path)) is None:
                return None
            with _reading(path):
                attach(connection, path, "READ_ONLY")
        return cls(connection, path, status)

    @classmethod
    def build(
        cls, path: str | None, rows: Iterable[Row], position: int, refreshed_at: int | None
    ) -> Self:
        """Make the index of *rows* and publish it at *path*, durably and in one step.

        Whoever has open what was there before goes on reading that. Files that were begun long ago
        and never published are removed. 100,000 documents of 20 words take 3 seconds.

        Args:
            path: Directories on the way are made; None keeps the index in memory.
            rows: With distinct ids.
            position: The position of the state.
            refreshed_at: The instant of the state.

        Raises:
            OSError: It could not be written; what was at *path* is there still.
            UnreadableIndexError: *rows* raised it.
        """
        with forks_wait():
            connection = connect()
        if path is None:
            with _writing(path), forks_wait():
                connection.execute("ATTACH ':memory:' AS base")
                _fill(connection, rows, position, refreshed_at)
            return cls(connection, None, None)
        directory = os.path.dirname(path)
        os.makedirs(directory, exist_ok=True)
        unpublished = f"{path}.{uuid.uuid4().hex}{_BUILDING}"
        try:
            with _writing(path), forks_wait():
                attach(connection, unpublished)
                _fill(connection, rows, position, refreshed_at)
                connection.execute("DETACH base")
                _sync(unpublished)
                # Opened before others can replace it.
                attach(connection, unpublished, "READ_ONLY")
            status = _stat(unpublished)
            # A log that a foreign program left beside the old file is none of the new one's.
            with suppress(FileNotFoundError):
                os.unlink(f"{path}.wal")
            os.replace(unpublished, path)
            with suppress(OSError):  # not every system lets one sync a directory
                _sync(directory)
        except BaseException:  # an interrupt, too, leaves no file behind
            _remove(unpublished)
            raise
        _remove_strays(path)
        return cls(connection, path, status)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            with forks_wait():
                # Closes the file.
                del self._connection

    def abandon(self) -> None:
        """Leave the file to the parent of a forked child."""
        abandon(self._connection)

    def remove(self) -> None:
        """Remove the file, if it has not been replaced since."""
        if self.path is not None and self._status is not None:
            found = _stat(self.path)
            if found is not None and os.path.samestat(found, self._status):
                _remove(self.path)

    def rows(self) -> Iterator[Row]:
        """Yield all documents."""
        with _reading(self.path), forks_wait():
            cursor = self._connection.cursor().execute(_SELECT_ROWS)
        while True:
            with _reading(self.path), forks_wait():
                rows = cursor.fetchmany(1000)
            if not rows:
                return
            yield from map(Row._make, rows)

    def ids(self) -> list[str]:
        """Return the ids of all entries."""
        return [entry_id for (entry_id,) in self._query(_SELECT_IDS)]

    def heads(self, ids: Sequence[str]) -> dict[str, Head]:
        """Return what is known of those of *ids* that are here."""
        rows = self._query(_SELECT_HEADS, [json.dumps(ids)]) if ids else []
        return {entry_id: Head(*head) for entry_id, *head in rows}

    def documents(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return the documents of those of *ids* that are here."""
        rows = self._query(_SELECT_TEXTS, [json.dumps(ids)]) if ids else []
        return {entry_id: Document(text, length) for entry_id, text, length in rows}

    def size(self, now: int) -> tuple[int, int]:
        """Return how many documents are live at *now*, and the sum of their lengths."""
        ((count, length),) = self._query(_SELECT_SIZE, [now])
        return count, int(length)

    def postings(self, question: Question, now: int) -> list[PostingRow]:
        """Return where in documents that are live at *now* the words of *question* occur."""
        terms = json.dumps(question.terms)
        if question.phrases or question.excluded:
            statement = _SELECT_POSTINGS.format(is_allowed=_IS_ALLOWED)
            required, excluded = map(pad_sequences, (question.phrases, question.excluded))
            return self._query(statement, [terms, json.dumps(required), json.dumps(excluded), now])
        return self._query(_SELECT_POSTINGS.format(is_allowed="true"), [terms, now])

    def _query(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        with _reading(self.path), forks_wait():
            # A connection serves one thread at a time; its cursors are connections.
            return self._connection.cursor().execute(statement, parameters).fetchall()


def pad_sequences(sequences: Iterable[Sequence[str]]) -> list[str]:
    """Return what stands in a padded text where the tokens of a sequence stand side by side."""
    return [f" {' '.join(sequence)} " for sequence in sequences]


def _fill(
    connection: DuckDBPyConnection, rows: Iterable[Row], position: int, refreshed_at: int | None
) -> None:
    connection.execute(_CREATE)
    count = 0
    for chunk in _in_chunks(rows):
        columns = map(json.dumps, zip(*chunk, strict=True))
        connection.execute(_INSERT, [count, count + len(chunk), *columns])
        count += len(chunk)
    for statement in _INDEX:
        connection.execute(statement)
    state = [FORMAT, uuid.uuid4().hex, position, refreshed_at, count]
    connection.execute("INSERT INTO base.main.state VALUES (?, ?, ?, ?, ?)", state)


def _in_chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += len(row.text)
        if len(chunk) == _CHUNK_ROWS or characters > _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


@contextmanager
def _reading(path: str | None) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        where = "in memory" if path is None else repr(path)
        message = f"search index {where} can't be read, and is to be made anew: {error}"
        raise UnreadableIndexError(message) from error


@contextmanager
def _writing(path: str | None) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise OSError(f"search index {path!r} can't be written: {error}") from error


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    for name in (path, f"{path}.wal"):
        with suppress(OSError):
            os.unlink(name)


def _remove_strays(path: str) -> None:
    directory, name = os.path.split(path)
    oldest = utc_now().timestamp() - STRAY_SECONDS
    with suppress(OSError), os.scandir(directory) as files:
        for file in files:
            is_stray = file.name.startswith(f"{name}.") and _BUILDING in file.name
            with suppress(OSError):
                if is_stray and file.stat().st_mtime < oldest:
                    os.unlink(file.path)
