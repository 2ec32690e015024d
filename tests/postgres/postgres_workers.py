"""What the processes of these tests do; each is started as ``python postgres_workers.py ROLE ...``.

A worker says ``ready``, waits for a line, does its part and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "faults"))
sys.path.append(str(Path(__file__).parents[1] / "history"))
sys.path.append(str(Path(__file__).parents[2]))

from history_workers import change
from postgres_place import PostgresPlace

SHARED = [f"shared{number}" for number in range(8)]
GRACE = 60


def overlap(url: str, storage: str, processes: str, seconds: str) -> object:
    """Write overlapping batches in some processes for so many *seconds*; return their reports."""
    arguments = [(url, storage, worker, float(seconds)) for worker in range(int(processes))]
    with multiprocessing.get_context("fork").Pool(int(processes)) as pool:
        reports = pool.starmap(write_overlapping, arguments, chunksize=1)
        pool.close()
        pool.join()
    return reports


def write_overlapping(url: str, storage: str, worker: int, seconds: float) -> object:
    """Write batches of keys that all share and one of its own, in the order or against it."""
    failures, own, rounds = [], None, 0
    keys = SHARED if worker % 2 else SHARED[::-1]
    ends_at = time.monotonic() + seconds
    with PostgresPlace(url, storage).open(pool_max=2) as memory:
        while time.monotonic() < ends_at:
            rounds += 1
            value = f"{worker}/{rounds}".rjust(2000 if rounds % 4 == 0 else 10)
            batch = [(key, value, {"writer": worker}) for key in keys]
            answer = memory.store_batch([(f"own{worker}", value), *batch])
            if answer["success"]:
                own = value
            else:
                failures.append(answer)
            if rounds % 5 == 0:
                answers = [memory.delete(random.choice(SHARED)), memory.gc(grace=GRACE)]
                failures += [each for each in answers if not each["success"]]
    return {"failures": failures[:3], "own": own, "rounds": rounds}


def count_up(url: str, storage: str, processes: str, times: str) -> object:
    """Add 1 to a counter so many times in each of some processes; return the failures."""
    with multiprocessing.get_context("fork").Pool(int(processes)) as pool:
        failures = pool.starmap(add, [(url, storage, int(times))] * int(processes), chunksize=1)
        pool.close()
        pool.join()
    return failures


def add(url: str, storage: str, times: int) -> list[object]:
    with PostgresPlace(url, storage).open() as memory:
        answers = [
            memory.update("counter", lambda value: value + 1, default=0, retries=10_000)
            for _ in range(times)
        ]
    return [answer for answer in answers if not answer["success"]]


def write(url: str, storage: str, worker: str, count: str) -> object:
    """Make *count* changes to keys that all workers share; return the failures."""
    choice = random.Random(worker)
    with PostgresPlace(url, storage).open() as memory:
        answers = [change(memory, choice, worker, number) for number in range(int(count))]
    return [answer for answer in answers if not answer["success"]]


ROLES: dict[str, Callable[..., object]] = {
    "overlap": overlap,
    "count_up": count_up,
    "write": write,
}

if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(ROLES[role](*arguments)))
