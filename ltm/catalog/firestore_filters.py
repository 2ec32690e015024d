"""What of a metadata filter Firestore answers itself, and what is left to be checked here.

The codes of an entry's metadata stand in a list, and one query can ask for the documents that have
one of up to 30 strings in one list. So one equality goes to the server, or one choice of them. What
comes back is checked against the whole filter in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from ltm.catalog.commit import is_live
from ltm.catalog.document_queries import Query
from ltm.catalog.documents import UNCODED, metadata_code, read_entry
from ltm.catalog.firestore_session import DOCUMENTS_PER_REQUEST, Session
from ltm.entry import EntryRow
from ltm.hashing import canonical_json
from ltm.search.filters import And, ContainsElement, Equals, Filter, In, Or, matches, parse_filter

MAX_CHOICES = 30
"""Strings of which one query can ask for any."""


class Explanation(TypedDict):
    """How a listing with a filter is answered."""

    server: list[str]
    """What Firestore selects by."""
    client: list[str]
    """What is checked of each document that it has selected."""


class Plan(NamedTuple):
    """How a filter is asked."""

    codes: list[str]
    """Of which a document must have one; none where the server has nothing to select by."""
    selected: Filter | None
    """The part of the filter that the codes stand for."""


def plan_filter(wanted: Filter | None) -> Plan:
    """Return the part of *wanted* that Firestore answers: the first that it can."""
    parts = wanted.children if isinstance(wanted, And) else (wanted,)
    # A single equality selects less than a choice.
    for most in (1, MAX_CHOICES - 1):
        for part in parts:
            codes = _codes(part)
            if codes and len(codes) <= most:
                return Plan([*codes, UNCODED], part)
    return Plan([], None)


def select_rows(
    session: Session, query: Query, limit: int, condition: Filter | None, now: datetime
) -> list[EntryRow]:
    """Return up to *limit* rows of *query* that are live at *now* and fulfil *condition*."""
    plan = plan_filter(condition)
    if plan.codes:
        query = replace(query, contains=("metadata_codes", plan.codes))
    more = limit if condition is None else 2 * limit + 10
    found: list[EntryRow] = []
    size = min(more, DOCUMENTS_PER_REQUEST)
    for page in session.pages(query, size, growing=True):
        for each in page:
            row = read_entry(each.id, each.fields)
            if is_live(row, now) and matches(condition, row.metadata):
                found.append(row)
                if len(found) == limit:
                    return found
    return found


def explain_filter(prefix: str, metadata_filter: Mapping[str, Any] | None) -> Explanation:
    """Return who checks what of a listing of keys with *prefix* and of metadata as asked for.

    Raises:
        ValidationError: A bad filter.
    """
    plan = plan_filter(parse_filter(metadata_filter))
    server, client = ["table", f"key begins with {prefix!r}"][: 2 if prefix else 1], ["expires_at"]
    for key, operand in (metadata_filter or {}).items():
        parsed = parse_filter({key: operand})
        parts = parsed.children if isinstance(parsed, And) else (parsed,)
        text = canonical_json({key: operand})
        if plan.selected in parts:
            server.append(text)
        if any(part != plan.selected for part in parts):
            client.append(text)
    return Explanation(server=server, client=client)


def _codes(part: Filter | None) -> list[str]:
    """Return codes of which every document has one that fulfils *part*, or none for not known."""
    if isinstance(part, Equals | ContainsElement):
        return [metadata_code(part.path, part.code)]
    if isinstance(part, In):
        return [metadata_code(part.path, code) for code in part.codes]
    if isinstance(part, Or):
        found = [_codes(child) for child in part.children]
        return [code for codes in found for code in codes] if all(found) else []
    return []
