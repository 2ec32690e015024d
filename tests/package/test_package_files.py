"""What holds of every source file."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
"""A longer file has more than one idea."""


@pytest.mark.parametrize("directory", ["ltm", "migrations", "tests"])
def test_no_file_is_long(directory: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / directory).rglob("*.py")
    }
    assert lengths
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}
