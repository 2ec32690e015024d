"""Worker processes that begin at the same moment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Workers = list[subprocess.Popen[str]]


@contextmanager
def started(script: Path, commands: Sequence[Sequence[object]]) -> Iterator[Workers]:
    """Start *script* once for each of *commands*; those that still run at the end are killed.

    A worker prints ``ready``, waits for a line, and prints one JSON document when it is done.
    """
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(script), *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def said(workers: Workers, seconds: float) -> list[Any]:
    """Return what each of *workers* printed, within *seconds* each."""
    printed = [worker.communicate(timeout=seconds) for worker in workers]
    for worker, (_, errors) in zip(workers, printed, strict=True):
        assert worker.returncode == 0, errors
    return [json.loads(output) for output, _ in printed]
