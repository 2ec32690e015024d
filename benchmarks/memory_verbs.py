"""``python -m benchmarks.memory_verbs VERB DIRECTORY``: print what a verb takes at the most.

First how many entries or objects it dealt with, then the peak of the process in bytes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.transfer import copy_memory, export_bundle, export_dataset

PEAKS = "/proc/self/status"
"""Where Linux tells the peak."""


def open_memory(directory: str) -> DuckDBLTMBackend:
    """Open the memory in *directory*, which is made where it isn't there."""
    catalog = SQLiteCatalog(f"{directory}/catalog.db")
    return DuckDBLTMBackend(
        catalog, f"{directory}/data", owns_catalog=True, raise_errors=True, enable_fts=False
    )


def peak_bytes() -> int:
    """Return the peak resident set size of this process, which no parent has a part in."""
    # Not ru_maxrss: a child begins with that of the process which forked it.
    with open(PEAKS, encoding="ascii") as status:
        (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _iterate(memory: DuckDBLTMBackend, _: str) -> int:
    return sum(1 for _ in memory.iterate_all())


def _verify(memory: DuckDBLTMBackend, _: str) -> int:
    answer = memory.verify()
    return answer["checked"] + answer["unreferenced"]


def _gc(memory: DuckDBLTMBackend, _: str) -> int:
    answer = memory.gc(grace=0)
    return answer["scheduled"] + answer["unreferenced"]


def _copy(memory: DuckDBLTMBackend, to: str) -> int:
    with open_memory(to) as target:
        return copy_memory(memory, target).verified


def _bundle(memory: DuckDBLTMBackend, to: str) -> int:
    with open(to, "wb") as stream:
        return export_bundle(memory, stream).total


def _dataset(dataset_format: str) -> Callable[[DuckDBLTMBackend, str], int]:
    return lambda memory, to: export_dataset(memory, to, format=dataset_format).total  # type: ignore[arg-type]


VERBS: dict[str, Callable[[DuckDBLTMBackend, str], int]] = {
    "iterate_all": _iterate,
    "verify": _verify,
    "gc": _gc,
    "copy": _copy,
    "export bundle": _bundle,
    "export parquet": _dataset("parquet"),
    "export duckdb": _dataset("duckdb"),
    "export ducklake": _dataset("ducklake"),
}
"""Each given a memory and a path at which nothing is; they return how many they dealt with."""


if __name__ == "__main__":
    verb, directory = sys.argv[1:]
    with open_memory(directory) as memory:
        count = VERBS[verb](memory, os.path.join(directory, f"out-{verb.replace(' ', '-')}"))
    print(count, peak_bytes())
