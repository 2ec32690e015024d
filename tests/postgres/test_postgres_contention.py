"""Writers that get in each other's way all get through, and nothing is lost or left over.

``LTM_RACE_SECONDS`` says how long the processes of the race go on: 4 if it is not set.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from outcomes import in_threads, in_time, is_outage, succeed, wait_until
from postgres_place import PostgresPlace
from postgres_workers import SHARED
from sqlalchemy import create_engine
from starting import said, started

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.sql.dialects import PostgreSQLDialect

SCRIPT = Path(__file__).with_name("postgres_workers.py")
RACE_SECONDS = float(os.environ.get("LTM_RACE_SECONDS", "4"))
DEADLINE = 90 + RACE_SECONDS


def test_sixteen_processes_with_overlapping_batches_lose_nothing(place: PostgresPlace) -> None:
    with started(SCRIPT, [("overlap", place.url, place.storage, 16, RACE_SECONDS)]) as workers:
        (reports,) = said(workers, DEADLINE)
    assert [report["failures"] for report in reports] == [[]] * 16
    assert min(report["rounds"] for report in reports) > 0
    place.expect_sound()
    with place.open() as memory:
        found = {key: (value, metadata) for key, value, metadata in memory.iterate_all()}
    for number, report in enumerate(reports):
        assert found.pop(f"own{number}")[0] == report["own"]
    assert set(found) <= set(SHARED)
    # Of the last batch everything is there that was not deleted after it.
    for value, metadata in found.values():
        assert value.split("/")[0].strip() == str(metadata["writer"])
    assert len({value for value, _ in found.values()}) == 1


ENTRIES = "SELECT 1 FROM ltm_entries WHERE key = '{}' FOR UPDATE"
WAITING = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN"
    " (SELECT pid FROM pg_stat_activity WHERE application_name = 'ltm')"
)


def test_a_write_that_deadlocks_with_an_application_is_tried_anew(place: PostgresPlace) -> None:
    # Who looks for the deadlock once it is there notices it: this makes it the library, which looks
    # once, so long after it began to wait.
    url = f"{place.url}?options=-c%20deadlock_timeout%3D2s"
    with place.open(url) as memory, psycopg.connect(place.url) as application:
        first, last = sorted("ab", key=memory.catalog.entry_id)
        succeed(memory.store_batch([("a", "old"), ("b", "old")]))
        application.execute("SET deadlock_timeout = '100s'")
        application.execute(ENTRIES.format(last))
        answers: list[Any] = []
        thread = threading.Thread(
            target=lambda: answers.append(memory.store_batch([("a", "new"), ("b", "new")]))
        )
        thread.start()
        wait_until(lambda: place.rows(WAITING) == [(1,)], "the write doesn't wait")
        application.execute(ENTRIES.format(first))
        application.commit()
        thread.join(60)
        succeed(*answers)
        assert memory.retrieve_batch(["a", "b"])["results"] == {"a": "new", "b": "new"}
    wait_until(lambda: place.rows(DEADLOCKS) == [(1,)], "there was no deadlock")


DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def test_batches_in_opposite_orders_never_deadlock(place: PostgresPlace) -> None:
    barrier = threading.Barrier(4)
    with place.open() as memory:

        def write(thread: int) -> None:
            for number in range(5):
                # New keys, of which each thread may be the first to insert any.
                keys = [f"{number}/{index}" for index in range(1000)]
                barrier.wait(60)
                succeed(memory.store_batch([(key, thread) for key in keys[:: 1 - thread % 2 * 2]]))

        in_threads(write, 4)
    # A session reports what it has counted when it ends.
    wait_until(lambda: place.sessions() == [], "a session stays")
    assert place.rows(DEADLOCKS) == [(0,)]


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
@pytest.mark.parametrize("when", ["AFTER INSERT OR UPDATE", "commit"])
def test_a_write_that_the_server_refuses_for_others_sake_is_tried_anew(
    place: PostgresPlace, sqlstate: str, when: str
) -> None:
    with place.open() as memory:
        succeed(memory.store("warm", 1))
        refuse(place, sqlstate, 3, at_commit=when == "commit")
        succeed(memory.store("k", "x" * 2000))
        assert place.rows("SELECT last_value FROM refusals")[0][0] > 3
        assert memory.retrieve("k")["value"] == "x" * 2000
    place.expect_sound()


@pytest.mark.parametrize("table", ["ltm_entries", "ltm_entry_search", "ltm_entry_metadata"])
def test_a_batch_refused_amid_what_was_sent_ahead_is_tried_anew(
    place: PostgresPlace, table: str
) -> None:
    keys = [f"k{number}" for number in range(2 * PostgreSQLDialect.rows_per_insert)]
    with place.open() as memory:
        succeed(memory.store("warm", 1))
        refuse(place, "40P01", 2, at_commit=False, table=table)
        succeed(memory.store_batch([(key, f"tea {key}", {"a": 1}) for key in keys]))
        assert place.rows("SELECT last_value FROM refusals")[0][0] == 2 + len(keys)
        assert memory.retrieve_batch(keys)["found"] == len(keys)
        assert memory.search("tea", {"a": 1}, limit=1000)["count"] == len(keys)
    place.expect_sound()


def refuse(
    place: PostgresPlace,
    sqlstate: str,
    times: int,
    *,
    at_commit: bool,
    table: str = "ltm_entries",
) -> None:
    """Let the server fail with *sqlstate* the next *times* that a row of *table* is written."""
    place.rows("CREATE SEQUENCE refusals")
    place.rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('refusals') <= {times} THEN"
        f"  RAISE EXCEPTION 'in the way' USING ERRCODE = '{sqlstate}'; END IF;"
        " RETURN NULL; END $$"
    )
    kind, when = ("CONSTRAINT ", "DEFERRABLE INITIALLY DEFERRED") if at_commit else ("", "")
    place.rows(
        f"CREATE {kind}TRIGGER refuse AFTER INSERT OR UPDATE ON {table} {when}"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )


ISOLATIONS = ["default", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"]


@contextmanager
def isolated(place: PostgresPlace, isolation: str) -> Iterator[DuckDBLTMBackend]:
    """Open a memory where transactions are of another isolation unless they say otherwise."""
    if isolation == "default":
        place.rows(
            f"ALTER DATABASE {place.database} SET default_transaction_isolation = 'serializable'"
        )
        with place.open() as memory:
            yield memory
        return
    url = place.url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, isolation_level=isolation, pool_size=10)
    try:
        with place.memory(place.catalog(engine=engine)) as memory:
            yield memory
    finally:
        engine.dispose()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_writers_get_through_whatever_the_isolation_is_by_default(
    place: PostgresPlace, isolation: str
) -> None:
    with isolated(place, isolation) as memory:

        def write(thread: int) -> None:
            for number in range(6):
                size = 2000 if number % 2 else 10
                keys = [f"k{index}" for index in range(4)]
                value = f"{thread}/{number}".rjust(size)
                keys = keys if thread % 2 else keys[::-1]
                succeed(memory.store_batch([(key, value) for key in keys]))
                succeed(memory.retrieve_batch(keys))
                succeed(memory.search("k"))
                succeed(memory.update("u", lambda value: value + 1, default=0, retries=10_000))

        in_threads(write, 6)
        assert memory.retrieve("u")["value"] == 36
        values = memory.retrieve_batch([f"k{index}" for index in range(4)])["results"].values()
        assert len(set(values)) == 1
    place.expect_sound()


def test_an_applications_own_transaction_is_not_tried_anew_behind_its_back(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What got in the way does so until the application's transaction ends: it would be tried long.
    monkeypatch.setattr("ltm.catalog.attempts.CONTENTION_SECONDS", 1000)
    url = place.url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, isolation_level="REPEATABLE READ")
    with place.open() as other, place.memory(place.catalog(engine=engine)) as memory:
        succeed(other.store("k", "old"))
        with engine.connect() as connection:
            bound = memory.using(connection)
            assert bound.retrieve("k")["value"] == "old"
            succeed(other.store("k", "theirs"))
            answer = in_time(lambda: bound.store("k", "ours"), 30)
            assert is_outage(answer)
            assert "could not serialize access" in answer["error"]
            connection.rollback()
        with engine.begin() as connection:
            succeed(memory.using(connection).store("k", "ours"))
        assert other.retrieve("k")["value"] == "ours"
    engine.dispose()


def test_two_first_writers_of_a_key_leave_one_row_and_one_payload(place: PostgresPlace) -> None:
    rounds, barrier = 40, threading.Barrier(2)
    with place.open() as memory:
        succeed(memory.store("warm", 1))

        def write(thread: int) -> None:
            for number in range(rounds):
                barrier.wait(60)
                succeed(memory.store(f"k{number}", f"{thread}" * 2000))

        in_threads(write, 2)
        values = {key: value for key, value, _ in memory.iterate_all("k")}
    assert len(values) == rounds
    assert all(value in ("0" * 2000, "1" * 2000) for value in values.values())
    # Nothing is left over even before garbage is collected.
    assert place.files() == place.referenced()
    assert place.scheduled() == set()
    place.expect_sound()


def test_of_two_first_writers_one_wins_if_absent(place: PostgresPlace) -> None:
    rounds, barrier = 40, threading.Barrier(2)
    said: list[list[str]] = [[], []]
    with place.open() as memory:
        succeed(memory.store("warm", 1))

        def claim(thread: int) -> None:
            for number in range(rounds):
                barrier.wait(60)
                answer = memory.store(f"k{number}", f"{thread}" * 2000, if_absent=True)
                said[thread].append("stored" if answer["success"] else answer["error_type"])

        in_threads(claim, 2)
        for number, words in enumerate(zip(*said, strict=True)):
            assert Counter(words) == {"stored": 1, "conflict": 1}
            winner = words.index("stored")
            assert memory.retrieve(f"k{number}")["value"] == f"{winner}" * 2000
    place.expect_sound()


def test_a_counter_that_threads_update_is_exact(place: PostgresPlace) -> None:
    with place.open() as memory:

        def count(_: int) -> None:
            for _ in range(25):
                succeed(
                    memory.update("counter", lambda value: value + 1, default=0, retries=10_000)
                )

        in_threads(count, 8)
        assert memory.retrieve("counter")["value"] == 200


def test_a_counter_that_processes_update_is_exact(place: PostgresPlace) -> None:
    with started(SCRIPT, [("count_up", place.url, place.storage, 4, 25)]) as workers:
        assert said(workers, DEADLINE) == [[[]] * 4]
    with place.open() as memory:
        assert memory.retrieve("counter")["value"] == 100
