"""The pool has no more connections than it may, keeps what it needs, and hands out live ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from outcomes import in_threads, is_outage, succeed, wait_until
from postgres_place import PostgresPlace, warm_up
from sqlalchemy import Engine, create_engine, text

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.errors import CatalogUnavailableError
from tests.services.fixtures import MakeProxy
from tests.services.pgbouncer import PgBouncer
from tests.services.postgres import PostgresServer, through


def pool_of(memory: DuckDBLTMBackend) -> Any:
    catalog: Any = memory.catalog
    return catalog.database.pool


def test_twenty_threads_share_three_connections(place: PostgresPlace) -> None:
    most, left = 0, 20

    def use(thread: int) -> None:
        nonlocal most, left
        while thread == 20 and left:
            most = max(most, len(place.sessions()))
        for number in range(10 if thread < 20 else 0):
            succeed(memory.store(f"k{thread}", number))
            assert succeed(memory.retrieve(f"k{thread}"))["value"] == number
            with memory.transaction() as block:
                block.store(f"t{thread}", number)
        with counting:
            left -= 1

    counting = threading.Lock()
    with place.open(pool_max=3) as memory:
        succeed(memory.store("warm", 1))
        in_threads(use, 21)
        assert 1 < most <= 3
        assert len(place.sessions()) <= 3
    wait_until(lambda: place.sessions() == [], "a connection is left open")


def test_a_pool_that_is_used_up_is_an_outage_and_then_works_again(place: PostgresPlace) -> None:
    with place.open(pool_max=2, pool_timeout=0.2) as memory:
        succeed(memory.store("k", 1))
        pool = pool_of(memory)
        connections = [pool.acquire(), pool.acquire()]
        assert is_outage(memory.retrieve("k"))
        assert is_outage(memory.store("k", 2))
        with pytest.raises(CatalogUnavailableError), memory.transaction():
            pass
        pool.release(connections.pop())
        assert succeed(memory.retrieve("k"))["value"] == 1
        pool.release(connections.pop())


def test_connections_that_were_not_needed_for_a_while_are_closed(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.open(pool_min=2) as memory:
        succeed(memory.store("k", 1))
        warm_up(memory, 8)
        before = place.sessions()
        assert len(before) == 8
        # As many as the last minute had use for.
        succeed(memory.retrieve("k"))
        assert place.sessions() == before
        monkeypatch.setattr("ltm.sql.postgres_pool.SURPLUS_SECONDS", 0)
        for _ in range(10):
            succeed(memory.retrieve("k"))
        wait_until(lambda: len(place.sessions()) == 2, "they are not closed")
        kept = place.sessions()
        assert set(kept) <= set(before)
        # Those that are kept are used: none is opened for want of another one.
        for _ in range(10):
            succeed(memory.store("k", 2))
        assert place.sessions() == kept
        # And there may be as many as before.
        monkeypatch.setattr("ltm.sql.postgres_pool.SURPLUS_SECONDS", 60)
        warm_up(memory, 10)
        assert len(place.sessions()) == 10


def test_a_connection_is_replaced_when_it_is_old(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.open(recycle_seconds=1) as memory:
        succeed(memory.store("k", 1))
        (before,) = place.sessions()
        wait_until(
            lambda: succeed(memory.retrieve("k"))["found"] and before not in place.sessions(),
            "it is not replaced",
        )
        wait_until(lambda: len(place.sessions()) == 1, "the old one stays")


def test_an_idle_connection_is_asked_for_a_sign_of_life(
    place: PostgresPlace,
    postgres_server: PostgresServer,
    make_proxy: MakeProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = make_proxy(postgres_server.host, postgres_server.port)
    with place.open(through(place.url, proxy)) as memory:
        succeed(memory.store("k", 1))
        before = place.sessions()
        monkeypatch.setattr("ltm.sql.postgres_pool.IDLE_SECONDS", 0)
        with memory.transaction() as block:
            block.store("k", 2)
        assert place.sessions() == before
        proxy.cut_all()
        with memory.transaction() as block:
            block.store("k", 3)
        assert memory.retrieve("k")["value"] == 3


def test_twenty_threads_share_two_connections_of_a_pooler(
    place: PostgresPlace, pgbouncer: PgBouncer
) -> None:
    url = through(place.url, pgbouncer)
    with place.open(url, pool_mode="transaction") as memory:

        def use(thread: int) -> None:
            for number in range(4):
                value = "x" * (2000 if number % 2 else 10)
                succeed(memory.store(f"k{thread}", value, {"n": number}))
                assert succeed(memory.retrieve(f"k{thread}"))["value"] == value
                succeed(memory.store_batch([("a", thread), ("b", thread), (f"b{thread}", number)]))
                succeed(memory.search("k", {"n": number}))

        in_threads(use, 20)
        succeed(memory.create_snapshot("s"))
    assert place.rows(
        "SELECT count(*) <= 2 FROM pg_stat_activity WHERE application_name = 'ltm'"
    ) == [(True,)]
    # Asked of the very connections that have served the memory.
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://"),
        connect_args={"prepare_threshold": None},
    )
    with engine.connect() as one, engine.connect() as other:
        pids = set()
        for connection in (one, other):
            pids.add(connection.scalar(text("SELECT pg_backend_pid()")))
            assert connection.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert connection.scalar(text(locks)) == 0
        assert len(pids) == 2
    engine.dispose()


@pytest.fixture(params=[None, "AUTOCOMMIT", "SERIALIZABLE"])
def engine(request: pytest.FixtureRequest, place: PostgresPlace) -> Iterator[Engine]:
    """An application's engine with one connection."""
    options: dict[str, Any] = {} if request.param is None else {"isolation_level": request.param}
    url = place.url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, pool_size=1, max_overflow=0, **options)
    yield engine
    engine.dispose()


