"""What the verbs send to PostgreSQL: how many round trips, whatever the number of entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.database import Database
from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.sql import SQLCatalog
from ltm.catalog.sql_plain import EXPECTED
from ltm.testing.clock import FakeClock
from tests.sql.counting import CountingConnection, CountingPool

LARGE = "a large value " * 200


class PostgresConnection(CountingConnection):
    """Counts what is sent within a pipeline once."""

    @contextmanager
    def pipeline(self) -> Iterator[None]:
        with self.connection.pipeline():
            before = len(self._calls)
            yield
            self._calls[before:] = ["; ".join(self._calls[before:])]


class PostgresCountingPool(CountingPool):
    def acquire(self) -> PostgresConnection:
        return PostgresConnection(self._pool.acquire(), self.calls)


class Counted:
    """A backend whose statements are counted; each is one round trip."""

    def __init__(self, url: str, path: Path) -> None:
        self.clock = FakeClock()
        self.pool = PostgresCountingPool(PostgresCatalog(url).database.pool)
        catalog = SQLCatalog(Database(self.pool, "postgresql"), clock=self.clock)
        self.memory = DuckDBLTMBackend(catalog, str(path / "data"), owns_catalog=True)
        self.memory.store("warm", 1)

    def count(self, call: Callable[[], Any]) -> int:
        self.pool.calls.clear()
        assert call()["success"]
        return len(self.pool.calls)


@pytest.fixture
def counted(postgres_url: str, tmp_path: Path) -> Iterator[Counted]:
    counted = Counted(postgres_url, tmp_path)
    yield counted
    counted.memory.close()


def entries(count: int, **more: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    return [(f"k{i}", {"text": f"words {i}"} | more, {"type": "x", "i": i}) for i in range(count)]


def test_a_get_is_one_round_trip(counted: Counted) -> None:
    assert counted.count(lambda: counted.memory.retrieve("warm")) == 1
    assert counted.count(lambda: counted.memory.retrieve("nobody")) == 1


def test_an_unchanged_store_reads_once_and_begins_nothing(counted: Counted) -> None:
    assert counted.count(lambda: counted.memory.store("warm", 1)) == 1


def test_one_of_many_new_keys_is_one_round_trip_and_an_old_one_among_them_two(
    counted: Counted,
) -> None:
    store = counted.memory.store
    for number in range(2 * EXPECTED):
        assert counted.count(lambda key=f"new {number}": store(key, "words", {"a": 1})) == 1
    assert counted.count(lambda: store("new 0", "other words", {"a": 1})) == 2
    assert counted.count(lambda: store("new 1", "other words", {"a": 1})) == 1


def test_a_write_is_a_handful_of_round_trips(counted: Counted) -> None:
    store, delete = counted.memory.store, counted.memory.delete
    assert counted.count(lambda: store("k", "words", {"a": 1, "b": 2})) == 1
    assert counted.count(lambda: store("k", "others", {"a": 1, "b": 2})) == 1
    # Of the same value: what is there, BEGIN, the locks, the row, its metadata, COMMIT.
    assert counted.count(lambda: store("k", "others", {"a": 2})) == 8
    assert counted.count(lambda: delete("k")) == 4
    assert counted.count(lambda: delete("k")) == 3


def test_a_payload_costs_the_catalog_no_more_than_to_schedule_the_old_one(
    counted: Counted,
) -> None:
    # What is there, and the row.
    assert counted.count(lambda: counted.memory.store("k", LARGE)) == 2
    assert counted.count(lambda: counted.memory.retrieve("k")) == 1
    assert counted.count(lambda: counted.memory.store("k", [LARGE])) == 11


@pytest.mark.parametrize("count", [1, 10, 500])
def test_the_round_trips_of_a_batch_do_not_depend_on_its_size(counted: Counted, count: int) -> None:
    store_batch, retrieve_batch = counted.memory.store_batch, counted.memory.retrieve_batch
    # What is there, BEGIN, the counters, the rows and what finds them, COMMIT.
    assert counted.count(lambda: store_batch(entries(count))) == 5
    assert counted.count(lambda: store_batch(entries(count))) == 1
    assert counted.count(lambda: store_batch(entries(count, new=1))) == 7
    assert counted.count(lambda: retrieve_batch([f"k{i}" for i in range(count)])) == 1


def test_a_batch_of_a_thousand_is_hardly_a_round_trip_more(counted: Counted) -> None:
    store_batch, retrieve_batch = counted.memory.store_batch, counted.memory.retrieve_batch
    counts = [
        counted.count(lambda: store_batch(entries(1000))),
        counted.count(lambda: store_batch(entries(1000))),
        counted.count(lambda: store_batch(entries(1000, new=1))),
        counted.count(lambda: retrieve_batch([f"k{i}" for i in range(1000)])),
    ]
    assert counts == [5, 2, 12, 1]
    assert counted.memory.stats()["entries"] == 1001


@pytest.mark.parametrize(("expired", "round_trips"), [(0, 6), (100, 7), (1000, 12)])
def test_cleaning_up_is_four_round_trips_for_every_500_entries(
    counted: Counted, expired: int, round_trips: int
) -> None:
    gone = [{"key": f"e{i}", "value": i, "metadata": {"a": i}, "ttl": 5} for i in range(expired)]
    counted.memory.store_batch(gone)
    counted.clock.advance(5)
    assert counted.count(lambda: counted.memory.cleanup_expired(1000)) == round_trips
    assert counted.memory.stats()["expired"] == 0


def test_a_search_is_one_short_transaction(counted: Counted) -> None:
    counted.memory.store_batch(entries(50))
    search = counted.memory.search
    assert counted.count(lambda: search("words")) == 5
    assert counted.count(lambda: search('"words 7" -8', {"type": "x"})) == 6
    assert counted.count(lambda: search(None, {"type": "x"})) == 1


def test_a_snapshot_is_taken_and_read_in_a_few_round_trips(counted: Counted) -> None:
    assert counted.count(lambda: counted.memory.create_snapshot("s")) == 6
    assert counted.count(lambda: counted.memory.retrieve("warm", snapshot="s")) == 2
    assert counted.count(lambda: counted.memory.expire_snapshot("s")) == 6
