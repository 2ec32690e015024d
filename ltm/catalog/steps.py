"""Writing the words and metadata rows of entries in SQL: as few statements as can be."""

from __future__ import annotations

from datetime import datetime

from ltm.entry import Metadata
from ltm.search.analysis import Document
from ltm.sql.execution import Columns, Session, Statement
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ltm.sql.statements import Statements


class IndexSteps:
    """Collects what is to be done to the words and metadata rows of entries."""

    __slots__ = ("_metadata", "_outdated", "_scope", "_touched", "_wordless", "_words")

    def __init__(self, scope: dict[str, str]) -> None:
        """Begin with nothing; *scope* is ``tenant_id`` and ``table_name``."""
        self._scope = scope
        self._words: dict[str, list[Any]] = {"entry_id": [], "text": [], "length": []}
        self._wordless: list[str] = []
        self._outdated: list[str] = []
        self._metadata: dict[str, list[Any]] = {
            "entry_id": [],
            "updated_at": [],
            "path": [],
            "value": [],
        }
        self._touched: list[str] = []

    def add(
        self,
        entry_id: str,
        document: Document | None,
        metadata: Metadata,
        updated_at: datetime,
        *,
        replaces: bool,
        metadata_changed: bool,
    ) -> None:
        """Take in that an entry is written.

        Args:
            entry_id: Its id.
            document: The words to be found by, or None.
            metadata: Its metadata.
            updated_at: When it is written.
            replaces: Whether there is a row that is replaced.
            metadata_changed: Whether *metadata* differs from what that row has.
        """
        if document is not None:
            words = self._words
            words["entry_id"].append(entry_id)
            words["text"].append(document.text)
            words["length"].append(document.length)
        elif replaces:
            self._wordless.append(entry_id)
        if not metadata_changed:
            if metadata:
                self._touched.append(entry_id)
            return
        if replaces:
            self._outdated.append(entry_id)
        if metadata:
            self._add_metadata(entry_id, metadata, updated_at)

    def _add_metadata(self, entry_id: str, metadata: Metadata, updated_at: datetime) -> None:
        from ltm.search.codes import index_rows

        rows, columns = index_rows(metadata), self._metadata
        columns["entry_id"] += [entry_id] * len(rows)
        columns["updated_at"] += [updated_at] * len(rows)
        columns["path"] += [path for path, _ in rows]
        columns["value"] += [code for _, code in rows]

    def run_first(self, session: Session, statements: Statements) -> None:
        """Run the statements, once the rows of the entries are written, which are new."""
        self._write(session, statements.insert_search, self._words)
        self._write(session, statements.insert_first_metadata, self._metadata)

    def run(self, session: Session, statements: Statements) -> None:
        """Run the statements, once the rows of the entries are written."""
        bind_list = session.dialect.bind_list
        self._write(session, statements.upsert_search, self._words)
        if self._wordless:
            # Asked first: to delete nothing from the full-text index of SQLite is work enough.
            found = session.rows(statements.select_wordy, {"ids": bind_list(self._wordless)})
            if found:
                wordy = bind_list([entry_id for (entry_id,) in found])
                session.run(statements.delete_search, {"ids": wordy})
        if self._outdated:
            session.run(statements.delete_metadata, {"ids": bind_list(self._outdated)})
        self._write(session, statements.insert_metadata, self._metadata)
        if self._touched:
            session.run(statements.touch_metadata, {"ids": bind_list(self._touched)})

    def _write(self, session: Session, statement: Statement, columns: Columns) -> None:
        if columns["entry_id"]:
            session.send_rows(statement, columns, self._scope)
