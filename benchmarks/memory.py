"""How much memory it takes to go through all entries, however many there are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.memory_verbs import PEAKS, VERBS, open_memory
from benchmarks.rounds import Comparison, Contestant, Stopwatch, Target
from benchmarks.topics import Place, Topic, UnavailableError
from benchmarks.values import batches_of_small_entries
from ltm.hashing import compute_content_hash
from ltm.payload.base import payload_path

ROOT = Path(__file__).parents[1]

LIMIT = 150 * 10**6
"""Bytes."""


def _compare(place: Place) -> Iterator[Comparison]:
    if not os.path.exists(PEAKS):
        raise UnavailableError("memory: only Linux tells the peak of one process")
    scale = place.scale
    few = _fill(os.path.join(place.directory, "few"), scale.few)
    many = _fill(os.path.join(place.directory, "many"), scale.streamed)
    for verb in VERBS:
        yield Comparison(
            title=f"{verb}, {scale.streamed:,} entries",
            contestants=[
                Contestant("the limit", lambda _, lap: lap.note(LIMIT, 1)),
                _run(f"ltm, {scale.streamed:,} entries", verb, many),
                _run(f"ltm, {scale.few:,} entries", verb, few),
            ],
            target=Target(1),
            rounds=1,
            unit="bytes",
        )


def _fill(directory: str, count: int) -> str:
    """Store *count* entries, and schedule as many payloads for deletion."""
    with open_memory(directory) as memory:
        catalog = memory.catalog
        prefix = catalog.table().storage_prefix
        for batch in batches_of_small_entries(count):
            memory.store_batch(batch)
            gone = [
                payload_path(prefix, catalog.entry_id(key), compute_content_hash(key), "json")
                for key, _, _ in batch
            ]
            catalog.move_payloads({path: f"{path}#moved" for path in gone}, memory.clock())
    return directory


def _run(name: str, verb: str, directory: str) -> Contestant:
    def run(number: int, lap: Stopwatch) -> None:
        if number < 0:
            return  # nothing to warm up: each run is a process of its own
        command = [sys.executable, "-m", "benchmarks.memory_verbs", verb, directory]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        lap.note(int(done.stdout.split()[1]), 1)
        for each in Path(directory).glob("out-*"):
            shutil.rmtree(each) if each.is_dir() else each.unlink()

    return Contestant(name, run)


MEMORY = Topic(
    "memory",
    "Memory",
    "The most bytes resident in a new process that does nothing else, interpreter and imports\n"
    "included; ratios are to 150 MB. A million entries in a full run, 10,000 in a quick one. Of a\n"
    "dataset's, 45 to 115 MB are the libraries that write it.",
    _compare,
)
