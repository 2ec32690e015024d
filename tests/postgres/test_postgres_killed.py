"""A client killed at any step leaves the old state or the new one, and nothing that stays.

``LTM_KILLS`` says how many random steps each verb is killed at: 4 if it is not set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("postgres_killing.py")
KILLS = os.environ.get("LTM_KILLS", "4")

CASES = {
    "large over large": {"old", "new"},
    "batch": {"old", "new"},
    "delete": {"old", "new"},
    "transaction": {"old", "new"},
    "restore": {"old", "new"},
    "snapshot": {"old"},
    "gc": {"old"},
}


def test_what_is_killed_has_happened_whole_or_not_at_all(postgres_url: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        str(SCRIPT),
        KILLS,
        postgres_url,
        str(tmp_path),
        *CASES,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stderr
    for name, report in json.loads(ended.stdout).items():
        assert report["problems"] == [], name
        assert set(report["states"]) <= CASES[name], name
        assert len(report["states"]) == int(KILLS), name
