"""Shared by the tests of telemetry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from tests.telemetry.collecting import Collector, OpenMemory


@pytest.fixture(scope="session")
def providers() -> Collector:
    return Collector()


@pytest.fixture
def collector(providers: Collector) -> Iterator[Collector]:
    providers.switch.is_on = True
    providers.forget()
    yield providers
    providers.switch.is_on = False
    providers.forget()


@pytest.fixture
def open_memory(tmp_path: Path) -> Iterator[OpenMemory]:
    """Open memories on one catalog and one directory; they are closed after the test."""
    opened: list[DuckDBLTMBackend] = []

    def open_memory(**options: Any) -> DuckDBLTMBackend:
        catalog = SQLiteCatalog(tmp_path / "catalog.db", **options.pop("catalog", {}))
        options = {"storage_uri": str(tmp_path / "data"), "owns_catalog": True} | options
        opened.append(DuckDBLTMBackend(catalog, **options))
        return opened[-1]

    yield open_memory
    for each in opened:
        each.close()


@pytest.fixture
def memory(open_memory: OpenMemory, collector: Collector) -> DuckDBLTMBackend:
    """A memory that is used already, so that its schema and its table are there."""
    memory = open_memory(table="notes")
    assert memory.store("warm", 1)["success"]
    collector.forget()
    return memory
