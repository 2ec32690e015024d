"""How much work a page is on SQLite, wherever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.search.filters import parse_filter
from tests.sql.counting import counted_steps

COUNT = 5000
PAGE = 50
LAST = f"k{COUNT - 2 * PAGE:05}"

Page = Callable[[SQLiteCatalog, str], Any]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SQLiteCatalog]:
    """With many entries, most of them changed since a snapshot, and as many scheduled payloads."""
    with (
        SQLiteCatalog(tmp_path / "catalog.db") as made,
        DuckDBLTMBackend(made, str(tmp_path), raise_errors=True, enable_fts=False) as memory,
    ):
        keys = [f"k{number:05}" for number in range(COUNT)]
        memory.store_batch([(key, "old", {"n": 1}) for key in keys])
        memory.create_snapshot("s")
        memory.store_batch([(key, "new", {"n": 1}) for key in keys if int(key[1:]) % 4])
        prefix = made.table().storage_prefix
        made.move_payloads({f"{prefix}/{key}": f"{prefix}/moved" for key in keys}, made.clock())
        yield made


@pytest.fixture(params=["entries", "versions"])
def hidden(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLiteCatalog]:
    """With a snapshot that sees none of the entries, or none of the versions."""
    with (
        SQLiteCatalog(tmp_path / "catalog.db") as made,
        DuckDBLTMBackend(made, str(tmp_path), raise_errors=True, enable_fts=False) as memory,
    ):
        keys = [f"k{number:05}" for number in range(COUNT)]
        memory.store_batch([(key, "old", {}) for key in keys])
        memory.create_snapshot("s" if request.param == "entries" else "before")
        memory.store_batch([(key, "new", {}) for key in keys])
        memory.create_snapshot("after" if request.param == "entries" else "s")
        yield made


def count_steps(catalog: SQLiteCatalog, act: Callable[[], Any]) -> int:
    """Return the steps that SQLite's machine takes for *act*, which uses one connection."""
    pool = catalog.database.pool
    connection = pool.acquire()
    with counted_steps(connection) as steps:
        pool.release(connection)
        act()
        assert pool.acquire() is connection
    pool.release(connection)
    return steps[0]


def list_keys(prefix: str, condition: dict[str, Any] | None = None) -> Page:
    wanted = None if condition is None else parse_filter(condition)
    return lambda catalog, after: catalog.rows_by_key(prefix, after, PAGE, wanted, catalog.clock())


def list_history(prefix: str, *, superseded: bool) -> Page:
    def read(catalog: SQLiteCatalog, after: str) -> Any:
        history = catalog.history
        point = history.find("s")
        return history.rows_as_of(point, prefix, after, PAGE, superseded=superseded)

    return read


def list_deletions(catalog: SQLiteCatalog, after: str) -> Any:
    place = f"{catalog.table().storage_prefix}/{after}" if after else ""
    return catalog.scheduled_deletions(place, PAGE)


PAGES: dict[str, Page] = {
    "entries": list_keys(""),
    "entries of a prefix": list_keys("k"),
    "entries of a filter": list_keys("", {"n": 1}),
    "a snapshot": list_history("", superseded=False),
    "a snapshot's of a prefix": list_history("k", superseded=False),
    "superseded ones": list_history("", superseded=True),
    "deletions": list_deletions,
}


@pytest.mark.parametrize("what", PAGES)
def test_the_last_page_is_no_more_work_than_the_first_one(
    catalog: SQLiteCatalog, what: str
) -> None:
    read = PAGES[what]
    assert len(read(catalog, "")) == len(read(catalog, LAST)) == PAGE
    first = count_steps(catalog, lambda: read(catalog, ""))
    last = count_steps(catalog, lambda: read(catalog, LAST))
    assert 5 * PAGE < last < 2 * first
    assert first < 200 * PAGE


def test_a_page_of_a_snapshot_does_not_look_for_what_it_does_not_see(
    hidden: SQLiteCatalog,
) -> None:
    read = list_history("", superseded=False)
    values = {row.inlined_text for row in read(hidden, "")}
    assert len(values) == 1
    assert count_steps(hidden, lambda: read(hidden, "")) < 200 * PAGE
