"""Shared by the tests of the migration from ``SQLiteBackend``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from old_database import Target, bad_rows, build, good_rows


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Side files go to the current directory where no path is given."""
    directory = tmp_path / "current"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An old database with rows of every kind, three of which cannot be carried."""
    return build(tmp_path / "old" / "memory.db", good_rows() + bad_rows())


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    made = Target(tmp_path / "new")
    yield made
    made.close()