def settings(engine: Engine) -> tuple[Any, ...]:
    connection = engine.raw_connection()
    driver: Any = connection.driver_connection
    found = driver.autocommit, driver.isolation_level, driver.prepare_threshold, driver.row_factory
    connection.close()
    return found


def test_an_applications_engine_stays_as_it_is_set_up(place: PostgresPlace, engine: Engine) -> None:
    before = settings(engine)
    with place.memory(place.catalog(engine=engine)) as memory:
        succeed(memory.store("k", 1))
        assert settings(engine) == before
        with pytest.raises(ZeroDivisionError), memory.transaction() as block:
            block.store("k", 1 // 0)
        place.rows("ALTER TABLE ltm_entries ADD CONSTRAINT no CHECK (key <> 'refused')")
        assert is_outage(memory.store("refused", 1))
        assert succeed(memory.retrieve("k"))["value"] == 1
        assert settings(engine) == before
    # Closing the memory has closed nothing of the application's.
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM ltm_entries")) == 1
        connection.execute(text("CREATE TABLE theirs (x int)"))
        connection.rollback()
    is_autocommit = before[0]
    assert place.rows("SELECT to_regclass('theirs') IS NOT NULL") == [(is_autocommit,)]


def test_dead_connections_of_an_applications_engine_cost_no_call(place: PostgresPlace) -> None:
    url = place.url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, pool_size=5, connect_args={"application_name": "ltm"})
    with place.memory(place.catalog(engine=engine)) as memory:
        succeed(memory.store("k", 1))
        # By its own means, so that the library has not seen them.
        connections = [engine.connect() for _ in range(5)]
        for connection in connections:
            connection.execute(text("SELECT 1"))
        for connection in connections:
            connection.close()
        place.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ltm'"
        )
        wait_until(lambda: place.sessions() == [], "they live")
        for number in range(10):
            succeed(memory.store("k", number))
            with memory.transaction() as block:
                block.store("t", number)
    engine.dispose()


def delete_and_search(memory: DuckDBLTMBackend) -> None:
    """Delete an entry, and commit although a search has failed since."""
    with memory.transaction() as block:
        block.delete("k")
        with pytest.raises(CatalogUnavailableError):
            block.search("old")


def test_a_failure_that_is_passed_over_keeps_its_transaction_from_committing(
    place: PostgresPlace,
) -> None:
    with place.open() as memory:
        succeed(memory.store("k", "large" * 1000))
        place.rows("ALTER TABLE ltm_entry_search RENAME TO away")
        # The server would answer COMMIT by a rollback, and not by an error.
        with pytest.raises(CatalogUnavailableError):
            delete_and_search(memory)
        place.rows("ALTER TABLE away RENAME TO ltm_entry_search")
        assert succeed(memory.retrieve("k"))["value"] == "large" * 1000
    place.expect_sound()


def test_closing_while_others_work_leaves_no_connection_open(place: PostgresPlace) -> None:
    memory = place.open(pool_max=4)
    succeed(memory.store("k", 1))

    def use(thread: int) -> None:
        if thread == 0:
            memory.catalog.close()
        for _ in range(20):
            answer: Any = memory.store(f"k{thread}", 1)
            assert answer["success"] or answer["error_type"] == "closed", answer

    in_threads(use, 6)
    memory.close()
    wait_until(lambda: place.sessions() == [], "a connection is left open")
