"""A server that goes away is an outage and nothing worse; when it is back everything works on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from outcomes import in_threads, in_time, is_outage, succeed, wait_until
from postgres_place import PostgresPlace, warm_up

from ltm.backend.duckdb import DuckDBLTMBackend
from tests.services.fixtures import MakeProxy
from tests.services.pgbouncer import PgBouncer
from tests.services.postgres import PostgresServer, through
from tests.services.proxy import FaultProxy

TIMEOUTS: dict[str, Any] = {"connect_timeout": 2, "statement_timeout": 5, "pool_timeout": 5}
SHORT: dict[str, Any] = {"connect_timeout": 2, "statement_timeout": 1, "pool_timeout": 2}
KEYS = 5


class Worker(threading.Thread):
    """Stores and reads keys of its own, and remembers what each of them may hold."""

    def __init__(self, memory: DuckDBLTMBackend, name: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.memory = memory
        self.prefix = name
        self.stop = stop
        self.possible: dict[str, list[str]] = {}
        """The value that was acknowledged last, and those of writes that failed since."""
        self.successes = self.failures = 0
        self.wrong: list[Any] = []

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            key = f"{self.prefix}-{number % KEYS}"
            value = f"{self.prefix}/{number}".rjust(2000 if number % 3 == 0 else 10)
            self.store(key, value)
            self.read(key)

    def store(self, key: str, value: str) -> None:
        answer = self.memory.store(key, value)
        if answer["success"]:
            self.possible[key] = [value]
            self.successes += 1
        else:
            self.possible.setdefault(key, []).append(value)
            self.note_failure(answer)

    def read(self, key: str) -> None:
        answer = self.memory.retrieve(key)
        if not answer["success"]:
            self.note_failure(answer)
        elif answer["found"]:
            if answer["value"] not in self.possible[key]:
                self.wrong.append(f"{key}: {answer['value'].strip()}")
        elif key in self.acknowledged():
            self.wrong.append(f"{key} is gone")

    def acknowledged(self) -> set[str]:
        return {key for key, values in self.possible.items() if len(values) == 1}

    def note_failure(self, answer: Any) -> None:
        self.failures += 1
        if not is_outage(answer):
            self.wrong.append(answer)


@pytest.fixture(params=["direct", "pgbouncer"])
def way(
    request: pytest.FixtureRequest, durable_server: PostgresServer, durable_place: PostgresPlace
) -> Iterator[dict[str, Any]]:
    """Options that lead to the durable server."""
    if request.param == "direct":
        yield {"url": durable_place.url}
        return
    with PgBouncer(durable_server, default_pool_size=4, query_wait_timeout=1) as pooler:
        yield {"url": through(durable_place.url, pooler), "pool_mode": "transaction"}


def test_a_server_killed_under_load_costs_failures_but_no_write(
    durable_server: PostgresServer, durable_place: PostgresPlace, way: dict[str, Any]
) -> None:
    stop = threading.Event()
    with durable_place.open(**way, **TIMEOUTS) as memory:
        workers = [Worker(memory, f"w{number}", stop) for number in range(8)]
        for worker in workers:
            worker.start()
        try:
            expect_progress(workers, "successes", 10)
            durable_server.kill()
            expect_progress(workers, "failures", 3)
            durable_server.start()
            expect_progress(workers, "successes", 10)
        finally:
            stop.set()
            for worker in workers:
                worker.join(60)
        assert not any(worker.is_alive() for worker in workers)
    assert [worker.wrong for worker in workers] == [[]] * 8
    with durable_place.open() as other:
        found = {key: value for key, value, _ in other.iterate_all()}
    for worker in workers:
        for key, values in worker.possible.items():
            assert found[key] in values, key
    durable_place.expect_sound()


def expect_progress(workers: list[Worker], counter: str, count: int) -> None:
    """Return when each of *workers* has counted *count* more."""
    before = [getattr(worker, counter) for worker in workers]
    wait_until(
        lambda: all(
            getattr(worker, counter) >= start + count
            for worker, start in zip(workers, before, strict=True)
        ),
        f"no more {counter}",
    )


def transact(memory: DuckDBLTMBackend) -> Any:
    with memory.transaction() as block:
        return block.store("k", "together")


CALLS: list[Callable[[DuckDBLTMBackend], Any]] = [
    transact,
    lambda memory: memory.retrieve("k"),
    lambda memory: memory.store("k", "x" * 2000),
    lambda memory: memory.store_batch([("a", 1), ("b", "y" * 2000)]),
    lambda memory: memory.search("together"),
    lambda memory: memory.create_snapshot("s"),
    lambda memory: memory.retrieve_batch(["a", "b"]),
    lambda memory: memory.delete("a"),
    lambda memory: memory.health_check(),
    lambda memory: memory.cleanup_expired(),
]


@pytest.mark.parametrize("first", range(2))
def test_ten_idle_connections_that_died_cost_no_call(
    durable_server: PostgresServer, durable_place: PostgresPlace, first: int
) -> None:
    with durable_place.open(**TIMEOUTS) as memory:
        succeed(memory.store("k", 1))
        warm_up(memory, 10)
        assert len(durable_place.sessions()) == 10
        durable_server.kill()
        durable_server.start()
        for number in range(20):
            succeed(CALLS[(first + number) % len(CALLS)](memory))


@pytest.fixture
def proxy(postgres_server: PostgresServer, make_proxy: MakeProxy) -> FaultProxy:
    return make_proxy(postgres_server.host, postgres_server.port)


def expect_outage(memory: DuckDBLTMBackend) -> None:
    """Check that calls of each kind fail in time, and don't take the outage for an answer."""
    verbs: list[Callable[[], Any]] = [
        lambda: memory.store("k", "during the outage"),
        lambda: memory.retrieve("k"),
        lambda: memory.retrieve_batch(["k"]),
        lambda: memory.search("outage"),
        lambda: memory.health_check(),
    ]
    answers: list[Any] = []
    # At once, so that the time limits of a silent server run at once.
    in_threads(lambda number: answers.append(verbs[number]()), len(verbs))
    for answer in answers:
        assert is_outage(answer), answer
        assert "found" not in answer


