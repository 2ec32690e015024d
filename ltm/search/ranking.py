"""The ranker every catalog shares: BM25 over the postings that the catalog's index found."""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping, Sequence
from math import log
from typing import NamedTuple

K1 = 0.9
B = 0.4

Posting = tuple[str, int, int]
"""Entry id, length of the entry in tokens, how often the term occurs in it."""


class Hit(NamedTuple):
    """An entry that answers a question."""

    entry_id: str
    score: float
    """Above 0, higher is better."""


def rank(
    postings: Mapping[str, Sequence[Posting]],
    *,
    document_count: int,
    total_length: int,
    allowed: Container[str] | None = None,
    limit: int | None,
) -> list[Hit]:
    """Return the best hits, by descending score and then by entry id.

    A term adds idf * f / (f + k1 * (1 - b + b * length / average length)) to an entry in which it
    occurs f times, where idf = ln(1 + (N - n + 0.5) / (n + 0.5)), k1 = 0.9 and b = 0.4. Terms are
    added in sorted order, so that a score is the same to the last bit wherever it is computed.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009),
    in the form of Lucene; see Kamphuis et al., "Which BM25 Do You Mean?" (ECIR 2020), table 1.

    Args:
        postings: For each term, all live entries of the table that contain it, each once. Their
            number is n, whatever *allowed* says.
        document_count: N, the live entries of the table; a count that has fallen behind the
            postings is taken as their number.
        total_length: The sum of their lengths.
        allowed: The ids that may be returned; None allows all.
        limit: At most this many hits; None for all.
    """
    average_length = total_length / document_count if total_length > 0 < document_count else 1.0
    fixed = K1 * (1 - B)
    per_token = K1 * B / average_length
    # Negated, so that ascending pairs of score and id are the order to return.
    negated: dict[str, float] = {}
    for term in sorted(postings):
        found = postings[term]
        count = len(found)
        idf = log(1 + (max(document_count, count) - count + 0.5) / (count + 0.5))
        for entry_id, length, frequency in found:
            if allowed is None or entry_id in allowed:
                gain = idf * frequency / (frequency + fixed + per_token * length)
                negated[entry_id] = negated.get(entry_id, 0.0) - gain
    pairs = zip(negated.values(), negated, strict=True)
    best = sorted(pairs) if limit is None else heapq.nsmallest(limit, pairs)
    return [Hit(entry_id, -score) for score, entry_id in best]
