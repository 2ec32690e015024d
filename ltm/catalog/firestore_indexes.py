"""Checking what a Firestore catalog's documents hold to be found by."""

from __future__ import annotations

from collections.abc import Sequence

from ltm.catalog.accounts import IndexedEntry
from ltm.catalog.documents import metadata_codes, read_words
from ltm.catalog.firestore_session import Collections, Session
from ltm.entry import EntryRow
from ltm.search.codes import index_rows

_WRONG = frozenset({("", "")})
"""Rows that no metadata has."""


def read_indexed(
    session: Session, collections: Collections, rows: Sequence[EntryRow]
) -> dict[str, IndexedEntry]:
    """Return what *rows* are found by, by id.

    Codes of metadata can't be read back: they are those of the row's metadata or they are wrong.
    """
    entries = {row.id: f"{collections.entries}/{row.id}" for row in rows}
    words = {row.id: f"{collections.words}/{row.id}" for row in rows}
    found = session.get([*entries.values(), *words.values()])
    indexed = {}
    for row in rows:
        entry, own = found.get(entries[row.id]), found.get(words[row.id])
        codes = None if entry is None else entry.fields["metadata_codes"]
        is_right = codes == metadata_codes(row.metadata)
        indexed[row.id] = IndexedEntry(
            None if own is None else read_words(own.fields).document,
            frozenset(index_rows(row.metadata)) if is_right else _WRONG,
        )
    return indexed
