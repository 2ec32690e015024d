"""What the backend suites share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.testing.clock import FakeClock

BackendMaker = Callable[..., DuckDBLTMBackend]

LARGE = {"text": "A large value that goes to a payload object. " * 40}
"""Well over the inline threshold."""

SMALL = {"text": "A small value that is inlined."}


class BackendFixtures:
    """The fixtures of the backend suites."""

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        """Return a backend on the one catalog and payload store of this test, empty at first.

        *options* are those of the backend; called again, it is the same memory. The suite closes
        what it returns.
        """
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def make(self, tmp_path: Path, clock: FakeClock) -> Iterator[BackendMaker]:
        made: list[DuckDBLTMBackend] = []

        def make(**options: Any) -> DuckDBLTMBackend:
            made.append(self.make_backend(tmp_path, clock, **options))
            return made[-1]

        yield make
        for backend in made:
            backend.close()

    @pytest.fixture
    def memory(self, make: BackendMaker) -> DuckDBLTMBackend:
        return make()


def payloads_of(memory: DuckDBLTMBackend) -> list[str]:
    """Return the paths of all payload objects of the backend's table."""
    prefix = memory.catalog.table().storage_prefix
    return sorted(found.path for found in memory.payloads.list(prefix))
