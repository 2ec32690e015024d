"""Outages of real servers: stale answers meanwhile, failures of writes, and fresh values after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cut import LARGE, is_outage, is_stale
from firestore_place import FirestorePlace
from outcomes import in_threads, succeed, wait_until
from postgres_place import PostgresPlace

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.sql import migrate
from ltm.sql.engines import open_engine
from ltm.testing.clock import FakeClock
from tests.services.firestore import FirestoreEmulator
from tests.services.fixtures import MakeProxy, database, running
from tests.services.postgres import PostgresServer, through
from tests.services.proxy import FaultProxy

TIMEOUTS: dict[str, Any] = {"connect_timeout": 2, "statement_timeout": 1, "pool_timeout": 2}
THREADS = 20


def refuse(proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.cut_all()


FAULTS: dict[str, Callable[[FaultProxy], None]] = {
    "refuses": refuse,
    "resets": FaultProxy.reset,
    "is silent": FaultProxy.blackhole,
}


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="ltm.backend")
    return caplog


def levels(told: pytest.LogCaptureFixture) -> list[str]:
    found = [each.levelname for each in told.records if each.name.startswith("ltm.backend")]
    told.clear()
    return found


def expect_outage_and_recovery(
    memory: DuckDBLTMBackend,
    clock: FakeClock,
    told: pytest.LogCaptureFixture,
    *,
    fail: Callable[[], None],
    work: Callable[[], None],
    keeps: bool = True,
) -> None:
    """Take *memory* through an outage; *keeps* says whether the server has all afterwards."""
    succeed(memory.store_batch([("small", {"n": 1}, {"type": "note"}), ("large", LARGE)]))
    succeed(memory.store("expires", 1, ttl=60))
    succeed(memory.store("deleted", 1))
    succeed(memory.store("deleted in vain", 1))
    kept = ["small", "large", "expires", "deleted", "deleted in vain"]
    fresh = succeed(memory.retrieve_batch(kept))
    assert fresh["found"] == len(kept)
    succeed(memory.delete("deleted"))

    fail()
    answers: list[Any] = []
    in_threads(lambda _: answers.append(memory.retrieve("small")), THREADS)
    assert all(is_stale(answer, {"n": 1}) for answer in answers), answers
    assert {str(answer["metadata"]) for answer in answers} == {"{'type': 'note'}"}
    assert is_outage(memory.delete("deleted in vain"))
    assert is_outage(memory.store("new", 1))
    clock.advance(60)
    batch = memory.retrieve_batch([*kept, "new"])
    assert batch["results"] == {"small": {"n": 1}, "large": LARGE}
    assert (batch["success"], batch["stale"], batch["missing"]) == (False, True, [])
    assert levels(told) == ["WARNING"]

    work()
    wait_until(lambda: "stale" not in memory.retrieve("small"), "nothing fresh")
    after = memory.retrieve("small")
    assert (after["success"], "stale" in after) == (True, False)
    assert levels(told) == ["INFO"]
    assert not succeed(memory.retrieve("expires"))["found"]
    assert not succeed(memory.retrieve("deleted"))["found"]
    assert succeed(memory.retrieve("deleted in vain"))["found"] is keeps
    assert not succeed(memory.retrieve("new"))["found"]
    assert succeed(memory.store("new", 2))["created"]
    assert levels(told) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_postgres_that_cannot_be_reached(
    postgres_url: str,
    tmp_path: Path,
    make_proxy: MakeProxy,
    postgres_server: PostgresServer,
    told: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    clock = FakeClock()
    proxy = make_proxy("127.0.0.1", postgres_server.port)
    place = PostgresPlace(postgres_url, tmp_path / "payloads")
    catalog = place.catalog(through(postgres_url, proxy), clock=clock, **TIMEOUTS)
    with place.memory(catalog, stale_reads=True) as memory:
        expect_outage_and_recovery(
            memory,
            clock,
            told,
            fail=lambda: FAULTS[fault](proxy),
            work=proxy.pass_through,
        )
        # And another outage is another warning.
        FAULTS[fault](proxy)
        assert is_stale(memory.retrieve("small"), {"n": 1})
        proxy.pass_through()
        succeed(memory.retrieve("small"))
        assert levels(told) == ["WARNING", "INFO"]


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[tuple[PostgresServer, PostgresPlace]]:
    with running(PostgresServer(durable=True)) as server, database(server) as url:
        engine = open_engine(url)
        with engine.begin() as connection:
            migrate.upgrade(connection)
        engine.dispose()
        yield server, PostgresPlace(url, tmp_path / "payloads")


def test_postgres_that_is_killed_and_started_again(
    durable: tuple[PostgresServer, PostgresPlace], told: pytest.LogCaptureFixture
) -> None:
    server, place = durable
    clock = FakeClock()
    with place.memory(place.catalog(clock=clock, **TIMEOUTS), stale_reads=True) as memory:
        expect_outage_and_recovery(memory, clock, told, fail=server.kill, work=server.start)


@pytest.mark.parametrize("fault", FAULTS)
def test_firestore_that_cannot_be_reached(
    firestore_emulator: FirestoreEmulator,
    firestore_project: str,
    tmp_path: Path,
    make_proxy: MakeProxy,
    monkeypatch: pytest.MonkeyPatch,
    told: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    clock = FakeClock()
    proxy = make_proxy(firestore_emulator.host, firestore_emulator.port)
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"{proxy.host}:{proxy.port}")
    place = FirestorePlace(firestore_project, tmp_path)
    with place.memory(place.catalog(clock=clock, timeout=3.0), stale_reads=True) as memory:
        expect_outage_and_recovery(
            memory,
            clock,
            told,
            fail=lambda: FAULTS[fault](proxy),
            work=proxy.pass_through,
        )


@pytest.fixture
def apart(
    postgres_url: str, postgres_server: PostgresServer, tmp_path: Path, make_proxy: MakeProxy
) -> Iterator[tuple[DuckDBLTMBackend, FaultProxy, Any]]:
    """A memory behind a proxy, and an engine of an application's own that is never cut off."""
    proxy = make_proxy("127.0.0.1", postgres_server.port)
    place = PostgresPlace(postgres_url, tmp_path / "payloads")
    engine = open_engine(postgres_url)
    catalog = place.catalog(through(postgres_url, proxy), **TIMEOUTS)
    with place.memory(catalog, stale_reads=True) as memory:
        yield memory, proxy, engine
    engine.dispose()


