"""Who waits for a catalog waits for so long and no longer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path

import pytest
from cut import is_outage
from outcomes import PATIENCE, in_time, succeed, wait_until

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import LTMError, ValidationError
from ltm.sql.execution import Session
from tests.sql.counting import CountingPool


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[DuckDBLTMBackend]:
    """A memory in memory, for which no thread waits long."""
    catalog = SQLiteCatalog(":memory:", busy_timeout=0.05)
    with DuckDBLTMBackend(catalog, f"{tmp_path}/payloads", owns_catalog=True) as memory:
        succeed(memory.store("k", 1))
        yield memory


@contextmanager
def busy(memory: DuckDBLTMBackend) -> Iterator[None]:
    """Let another thread be amid a transaction for the length of a block."""
    is_open, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with memory.transaction() as block:
            block.store("k", 2)
            is_open.set()
            assert may_end.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_open.wait(PATIENCE)
    try:
        yield
    finally:
        may_end.set()
        holder.join(PATIENCE)


def test_a_database_in_memory_that_another_thread_keeps_busy_is_unavailable(
    shared: DuckDBLTMBackend,
) -> None:
    with busy(shared):
        assert is_outage(in_time(lambda: shared.retrieve("k")))
        assert is_outage(in_time(lambda: shared.store("k", 3)))
    assert succeed(shared.retrieve("k"))["value"] == 2


def test_a_database_in_memory_is_closed_though_another_thread_keeps_it_busy(
    shared: DuckDBLTMBackend,
) -> None:
    with busy(shared):
        in_time(lambda: [shared.close()])
        assert in_time(lambda: shared.retrieve("k"))["error_type"] == "closed"


def test_a_file_that_another_program_is_writing_to_is_unavailable_to_writers(
    tmp_path: Path,
) -> None:
    path = tmp_path / "catalog.db"
    catalog = SQLiteCatalog(path, busy_timeout=0.05)
    with DuckDBLTMBackend(catalog, f"{tmp_path}/payloads", owns_catalog=True) as memory:
        succeed(memory.store("k", 1))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert is_outage(in_time(lambda: memory.store("k", 2)))
            assert succeed(memory.retrieve("k"))["value"] == 1
            other.execute("ROLLBACK")
        assert succeed(memory.store("k", 2))["stored"]


def store_alone(memory: DuckDBLTMBackend) -> None:
    succeed(memory.store("k", 2))


def store_with_words(memory: DuckDBLTMBackend) -> None:
    succeed(memory.store("k", 2, metadata={"n": 1}))


def store_within(memory: DuckDBLTMBackend) -> None:
    with memory.transaction() as block:
        succeed(block.store("k", 2))


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("act", [store_alone, store_with_words, store_within])
def test_who_waits_for_a_file_looks_again_and_again_whether_it_is_free(
    tmp_path: Path, act: Callable[[DuckDBLTMBackend], None], is_first: bool
) -> None:
    path = tmp_path / "catalog.db"
    catalog = SQLiteCatalog(path)
    pool = catalog.database.pool = CountingPool(catalog.database.pool)
    with (
        DuckDBLTMBackend(catalog, f"{tmp_path}/payloads", owns_catalog=True) as memory,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        if not is_first:
            succeed(memory.store("another", 1))
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN IMMEDIATE")
        pool.calls.clear()
        writer = threading.Thread(target=act, args=(memory,))
        writer.start()
        # SQLite by itself would look ever more seldom, and find others there each time.
        wait_until(lambda: most_repeated(pool.calls) >= 5, "it does not look again")
        other.execute("ROLLBACK")
        writer.join(PATIENCE)
        assert succeed(memory.retrieve("k"))["value"] == 2


def most_repeated(calls: list[str]) -> int:
    """Return how often the same statement was sent without another one between."""
    return max((len(list(same)) for _, same in groupby(list(calls))), default=0)


def test_a_transaction_whose_view_another_one_has_outdated_is_run_anew(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    with SQLiteCatalog(path) as catalog, closing(sqlite3.connect(path)) as other:
        catalog.table()
        seen: list[int] = []

        def write(session: Session) -> None:
            ((count,),) = session.connection.execute("SELECT count(*) FROM ltm_tables")
            if not seen:
                other.execute("DELETE FROM ltm_tables")
                other.commit()
            seen.append(count)
            session.command("CREATE TABLE mine (a)")

        catalog.database.read(write)
        assert seen == [1, 0]


def test_a_query_that_computes_for_too_long_is_broken_off_and_the_next_one_runs(
    tmp_path: Path,
) -> None:
    endless = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range < b.range"
    with DuckDBLTMBackend(
        SQLiteCatalog(tmp_path / "catalog.db"), f"{tmp_path}/payloads", owns_catalog=True
    ) as memory:
        succeed(memory.store("k", 1))
        for as_arrow in (False, True):
            with pytest.raises(LTMError, match=r"not done within 0\.01 seconds"):
                memory.query(endless, as_arrow=as_arrow, timeout=0.01)
        assert memory.query("SELECT key FROM entries", timeout=60) == [{"key": "k"}]
        with pytest.raises(ValidationError, match="sql"):
            memory.query("SELECT nothing FROM entries", timeout=60)
        with pytest.raises(ValidationError, match="timeout"):
            memory.query("SELECT 1", timeout=0)
