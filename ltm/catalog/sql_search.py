"""Full-text search in SQL: the index finds candidates, the shared ranker scores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ltm.catalog.database import Database, in_chunks
from ltm.entry import EntryRow
from ltm.search.analysis import Question
from ltm.search.ranking import Hit, Posting, rank
from ltm.sql.execution import Session

if TYPE_CHECKING:
    from ltm.search.filters import Filter


def find_ranked(
    session: Session,
    database: Database,
    question: Question,
    limit: int,
    condition: Filter | None,
    scope: Mapping[str, Any],
) -> list[Hit]:
    """Return the ids of up to *limit* live entries that answer *question*, best first.

    Args:
        session: Whose statements all see one state of the database.
        database: That database.
        question: What is asked.
        limit: At most this many, counted after *condition*.
        condition: What the metadata must fulfil, or None.
        scope: The parameters ``tenant``, ``table`` and ``now``.
    """
    statements, terms = database.search, database.dialect.bind_list(question.terms)
    count, length = session.rows(statements.select_collection_size, scope)[0]
    expired, expired_length = session.rows(statements.select_expired_size, scope)[0]
    postings: dict[str, list[Posting]] = {term: [] for term in question.terms}
    for term, entry_id, words, frequency in session.rows(
        statements.select_postings, {**scope, "terms": terms}
    ):
        postings[term].append((entry_id, words, frequency))
    return rank(
        postings,
        document_count=count - expired,
        total_length=int(length) - int(expired_length),
        allowed=_find_allowed(session, database, question, condition, scope),
        limit=limit,
    )


def _find_allowed(
    session: Session,
    database: Database,
    question: Question,
    condition: Filter | None,
    scope: Mapping[str, Any],
) -> set[str] | None:
    """Return the ids that phrases, exclusions and the filter let through; None for all."""
    if condition is None and not question.phrases and not question.excluded:
        return None
    dialect = database.dialect
    clause, parameters = None, {**scope}
    if condition is not None:
        from ltm.catalog.conditions import compile_filter

        compiled = compile_filter(condition, database.idiom)
        clause = compiled.condition
        parameters |= compiled.parameters
    statement = database.search.select_allowed(
        clause, phrases=bool(question.phrases), exclusions=bool(question.excluded)
    )
    words = [(term,) for term in question.terms]
    parameters["candidates"] = dialect.bind_words(words, every=False)
    parameters["phrases"] = dialect.bind_words(question.phrases, every=True)
    parameters["exclusions"] = dialect.bind_words(question.excluded, every=False)
    ids = [entry_id for (entry_id,) in session.rows(statement, parameters)]
    if condition is None or condition.is_exact:
        return set(ids)
    from ltm.search.filters import matches

    allowed: set[str] = set()
    for chunk in in_chunks(ids):
        bound = {**scope, "ids": dialect.bind_list(chunk)}
        rows = map(EntryRow._make, session.rows(database.statements.select_entries, bound))
        allowed.update(row.id for row in rows if matches(condition, row.metadata))
    return allowed
