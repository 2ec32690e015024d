"""The local index of words: what is read to keep it up to date, where it lies, how it is mended."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from firestore_traffic import Traffic, watched
from google.cloud.firestore import Client

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.documents import TOMBSTONE_LIFE
from ltm.catalog.firestore import FirestoreCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.testing.clock import FakeClock

WORDS = "ltm_entry_search"
DAY = 86_400

Hits = list[tuple[str, float]]


class Searching:
    """Memories of one Firestore database, each as another process would have it, and SQLite's."""

    def __init__(self, project: str, directory: Path, traffic: Traffic) -> None:
        self.clock = FakeClock()
        self.project = project
        self.directory = directory
        self.traffic = traffic
        self.opened: list[DuckDBLTMBackend] = []
        self.memory = self.open()
        self.reference = DuckDBLTMBackend(
            SQLiteCatalog(":memory:", clock=self.clock),
            f"{directory}/reference",
            owns_catalog=True,
        )

    def open(
        self, name: str = "index", storage: str | None = None, **options: Any
    ) -> DuckDBLTMBackend:
        """Return a memory with the index directory *name*, or none."""
        place = {"index_directory": self.directory / name} if name else {}
        catalog = FirestoreCatalog(self.project, clock=self.clock, **place)
        uri = storage or f"{self.directory}/data"
        self.opened.append(DuckDBLTMBackend(catalog, uri, owns_catalog=True, **options))
        return self.opened[-1]

    def call(self, verb: str, *arguments: Any, **options: Any) -> None:
        for memory in (self.memory, self.reference):
            assert getattr(memory, verb)(*arguments, **options)["success"]

    def fill(self, count: int, words: str = "common words") -> None:
        entries = [(f"k{number:04}", f"{words} {number}") for number in range(count)]
        self.call("store_batch", entries)

    def hits(self, query: str, memory: DuckDBLTMBackend | None = None) -> Hits:
        """Return the hits of *query* with their scores, which SQLite has just so."""
        found = (memory or self.memory).search(query, limit=2_000)
        expected = self.reference.search(query, limit=2_000)
        assert found["success"], found
        pairs = [(each["key"], each["score"]) for each in found["results"]]
        assert pairs == [(each["key"], each["score"]) for each in expected["results"]]
        return pairs

    def read_for(self, query: str, memory: DuckDBLTMBackend | None = None) -> int:
        """Return how many documents of words are read to answer *query*."""
        self.traffic.forget()
        self.hits(query, memory)
        return len(self.traffic.queried_in(WORDS))

    @property
    def file(self) -> Path:
        """Where the index of the table is, once it is published."""
        prefix = self.memory.catalog.table().storage_prefix
        (found,) = (self.directory / "index").glob(f"{prefix}*.duckdb")
        return found

    def close(self) -> None:
        for memory in [*self.opened, self.reference]:
            memory.close()


@pytest.fixture
def searching(
    firestore_project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Searching]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with watched() as traffic:
        searching = Searching(firestore_project, tmp_path, traffic)
        yield searching
        searching.close()


@pytest.fixture
def official(firestore_project: str) -> Iterator[Client]:
    client = Client(firestore_project)
    yield client
    client.close()


def words_of(official: Client) -> dict[str, dict[str, Any]]:
    return {each.id: each.to_dict() or {} for each in official.collection(WORDS).stream()}


# What is read


def test_the_words_are_read_once_and_then_what_is_new(searching: Searching) -> None:
    searching.fill(300)
    assert searching.read_for("words") == 300
    assert searching.read_for("words") == 0
    assert searching.read_for("common 7") == 0
    searching.call("store", "new", "common novelty")
    assert searching.read_for("novelty common") == 1
    searching.call("delete", "k0007")
    searching.call("store", "k0008", "a novelty")
    assert searching.read_for("novelty common") == 3
    assert searching.read_for("novelty") == 3


def test_a_search_reads_the_entries_that_it_returns_and_few_more(searching: Searching) -> None:
    searching.fill(300)
    searching.hits("words")
    searching.traffic.forget()
    found = searching.memory.search("words 5 6 7", limit=5)["results"]
    assert len(found) == 5
    entries = [each for each in searching.traffic.gotten if each.path.startswith("ltm_entries/")]
    assert len(entries) <= 16
    assert len(searching.traffic.requests) <= 4
    assert searching.traffic.queried == []


