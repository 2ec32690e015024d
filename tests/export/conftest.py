"""What the tests of datasets share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dataset_place import READERS, Place

from ltm.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def place(tmp_path: Path, clock: FakeClock) -> Iterator[Place]:
    """A memory of the test's own, empty at first."""
    place = Place(tmp_path, clock)
    yield place
    place.close()


@pytest.fixture(params=READERS)
def dataset_format(request: pytest.FixtureRequest) -> str:
    """Each of the formats."""
    return str(request.param)