def stale(memory: DuckDBLTMBackend, proxy: FaultProxy, key: str) -> Any:
    refuse(proxy)
    answer = memory.retrieve(key)
    proxy.pass_through()
    return answer


def test_what_a_caller_s_transaction_changes_is_not_kept_until_it_has_ended(
    apart: tuple[DuckDBLTMBackend, FaultProxy, Any],
) -> None:
    memory, proxy, engine = apart
    succeed(memory.store_batch([("k", 1), ("other", 1)]))
    succeed(memory.retrieve_batch(["k", "other"]))
    with engine.connect() as connection:
        bound = memory.using(connection)
        succeed(bound.delete("k"))
        assert is_outage(stale(memory, proxy, "k"))
        # Not committed yet, so it is read; and may be deleted at any moment.
        assert succeed(memory.retrieve("k"))["found"]
        assert is_outage(stale(memory, proxy, "k"))
        assert is_stale(stale(memory, proxy, "other"), 1)
        connection.commit()
        assert is_outage(stale(memory, proxy, "k"))
        # In its next transaction the same holds again.
        memory.using(connection)
        succeed(bound.store("other", 2))
        assert succeed(memory.retrieve("other"))["value"] == 1
        assert is_outage(stale(memory, proxy, "other"))
        connection.rollback()
    assert not succeed(memory.retrieve("k"))["found"]
    assert succeed(memory.retrieve("other"))["value"] == 1
    assert is_stale(stale(memory, proxy, "other"), 1)


def test_what_is_changed_outside_of_a_transaction_that_can_be_told_is_never_kept_again(
    apart: tuple[DuckDBLTMBackend, FaultProxy, Any],
) -> None:
    memory, proxy, engine = apart
    succeed(memory.store("k", 1))
    with engine.connect() as connection:
        bound = memory.using(connection)
        connection.commit()
        # Of the transaction that this begins on the driver's connection nobody hears.
        succeed(bound.delete("k"))
        assert succeed(memory.retrieve("k"))["found"]
        connection.connection.driver_connection.commit()
    assert not succeed(memory.retrieve("k"))["found"]
    succeed(memory.store("k", 2))
    assert succeed(memory.retrieve("k"))["found"]
    assert is_outage(stale(memory, proxy, "k"))