def test_the_feed_is_cut_after_many_changes(searching: Searching) -> None:
    searching.fill(250)
    searching.hits("words")
    searching.fill(1_000, "new words")
    # They may have been written while the feed was being cut, so once more.
    assert [searching.read_for("new 9") for _ in range(3)] == [1_000, 1_000, 0]
    searching.call("store", "k0001", "changed")
    assert searching.read_for("changed new") == 1
    searching.call("store", "k0002", "changed")
    assert searching.read_for("changed new") == 2


def test_a_few_changes_at_a_time_are_never_read_more_than_a_few_times(
    searching: Searching,
) -> None:
    searching.fill(10)
    searching.hits("words")
    reads = 0
    for start in range(0, 600, 60):
        entries = [(f"n{number}", f"words {number}") for number in range(start, start + 60)]
        searching.call("store_batch", entries)
        reads += searching.read_for("words 7")
    # Each at most as often as there are searches before the feed is cut.
    assert reads <= 600 * 4
    assert searching.read_for("words") <= 240


def test_what_has_no_words_is_not_read(searching: Searching) -> None:
    searching.fill(20)
    searching.hits("words")
    silent = searching.open(enable_fts=False)
    silent.store_batch([(f"s{number}", "silent words") for number in range(20)])
    searching.traffic.forget()
    assert searching.memory.search("silent")["results"] == []
    assert searching.traffic.queried_in(WORDS) == []


# The file


def test_another_process_goes_on_from_the_file(searching: Searching) -> None:
    searching.fill(300)
    searching.hits("words")
    searching.memory.close()
    searching.memory = searching.open()
    assert searching.file.exists()
    assert searching.read_for("words") == 0
    searching.call("store", "new", "common novelty")
    other = searching.open()
    assert searching.read_for("novelty words", other) == 1
    assert searching.read_for("novelty words", searching.open("elsewhere")) == 301


def test_processes_with_one_directory_follow_one_another(searching: Searching) -> None:
    searching.fill(50)
    others = [searching.memory, searching.open(), searching.open("elsewhere")]
    for number in range(3):
        for memory in others:
            searching.hits("words 3", memory)
        searching.call("delete", f"k000{number}")
        searching.call("store", f"n{number}", "common novelty")
        searching.call("store", f"k001{number}", "changed")
    for memory in others:
        assert len(searching.hits("novelty", memory)) == 3
        searching.hits("common words changed", memory)


