"""Two memories of their own, with one clock that the tests move."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from memories import Memory

from ltm.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def here(tmp_path: Path, clock: FakeClock) -> Iterator[Memory]:
    memory = Memory(tmp_path / "here", clock)
    yield memory
    memory.close()


@pytest.fixture
def there(tmp_path: Path, clock: FakeClock) -> Iterator[Memory]:
    memory = Memory(tmp_path / "there", clock)
    yield memory
    memory.close()
