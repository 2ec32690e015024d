"""What the verbs send to Firestore: how many requests, whatever the number of entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from firestore_traffic import Traffic, watched

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.firestore import FirestoreCatalog
from ltm.testing.clock import FakeClock

LARGE = "a large value " * 200

# A transaction: what it reads, and its writes, which end it.
WRITE = ["begin", "get", "commit"]
GIVEN_UP = ["begin", "get", "roll_back"]


class Counted:
    """A backend whose requests are counted."""

    def __init__(self, project: str, directory: Path, traffic: Traffic) -> None:
        self.clock = FakeClock()
        self.traffic = traffic
        self.catalog = FirestoreCatalog(project, clock=self.clock)
        self.memory = DuckDBLTMBackend(self.catalog, f"{directory}/data", owns_catalog=True)
        self.memory.store("warm", 1)

    def requests(self, call: Callable[[], Any]) -> list[str]:
        return self.traffic.requests_of(call)

    def count(self, call: Callable[[], Any]) -> dict[str, int]:
        return dict(Counter(self.requests(call)))


@pytest.fixture
def counted(firestore_project: str, tmp_path: Path) -> Iterator[Counted]:
    with watched() as traffic:
        counted = Counted(firestore_project, tmp_path, traffic)
        yield counted
        counted.memory.close()


def entries(count: int, **more: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    return [(f"k{i}", {"text": f"words {i}"} | more, {"type": "x", "i": i}) for i in range(count)]


def test_nothing_is_sent_before_the_first_call(firestore_project: str, tmp_path: Path) -> None:
    with watched() as traffic:
        catalog = FirestoreCatalog(firestore_project)
        memory = DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True)
        assert traffic.requests == []
        assert traffic.requests_of(lambda: memory.retrieve("k")) == ["get"]
        assert traffic.requests_of(memory.close) == []


def test_a_get_is_one_request(counted: Counted) -> None:
    assert counted.requests(lambda: counted.memory.retrieve("warm")) == ["get"]
    assert counted.requests(lambda: counted.memory.retrieve("nobody")) == ["get"]
    counted.memory.store("large", LARGE)
    assert counted.requests(lambda: counted.memory.retrieve("large")) == ["get"]


def test_an_unchanged_store_reads_once_and_begins_nothing(counted: Counted) -> None:
    assert counted.requests(lambda: counted.memory.store("warm", 1)) == ["get"]


def test_a_write_is_a_read_and_a_transaction_of_three_requests(counted: Counted) -> None:
    memory = counted.memory
    assert counted.requests(lambda: memory.store("k", "words", {"a": 1})) == ["get", *WRITE]
    assert counted.requests(lambda: memory.store("k", "others", {"a": 1})) == ["get", *WRITE]
    assert counted.requests(lambda: memory.store("k", "others", {"a": 2})) == ["get", *WRITE]
    assert counted.requests(lambda: memory.update("k", lambda _: 1)) == ["get", "get", *WRITE]
    assert counted.requests(lambda: memory.delete("k")) == WRITE
    assert counted.requests(lambda: memory.delete("k")) == GIVEN_UP


def test_the_first_write_makes_the_table(firestore_project: str, tmp_path: Path) -> None:
    with watched() as traffic, FirestoreCatalog(firestore_project) as catalog:
        memory = DuckDBLTMBackend(catalog, f"{tmp_path}/data")
        first = traffic.requests_of(lambda: memory.store("k", 1))
        assert first == ["get", *WRITE, "get", *WRITE]
        assert traffic.requests_of(lambda: memory.store("k", 2)) == ["get", *WRITE]
        memory.close()


def test_a_replaced_payload_costs_the_catalog_its_deletion(counted: Counted) -> None:
    memory = counted.memory
    assert counted.requests(lambda: memory.store("k", LARGE)) == ["get", *WRITE]
    replaced = counted.count(lambda: memory.store("k", [LARGE]))
    # Whether nothing names it any more is asked of entries and of versions.
    assert replaced == {"begin": 2, "get": 5, "run": 2, "commit": 2}


def test_a_conditional_write_that_loses_writes_nothing(counted: Counted) -> None:
    counted.traffic.forget()
    assert counted.memory.store("warm", 2, if_absent=True)["error_type"] == "conflict"
    assert counted.traffic.requests == ["get"]
    counted.traffic.forget()
    assert counted.memory.delete("warm", if_match="sha256:no")["error_type"] == "conflict"
    assert counted.traffic.requests == GIVEN_UP


@pytest.mark.parametrize("count", [1, 10, 100, 249])
def test_the_requests_of_a_batch_do_not_depend_on_its_size(counted: Counted, count: int) -> None:
    memory = counted.memory
    assert counted.requests(lambda: memory.store_batch(entries(count))) == ["get", *WRITE]
    assert counted.requests(lambda: memory.store_batch(entries(count))) == ["get"]
    assert counted.requests(lambda: memory.store_batch(entries(count, new=1))) == ["get", *WRITE]
    assert counted.requests(lambda: memory.retrieve_batch([f"k{i}" for i in range(count)])) == [
        "get"
    ]


@pytest.mark.parametrize(("count", "portions"), [(251, 2), (1_000, 4)])
def test_a_batch_past_500_writes_is_put_down_first(
    counted: Counted, count: int, portions: int
) -> None:
    found = counted.count(lambda: counted.memory.store_batch(entries(count)))
    # Of every 500 entries, a read beforehand and one in the transaction; of every portion, a
    # transaction that carries it out. Two more settle it.
    gets = 2 * -(-(count + 1) // 500) + portions + 2
    carried_out = {"begin": portions + 2, "commit_encoded": portions}
    assert found == carried_out | {"get": gets, "commit": portions + 3, "run": 2}


@pytest.mark.parametrize(("count", "requests"), [(499, 1), (500, 2), (1_000, 3)])
def test_a_read_of_many_is_a_request_for_500_documents(
    counted: Counted, count: int, requests: int
) -> None:
    found = counted.requests(lambda: counted.memory.retrieve_batch([f"k{i}" for i in range(count)]))
    assert found == ["get"] * requests


def test_a_listing_is_two_requests_and_one_more_for_every_500_entries(counted: Counted) -> None:
    counted.memory.store_batch(entries(600))
    list_entries, search = counted.catalog.list_entries, counted.memory.search
    for wanted in (None, {"i": 7}, {"type": "x"}, {"$not": {"type": "y"}}):
        assert counted.requests(lambda wanted=wanted: list_entries("k", wanted)) == ["get", "run"]
        assert counted.requests(lambda wanted=wanted: search(None, wanted)) == ["get", "run"]
    assert counted.requests(lambda: list(counted.memory.iterate_all())) == ["get", "run"] * 2
    assert counted.requests(lambda: list_entries(limit=9_999)) == ["get", "run", "run"]


def test_a_search_is_four_requests(counted: Counted) -> None:
    counted.memory.store_batch(entries(50))
    counted.memory.search("words")
    # What is new, the table as of then, and the entries that are found.
    assert counted.requests(lambda: counted.memory.search("words")) == ["get", "run", "get", "get"]
    assert counted.requests(lambda: counted.memory.search("nothing")) == ["get", "run", "get"]
    # Of those that are found, 16 and then twice as many are read to find enough.
    filtered = counted.requests(lambda: counted.memory.search("words", {"i": {"$lt": 0}}))
    assert filtered == ["get", "run", "get", "get", "get", "get"]


@pytest.mark.parametrize("expired", [1, 100, 240])
def test_cleaning_up_does_not_depend_on_how_many_have_expired(
    counted: Counted, expired: int
) -> None:
    nothing = counted.count(counted.memory.cleanup_expired)
    assert nothing == {"begin": 1, "get": 6, "run": 4, "roll_back": 1, "total": 1}
    gone = [{"key": f"e{i}", "value": i, "metadata": {"a": i}, "ttl": 5} for i in range(expired)]
    counted.memory.store_batch(gone)
    counted.clock.advance(5)
    found = counted.count(lambda: counted.memory.cleanup_expired(1_000))
    assert found == {"begin": 1, "get": 6, "run": 4, "commit": 1, "total": 1}
    assert counted.memory.stats()["expired"] == 0


def test_a_snapshot_is_taken_and_read_in_a_few_requests(counted: Counted) -> None:
    memory = counted.memory
    memory.store_batch(entries(100))
    taken = counted.count(lambda: memory.create_snapshot("s"))
    assert taken == {"begin": 1, "get": 1, "total": 2, "commit": 1}
    assert counted.count(lambda: memory.retrieve("warm", snapshot="s")) == {"get": 3, "run": 1}
    assert counted.count(memory.list_snapshots) == {"get": 1, "run": 1}
    assert counted.count(memory.stats) == {"get": 1, "total": 5}
    expired = counted.count(lambda: memory.expire_snapshot("s"))
    assert expired == {"begin": 1, "get": 3, "run": 3, "commit": 1}
    assert counted.count(memory.health_check) == {"begin": 2, "get": 4, "commit": 2}


def test_a_transaction_reads_as_it_goes_and_commits_once(counted: Counted) -> None:
    def change() -> None:
        with counted.memory.transaction() as inside:
            inside.store("a", 1)
            inside.store("b", 2)
            inside.delete("warm")

    # A store reads the entry, and again with the state of the table; a deletion the latter only.
    assert counted.requests(change) == ["get"] * 5 + WRITE
