"""The ranker every catalog shares: BM25 over the postings that the catalog's index found."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import log
from typing import NamedTuple

K1 = 0.9
B = 0.4
FIXED = K1 * (1 - B)

FIRST_CONTENDERS = 96
"""So many documents are looked up at first."""

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
    per_token = _weigh_token(document_count, total_length)
    # Negated, so that ascending pairs of score and id are the order to return.
    negated: dict[str, float] = {}
    for term in sorted(postings):
        found = postings[term]
        idf = _weigh_term(len(found), document_count)
        for entry_id, length, frequency in found:
            if allowed is None or entry_id in allowed:
                gain = idf * frequency / (frequency + FIXED + per_token * length)
                negated[entry_id] = negated.get(entry_id, 0.0) - gain
    pairs = zip(negated.values(), negated, strict=True)
    best = sorted(pairs) if limit is None else heapq.nsmallest(limit, pairs)
    return [Hit(entry_id, -score) for score, entry_id in best]


def rank_contenders(
    bounds: Mapping[str, Mapping[int, int]],
    look_up: Callable[[Sequence[int]], Iterable[tuple[int, str, int, str]]],
    *,
    document_count: int,
    total_length: int,
    shortest: int,
    longest: int,
    allowed: AbstractSet[int] | None = None,
    limit: int,
    at_once: int = FIRST_CONTENDERS,
) -> list[Hit]:
    """Return what :func:`rank` would, having looked up only what may be among the best.

    No entry scores higher than it would if it were as short as the shortest one and its words
    occurred as often as they may: rounding keeps order, so that holds to the last bit. Documents
    are looked up in the order of this score until *limit* entries have been found above it.

    Args:
        bounds: For each term the documents of all live entries that contain it, and how often it
            may occur in them: once at least.
        look_up: Returns of documents, in any order, each with its entry id, its length and its
            tokens, joined by spaces.
        document_count: As for :func:`rank`.
        total_length: As for :func:`rank`.
        shortest: No entry is shorter.
        longest: No entry is longer.
        allowed: The documents that may be returned; None allows all.
        limit: At most this many hits.
        at_once: So many documents are looked up at first, then twice as many, and so on.
    """
    per_token = _weigh_token(document_count, total_length)
    terms: list[tuple[str, float, Mapping[int, int], dict[int, float]]] = []
    any_term: set[int] = set()
    several: set[int] = set()
    for term, found in sorted(bounds.items()):
        idf = _weigh_term(len(found), document_count)
        gains = {
            frequency: idf * frequency / (frequency + FIXED + per_token * shortest)
            for frequency in set(found.values())
        }
        terms.append((term, idf, found, gains))
        several |= any_term.intersection(found)
        any_term.update(found)
    # Of documents with several terms the least that they may score, too: mostly that is more than
    # others can, which then need not even be put in order. All scores are negated, for the order.
    most = dict.fromkeys(several if allowed is None else several & allowed, 0.0)
    least = dict(most)
    for _, idf, found, gains in terms:
        gain = idf / (1 + FIXED + per_token * longest)
        for document in most:
            frequency = found.get(document)
            if frequency is not None:
                most[document] -= gains[frequency]
                least[document] -= gain
    worst = heapq.nsmallest(limit, least.values())[-1] if len(least) >= limit else 0.0
    for _, _, found, gains in terms:
        if -max(gains.values(), default=0.0) <= worst:
            single = found.keys() - several
            for document in single if allowed is None else single & allowed:
                most[document] = -gains[found[document]]
    contenders = sorted(
        (document for document in most if most[document] <= worst), key=most.__getitem__
    )
    best: list[tuple[float, str]] = []
    start, count = 0, max(at_once, limit)
    while start < len(contenders) and (len(best) < limit or most[contenders[start]] <= best[-1][0]):
        for document, entry_id, length, text in look_up(contenders[start : start + count]):
            score = 0.0
            tokens: list[str] | None = None
            for term, idf, found, _ in terms:
                frequency = found.get(document, 0)
                if frequency > 1:
                    tokens = tokens or text.split(" ")
                    frequency = tokens.count(term)
                score += idf * frequency / (frequency + FIXED + per_token * length)
            best.append((-score, entry_id))
        best = heapq.nsmallest(limit, best)
        start, count = start + count, 2 * count
    return [Hit(entry_id, -score) for score, entry_id in best]


def _weigh_token(document_count: int, total_length: int) -> float:
    """Return what a token of an entry's length adds to the divisor."""
    average_length = total_length / document_count if total_length > 0 < document_count else 1.0
    return K1 * B / average_length


def _weigh_term(count: int, document_count: int) -> float:
    """Return the idf of a term that is in *count* entries."""
    return log(1 + (max(document_count, count) - count + 0.5) / (count + 0.5))
