"""Copies a memory and kills itself on the way, for the tests of what is left then::

    python killed_copy.py FROM TO KIND COUNT

It dies at the COUNTth event of KIND: ``batch``, the end of a batch; or ``file``, a link, rename or
removal of a file, which is where payloads come. Without so many events it ends by itself.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from memories import NOW, Memory

from ltm.testing.clock import FakeClock
from ltm.transfer import copy_memory

BATCH_SIZE = 8


def main() -> None:
    source, target, kind, count = sys.argv[1:]
    remaining = int(count)

    def note(happened: str) -> None:
        nonlocal remaining
        remaining -= happened == kind
        if remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, _: object) -> None:
        if event in ("os.link", "os.rename", "os.remove"):
            note("file")

    clock = FakeClock(NOW)
    here, there = Memory(Path(source), clock), Memory(Path(target), clock)
    sys.addaudithook(hear)
    copy_memory(
        here.backend, there.backend, batch_size=BATCH_SIZE, progress=lambda *_: note("batch")
    )


if __name__ == "__main__":
    main()
