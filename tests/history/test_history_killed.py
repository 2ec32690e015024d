"""A transaction, a restore or a collection killed at any step is whole or has not been."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("history_killing.py")


@pytest.mark.parametrize(
    ("name", "mode", "states"),
    [
        ("transaction", "syscalls", ["old", "new"]),
        ("transaction", "steps", ["old", "new"]),
        ("restore", "syscalls", ["old", "new"]),
        ("gc", "syscalls", ["old"]),
        ("gc", "steps", ["old"]),
    ],
)
def test_what_is_killed_has_happened_whole_or_not_at_all(
    tmp_path: Path, name: str, mode: str, states: list[str]
) -> None:
    command = [sys.executable, "-W", "error", str(SCRIPT), name, mode, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    if "skip" in report:
        pytest.skip(report["skip"])
    assert report["problems"] == []
    assert [state for state, _ in groupby(report["states"])] == states
    # The last run gets through, all others were killed.
    assert report["steps"][-1] == ""
    assert all(report["steps"][:-1])
    assert len(report["steps"]) > 10
