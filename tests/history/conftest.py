"""Shared by the tests of history: a place on disk, as the tests of faults see it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "faults"))

from place import Place

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.testing.clock import FakeClock


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def memory(place: Place, clock: FakeClock) -> Iterator[DuckDBLTMBackend]:
    with place.open(clock=clock) as memory:
        yield memory
