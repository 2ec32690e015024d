"""A plain write that meets another transaction leaves what it would have left after it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from outcomes import PATIENCE, in_threads, succeed, wait_until
from postgres_place import PostgresPlace
from test_history_writers import Follower, expect_equal

from ltm.catalog.base import Catalog
from ltm.catalog.commit import Outcome, Removal
from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.sql_plain import EXPECTED
from ltm.search.analysis import get_analyzer
from ltm.search.codes import index_rows
from ltm.testing.clock import FakeClock
from ltm.testing.lifetime_suite import track_payload
from ltm.testing.plain_suite import PlainSuite, expect_indexed, make_put, row_of, store, write


class TestUnseen(PlainSuite):
    """Where each write is first tried as if its key were new."""

    @pytest.fixture(autouse=True)
    def expectation(self, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ltm.catalog.sql_plain.EXPECTED", 0)
        self.url = postgres_url

    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> PostgresCatalog:
        return PostgresCatalog(self.url, clock=clock, **binding)


BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'ltm' AND wait_event_type = 'Lock'"
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


OLD = "green tea", {"n": 1, "old": True}
NEW = "black coffee", {"n": 1, "new": True}


def change_value(catalog: Catalog) -> None:
    catalog.write([make_put(catalog, "k", "juice", {"n": 1, "theirs": [1, 2]})], catalog.clock())


def change_terms(catalog: Catalog) -> None:
    catalog.write([make_put(catalog, "k", OLD[0], {"theirs": 1})], catalog.clock())


def write_the_same(catalog: Catalog) -> None:
    catalog.write([make_put(catalog, "k", *NEW)], catalog.clock())


def write_unfound(catalog: Catalog) -> None:
    catalog.write([make_put(catalog, "k", "juice", is_found=False)], catalog.clock())


def write_payload(catalog: Catalog) -> None:
    track_payload(catalog, "k", "theirs")


def delete(catalog: Catalog) -> None:
    catalog.write([Removal(catalog.entry_id("k"), "k")], catalog.clock())


def delete_and_write(catalog: Catalog) -> None:
    delete(catalog)
    change_value(catalog)


def take_snapshot(catalog: Catalog) -> None:
    catalog.history.create("theirs", catalog.clock())


def write_and_take_snapshot(catalog: Catalog) -> None:
    change_value(catalog)
    take_snapshot(catalog)


OTHERS = [
    change_value,
    change_terms,
    write_the_same,
    write_unfound,
    write_payload,
    delete,
    delete_and_write,
    take_snapshot,
    write_and_take_snapshot,
]
"""What another transaction does."""


def place_nothing(catalog: Catalog) -> None:
    """Leave the key as it is: absent."""


def place_inlined(catalog: Catalog) -> None:
    store(catalog, "k", *OLD)


def place_unfound(catalog: Catalog) -> None:
    store(catalog, "k", "unfound", is_found=False)


def place_expiring(catalog: Catalog) -> None:
    store(catalog, "k", *OLD, seconds=1)


def place_payload(catalog: Catalog) -> None:
    track_payload(catalog, "k", "old")


BEFORE = [place_nothing, place_inlined, place_unfound, place_expiring, place_payload]
"""What is there when both begin."""


def alike(given: Any, catalog: Catalog) -> Any:
    """Return a row or an outcome without what names its table."""
    prefix = catalog.table().storage_prefix
    shown = {
        name: value.removeprefix(prefix) if isinstance(value, str) else value
        for name, value in given._asdict().items()
    }
    return shown | {"id": ""}


def state_of(catalog: Catalog) -> Any:
    row = row_of(catalog, "k")
    snapshots = catalog.history.snapshots()
    seen = [catalog.history.read_as_of(each, ["k"]) for each in snapshots]
    return (
        alike(row, catalog),
        catalog.indexed([row])[row.id],
        [{key: alike(each, catalog) for key, each in rows.items()} for rows in seen],
        [uri.rpartition("/")[2] for uri in catalog.scheduled_deletions("", 10)],
    )


MEETINGS = [
    (before, other)
    for before in BEFORE
    for other in OTHERS
    if (before, other) != (place_nothing, delete)  # which keeps nobody waiting
]


@pytest.mark.parametrize("news", [EXPECTED, 0], ids=["unseen", "looked at"])
@pytest.mark.parametrize("is_found", [True, False], ids=["indexed", "unindexed"])
@pytest.mark.parametrize(
    ("before", "other"), MEETINGS, ids=[f"{one.__name__}-{two.__name__}" for one, two in MEETINGS]
)
def test_a_plain_write_that_waits_leaves_what_it_would_have_left_afterwards(
    place: PostgresPlace,
    clock: FakeClock,
    before: Callable[[Catalog], None],
    other: Callable[[Catalog], None],
    is_found: bool,
    news: int,
) -> None:
    terms = NEW if is_found else NEW[:1]
    with (
        place.catalog(clock=clock, table="raced") as raced,
        place.catalog(clock=clock, table="expected") as expected,
        ThreadPoolExecutor(1) as executor,
    ):
        for catalog in (raced, expected):
            before(catalog)
        clock.advance(1)
        put = make_put(raced, "k", *terms, is_found=is_found)
        raced.news = news
        with raced.transaction() as inside:
            other(inside)
            answer = executor.submit(write, raced, put)
            wait_until(lambda: place.rows(BLOCKED) == [(1,)], "it does not wait")
        outcome = answer.result(PATIENCE)
        other(expected)
        put = make_put(expected, "k", *terms, is_found=is_found)
        (alone,) = expected.write([put], clock())
        assert alike(outcome, raced) == alike(alone, expected)
        assert state_of(raced) == state_of(expected)


@pytest.mark.parametrize("news", [EXPECTED, 0], ids=["unseen", "looked at"])
@pytest.mark.parametrize("before", [place_nothing, place_inlined])
def test_a_plain_write_that_waits_for_what_is_undone_is_done(
    place: PostgresPlace, clock: FakeClock, before: Callable[[Catalog], None], news: int
) -> None:
    with place.catalog(clock=clock) as catalog, ThreadPoolExecutor(1) as executor:
        before(catalog)
        put = make_put(catalog, "k", *NEW)
        catalog.news = news
        with pytest.raises(ZeroDivisionError), catalog.transaction() as inside:  # noqa: PT012
            change_value(inside)
            answer = executor.submit(catalog.write_plain, put, clock())
            wait_until(lambda: place.rows(BLOCKED) == [(1,)], "it does not wait")
            raise ZeroDivisionError
        assert answer.result(PATIENCE)[0] == Outcome(
            "k", stored=True, created=before is place_nothing
        )
        expect_indexed(catalog, put)


def test_threads_that_write_few_keys_leave_the_indexes_of_their_rows(place: PostgresPlace) -> None:
    keys = "abc"
    with (
        place.open() as memory,
        place.memory(place.catalog(), enable_fts=False) as unfound,
        place.open() as reader,
    ):
        follower = Follower(reader)
        stop = threading.Event()

        def use(thread: int) -> None:
            choice = random.Random(thread)
            if thread == 8:
                while not stop.is_set():
                    follower.follow()
                return
            for number in range(60):
                key, name = choice.choice(keys), f"{thread}x{number}"
                if choice.random() < 0.15:
                    succeed(memory.delete(key))
                    continue
                is_found = choice.random() < 0.7
                metadata = choice.choice([{}, {"n": number % 3}, {"n": 1, name: thread}])
                if is_found:
                    succeed(memory.store(key, f"found {name}", metadata))
                else:
                    succeed(unfound.store(key, f"unfound {name}", metadata))
            with counting:
                left.pop()
                if not left:
                    stop.set()

        counting, left = threading.Lock(), list(range(8))
        in_threads(use, 9)
        expect_equal(follower, reader)
        rows = list(memory.catalog.iterate("", memory.catalog.clock))
        indexed = memory.catalog.indexed(rows)
        for row in rows:
            found = indexed[row.id]
            assert found.metadata_rows == set(index_rows(row.metadata))
            value = memory.retrieve(row.key)["value"]
            words = get_analyzer("english").analyze_document(row.key, value)
            assert found.document == (words if value.startswith("found") else None)
            succeed(memory.store(row.key, f"{value}, in the end"))
    place.expect_sound()


@pytest.mark.parametrize("is_found", [True, False], ids=["indexed", "unindexed"])
def test_a_plain_write_finds_its_tables_in_any_schema(
    empty_postgres_url: str, clock: FakeClock, is_found: bool
) -> None:
    with PostgresCatalog(
        empty_postgres_url, schema='Agent "memory"', auto_migrate=True, clock=clock
    ) as catalog:
        for value in range(3):
            put = make_put(catalog, "k", value, is_found=is_found)
            outcome = Outcome("k", stored=True, created=value == 0)
            assert catalog.write_plain(put, clock())[0] == outcome
            expect_indexed(catalog, put)


def test_a_plain_write_without_words_is_plain_whatever_words_others_have(
    place: PostgresPlace, clock: FakeClock
) -> None:
    with place.catalog(clock=clock) as catalog:
        store(catalog, "other", "tea", {"n": 1})
        for value in range(3):
            put = make_put(catalog, "k", value, is_found=False)
            assert catalog.write_plain(put, clock())[0] is not None
            expect_indexed(catalog, put)


def test_a_plain_write_where_transactions_are_read_only_unless_they_say_otherwise(
    place: PostgresPlace, clock: FakeClock
) -> None:
    place.rows(f"ALTER DATABASE {place.database} SET default_transaction_read_only = on")
    with place.catalog(clock=clock) as catalog:
        for value in range(2):
            put = make_put(catalog, "k", value)
            assert write(catalog, put) == Outcome("k", stored=True, created=value == 0)
            expect_indexed(catalog, put)


def test_times_that_are_to_be_kept_are_kept(place: PostgresPlace, clock: FakeClock) -> None:
    with place.catalog(clock=clock) as catalog:
        then = clock.now
        clock.advance(100)
        put = make_put(catalog, "k", 1)._replace(created_at=then, updated_at=then)
        write(catalog, put)
        row = row_of(catalog, "k")
        assert (row.created_at, row.updated_at) == (then, then)
