"""Checking and repairing what a SQL catalog's indexes hold."""

from __future__ import annotations

from collections.abc import Sequence

from ltm.catalog.accounts import IndexedEntry
from ltm.catalog.database import Database, in_chunks
from ltm.entry import EntryRow
from ltm.search.analysis import Document
from ltm.sql.execution import Session


def read_indexed(database: Database, rows: Sequence[EntryRow]) -> dict[str, IndexedEntry]:
    """Return what the indexes hold of *rows*, by id."""
    words: dict[str, Document] = {}
    metadata: dict[str, set[tuple[str, str]]] = {row.id: set() for row in rows}
    for chunk in in_chunks(rows):
        ids = {"ids": database.dialect.bind_list([row.id for row in chunk])}
        for entry_id, text, length in database.rows(database.statements.select_words, ids):
            words[entry_id] = Document(text, length)
        for entry_id, path, code in database.rows(database.statements.select_metadata, ids):
            metadata[entry_id].add((path, code))
    return {row.id: IndexedEntry(words.get(row.id), frozenset(metadata[row.id])) for row in rows}


def check_search_index(database: Database, *, repair: bool) -> str | None:
    """Return what is wrong with the full-text index, made anew if *repair* is asked for."""
    check, rebuild = database.dialect.check_index, database.dialect.rebuild_index
    if check is None or rebuild is None:
        return None

    def see_to(session: Session) -> str | None:
        # Not around the transaction: that it can't begin says nothing of the index.
        try:
            session.command(check)
        except database.pool.error as error:
            if repair:
                session.command(rebuild)
            return str(error)
        return None

    return database.write(see_to)
