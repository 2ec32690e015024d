"""What the processes of the tests do; each is started as ``python workers.py ROLE DIRECTORY ...``.

A worker says ``ready``, waits for a line, does its part and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from place import Place

LARGE_SIZE = 400_000
MAX_READS = 100_000


def write_many(directory: str, worker: str, files: str, count: str) -> object:
    """Write *count* entries, every tenth a payload, to each of some fresh catalogs in turn."""
    failures = []
    for number in range(int(files)):
        with Place(Path(directory) / f"catalog{number}").open() as memory:
            for index in range(int(count)):
                size = 2000 if index % 10 == 0 else 10
                answer = memory.store(f"w{worker}-{index:04}", f"{worker}/{index}".rjust(size))
                if not answer["success"] or not answer["created"]:
                    failures.append(answer)
    return failures


def claim(directory: str, worker: str, count: str) -> object:
    """Try to be the first to store each of *count* keys; return the answers' words by key."""
    said = {}
    with Place(directory).open() as memory:
        for index in range(int(count)):
            value = worker * (3000 if index % 2 else 3)
            answer = memory.store(f"k{index:03}", value, if_absent=True)
            said[f"k{index:03}"] = "stored" if answer["success"] else answer["error_type"]
    return said


def count_up(directory: str, times: str) -> object:
    """Add 1 to a counter *times* times."""
    with Place(directory).open() as memory:
        answers = [
            memory.update("counter", lambda value: value + 1, default=0, retries=10_000)
            for _ in range(int(times))
        ]
    return [answer for answer in answers if not answer["success"]]


def numbered(number: int) -> dict[str, Any]:
    """Return a value that shows whether all of it is from one write."""
    return {"first": number, "body": chr(97 + number % 26) * LARGE_SIZE, "last": number}


def overwrite(directory: str, count: str) -> object:
    """Overwrite one large entry *count* times."""
    failures = []
    with Place(directory).open() as memory:
        for number in range(1, int(count) + 1):
            answer = memory.store("k", numbered(number), {"number": number})
            if not answer["success"]:
                failures.append(answer)
    (Path(directory) / "done").touch()
    return failures


Found = tuple[Any, dict[str, Any]]
"""A value and its metadata."""


def read_steadily(directory: str, *ways: str) -> object:
    """Read the entry in each of *ways* until its writer is done; return what was wrong."""
    done = Path(directory) / "done"
    wrong: list[str] = []
    seen = {way: [0] for way in ways}
    with Place(directory).open() as memory:

        def read_batch() -> Found:
            answer = memory.retrieve_batch(["k", "still"])
            assert answer["success"], answer
            assert answer["missing"] == []
            entry = answer["entries"]["k"]
            return entry["value"], entry["metadata"]

        def retrieve() -> Found:
            answer = memory.retrieve("k")
            assert answer["success"], answer
            assert answer["found"], answer
            assert answer["metadata"] is not None
            return answer["value"], answer["metadata"]

        def search() -> Found:
            answer = memory.search("k", {"number": {"$gte": 0}})
            assert answer["success"], answer
            (found,) = answer["results"]
            return found["value"], found["metadata"]

        def newest() -> Found:
            answer = memory.search(metadata_filter={"number": {"$exists": True}})
            assert answer["success"], answer
            (found,) = answer["results"]
            return found["value"], found["metadata"]

        def iterate() -> Found:
            (key, value, metadata), (other, _, _) = memory.iterate_all()
            assert (key, other) == ("k", "still")
            return value, metadata

        readers: dict[str, Callable[[], Found]] = {
            "retrieve": retrieve,
            "retrieve_batch": read_batch,
            "search": search,
            "newest": newest,
            "iterate_all": iterate,
        }
        for _ in range(MAX_READS):
            is_last = done.exists()
            for way in ways:
                try:
                    value, metadata = readers[way]()
                    number = metadata["number"]
                    assert value == numbered(number), "value and metadata differ"
                    assert number >= seen[way][-1], "an older value came back"
                    seen[way].append(number)
                except Exception as error:  # noqa: BLE001 -- whatever it is goes into the report
                    wrong.append(f"{way}: {type(error).__name__}: {str(error)[:500]}")
            if is_last:
                break
    last = {way: numbers[-1] for way, numbers in seen.items()}
    return {"wrong": wrong, "last": last, "reads": sum(map(len, seen.values()))}


def use_after_fork(directory: str, order: str) -> object:
    """Use a memory, fork, use it on both sides; *order* says who is done first."""
    place = Place(directory)
    memory = place.open()
    failures = [memory.store("before", "x" * 2000)]
    to_child, from_child = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answers = [memory.store(f"child {index}", "c" * index * 100) for index in range(20)]
            os.write(from_child[1], b".")
            os.read(to_child[0], 1)
            answers += [memory.store(f"late {index}", "l" * index * 100) for index in range(20)]
            answers += [memory.retrieve("before"), memory.retrieve("child 7")]
            # Without closing, which would write the log back whatever had become of it.
            os._exit(0 if all(answer["success"] for answer in answers) else 2)
        finally:
            os._exit(1)
    failures += [memory.store(f"parent {index}", "p" * index * 100) for index in range(20)]
    os.read(from_child[0], 1)
    if order == "parent":
        memory.close()
    os.write(to_child[1], b".")
    _, status = os.waitpid(child, 0)
    if order == "child":
        failures += [memory.store(f"after {index}", "a" * index * 100) for index in range(20)]
        memory.close()
    return {"status": status, "failures": [each for each in failures if not each["success"]]}


def fork_in_pool(directory: str, processes: str) -> object:
    """Use a memory, and use it again in the processes of a forked pool and in their parent."""
    import multiprocessing

    global _inherited
    _inherited = Place(directory).open()
    _inherited.store("before", 1)
    _inherited.retrieve_batch(["before"])
    with multiprocessing.get_context("fork").Pool(int(processes)) as pool:
        pending = pool.map_async(_write_inherited, range(int(processes) * 5), chunksize=1)
        mine = [_inherited.store(f"parent {index}", index)["success"] for index in range(20)]
        theirs = pending.get(60)
        pool.close()
        pool.join()
    _inherited.close()
    return {"mine": mine, "theirs": theirs}


_inherited: Any = None


def _write_inherited(number: int) -> bool:
    answers = [_inherited.store(f"pool {number} {index}", "x" * index * 300) for index in range(10)]
    batch = _inherited.store_batch([(f"batch {number} {index}", "y" * 2000) for index in range(4)])
    answers += [batch, _inherited.retrieve_batch([f"batch {number} {index}" for index in range(4)])]
    return all(answer["success"] for answer in answers)


ROLES: dict[str, Callable[..., object]] = {
    role.__name__: role
    for role in (
        write_many,
        claim,
        count_up,
        overwrite,
        read_steadily,
        use_after_fork,
        fork_in_pool,
    )
}

if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(ROLES[role](*arguments)))
