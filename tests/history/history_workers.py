"""What the processes of these tests do; each is started as ``python history_workers.py ROLE ...``.

A worker says ``ready``, waits for a line, does its part and prints what went wrong as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "faults"))

from place import Place

from ltm.backend.duckdb import DuckDBLTMBackend

KEYS = [f"k{number}" for number in range(12)]
RACE_GRACE = 5


def change(memory: DuckDBLTMBackend, choice: random.Random, worker: str, number: int) -> Any:
    """Do one of the verbs that write, on keys that all workers share."""
    size = 2000 if choice.random() < 0.3 else 10
    value = f"{worker}/{number}".rjust(size)
    key, kind = choice.choice(KEYS), choice.random()
    if kind < 0.4:
        return memory.store(key, value, {"n": number % 3})
    if kind < 0.5:
        # The same value again with other terms keeps the payload.
        found = memory.retrieve(key, 0)
        return memory.store(key, found["value"], {"n": number}) if found["success"] else found
    if kind < 0.75:
        return memory.delete(key)
    keys = choice.sample(KEYS, 4)
    return memory.store_batch([(key, f"{value}{key}", {"batch": number}) for key in keys])


def write(directory: str, worker: str, count: str) -> object:
    """Make *count* changes; return the failures."""
    choice = random.Random(worker)
    with Place(directory).open() as memory:
        answers = [change(memory, choice, worker, number) for number in range(int(count))]
    return [answer for answer in answers if not answer["success"]]


def race(directory: str, worker: str, seconds: str) -> object:
    """Store, delete, read and collect garbage for so many *seconds*; return the failures."""
    choice = random.Random(worker)
    failures: list[Any] = []
    verbs = 0
    ends_at = time.monotonic() + float(seconds)
    with Place(directory).open() as memory:
        while time.monotonic() < ends_at:
            answers: list[Any] = [change(memory, choice, worker, verbs)]
            answers.append(memory.retrieve(choice.choice(KEYS)))
            if verbs % 10 == 0:
                answers.append(memory.gc(grace=RACE_GRACE))
            failures += [answer for answer in answers if not answer["success"]]
            verbs += 1
    return {"failures": failures, "verbs": verbs}


ROLES: dict[str, Callable[..., object]] = {"write": write, "race": race}

if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(ROLES[role](*arguments)))
