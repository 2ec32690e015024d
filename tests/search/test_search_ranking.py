"""BM25, by hand and against a straightforward reading of the formula."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from math import isclose, isfinite, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltm.search.ranking import Hit, Posting, rank, rank_contenders


def test_a_hand_computed_example_comes_out() -> None:
    # Three entries of lengths 2, 4 and 6; "tea" is in two of them, "milk" in one.
    postings = {"tea": [("a", 2, 1), ("b", 4, 2)], "milk": [("b", 4, 1)]}
    # idf(tea) = ln(1 + 1.5 / 2.5) = 0.4700036; idf(milk) = ln(1 + 2.5 / 1.5) = 0.9808293.
    # a: 0.4700036 * 1 / (1 + 0.9 * (0.6 + 0.4 * 2 / 4)) = 0.4700036 / 1.72
    # b: 0.4700036 * 2 / (2 + 0.9 * (0.6 + 0.4)) + 0.9808293 / 1.9
    hits = rank(postings, document_count=3, total_length=12, limit=10)
    assert [hit.entry_id for hit in hits] == ["b", "a"]
    assert hits[0].score == pytest.approx(0.3241404 + 0.5162260, abs=1e-6)
    assert hits[1].score == pytest.approx(0.2732579, abs=1e-6)


def reference(
    postings: dict[str, list[Posting]], count: int, total: int, allowed: Container[str] | None
) -> dict[str, float]:
    scores: dict[str, float] = {}
    for found in postings.values():
        for entry_id, length, frequency in found:
            if allowed is not None and entry_id not in allowed:
                continue
            idf = log(1 + (count - len(found) + 0.5) / (len(found) + 0.5))
            norm = 0.9 * (1 - 0.4 + 0.4 * length / (total / count))
            scores[entry_id] = scores.get(entry_id, 0) + idf * frequency / (frequency + norm)
    return scores


ids = st.sampled_from([f"{n:02d}" for n in range(30)])


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, list[Posting]], int, int]:
    lengths = draw(st.dictionaries(ids, st.integers(1, 40), min_size=1))
    occurrences = st.dictionaries(st.sampled_from(sorted(lengths)), st.integers(1, 9))
    terms = draw(st.dictionaries(st.text("abc", min_size=1, max_size=2), occurrences, max_size=6))
    postings = {
        term: [(entry_id, lengths[entry_id], often) for entry_id, often in found.items()]
        for term, found in terms.items()
    }
    return postings, len(lengths), sum(lengths.values())


@given(tables(), st.none() | st.frozensets(ids), st.none() | st.integers(0, 12))
def test_ranking_is_what_the_formula_says(
    table: tuple[dict[str, list[Posting]], int, int],
    allowed: frozenset[str] | None,
    limit: int | None,
) -> None:
    postings, count, total = table
    expected = reference(postings, count, total, allowed)
    hits = rank(postings, document_count=count, total_length=total, allowed=allowed, limit=None)
    assert {hit.entry_id for hit in hits} == set(expected)
    assert all(isclose(hit.score, expected[hit.entry_id], rel_tol=1e-12) for hit in hits)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.entry_id))
    limited = rank(postings, document_count=count, total_length=total, allowed=allowed, limit=limit)
    assert limited == hits[:limit]


@given(tables())
def test_the_order_in_which_an_index_answers_changes_no_bit(
    table: tuple[dict[str, list[Posting]], int, int],
) -> None:
    postings, count, total = table
    shuffled = {term: postings[term][::-1] for term in reversed(list(postings))}
    first = rank(postings, document_count=count, total_length=total, limit=None)
    assert rank(shuffled, document_count=count, total_length=total, limit=None) == first


@given(tables(), st.none() | st.frozensets(ids), st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=300)
def test_looking_up_contenders_only_changes_no_bit(
    table: tuple[dict[str, list[Posting]], int, int],
    allowed: frozenset[str] | None,
    limit: int,
    excess: int,
) -> None:
    postings, count, total = table
    entries: dict[str, tuple[int, dict[str, int]]] = {}
    for term, found in postings.items():
        for entry_id, length, frequency in found:
            entries.setdefault(entry_id, (length, {}))[1][term] = frequency
    asked: list[int] = []

    def look_up(documents: Sequence[int]) -> Iterator[tuple[int, str, int, str]]:
        asked.extend(documents)
        for document in documents:
            length, frequencies = entries[f"{document:02d}"]
            tokens = [term for term, count in frequencies.items() for _ in range(count)]
            yield document, f"{document:02d}", length, " ".join(tokens)

    bounds = {
        term: {
            int(entry_id): frequency + (int(entry_id) + excess) % 3
            for entry_id, _, frequency in found
        }
        for term, found in postings.items()
    }
    ranked = rank_contenders(
        bounds,
        look_up,
        document_count=count,
        total_length=total,
        shortest=min((length for length, _ in entries.values()), default=0),
        longest=max((length for length, _ in entries.values()), default=0),
        allowed=None if allowed is None else frozenset(map(int, allowed)),
        limit=limit,
        at_once=2,
    )
    assert ranked == rank(
        postings, document_count=count, total_length=total, allowed=allowed, limit=limit
    )
    assert len(set(asked)) == len(asked)


def test_what_cannot_be_among_the_best_is_not_looked_up() -> None:
    bounds = {
        "common": dict.fromkeys(range(1000), 1),
        "rare": dict.fromkeys(range(0, 1000, 50), 1),
    }
    asked: list[int] = []

    def look_up(documents: Sequence[int]) -> Iterator[tuple[int, str, int, str]]:
        asked.extend(documents)
        for document in documents:
            yield document, f"{document:04d}", 10, "common" if document % 50 else "common rare"

    hits = rank_contenders(
        bounds, look_up, document_count=1000, total_length=10_000, shortest=10, longest=10, limit=10
    )
    assert [hit.entry_id for hit in hits] == [f"{n:04d}" for n in range(0, 500, 50)]
    assert sorted(asked) == list(range(0, 1000, 50))


def test_equal_scores_are_ordered_by_id_whatever_the_order_of_documents() -> None:
    hits = rank_contenders(
        {"t": dict.fromkeys(range(100), 1)},
        lambda documents: [(document, f"{99 - document:02d}", 5, "t") for document in documents],
        document_count=100,
        total_length=500,
        shortest=5,
        longest=5,
        limit=3,
        at_once=2,
    )
    assert [hit.entry_id for hit in hits] == ["00", "01", "02"]


def test_a_long_entry_with_all_terms_may_come_after_a_short_one_with_one() -> None:
    postings = {"tea": [("long", 100, 1), ("short", 2, 9)], "milk": [("long", 100, 1)]}
    found = {0: (0, "long", 100, "tea milk"), 1: (1, "short", 2, " ".join(["tea"] * 9))}
    hits = rank_contenders(
        {"tea": {0: 1, 1: 9}, "milk": {0: 1}},
        lambda documents: [found[document] for document in documents],
        document_count=10,
        total_length=130,
        shortest=2,
        longest=100,
        limit=1,
    )
    assert [hit.entry_id for hit in hits] == ["short"]
    assert hits == rank(postings, document_count=10, total_length=130, limit=1)


def test_equal_scores_are_ordered_by_id() -> None:
    postings = {"t": [(entry_id, 3, 1) for entry_id in "dbca"]}
    for limit in (None, 3):
        hits = rank(postings, document_count=9, total_length=30, limit=limit)
        assert [hit.entry_id for hit in hits] == ["a", "b", "c", "d"][:limit]


def test_entries_that_may_not_be_returned_still_make_a_term_common() -> None:
    postings = {"t": [("a", 3, 1), ("b", 3, 1)]}
    everything = rank(postings, document_count=5, total_length=15, limit=None)
    assert rank(postings, document_count=5, total_length=15, allowed={"b"}, limit=None) == [
        Hit("b", everything[1].score)
    ]


def test_a_shorter_entry_and_a_rarer_term_score_higher() -> None:
    postings = {"rare": [("a", 5, 1)], "common": [("b", 5, 1), ("c", 9, 1), ("d", 2, 1)]}
    hits = rank(postings, document_count=4, total_length=21, limit=None)
    assert [hit.entry_id for hit in hits] == ["a", "d", "b", "c"]


@pytest.mark.parametrize(("count", "total"), [(0, 0), (5, 0), (0, 5), (1, 1)])
def test_counts_that_fell_behind_still_give_positive_scores(count: int, total: int) -> None:
    postings = {"t": [("a", 1, 1), ("b", 4, 2), ("c", 9, 1)]}
    hits = rank(postings, document_count=count, total_length=total, limit=None)
    assert len(hits) == 3
    assert all(hit.score > 0 and isfinite(hit.score) for hit in hits)


def test_nothing_found_ranks_nothing() -> None:
    assert rank({}, document_count=0, total_length=0, limit=5) == []
    assert rank({"t": []}, document_count=3, total_length=9, limit=5) == []
