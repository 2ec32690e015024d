"""A process that is killed in an export publishes all of it or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from dataset_place import READERS, Place

SCRIPT = Path(__file__).parent / "killed_export.py"
ROOT = Path(__file__).parents[2]


def test_a_killed_export_publishes_all_or_nothing(place: Place, dataset_format: str) -> None:
    place.fill()
    rows = place.rows()
    path = place.out / "dataset"
    for count in range(1, 100):
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(place.directory), dataset_format, str(count)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        if path.exists():
            assert READERS[dataset_format](path) == rows
            path.rename(place.out / f"whole-{count}")
    assert count > 4
    assert READERS[dataset_format](path) == rows
    # What is left is hidden, and a snapshot that names itself.
    assert all(name.startswith((".dataset.", "dataset", "whole-")) for name in place.leftovers())
    assert all(name.startswith("export-") for name in place.snapshots())
