"""Words as an index is told of them, for the tests of the local index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ltm.search.analysis import Document
from ltm.search.duckdb_index import IndexedWords
from ltm.search.questions import Question
from ltm.search.ranking import Hit, rank

START = datetime(2026, 1, 1, tzinfo=UTC)
TEA = Question(("tea",), (), ())

Model = dict[str, IndexedWords]
"""By entry id, what an index was told last."""


def words(entry_id: str, text: str, *, minutes: int | None = None, stamp: str = "") -> IndexedWords:
    expires_at = None if minutes is None else at(minutes)
    return IndexedWords(entry_id, Document(text, len(text.split())), expires_at, stamp)


def gone(entry_id: str) -> IndexedWords:
    return IndexedWords(entry_id, None)


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.entry_id for hit in hits]


def reference(model: Mapping[str, IndexedWords], question: Question, now: datetime) -> list[Hit]:
    """Return the answer by reading every document."""
    live = {
        entry.entry_id: entry.document
        for entry in model.values()
        if entry.document is not None and (entry.expires_at is None or entry.expires_at > now)
    }
    counts = {entry_id: Counter(document.text.split()) for entry_id, document in live.items()}
    padded = {entry_id: f" {document.text} " for entry_id, document in live.items()}
    return rank(
        {
            term: [
                (entry_id, document.length, counts[entry_id][term])
                for entry_id, document in live.items()
                if counts[entry_id][term]
            ]
            for term in question.terms
        },
        document_count=len(live),
        total_length=sum(document.length for document in live.values()),
        allowed={
            entry_id
            for entry_id, text in padded.items()
            if all(f" {' '.join(phrase)} " in text for phrase in question.phrases)
            and not any(f" {' '.join(phrase)} " in text for phrase in question.excluded)
        },
        limit=None,
    )
