"""Shared by the tests on the Firestore emulator: places there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "faults"))
sys.path.append(str(Path(__file__).parents[1] / "history"))

from firestore_place import FirestorePlace


@pytest.fixture
def place(firestore_project: str, tmp_path: Path) -> FirestorePlace:
    return FirestorePlace(firestore_project, tmp_path)
