"""Migrates an old database and kills itself on the way, for the tests of what is left then::

    python killed.py OLD DIRECTORY KIND COUNT

It dies at the COUNTth event of KIND: ``page``, the end of a page; or ``file``, a link, rename or
removal of a file, which is where payloads and the side file come and go. Without so many events it
ends by itself.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from old_database import Target

from ltm.legacy import migrate_sqlite_backend

BATCH_SIZE = 8


def main() -> None:
    old, directory, kind, count = sys.argv[1:]
    remaining = int(count)

    def note(happened: str) -> None:
        nonlocal remaining
        remaining -= happened == kind
        if remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, _: object) -> None:
        if event in ("os.link", "os.rename", "os.remove"):
            note("file")

    target = Target(Path(directory))
    memory = target.open()
    sys.addaudithook(hear)
    migrate_sqlite_backend(old, memory, batch_size=BATCH_SIZE, progress=lambda *_: note("page"))


if __name__ == "__main__":
    main()
