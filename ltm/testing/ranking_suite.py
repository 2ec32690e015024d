"""What every catalog must do to rank: what the shared ranker says, to the last bit."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ltm.catalog.base import Catalog
from ltm.hashing import canonical_json, compute_content_hash
from ltm.search.analysis import get_analyzer
from ltm.search.ranking import rank
from ltm.testing.catalog_fixtures import CatalogFixtures, CatalogMaker, relaxed
from ltm.testing.clock import FakeClock

WORDS = ("tea", "steam", "team", "oat", "coat", "milk", "7", "77", "été", "雨天")
"""Some are within others."""

Texts = dict[str, str]
"""By key."""

_fresh = count()
"""Numbers a table for each example of a property test, which share one database."""


class RankingSuite(CatalogFixtures):
    """Questions to random collections."""

    @settings(relaxed, max_examples=6)
    @given(seed=st.integers(0, 2**32), size=st.integers(1, 150))
    def test_any_question_is_answered_as_the_shared_ranker_answers_it(
        self, make: CatalogMaker, clock: FakeClock, seed: int, size: int
    ) -> None:
        chance, table = Random(seed), f"t{next(_fresh)}"
        catalog, neighbour = make(table=table), make(table=table, tenant="neighbour")
        kept = {f"k{number}": _make_text(chance) for number in range(size)}
        expired = {f"e{number}": _make_text(chance) for number in range(chance.choice((0, 0, 9)))}
        _store(catalog, kept)
        _store(neighbour, {"n": " ".join(WORDS)} if chance.random() < 0.5 else {})
        _store(catalog, expired, expires_at=clock() + timedelta(seconds=1))
        clock.advance(2)
        for _ in range(10):
            words = chance.choices((*WORDS, "absent", "k3"), k=chance.choice((1, 2, 3, 12)))
            limit = chance.choice((1, 10, 100))
            expected = _rank(catalog, kept, words, limit)
            hits = catalog.search(" ".join(words), limit=limit)
            assert [(hit["id"], hit["score"]) for hit in hits] == expected, words

    def test_a_word_counts_as_often_as_it_occurs_in_a_long_text(self, catalog: Catalog) -> None:
        # A tsvector of PostgreSQL counts to 255, and as far as the 16,383rd word.
        texts = {
            "often": "tea " * 1000 + "milk " * 500,
            "oftener": "tea " * 1001 + "milk " * 499,
            "late": "b " * 17_000 + "tea oat tea",
            "later": "b " * 17_001 + "oat tea",
            "within": "steam " * 400 + "tea",
            "short": "tea tea oat",
        }
        _store(catalog, texts)
        for words in (["tea"], ["oat", "tea"], ["milk", "tea", "oat", "b"]):
            hits = catalog.search(" ".join(words))
            found = [(hit["id"], hit["score"]) for hit in hits]
            assert found == _rank(catalog, texts, words, 10)


def _make_text(chance: Random) -> str:
    length = round(chance.choice((1, 5, 5, 5, chance.lognormvariate(2, 1), 300)))
    # Often the same few words, so that there are ties and many with all of them.
    weights = [1 / (1 + place) for place in range(len(WORDS))]
    return " ".join(chance.choices(WORDS, weights, k=length))


def _store(catalog: Catalog, texts: Texts, **fields: Any) -> None:
    catalog.store_batch(
        {
            "key": key,
            "content_hash": compute_content_hash(text),
            "storage_uri": None,
            "byte_size": len(canonical_json(text)),
            "metadata": None,
            "inlined_value": text,
            **fields,
        }
        for key, text in texts.items()
    )


def _rank(
    catalog: Catalog, texts: Texts, words: Iterable[str], limit: int
) -> list[tuple[str, float]]:
    """Return id and score of what the shared ranker finds in all documents, counted one by one."""
    analyzer = get_analyzer("english")
    documents = {
        catalog.entry_id(key): analyzer.analyze_document(key, text) for key, text in texts.items()
    }
    postings = {
        term: [
            (entry_id, document.length, found)
            for entry_id, document in documents.items()
            if (found := document.text.split().count(term))
        ]
        for term in analyzer.parse_query(" ".join(words)).terms
    }
    total = sum(document.length for document in documents.values())
    hits = rank(postings, document_count=len(documents), total_length=total, limit=limit)
    return [(hit.entry_id, hit.score) for hit in hits]
