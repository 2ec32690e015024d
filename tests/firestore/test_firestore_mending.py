"""``verify`` finds what is wrong with the indexes of a Firestore catalog, and mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore import Client

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.documents import metadata_codes, words_fields
from ltm.catalog.firestore import FirestoreCatalog
from ltm.search.analysis import Document
from ltm.testing.clock import FakeClock

ENTRIES, WORDS = "ltm_entries", "ltm_entry_search"
LARGE = "large payload " * 200


class Damaged:
    """A memory, and Google's client that changes documents behind its back."""

    def __init__(self, project: str, official: Client, directory: Path) -> None:
        self.official = official
        self.project = project
        self.directory = directory
        self.clock = FakeClock()
        self.opened: list[DuckDBLTMBackend] = []
        self.memory = self.open()
        entries = [(f"k{number}", f"words {number}", {"n": number}) for number in range(5)]
        self.memory.store_batch([*entries, ("large", LARGE, {"n": 5})])
        assert len(self.found("words large")) == 6

    def open(self, name: str = "index") -> DuckDBLTMBackend:
        catalog = FirestoreCatalog(
            self.project, index_directory=self.directory / name, clock=self.clock
        )
        uri = f"{self.directory}/data"
        self.opened.append(DuckDBLTMBackend(catalog, uri, owns_catalog=True))
        return self.opened[-1]

    def document(self, collection: str, key: str) -> Any:
        return self.official.collection(collection).document(self.memory.catalog.entry_id(key))

    def found(self, query: str | None, wanted: Any = None) -> list[str]:
        """Return the keys of what is found here, and by one that begins with no index."""
        answers = []
        for memory in (self.memory, self.open(f"index {len(self.opened)}")):
            results = memory.search(query, wanted, 100)["results"]
            answers.append([(each["key"], each["score"]) for each in results])
        assert answers[0] == answers[1]
        return sorted(key for key, _ in answers[0])

    def problems(self, *, repair: bool = False) -> list[tuple[str, str | None, bool]]:
        answer = self.memory.verify(repair=repair)
        assert answer["success"] == all(each["repaired"] for each in answer["problems"])
        return [(each["kind"], each["key"], each["repaired"]) for each in answer["problems"]]

    def expect_mended(self, *problems: tuple[str, str | None]) -> None:
        """Check that *problems* are found, again and again until they are mended."""
        for _ in range(2):
            assert self.problems() == [(kind, key, False) for kind, key in problems]
        assert self.problems(repair=True) == [(kind, key, True) for kind, key in problems]
        assert self.problems() == []


@pytest.fixture
def damaged(firestore_project: str, tmp_path: Path) -> Iterator[Damaged]:
    official = Client(firestore_project)
    damaged = Damaged(firestore_project, official, tmp_path)
    yield damaged
    for memory in damaged.opened:
        memory.close()
    official.close()


@pytest.mark.parametrize("key", ["k1", "large"])
def test_words_that_are_deleted_are_written_again(damaged: Damaged, key: str) -> None:
    damaged.document(WORDS, key).delete()
    damaged.expect_mended(("words", key))
    assert damaged.found("words large") == ["k0", "k1", "k2", "k3", "k4", "large"]


def test_words_of_something_else_are_replaced(damaged: Damaged) -> None:
    (table,) = damaged.official.collection("ltm_tables").stream()
    wrong = words_fields(Document("wrong text", 2), None, "", "default")
    damaged.document(WORDS, "k1").set(wrong | {"feed_seq": table.get("feed_seq")})
    assert damaged.found("wrong") == ["k1"]
    damaged.expect_mended(("words", "k1"))
    assert damaged.found("wrong") == []
    assert damaged.found("words") == ["k0", "k1", "k2", "k3", "k4"]


