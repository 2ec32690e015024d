"""How much memory it takes to go through a whole memory, however many entries that has.

Each verb runs in a process of its own. Its peak is compared with a bound, and with the peak over a
quarter as many entries: what a verb keeps of every entry shows as the difference.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory_verbs import PEAKS, VERBS, open_memory
from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.hashing import compute_content_hash
from ltm.payload.base import payload_path

ROOT = Path(__file__).parents[2]
MB = 10**6
FEW = 8_000
MANY = 4 * FEW
STEP = 4_000

GROWTH = 3 * MB
"""What is noise, and 125 bytes for every entry there is more."""

BOUNDS = {
    "iterate_all": 60 * MB,
    "verify": 60 * MB,
    "gc": 60 * MB,
    "copy": 75 * MB,
    "export bundle": 60 * MB,
    "export parquet": 150 * MB,
    "export duckdb": 150 * MB,
    "export ducklake": 150 * MB,
}
"""Bytes at most, those of the interpreter and of all that is imported included."""

FILL_BUFFERS = {"export parquet", "export duckdb", "export ducklake"}
"""Verbs whose buffers are larger than a few entries, so that only the bound tells."""

pytestmark = pytest.mark.skipif(
    not os.path.exists(PEAKS), reason="only Linux tells the peak of one process"
)


def fill(directory: str, count: int) -> None:
    """Store *count* entries, and leave as many payloads scheduled and a quarter unreferenced."""
    with open_memory(directory) as memory:
        for start in range(0, count, STEP):
            numbers = range(start, start + STEP)
            memory.store_batch(
                [(f"entry:{n:07}", {"note": f"number {n}"}, {"day": n % 365}) for n in numbers]
            )
            schedule(memory, numbers)
        for number in range(count // 4):
            make_object(memory, new_path(memory, number))


def schedule(memory: DuckDBLTMBackend, numbers: range) -> None:
    """Schedule the deletion of payloads, of which every fourth is there."""
    paths = [new_path(memory, number) for number in numbers]
    memory.catalog.move_payloads({path: f"{path}#moved" for path in paths}, memory.clock())
    for path in paths[::4]:
        make_object(memory, path)


def new_path(memory: DuckDBLTMBackend, number: int) -> str:
    identity = memory.catalog.entry_id(str(number)), compute_content_hash(number)
    return payload_path(memory.catalog.table().storage_prefix, *identity, "json")


def make_object(memory: DuckDBLTMBackend, path: str) -> None:
    """Make an empty object, not synced as the store would do it."""
    location = Path(memory.payloads.uri(path))
    location.parent.mkdir(parents=True, exist_ok=True)
    location.touch()


@pytest.fixture(scope="module")
def memories(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Directories of memories by the number of their entries."""
    made = {}
    for count in (FEW, MANY):
        made[count] = str(tmp_path_factory.mktemp(f"entries-{count}"))
        fill(made[count], count)
    return made


def peak_of(verb: str, directory: str) -> tuple[int, int]:
    """Return how many a new process dealt with, and its peak in bytes."""
    command = [sys.executable, "-m", "benchmarks.memory_verbs", verb, directory]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, peak = map(int, done.stdout.split())
    return count, peak


# Collecting comes last: after it there is nothing left to find.
@pytest.mark.parametrize("verb", sorted(VERBS, key=lambda verb: verb == "gc"))
def test_the_memory_of_a_verb_is_bounded(memories: dict[int, str], verb: str) -> None:
    count, peak = peak_of(verb, memories[MANY])
    garbage = MANY // 4 if verb in ("verify", "gc") else 0
    assert count == MANY + garbage
    assert peak < BOUNDS[verb]
    if verb not in FILL_BUFFERS:
        _, peak_of_few = peak_of(verb, memories[FEW])
        assert peak - peak_of_few < GROWTH