FAULTS: dict[str, Callable[[FaultProxy], None]] = {
    "refuse": FaultProxy.refuse,
    "reset": FaultProxy.reset,
    "blackhole": FaultProxy.blackhole,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("connects", [True, False])
def test_a_network_that_fails_is_an_outage_until_it_works_again(
    place: PostgresPlace, proxy: FaultProxy, fault: str, connects: bool
) -> None:
    with place.open(through(place.url, proxy), **SHORT) as memory:
        if connects:
            succeed(memory.store("k", "before"))
        FAULTS[fault](proxy)
        if fault == "refuse":
            proxy.cut_all()
        expect_outage(memory)
        proxy.pass_through()
        answer = succeed(memory.retrieve("k"))
        assert (answer["found"], answer["value"]) == (connects, "before" if connects else None)
        succeed(memory.store("k", "after"))


def test_callers_of_a_silent_server_do_not_wait_for_one_another(
    place: PostgresPlace, proxy: FaultProxy
) -> None:
    proxy.blackhole()
    with place.open(through(place.url, proxy), **SHORT, pool_max=40) as memory:

        def use(_: int) -> None:
            assert is_outage(memory.retrieve("k"))

        # One after another they would take 80 s.
        in_threads(use, 40)


def test_a_statement_that_waits_too_long_is_given_up(place: PostgresPlace) -> None:
    with place.open(**SHORT) as memory, psycopg.connect(place.url) as other:
        succeed(memory.store("k", "before"))
        other.execute("SELECT 1 FROM ltm_entries FOR UPDATE")
        answer = in_time(lambda: memory.store("k", "after"))
        assert is_outage(answer)
        assert "no answer within 1 s" in answer["error"]
        other.rollback()
        assert succeed(memory.retrieve("k"))["value"] == "before"
        succeed(memory.store("k", "after"))


def test_connections_cut_while_idle_cost_no_call(place: PostgresPlace, proxy: FaultProxy) -> None:
    with place.open(through(place.url, proxy)) as memory:
        for call in CALLS:
            succeed(memory.store("k", 1))
            warm_up(memory, 3)
            proxy.cut_all()
            succeed(call(memory))


def test_connections_cut_while_idle_cost_no_call_of_many_threads(
    place: PostgresPlace, proxy: FaultProxy
) -> None:
    with place.open(through(place.url, proxy)) as memory:
        succeed(memory.store("k", 1))

        def use(thread: int) -> None:
            for _ in range(3):
                succeed(memory.retrieve("k"))
                succeed(memory.store(f"k{thread}", thread))

        for _ in range(20):
            warm_up(memory, 10)
            proxy.cut_all()
            in_threads(use, 6)


@pytest.mark.parametrize("asks", [True, False])
def test_once_one_connection_is_found_dead_none_of_its_age_is_handed_out(
    place: PostgresPlace, proxy: FaultProxy, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.open(through(place.url, proxy)) as memory:
        succeed(memory.store("k", 1))
        warm_up(memory, 10)
        proxy.cut_all()
        # Whether by a sign of life asked for, or by the statement of a call.
        monkeypatch.setattr("ltm.sql.postgres_pool.IDLE_SECONDS", 0 if asks else 3600)
        succeed(memory.retrieve("k"))
        monkeypatch.setattr("ltm.sql.postgres_pool.IDLE_SECONDS", 3600)
        pool: Any = memory.catalog.database.pool  # type: ignore[attr-defined]  # a SQL catalog
        connections = [pool.acquire() for _ in range(10)]
        for connection in connections:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            pool.release(connection)


def test_a_slow_network_only_takes_longer(place: PostgresPlace, proxy: FaultProxy) -> None:
    with place.open(through(place.url, proxy)) as memory:
        proxy.latency(0.005)
        for call in CALLS:
            succeed(call(memory))
