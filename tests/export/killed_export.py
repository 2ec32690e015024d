"""Exports a memory and kills itself on the way, for the tests of what is left then::

    python killed_export.py DIRECTORY FORMAT COUNT

It dies before the COUNTth file or directory is made, renamed, linked or removed. Without so many it
ends by itself.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.testing.clock import FakeClock
from ltm.transfer import export_dataset

EVENTS = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def main() -> None:
    directory, dataset_format, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    remaining = count

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal remaining
        is_writing = event == "open" and arguments[1] in ("xb", "wb")
        if event in EVENTS or is_writing:
            remaining -= 1
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    with SQLiteCatalog(str(directory / "catalog.db"), clock=FakeClock()) as catalog:
        memory = DuckDBLTMBackend(catalog, str(directory / "payloads"), raise_errors=True)
        sys.addaudithook(hear)
        export_dataset(memory, directory / "out" / "dataset", format=dataset_format)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
