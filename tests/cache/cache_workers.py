"""What the processes of these tests do: ``python cache_workers.py ROLE SETTINGS DIRECTORY ...``.

A worker says ``ready``, waits for a line, does its part and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ltm import cache_wrap, create_ltm_from_settings
from ltm.backend.base import LTMBackend

HANGS_SECONDS = 100


def note(directory: str) -> None:
    """Add a line to the file of runs."""
    with open(f"{directory}/runs", "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")


def call(memory: LTMBackend, directory: str, key: str, seconds: str) -> object:
    """Call an action that takes so many *seconds*."""

    def act() -> dict[str, int]:
        note(directory)
        time.sleep(float(seconds))
        return {"pid": os.getpid()}

    answer = cache_wrap(memory, act, key=key)
    return {name: answer[name] for name in ("result", "_cache_hit", "_cached")}


def hang(memory: LTMBackend, directory: str, key: str, lease_seconds: str) -> object:
    """Call an action that doesn't end, for somebody to kill."""

    def act() -> None:
        note(directory)
        time.sleep(HANGS_SECONDS)

    return cache_wrap(memory, act, key=key, lease_seconds=float(lease_seconds))["result"]


ROLES: dict[str, Callable[..., object]] = {each.__name__: each for each in (call, hang)}


if __name__ == "__main__":
    role, settings, *arguments = sys.argv[1:]
    Path(arguments[0]).mkdir(exist_ok=True)
    with create_ltm_from_settings(json.loads(settings)) as memory:
        assert memory.stats()["success"]
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(ROLES[role](memory, *arguments)))
