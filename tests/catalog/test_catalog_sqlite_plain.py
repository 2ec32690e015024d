"""Plain writes on SQLite: over the row that was read, and over no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ltm.catalog.commit import Outcome
from ltm.catalog.sql_plain import EXPECTED
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.entry import ValueRow
from ltm.testing.clock import FakeClock
from ltm.testing.plain_suite import PlainSuite, expect_indexed, make_put, row_of, store


class TestUnseen(PlainSuite):
    """Where each write is first tried as if its key were new."""

    @pytest.fixture(autouse=True)
    def expectation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ltm.catalog.sql_plain.EXPECTED", 0)

    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> SQLiteCatalog:
        return SQLiteCatalog(tmp_path / "catalog.db", clock=clock, **binding)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"{tmp_path}/catalog.db"


@pytest.fixture
def catalog(file: str) -> Iterator[SQLiteCatalog]:
    with closing(SQLiteCatalog(file)) as catalog:
        yield catalog


@pytest.fixture
def other(file: str) -> Iterator[SQLiteCatalog]:
    """Another process's, as far as SQLite is concerned."""
    with closing(SQLiteCatalog(file)) as catalog:
        yield catalog


CHANGES: dict[str, dict[str, Any]] = {
    "value": {"value": "newer"},
    "metadata": {"metadata": {"n": 2}},
    "expiry": {"seconds": 60},
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("metadata", [{}, {"n": 1}])
@pytest.mark.parametrize("is_found", [True, False])
def test_what_was_written_between_look_and_write_is_not_written_over(
    catalog: SQLiteCatalog,
    other: SQLiteCatalog,
    name: str,
    metadata: dict[str, Any],
    is_found: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    was = {"value": "old", "metadata": metadata, "is_found": is_found}
    store(catalog, "k", **was)
    read = catalog.read_any_value

    def read_too_early(key: str) -> ValueRow | None:
        row = read(key)
        store(other, "k", **was | CHANGES[name])
        return row

    monkeypatch.setattr(catalog, "read_any_value", read_too_early)
    put = make_put(catalog, "k", "new", metadata, is_found=is_found)
    assert catalog.write_plain(put, catalog.clock())[0] is None
    between = row_of(catalog, "k")
    assert catalog.write([put], catalog.clock()) == [Outcome("k", stored=True)]
    assert row_of(catalog, "k").inlined_text == '"new"'
    assert row_of(catalog, "k").created_at == between.created_at
    expect_indexed(catalog, put)


@pytest.mark.parametrize("metadata", [{}, {"n": 1}])
def test_a_key_that_was_expected_to_be_new_is_read_after_all(
    catalog: SQLiteCatalog, other: SQLiteCatalog, metadata: dict[str, Any]
) -> None:
    store(other, "k", "old", {"n": 0})
    for number in range(EXPECTED):
        store(catalog, f"new {number}", number)
    put = make_put(catalog, "k", "new", metadata)
    outcome, found = catalog.write_plain(put, catalog.clock())
    assert outcome == Outcome("k", stored=True)
    assert found is not None
    assert (found.inlined_text, found.metadata) == ('"old"', {"n": 0})
    assert catalog.news == 0
    expect_indexed(catalog, put)