def test_words_that_are_said_to_be_gone_are_written_again(damaged: Damaged) -> None:
    damaged.document(WORDS, "k1").update({"is_gone": True, "forget_at": damaged.clock()})
    damaged.expect_mended(("words", "k1"))
    assert damaged.found("words") == ["k0", "k1", "k2", "k3", "k4"]


@pytest.mark.parametrize("codes", [[], metadata_codes({"n": 77}), metadata_codes({"n": 1, "m": 2})])
def test_wrong_codes_of_metadata_are_replaced(damaged: Damaged, codes: list[str]) -> None:
    damaged.document(ENTRIES, "k1").update({"metadata_codes": codes})
    damaged.expect_mended(("metadata", "k1"))
    stored = damaged.document(ENTRIES, "k1").get().to_dict()
    assert stored["metadata_codes"] == metadata_codes({"n": 1})
    assert damaged.found(None, {"n": 1}) == ["k1"]
    assert damaged.memory.retrieve("k1")["value"] == "words 1"


def test_mending_changes_nothing_else(damaged: Damaged) -> None:
    before = damaged.document(ENTRIES, "k1").get().to_dict()
    damaged.document(ENTRIES, "k1").update({"metadata_codes": ["0" * 32]})
    damaged.document(WORDS, "k1").delete()
    damaged.clock.advance(60)
    damaged.expect_mended(("words", "k1"), ("metadata", "k1"))
    assert damaged.document(ENTRIES, "k1").get().to_dict() == before


def test_an_index_without_an_entry_is_made_anew(damaged: Damaged) -> None:
    # Under a number that every index has long read.
    wrong = words_fields(Document("secret word", 2), None, "", "default")
    damaged.document(WORDS, "k1").set(wrong | {"feed_seq": -1})
    assert damaged.memory.search("secret")["results"] == []
    # The index has not what is written; what is written is not what the value says.
    assert damaged.problems(repair=True) == [("index", None, True), ("words", "k1", True)]
    assert damaged.problems() == []
    assert damaged.found("words secret") == ["k0", "k1", "k2", "k3", "k4"]


def test_an_index_that_differs_from_what_is_written_is_made_anew(damaged: Damaged) -> None:
    (table,) = damaged.official.collection("ltm_tables").stream()
    right = damaged.document(WORDS, "k1").get().to_dict()
    wrong = words_fields(Document("wrong text", 2), None, "", "default")
    damaged.document(WORDS, "k1").set(wrong | {"feed_seq": table.get("feed_seq")})
    assert damaged.found("wrong") == ["k1"]
    # No index reads again what is under this number.
    damaged.document(WORDS, "k1").set(right | {"feed_seq": -1})
    damaged.expect_mended(("index", None))
    assert damaged.found("words wrong") == ["k0", "k1", "k2", "k3", "k4"]


def test_words_of_no_entry_are_found(damaged: Damaged) -> None:
    damaged.document(ENTRIES, "k1").delete()
    assert damaged.found("words") == ["k0", "k2", "k3", "k4"]
    damaged.memory.store("k1", "other")
    assert damaged.found("words") == ["k0", "k2", "k3", "k4"]
    assert damaged.problems() == []


def test_an_entry_that_is_damaged_is_reported_and_others_are_read(damaged: Damaged) -> None:
    damaged.document(ENTRIES, "k1").update({"inlined_value": '"changed"'})
    damaged.document(ENTRIES, "k2").update({"metadata": "no JSON"})
    assert damaged.memory.retrieve("k1")["error_type"] == "integrity_error"
    assert damaged.memory.retrieve("k2")["error_type"] == "integrity_error"
    assert damaged.memory.retrieve("k3")["value"] == "words 3"
    assert damaged.memory.verify()["success"] is False


def test_an_index_with_an_entry_too_many_is_made_anew(damaged: Damaged) -> None:
    for collection in (ENTRIES, WORDS):
        damaged.document(collection, "k1").delete()
    damaged.expect_mended(("index", None))
    assert damaged.found("words") == ["k0", "k2", "k3", "k4"]
