"""A process that stores batches and compacts, until it is killed: ``DIRECTORY FORMAT``.

It prints the number of each batch that was acknowledged.
"""

from __future__ import annotations

import itertools
import sys

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog

KEYS = [f"k{number:02}" for number in range(24)]
PAD = "x" * 9_000


def open_memory(directory: str, payload_format: str) -> DuckDBLTMBackend:
    """Open the memory of *directory*, which other processes have used before."""
    return DuckDBLTMBackend(
        SQLiteCatalog(f"{directory}/catalog.db"),
        f"{directory}/data",
        payload_format=payload_format,
        raise_errors=True,
        owns_catalog=True,
    )


def main(directory: str, payload_format: str) -> None:
    with open_memory(directory, payload_format) as memory:
        known = memory.retrieve(KEYS[0])
        first = known["value"][0] + 1 if known["found"] else 1
        for turn in itertools.count(first):
            # Each batch leaves a few values of the last one, which a compaction then moves.
            keys = KEYS if turn % 2 else KEYS[: len(KEYS) - 3]
            memory.store_batch([(key, [turn, key, PAD]) for key in keys])
            print(turn, flush=True)
            memory.gc(grace=0, compact=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
