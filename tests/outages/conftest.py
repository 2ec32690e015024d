"""Shared by the tests of outages: memories whose catalog can be cut off."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "faults"))
sys.path.append(str(Path(__file__).parents[1] / "postgres"))
sys.path.append(str(Path(__file__).parents[1] / "firestore"))

from cut import Cut


@pytest.fixture
def cut(tmp_path: Path) -> Iterator[Cut]:
    with Cut(tmp_path) as cut:
        yield cut