@pytest.mark.parametrize("damage", ["deleted", "emptied", "overwritten", "cut off", "a directory"])
def test_a_file_that_is_gone_or_damaged_is_made_anew(
    searching: Searching, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    searching.fill(300)
    searching.hits("words")
    searching.memory.close()
    file = searching.file
    content = file.read_bytes()
    file.unlink()
    if damage == "emptied":
        file.write_bytes(b"")
    elif damage == "overwritten":
        file.write_bytes(b"no index " * 5_000)
    elif damage == "cut off":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "a directory":
        file.mkdir()
    searching.memory = searching.open()
    with caplog.at_level(logging.WARNING):
        assert searching.read_for("words") == 300
    assert searching.read_for("words") == 0
    assert (caplog.records == []) == (damage == "deleted")
    searching.memory.close()
    if damage != "a directory":
        searching.memory = searching.open()
        assert searching.read_for("words") == 0


def test_a_damaged_block_costs_no_answer_wherever_it_lies(searching: Searching) -> None:
    searching.fill(1_100)
    searching.hits("words 7")
    searching.memory.close()
    file = searching.file
    content = file.read_bytes()
    for start in (274_432, 536_576, 1_060_864, 1_323_008, 1_388_544):
        damaged = bytearray(content)
        damaged[start : start + 65_536] = b"\xff" * 65_536
        file.unlink()
        file.write_bytes(damaged)
        memory = searching.open()
        assert searching.hits('"words 7" -8', memory)
        memory.close()


# Time


def test_an_index_older_than_the_feed_remembers_is_made_anew(searching: Searching) -> None:
    searching.fill(30)
    searching.hits("words")
    searching.memory.close()
    searching.memory = searching.open("elsewhere")
    searching.call("delete", "k0003")
    searching.clock.advance(TOMBSTONE_LIFE.total_seconds() + 1)
    searching.call("cleanup_expired")
    old = searching.open()
    assert searching.read_for("words", old) == 29
    assert searching.read_for("words", old) == 0


def test_an_index_that_is_used_is_not_made_anew(searching: Searching) -> None:
    searching.fill(30)
    searching.hits("words")
    for _ in range(8):
        searching.clock.advance(10 * DAY)
        assert searching.read_for("words") == 0


def test_a_clock_that_goes_back_hides_nothing(searching: Searching) -> None:
    searching.fill(30)
    searching.clock.advance(100 * DAY)
    searching.hits("words")
    searching.clock.advance(-100 * DAY)
    searching.call("store", "k0001", "changed")
    searching.call("delete", "k0002")
    assert len(searching.hits("words")) == 28
    assert len(searching.hits("changed")) == 1


def test_cleaning_up_sweeps_away_what_says_that_words_are_gone(
    searching: Searching, official: Client
) -> None:
    searching.fill(10)
    searching.hits("words")
    for number in range(5):
        searching.call("delete", f"k000{number}")
    searching.call("store", "brief", "words", ttl=5)
    searching.clock.advance(5)
    assert len(searching.hits("words")) == 5
    searching.call("cleanup_expired")
    assert len(words_of(official)) == 11
    searching.call("store", "k0000", "words anew")
    for seconds, gone in ((TOMBSTONE_LIFE.total_seconds() - 6, 5), (1, 1), (5, 0)):
        searching.clock.advance(seconds)
        searching.call("cleanup_expired")
        marks = [each["is_gone"] for each in words_of(official).values()]
        assert (marks.count(True), marks.count(False)) == (gone, 6)
    assert len(searching.hits("words")) == 6
    assert len(searching.hits("anew", searching.open("elsewhere"))) == 1


# The place


def places(directory: Path) -> list[str]:
    """Return the directories below *directory* that have an index, once for each file."""
    return sorted(
        os.path.relpath(where, directory)
        for where, _, names in os.walk(directory)
        for name in names
        if name.endswith(".duckdb")
    )


@pytest.mark.parametrize(
    ("index", "storage", "expected"),
    [
        ("", "data", "data.search"),
        ("", "data/", "data.search"),
        ("", "file://data", "data.search"),
        ("given/place", "data", "given/place"),
        ("", "memory://data", "cache/ltm"),
        ("given", "memory://data", "given"),
    ],
)
def test_the_file_lies_where_it_is_told_or_beside_the_payloads_or_in_the_cache(
    searching: Searching, tmp_path: Path, index: str, storage: str, expected: str
) -> None:
    searching.fill(3)
    if not storage.startswith("memory:"):
        storage = storage.replace("data", f"{tmp_path}/data")
    memory = searching.open(index, storage)
    assert len(searching.hits("words", memory)) == 3
    memory.close()
    assert places(tmp_path) == [expected]


def test_without_a_cache_of_its_own_the_user_s_home_has_it(
    searching: Searching, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching.fill(3)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    memory = searching.open("", "memory://data")
    searching.hits("words", memory)
    memory.close()
    assert places(tmp_path) == ["home/.cache/ltm"]


# Without words, and with wrong ones


def test_without_words_nothing_is_written_and_nothing_found(
    searching: Searching, official: Client
) -> None:
    silent = searching.open(enable_fts=False)
    silent.store("k", "silent words", {"a": 1})
    silent.store_batch([("l", "silent words"), ("m", "silent " * 500)])
    silent.update("k", lambda _: "more silent words")
    silent.delete("l")
    assert words_of(official) == {}
    assert silent.search("silent words k")["results"] == []
    assert silent.verify()["problems"] == []
    assert [each["key"] for each in silent.search(None, {"a": 1})["results"]] == ["k"]
    searching.memory.store("k", "spoken words")
    assert [each["key"] for each in silent.search("spoken")["results"]] == ["k"]
    silent.store("k", "silent words")
    assert silent.search("silent spoken words")["results"] == []
    assert [each["is_gone"] for each in words_of(official).values()] == [True]


def test_words_come_with_the_next_change_once_they_are_wanted(
    searching: Searching, official: Client
) -> None:
    searching.open(enable_fts=False).store("k", "silent words", {"a": 1})
    searching.memory.store("k", "silent words", {"a": 2})
    assert [each["is_gone"] for each in words_of(official).values()] == [False]
    assert [each["key"] for each in searching.memory.search("silent")["results"]] == ["k"]
