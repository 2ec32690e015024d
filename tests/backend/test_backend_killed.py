"""A process killed while it writes and compacts objects that values share loses nothing."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from compaction_killing import KEYS, PAD, open_memory

from ltm.locations import object_path
from ltm.testing.backend_fixtures import payloads_of

SCRIPT = Path(__file__).with_name("compaction_killing.py")
ROUNDS = 8


@pytest.mark.parametrize("payload_format", ["parquet", "duckdb"])
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path, payload_format: str) -> None:
    moments = random.Random(payload_format)
    acknowledged = 0
    for _ in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path), payload_format],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            said = [process.stdout.readline()]  # it works by now
            time.sleep(moments.uniform(0, 0.3))
            process.kill()
            said += process.stdout.read().splitlines(keepends=True)
        acknowledged = int([line for line in said if line.endswith("\n")][-1])
        with open_memory(str(tmp_path), payload_format) as memory:
            values = {key: value for key, value, _ in memory.iterate_all()}
            assert list(values) == KEYS
            for key, (turn, own_key, pad) in values.items():
                assert (own_key, pad) == (key, PAD)
                # The last three are in every other batch.
                lag = 1 if key in KEYS[-3:] and acknowledged % 2 == 0 else 0
                assert turn >= acknowledged - lag
            assert memory.verify()["problems"] == []
            memory.gc(grace=0, compact=True)
            assert memory.verify()["unreferenced"] == 0
            scheduled = memory.catalog.scheduled_deletions("", 1000)
            assert {object_path(uri) for uri in scheduled} <= {*payloads_of(memory)}
    assert acknowledged >= ROUNDS
