"""What the tests of SQL over a memory share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from query_place import CountedMemory

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def counted(tmp_path: Path, clock: FakeClock) -> Iterator[CountedMemory]:
    """A memory of the test's own that counts what is read."""
    counted = CountedMemory(tmp_path, clock)
    yield counted
    counted.close()


@pytest.fixture
def memory(counted: CountedMemory) -> DuckDBLTMBackend:
    return counted.memory
