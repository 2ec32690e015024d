"""An outage of the memory never stops an action; when it is over, results are remembered again."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from outcomes import in_threads

from ltm import cache_get, cache_invalidate, cache_wrap, cached
from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.firestore import FirestoreCatalog
from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import CatalogUnavailableError
from ltm.testing.backend_fixtures import LARGE
from ltm.testing.catalog_faults import FailingCatalog
from ltm.testing.payload_faults import FailingPayloadStore
from tests.services.firestore import FirestoreEmulator
from tests.services.postgres import PostgresServer

TIMEOUTS: dict[str, Any] = {"connect_timeout": 2, "statement_timeout": 2, "pool_timeout": 2}


class Count:
    """An action that returns how often it was run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> int:
        self.runs += 1
        return self.runs


def is_uncached(answer: Any) -> bool:
    """Return whether *answer* says that the action was run and the catalog can't be reached."""
    assert answer["success"] is True
    assert (answer["_cache_hit"], answer["_cached"]) == (False, False)
    return answer["_cache_error_type"] == "catalog_unavailable" and bool(answer["_cache_error"])


def prove_outage(memory: DuckDBLTMBackend, count: Count) -> None:
    """Require that every call runs the action, from one thread and from many."""
    before = count.runs
    for run in range(1, 4):
        answer = cache_wrap(memory, count, key="k")
        assert is_uncached(answer)
        assert answer["result"] == before + run
    answers: list[Any] = []
    in_threads(lambda number: answers.append(cache_wrap(memory, count, key=f"k{number}")), 6)
    assert all(map(is_uncached, answers))
    assert count.runs == before + 9
    got = cache_get(memory, "k", "default")
    assert (got["success"], got["_cache_hit"], got["result"]) == (False, False, "default")
    assert got["error_type"] == "catalog_unavailable"
    assert cache_invalidate(memory, prefix="k")["error_type"] == "catalog_unavailable"


def prove_recovery(memory: DuckDBLTMBackend, count: Count) -> None:
    """Require that the next call remembers, and the ones after it hit."""
    answers = [cache_wrap(memory, count, key="new") for _ in range(3)]
    assert [each["_cache_hit"] for each in answers] == [False, True, True]
    assert all(each["_cached"] and "_cache_error" not in each for each in answers)


def test_a_postgres_that_is_stopped_and_started(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    catalog = PostgresCatalog(postgres_url, **TIMEOUTS)
    with DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True) as memory:
        count = Count()
        assert cache_wrap(memory, count, key="k")["_cached"]
        for _ in range(2):
            postgres_server.stop()
            prove_outage(memory, count)
            postgres_server.start()
            prove_recovery(memory, count)
            assert cache_get(memory, "k")["result"] == 1
            cache_invalidate(memory, key="new")


def test_a_postgres_that_is_stopped_while_the_action_runs(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    catalog = PostgresCatalog(postgres_url, **TIMEOUTS)
    with DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True) as memory:

        def act() -> str:
            postgres_server.stop()
            return "done"

        assert is_uncached(cache_wrap(memory, act, key="k", lease_seconds=1))
        postgres_server.start()
        assert cache_wrap(memory, lambda: "after", key="k")["_cached"] is True


def test_a_firestore_that_is_paused_and_goes_on(
    firestore_emulator: FirestoreEmulator, firestore_project: str, tmp_path: Path
) -> None:
    catalog = FirestoreCatalog(firestore_project, index_directory=tmp_path / "index", timeout=3)
    with DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True) as memory:
        count = Count()
        assert cache_wrap(memory, count, key="k")["_cached"]
        firestore_emulator.pause()
        try:
            prove_outage(memory, count)
        finally:
            firestore_emulator.start()
        prove_recovery(memory, count)


@pytest.mark.parametrize("operation", ["read", "leases", "write"])
@pytest.mark.parametrize("after_effect", [False, True])
def test_whichever_call_of_the_catalog_fails(
    tmp_path: Path, operation: Any, after_effect: bool
) -> None:
    catalog = FailingCatalog(SQLiteCatalog(tmp_path / "catalog.db"))
    with DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True) as memory:
        count = Count()
        assert cache_wrap(memory, count, key="kept")["_cached"]
        catalog.fail(operation, after_effect=after_effect)
        for run in range(2, 5):
            answer = cache_wrap(memory, count, key=f"k{run}", lease_seconds=0.1)
            assert is_uncached(answer)
            assert answer["result"] == run
        catalog.heal()
        prove_recovery(memory, count)
        assert cache_wrap(memory, count, key="k2", timeout=20)["_cached"]


