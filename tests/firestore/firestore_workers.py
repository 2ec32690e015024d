"""What the processes of these tests do, started as ``python firestore_workers.py ROLE ...``.

A worker says ``ready``, waits for a line, does its part and prints what came of it as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "faults"))
sys.path.append(str(Path(__file__).parents[1] / "history"))

from firestore_place import FirestorePlace
from history_workers import change

from ltm.catalog import firestore_batches
from ltm.catalog.firestore_client import FirestoreClient


def count_up(project: str, directory: str, times: str) -> object:
    """Add 1 to a counter so many times; return the failures."""
    with FirestorePlace(project, directory).open() as memory:
        answers = [
            memory.update("counter", lambda value: value + 1, retries=1000)
            for _ in range(int(times))
        ]
    return [answer for answer in answers if not answer["success"]]


def write(project: str, directory: str, worker: str, count: str) -> object:
    """Make *count* changes to keys that all workers share; return the failures."""
    choice = random.Random(worker)
    with FirestorePlace(project, directory).open() as memory:
        answers = []
        for number in range(int(count)):
            answers.append(change(memory, choice, worker, number))
            # Where each waits for the other the emulator does nothing for two seconds.
            time.sleep(0.1)
    return [answer for answer in answers if not answer["success"]]


def write_words(project: str, directory: str, worker: str, seconds: str) -> object:
    """Store and delete for so many seconds, and search for it at once; return what was missed."""
    missed: list[object] = []
    rounds, ends_at = 0, time.monotonic() + float(seconds)
    with FirestorePlace(project, directory).open() as memory:
        while time.monotonic() < ends_at:
            rounds += 1
            key, word = f"{worker}{rounds % 5}", f"{worker}word{rounds}"
            answers = [memory.store(key, word), memory.search(word)]
            if [each["key"] for each in answers[1].get("results", [])] != [key]:
                missed.append(answers)
            if rounds % 3 == 0:
                gone = [memory.delete(key), memory.search(word)]
                if gone[1].get("count") != 0:
                    missed.append(gone)
    return {"missed": missed[:3], "rounds": rounds}


def store_on(project: str, directory: str) -> object:
    """Store payloads under five keys again and again, until killed, and say which round is done."""
    with FirestorePlace(project, directory).open() as memory:
        for number in itertools.count():
            for key in range(5):
                memory.store(f"k{key}", f"{number}/{key}".rjust(2000))
            memory.store("round", number)
    return None


def die_in_batch(project: str, directory: str, commit: str, count: str) -> object:
    """Store a batch of *count* entries, and be killed before the commit of that number, from 1."""
    firestore_batches.WRITES_PER_COMMIT = 20
    commits = itertools.count(1)

    def or_die(send: Callable[..., None]) -> Callable[..., None]:
        def commit_or_die(*arguments: Any, **options: Any) -> None:
            if next(commits) == int(commit):
                # What a transaction has read would stay locked for a minute.
                arguments[0].roll_back(options.get("transaction", b""))
                os.kill(os.getpid(), signal.SIGKILL)
            send(*arguments, **options)

        return commit_or_die

    for name in ("commit", "commit_encoded"):
        setattr(FirestoreClient, name, or_die(getattr(FirestoreClient, name)))
    with FirestorePlace(project, directory).open() as memory:
        return memory.store_batch([(f"key {number:03}", "tea") for number in range(int(count))])


ROLES: dict[str, Callable[..., object]] = {
    "count_up": count_up,
    "write": write,
    "write_words": write_words,
    "store_on": store_on,
    "die_in_batch": die_in_batch,
}

if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(ROLES[role](*arguments)))
