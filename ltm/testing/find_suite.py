"""What every catalog must do to find rows: by prefix, by metadata, by asking."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.catalog.base import Catalog
from ltm.errors import ValidationError
from ltm.search.analysis import get_analyzer
from ltm.search.filters import matches, parse_filter
from ltm.search.ranking import rank
from ltm.testing import strategies
from ltm.testing.catalog_fixtures import (
    HOSTILE_TEXTS,
    CatalogFixtures,
    CatalogMaker,
    keys_of,
    relaxed,
    track,
)
from ltm.testing.clock import FakeClock

_fresh = count()
"""Numbers a table for each example of a property test, which share one database."""


class FindSuite(CatalogFixtures):
    """Rows in order, by prefix, by metadata filter and by question."""

    def test_listing_is_in_bytewise_key_order_and_pages_by_the_last_key(
        self, catalog: Catalog
    ) -> None:
        names = ["a", "B", "b", "é", "z", "Z", "_", "a:1", "a:10", "a:2", "日", "🧠"]
        for name in names:
            track(catalog, name)
        ordered = sorted(names, key=str.encode)
        assert keys_of(catalog.list_entries()) == ordered
        pages, after = [], None
        while page := catalog.list_entries(limit=5, after=after):
            pages.append(len(page))
            after = page[-1]["key"]
        assert pages == [5, 5, 2]
        assert keys_of(catalog.list_entries(after=ordered[6])) == ordered[7:]

    @pytest.mark.parametrize(
        ("prefix", "listed", "unlisted"),
        [
            ("a_b", "a_b1", "axb1"),
            ("a%", "a%1", "ab1"),
            ("User:", "User:1", "user:1"),
            ("é", "é1", "e1"),
            ("\ud7ff", "\ud7ff1", "\ue000"),
            ("z\U0010ffff", "z\U0010ffff1", "{"),
            ("[a", "[a]", "a"),
            ("*", "*1", "x1"),
            ("\\", "\\1", "1"),
        ],
    )
    def test_a_prefix_is_literal(
        self, catalog: Catalog, prefix: str, listed: str, unlisted: str
    ) -> None:
        track(catalog, listed)
        track(catalog, unlisted)
        assert keys_of(catalog.list_entries(prefix=prefix)) == [listed]

    @relaxed
    @given(data=st.data())
    def test_a_prefix_lists_what_begins_with_it(
        self, make: CatalogMaker, data: st.DataObject
    ) -> None:
        catalog = make(table=f"t{next(_fresh)}")
        names = data.draw(st.lists(strategies.keys, unique=True, max_size=8))
        for name in names:
            track(catalog, name)
        start = data.draw(st.sampled_from(names or ["x"]))
        prefix = start[: data.draw(st.integers(0, 3))]
        expected = sorted((n for n in names if n.startswith(prefix)), key=str.encode)
        assert keys_of(catalog.list_entries(prefix=prefix)) == expected

    @pytest.mark.parametrize("limit", [0, -1, 1.5, "10", True, None])
    def test_a_limit_that_is_not_a_positive_int_is_refused(
        self, catalog: Catalog, limit: Any
    ) -> None:
        for call in (catalog.list_entries, catalog.search, catalog.cleanup_expired):
            with pytest.raises(ValidationError, match="limit"):
                call(limit=limit)

    # Metadata filters

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({"n": 1}, ["float", "int"]),
            ({"n": 1.0}, ["float", "int"]),
            ({"n": "1"}, ["text"]),
            ({"n": True}, ["true"]),
            ({"n": None}, ["null"]),
            ({"n": {"$exists": False}}, ["absent"]),
            ({"n": {"$ne": 1}}, ["absent", "big", "list", "null", "object", "text", "true"]),
            ({"n": {"$gt": 1}}, ["big"]),
            ({"n": {"$gte": 1, "$lt": 2}}, ["float", "int"]),
            ({"n": {"$in": ["1", None]}}, ["null", "text"]),
            ({"n": {"$nin": [1, "1", None, True]}}, ["absent", "big", "list", "object"]),
            ({"n": {"$contains": 2}}, ["list"]),
            ({"n": {"$contains": "1"}}, ["text"]),
            ({"n": [1, 2]}, ["list"]),
            ({"n": {"a": 1}}, ["object"]),
            ({"n.a": 1}, ["object"]),
            ({"$or": [{"n": "1"}, {"n": {"$gt": 5}}]}, ["big", "text"]),
            ({"$not": {"n": {"$exists": True}}}, ["absent"]),
            (
                {"n": {"$not": {"$contains": "1"}}, "s": 1},
                ["absent", "big", "float", "int", "list", "null", "object", "true"],
            ),
            ({"$and": [{"n": {"$gte": 1}}, {"n": {"$lte": 1}}]}, ["float", "int"]),
        ],
    )
    def test_filters_compare_by_json_type(
        self, catalog: Catalog, wanted: dict[str, Any], found: list[str]
    ) -> None:
        values = {
            "int": 1,
            "float": 1.0,
            "text": "1",
            "true": True,
            "null": None,
            "big": 2**80,
            "list": [1, 2],
            "object": {"a": 1},
        }
        track(catalog, "absent", metadata={"s": 1})
        for name, value in values.items():
            track(catalog, name, metadata={"n": value, "s": 1})
        assert keys_of(catalog.list_entries(metadata_filter=wanted)) == found
        assert sorted(keys_of(catalog.search(None, wanted, limit=20))) == found

    def test_an_exact_key_with_a_dot_wins_over_a_path(self, catalog: Catalog) -> None:
        track(catalog, "both", metadata={"user.id": 1, "user": {"id": 7}})
        track(catalog, "path", metadata={"user": {"id": 7}})
        assert keys_of(catalog.list_entries(metadata_filter={"user.id": 7})) == ["path"]
        assert keys_of(catalog.list_entries(metadata_filter={"user.id": 1})) == ["both"]

    @pytest.mark.parametrize("text", HOSTILE_TEXTS)
    def test_hostile_keys_and_values_are_ordinary_in_filters(
        self, catalog: Catalog, text: str
    ) -> None:
        name = text if not text.startswith("$") else f"x{text}"
        track(catalog, "hit", metadata={name: text})
        track(catalog, "miss", metadata={name: f"{text}!", "other": text})
        assert keys_of(catalog.list_entries(metadata_filter={name: text})) == ["hit"]
        assert keys_of(catalog.search("", {name: {"$in": [text, 5]}})) == ["hit"]
        assert keys_of(catalog.list_entries(metadata_filter={name: {"$contains": text}})) == [
            "hit",
            "miss",
        ]

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            ({"a": {"$foo": 1}}, r"metadata_filter\.a: unknown operator '\$foo'"),
            ({"$foo": 1}, r"unknown operator '\$foo'"),
            ({"a": {"$in": 1}}, r"\$in"),
            ({"$or": []}, r"\$or"),
            (["a"], "metadata_filter"),
        ],
    )
    def test_a_bad_filter_is_refused_and_named(
        self, catalog: Catalog, wanted: Any, message: str
    ) -> None:
        with pytest.raises(ValidationError, match=message):
            catalog.list_entries(metadata_filter=wanted)
        with pytest.raises(ValidationError, match=message):
            catalog.search("words", wanted)

    @relaxed
    @given(data=st.data())
    def test_filters_mean_the_same_as_in_python(
        self, make: CatalogMaker, data: st.DataObject
    ) -> None:
        catalog = make(table=f"t{next(_fresh)}")
        kept = data.draw(st.lists(strategies.metadata, max_size=5))
        for index, metadata in enumerate(kept):
            track(catalog, str(index), metadata=metadata)
        wanted = data.draw(strategies.metadata_filters(kept))
        parsed = parse_filter(wanted)
        expected = [str(i) for i, metadata in enumerate(kept) if matches(parsed, metadata)]
        assert keys_of(catalog.list_entries(metadata_filter=wanted)) == expected
        assert sorted(keys_of(catalog.search(None, wanted))) == expected

    def test_filtering_comes_before_the_limit(self, catalog: Catalog, clock: FakeClock) -> None:
        for index in range(60):
            clock.advance(1)
            text = "needle" if index < 3 else "hay"
            track(catalog, f"k{index:02}", metadata={"type": text, "long": "x" * 600 + text})
        assert len(catalog.list_entries(metadata_filter={"type": "needle"}, limit=2)) == 2
        # Long texts are not whole in the index: they are checked after it, page by page.
        wanted = {"long": {"$contains": "needle"}}
        assert keys_of(catalog.list_entries(metadata_filter=wanted, limit=2)) == ["k00", "k01"]
        assert keys_of(catalog.search("", wanted, limit=2)) == ["k02", "k01"]
        assert keys_of(catalog.search("", {"$not": wanted}, limit=1)) == ["k59"]

    def test_metadata_that_was_replaced_is_found_no_more(self, catalog: Catalog) -> None:
        track(catalog, "k", metadata={"type": "old", "gone": 1})
        track(catalog, "k", metadata={"type": "new"})
        assert catalog.list_entries(metadata_filter={"type": "old"}) == []
        assert catalog.list_entries(metadata_filter={"gone": {"$exists": True}}) == []
        assert keys_of(catalog.list_entries(metadata_filter={"type": "new"})) == ["k"]

    def test_an_empty_query_lists_the_newest_first(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        for name in ("a", "b", "c"):
            clock.advance(1)
            track(catalog, name, metadata={"type": "x"})
        clock.advance(1)
        track(catalog, "a", "changed", metadata={"type": "x"})
        for query in ("", "  ", None):
            assert keys_of(catalog.search(query)) == ["a", "c", "b"]
            assert keys_of(catalog.search(query, {"type": "x"}, limit=2)) == ["a", "c"]
        assert {hit["score"] for hit in catalog.search()} == {0.0}

    # Questions

    def test_a_question_in_plain_english_finds_the_best_answer_first(
        self, catalog: Catalog
    ) -> None:
        for key, text in MEMORIES.items():
            track(catalog, key, {"text": text}, metadata={"type": key[0]})
        for question, best in QUESTIONS.items():
            assert keys_of(catalog.search(question))[0] == best, question

    def test_scores_and_order_are_those_of_the_shared_ranker(self, catalog: Catalog) -> None:
        for key, text in MEMORIES.items():
            track(catalog, key, text)
        analyzer = get_analyzer("english")
        documents = {key: analyzer.analyze_document(key, text) for key, text in MEMORIES.items()}
        for question in QUESTIONS:
            terms = analyzer.parse_query(question).terms
            expected = rank(
                {
                    term: [
                        (catalog.entry_id(key), document.length, count)
                        for key, document in documents.items()
                        if (count := document.text.split().count(term))
                    ]
                    for term in terms
                },
                document_count=len(documents),
                total_length=sum(document.length for document in documents.values()),
                allowed=None,
                limit=10,
            )
            hits = catalog.search(question)
            assert [(hit["id"], hit["score"]) for hit in hits] == [tuple(hit) for hit in expected]

    def test_phrases_are_required_and_excluded_words_must_not_occur(self, catalog: Catalog) -> None:
        track(catalog, "a", "a green bicycle with a red bell")
        track(catalog, "b", "a red bicycle with a green bell")
        assert keys_of(catalog.search('"red bicycle"')) == ["b"]
        assert keys_of(catalog.search('"red bicycles" "green bells"')) == ["b"]
        assert keys_of(catalog.search('bicycle -"red bell"')) == ["b"]
        assert keys_of(catalog.search("bell -bicycle")) == []
        assert sorted(keys_of(catalog.search("well-known bicycle"))) == ["a", "b"]

    def test_words_are_found_in_any_form_case_accent_and_script(self, catalog: Catalog) -> None:
        track(catalog, "en", {"deep": ["Crème BRÛLÉE recipes", {"x": "Running quickly"}]})
        track(catalog, "ja", "東京都の天気")
        track(catalog, "ru", "Быстрая лиса")
        assert keys_of(catalog.search("creme brulee recipe")) == ["en"]
        assert keys_of(catalog.search("who runs?")) == ["en"]
        assert keys_of(catalog.search("東京")) == ["ja"]
        assert keys_of(catalog.search("ЛИСА")) == ["ru"]

    def test_a_key_is_found_by_its_words(self, catalog: Catalog) -> None:
        track(catalog, "notes:user_profile:7", 5)
        assert keys_of(catalog.search("user profile")) == ["notes:user_profile:7"]

    def test_words_of_a_replaced_or_deleted_value_are_found_no_more(self, catalog: Catalog) -> None:
        track(catalog, "k", "apples")
        track(catalog, "k", "pears")
        track(catalog, "d", "plums")
        catalog.delete_entry("d")
        assert catalog.search("apples") == catalog.search("plums") == []
        assert keys_of(catalog.search("pear")) == ["k"]

    def test_a_question_with_a_filter_ranks_only_what_matches(self, catalog: Catalog) -> None:
        track(catalog, "a", "coffee coffee coffee", metadata={"lang": "en"})
        track(catalog, "b", "coffee with milk and honey", metadata={"lang": "de"})
        assert keys_of(catalog.search("coffee", {"lang": "de"})) == ["b"]
        assert keys_of(catalog.search("coffee", limit=1)) == ["a"]
        assert keys_of(catalog.search("coffee", {"lang": {"$contains": "d"}})) == ["b"]

    def test_a_question_without_words_finds_nothing(self, catalog: Catalog) -> None:
        track(catalog, "k", "what is it")
        assert catalog.search("?!") == catalog.search("what is it") == []

    @relaxed
    @given(query=st.text(st.characters()))
    def test_no_question_is_an_error(self, catalog: Catalog, query: str) -> None:
        track(catalog, "k", query[:50].encode(errors="replace").decode(), metadata={"a": 1})
        assert isinstance(catalog.search(query), list)
        assert isinstance(catalog.search(query, {"a": 1}), list)

    @pytest.mark.parametrize(
        "query",
        ['"', '""', '"a', "a AND", "NEAR(a b)", "a*", "^a", "text:a", "-", "--", "a OR", "(", "'"],
    )
    def test_query_operators_of_the_index_are_plain_text(
        self, catalog: Catalog, query: str
    ) -> None:
        track(catalog, "k", "a plain text")
        assert isinstance(catalog.search(query), list)

    def test_a_question_of_the_wrong_type_is_refused(self, catalog: Catalog) -> None:
        with pytest.raises(ValidationError, match="query: expected str, got int"):
            catalog.search(7)  # type: ignore[arg-type] # the wrong type is the point


MEMORIES = {
    "m1": "The user prefers dark mode in every editor.",
    "m2": "Meeting with Sarah about the quarterly budget moved to Thursday.",
    "m3": "Deploying the payment service failed because the database password had expired.",
    "m4": "The cat's name is Miso and she is allergic to chicken.",
    "m5": "Python exceptions are caught with try and except clauses.",
    "m6": "Sarah likes hiking, and her favourite trail is near the lake.",
    "m7": "The database migration took four hours on Saturday.",
    "m8": "Invoices are paid within thirty days of receipt.",
}

QUESTIONS = {
    "When is the budget meeting?": "m2",
    "why did the deployment fail": "m3",
    "what is my cat allergic to?": "m4",
    "How do I catch an exception": "m5",
    "which theme does the user prefer": "m1",
    "how long did migrating the database take": "m7",
    "Where does Sarah like to hike?": "m6",
    "when do we pay invoices": "m8",
}