def test_a_payload_store_that_fails(tmp_path: Path) -> None:
    with DuckDBLTMBackend(SQLiteCatalog(":memory:"), f"{tmp_path}/data") as inner:
        store = FailingPayloadStore(inner.payloads)
        memory = DuckDBLTMBackend(inner.catalog, store=store)
        assert cache_wrap(memory, lambda: LARGE, key="large")["_cached"]
        store.fail("read")
        store.fail("write")
        for _ in range(2):
            for key in ("large", "new"):
                answer = cache_wrap(memory, lambda: LARGE, key=key)
                assert (answer["result"], answer["_cached"]) == (LARGE, False)
                assert answer["_cache_error_type"] == "storage_error"
        store.heal()
        assert cache_wrap(memory, lambda: 1 / 0, key="large")["result"] == LARGE
        assert cache_wrap(memory, lambda: LARGE, key="new")["_cached"]


def test_decorated_functions_go_on_without_a_catalog(tmp_path: Path) -> None:
    catalog = FailingCatalog(SQLiteCatalog(tmp_path / "catalog.db"))
    with DuckDBLTMBackend(catalog, f"{tmp_path}/data", raise_errors=True) as memory:
        runs: list[int] = []

        @cached(memory)
        def double(number: int) -> int:
            runs.append(number)
            return 2 * number

        @cached(memory)
        async def triple(number: int) -> int:
            runs.append(number)
            return 3 * number

        catalog.fail("read")
        assert [double(2), double(2), asyncio.run(triple(2)), asyncio.run(triple(2))] == [
            4,
            4,
            6,
            6,
        ]
        assert len(runs) == 4
        with pytest.raises(CatalogUnavailableError):
            cache_get(memory, "k")
        catalog.heal()
        assert [double(2), double(2), asyncio.run(triple(2)), asyncio.run(triple(2))] == [
            4,
            4,
            6,
            6,
        ]
        assert len(runs) == 6
    catalog.close()


def test_an_outage_that_only_the_cache_meets_is_logged_once_and_its_end_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = FailingCatalog(SQLiteCatalog(tmp_path / "catalog.db"))
    with DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True) as memory:
        count = Count()
        with caplog.at_level(logging.INFO, "ltm.backend.outage"):
            for _ in range(2):
                catalog.fail("read")
                in_threads(lambda number: cache_wrap(memory, count, key=f"k{number}"), 6)
                cache_get(memory, "k")
                cache_invalidate(memory, key="k")
                catalog.heal()
                in_threads(lambda number: cache_wrap(memory, count, key=f"k{number}"), 6)
        levels = [record.levelname for record in caplog.records]
        assert levels == ["WARNING", "INFO"] * 2


@pytest.mark.parametrize("selection", [{"key": "k"}, {"prefix": "k"}, {"pattern": "*"}])
def test_what_was_invalidated_is_not_answered_as_a_stale_read(
    tmp_path: Path, selection: dict[str, Any]
) -> None:
    catalog = FailingCatalog(SQLiteCatalog(tmp_path / "catalog.db"))
    with DuckDBLTMBackend(
        catalog, f"{tmp_path}/data", owns_catalog=True, stale_reads=True
    ) as memory:
        cache_wrap(memory, lambda: "result", key="k")
        assert memory.retrieve("k")["found"]
        catalog.fail("read")
        assert memory.retrieve("k")["stale"] is True
        catalog.heal()
        assert cache_invalidate(memory, **selection)["deleted"] == 1
        catalog.fail("read")
        assert memory.retrieve("k")["error_type"] == "catalog_unavailable"


def test_a_result_of_the_cache_is_not_answered_as_stale_by_the_cache(tmp_path: Path) -> None:
    catalog = FailingCatalog(SQLiteCatalog(tmp_path / "catalog.db"))
    with DuckDBLTMBackend(
        catalog, f"{tmp_path}/data", owns_catalog=True, stale_reads=True
    ) as memory:
        count = Count()
        cache_wrap(memory, count, key="k")
        memory.retrieve("k")
        catalog.fail("read")
        assert [cache_wrap(memory, count, key="k")["result"] for _ in range(2)] == [2, 3]
