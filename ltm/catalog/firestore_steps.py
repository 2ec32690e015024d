"""Carrying decisions out in documents."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from ltm.catalog.commit import Outcome
from ltm.catalog.decisions import Decision
from ltm.catalog.document_queries import Found
from ltm.catalog.documents import (
    TableDocument,
    deletion_fields,
    entry_fields,
    gone_fields,
    payload_id,
    place_fields,
    read_entry,
    version_fields,
    version_id,
    words_fields,
)
from ltm.catalog.firestore_payloads import naming
from ltm.catalog.firestore_session import Collections, Session
from ltm.entry import EntryRow
from ltm.search.analysis import Document


class StoredEntry(NamedTuple):
    """A row that is there, expired or not."""

    row: EntryRow
    has_words: bool
    """Whether the feed of search words has an entry for it."""

    @classmethod
    def of(cls, found: Found) -> StoredEntry:
        """Return what the document of an entry holds."""
        return cls(read_entry(found.id, found.fields), bool(found.fields["has_words"]))


class WriteSteps:
    """Writes what decisions ask for into a session."""

    def __init__(
        self,
        session: Session,
        collections: Collections,
        *,
        tenant: str,
        table: str,
        state: TableDocument,
        now: datetime,
    ) -> None:
        """Write into *session*, for a logical table in *state*, at the instant *now*."""
        self._session = session
        self._collections = collections
        self._names = tenant, table
        self.state = state
        self._now = now

    def run(
        self,
        entry_id: str,
        decision: Decision,
        stored: StoredEntry | None,
        document: Document | None = None,
        *,
        words_changed: bool = True,
    ) -> Outcome:
        """Write what *decision* asks for and return its outcome.

        Args:
            entry_id: The id of the entry.
            decision: What to do.
            stored: The row that it replaces or deletes, None for none.
            document: The words by which the entry is to be found.
            words_changed: Whether they may differ from those it is found by already.

        Raises:
            ValidationError: The entry doesn't fit into a document.
        """
        outcome, row = decision.outcome, decision.row
        if decision.keep_version and decision.replaces and stored is not None:
            path = f"{self._collections.versions}/{version_id(stored.row)}"
            fields = version_fields(stored.row, *self._names, end_seq=self.state.snapshot_seq)
            self._session.put(path, fields)
        if outcome.freed is not None:
            self.schedule(outcome.freed)
        entry_path = f"{self._collections.entries}/{entry_id}"
        if row is not None:
            fields = entry_fields(row, *self._names, has_words=document is not None)
            self._session.put(entry_path, fields)
        elif decision.replaces:
            self._session.delete(entry_path)
        if row is not None or decision.replaces:
            self._write_words(entry_id, row, stored, document, has_changed=words_changed)
        return outcome

    def schedule(self, uri: str) -> None:
        """Schedule the deletion of a payload."""
        path = f"{self._collections.deletions}/{payload_id(uri)}"
        self._session.put(path, deletion_fields(uri, self._now, *self._names))

    def move(self, moves: Mapping[str, str]) -> None:
        """Let what names an old location of *moves* name the new one; schedule the old ones."""
        for found in [*naming(self._session, self._collections, [*moves])]:
            new = moves[str(found.fields["storage_uri"])]
            self._session.put(found.path, {**found.fields, **place_fields(new)})
        for uri in moves:
            self.schedule(uri)

    def _write_words(
        self,
        entry_id: str,
        row: EntryRow | None,
        stored: StoredEntry | None,
        document: Document | None,
        *,
        has_changed: bool,
    ) -> None:
        path = f"{self._collections.words}/{entry_id}"
        had_words = stored is not None and stored.has_words
        if row is None or document is None:
            if had_words:
                self._session.put(path, gone_fields(self._now, *self._names))
            return
        is_same = had_words and stored is not None and stored.row.expires_at == row.expires_at
        if has_changed or not is_same:
            self._session.put(path, words_fields(document, row.expires_at, *self._names))
