"""Full-text search in SQL: the index finds candidates, the shared ranker scores them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ltm.catalog.database import Database, in_chunks
from ltm.entry import EntryRow, ValueRow
from ltm.search.questions import Question
from ltm.search.ranking import Hit, rank_contenders
from ltm.sql.execution import Row, Session, Statement

if TYPE_CHECKING:
    from ltm.search.filters import Filter


def find_rows(
    database: Database,
    question: Question,
    limit: int,
    condition: Filter | None,
    scope: Mapping[str, Any],
) -> list[tuple[EntryRow, float]]:
    """Return up to *limit* live entries that answer *question*, with scores, best first.

    Args:
        database: Where they are.
        question: What is asked.
        limit: At most this many, counted after *condition*.
        condition: What the metadata must fulfil, or None.
        scope: The parameters ``tenant``, ``table`` and ``now``.
    """

    def find(session: Session) -> list[tuple[EntryRow, float]]:
        hits = _find_ranked(session, database, question, limit, condition, scope)
        rows = _read_hits(session, database, database.statements.select_entries, hits, scope)
        return [(EntryRow._make(row), score) for row, score in rows]

    return database.read(find)


def find_values(
    database: Database,
    question: Question,
    limit: int,
    condition: Filter | None,
    scope: Mapping[str, Any],
) -> list[tuple[ValueRow, float]]:
    """Return as much of what :func:`find_rows` does as a read of the values needs."""

    def find(session: Session) -> list[tuple[ValueRow, float]]:
        hits = _find_ranked(session, database, question, limit, condition, scope)
        rows = _read_hits(session, database, database.statements.select_hits, hits, scope)
        return [(ValueRow._make(row[1:]), score) for row, score in rows]

    return database.read(find)


def _read_hits(
    session: Session,
    database: Database,
    statement: Statement,
    hits: Sequence[Hit],
    scope: Mapping[str, Any],
) -> Iterator[tuple[Row, float]]:
    """Yield the rows of *hits*, which *statement* reads by their ids and begins with these."""
    rows: dict[str, Row] = {}
    for chunk in in_chunks(hits):
        ids = database.dialect.bind_list([hit.entry_id for hit in chunk])
        rows |= {row[0]: row for row in session.rows(statement, {**scope, "ids": ids})}
    # Words without an entry are for verification to find, not for a search to fail on.
    return ((rows[hit.entry_id], hit.score) for hit in hits if hit.entry_id in rows)


def _find_ranked(
    session: Session,
    database: Database,
    question: Question,
    limit: int,
    condition: Filter | None,
    scope: Mapping[str, Any],
) -> list[Hit]:
    """Return the ids and scores of :func:`find_rows`, by statements that see one state."""
    statements, dialect = database.search, database.dialect
    bounds: dict[str, dict[int, int]] = {}
    count = length = shortest = longest = has_expired = 0
    terms = dialect.bind_list(question.terms)
    for term, documents, frequencies, *collection in session.rows(
        statements.select_occurrences, {**scope, "terms": terms}
    ):
        if term is None:
            count, length, shortest, longest, has_expired = (int(each or 0) for each in collection)
            continue
        numbers = dialect.read_list(documents)
        if frequencies is None:
            bounds[term] = Counter(numbers)
        else:
            bounds[term] = dict(zip(numbers, dialect.read_list(frequencies), strict=True))
    if has_expired:
        ((listed, expired_length),) = session.rows(statements.select_expired, scope)
        expired = dialect.read_list(listed)
        count, length = count - len(expired), length - int(expired_length)
        for found in bounds.values():
            for document in expired:
                found.pop(document, None)

    def look_up(documents: Sequence[int]) -> list[Row]:
        listed = {"documents": dialect.bind_list(documents)}
        return session.rows(statements.select_documents, listed)

    return rank_contenders(
        bounds,
        look_up,
        document_count=count,
        total_length=length,
        shortest=shortest,
        longest=longest,
        allowed=_find_allowed(session, database, question, condition, scope),
        limit=limit,
    )


def _find_allowed(
    session: Session,
    database: Database,
    question: Question,
    condition: Filter | None,
    scope: Mapping[str, Any],
) -> set[int] | None:
    """Return the documents that phrases, exclusions and the filter let through; None for all."""
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
    found = session.rows(statement, parameters)
    if condition is None or condition.is_exact:
        return {document for document, _ in found}
    from ltm.search.filters import matches

    documents = {entry_id: document for document, entry_id in found}
    allowed: set[int] = set()
    for chunk in in_chunks([*documents]):
        bound = {**scope, "ids": dialect.bind_list(chunk)}
        rows = map(EntryRow._make, session.rows(database.statements.select_entries, bound))
        allowed.update(documents[row.id] for row in rows if matches(condition, row.metadata))
    return allowed
