"""Processes that fork after use; each is started as ``python postgres_forking.py ROLE ...``.

They say ``ready``, wait for a line, do their part and print what came of it as JSON.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "faults"))

from outcomes import in_threads
from postgres_place import PostgresPlace
from sqlalchemy import create_engine

from ltm.backend.duckdb import DuckDBLTMBackend

BACKEND = "SELECT pg_backend_pid()"


def open_memory(url: str, storage: str, kind: str) -> DuckDBLTMBackend:
    """Open a memory on a pool of its own, or on an application's engine."""
    place = PostgresPlace(url, storage)
    if kind == "pool":
        return place.open(pool_max=3)
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), pool_size=3)
    return place.memory(place.catalog(engine=engine))


def backends(memory: DuckDBLTMBackend, count: int = 3) -> list[int]:
    """Use *count* connections at once and return the ids of their server processes."""
    pool = memory.catalog.database.pool  # type: ignore[attr-defined]  # a SQL catalog
    connections = [pool.acquire() for _ in range(count)]
    pids = [connection.execute(BACKEND).fetchone()[0] for connection in connections]
    for connection in connections:
        pool.release(connection)
    return pids


class Complaints:
    """Collects what this process and its children write to standard error."""

    def __init__(self) -> None:
        # Without a file object, of which a child would complain itself.
        self._file, path = tempfile.mkstemp()
        os.unlink(path)
        self._original = os.dup(2)
        os.dup2(self._file, 2)

    def read(self) -> str:
        os.dup2(self._original, 2)
        return os.pread(self._file, 100_000, 0).decode()


def store_all(memory: DuckDBLTMBackend, name: str, count: int = 10) -> list[Any]:
    return [memory.store(f"{name} {number}", "x" * number * 300) for number in range(count)]


def fork(url: str, storage: str, kind: str, first_done: str, leaves: str) -> object:
    """Use a memory, fork, use it on both sides; the child leaves as *leaves* says."""
    complaints = Complaints()
    memory = open_memory(url, storage, kind)
    answers: list[Any] = [memory.store("before", 1)]
    before = backends(memory)
    to_child, from_child = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        answers = store_all(memory, "child")
        answers += [memory.retrieve("before"), memory.create_snapshot("child's")]
        if first_done == "parent":
            os.read(to_child[0], 1)
        status = 0 if all(answer["success"] for answer in answers) else 2
        os.write(from_child[1], json.dumps(backends(memory)).encode() + b"\n")
        memory.close()
        if leaves == "exit":
            os._exit(status)
        if leaves == "collect":
            del memory, answers
            gc.collect()
        sys.exit(status)
    answers += store_all(memory, "parent")
    after = backends(memory)
    os.write(to_child[1], b".")
    _, status = os.waitpid(child, 0)
    after += backends(memory)
    answers += [memory.store("after", 1), memory.expire_snapshot("child's")]
    of_child = json.loads(os.read(from_child[0], 1000))
    memory.close()
    if kind == "engine":
        memory.catalog.engine.dispose()  # type: ignore[attr-defined]  # a SQL catalog
    return {
        "status": status,
        "failures": [answer for answer in answers if not answer["success"]],
        "before": before,
        "after": after,
        "child": of_child,
        "warnings": complaints.read(),
    }


_inherited: Any = None


def fork_pool(url: str, storage: str, kind: str) -> object:
    """Use a memory, and use it again in the processes of a forked pool and in their parent."""
    global _inherited
    complaints = Complaints()
    _inherited = open_memory(url, storage, kind)
    _inherited.store("before", 1)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pending = pool.map_async(store_inherited, range(20), chunksize=1)
        mine = [_inherited.store(f"mine {number}", number)["success"] for number in range(20)]
        theirs = pending.get(60)
        pool.close()
        pool.join()
    _inherited.close()
    if kind == "engine":
        _inherited.catalog.engine.dispose()
    return {"mine": mine, "theirs": theirs, "warnings": complaints.read()}


def store_inherited(number: int) -> bool:
    succeeded: bool = _inherited.store(f"theirs {number}", "x" * 2000)["success"]
    return succeeded


def fork_threads(url: str, storage: str) -> object:
    """Use a memory in eight threads of a child at once; return how many connections there were."""
    place = PostgresPlace(url, storage)
    memory = open_memory(url, storage, "pool")
    memory.store("before", 1)
    memory.close()  # so that all connections are the child's
    memory = open_memory(url, storage, "pool")
    child = os.fork()
    if child == 0:
        try:
            in_threads(lambda thread: [memory.store(f"k{thread}", n) for n in range(10)], 8)
            os._exit(0)
        finally:
            os._exit(1)
    most, ended = 0, (0, 0)
    while not ended[0]:
        most = max(most, len(place.sessions()))
        ended = os.waitpid(child, os.WNOHANG)
    memory.close()
    return {"status": ended[1], "most": most}


def die_in_transaction(url: str, storage: str) -> object:
    """Let a process with a child die in a transaction, and write the same key while that lives."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        memory = open_memory(url, storage, "pool")
        with memory.transaction() as block:
            block.store("k", "never")
            child = os.fork()
            if child == 0:
                os.write(writer, b".")
                threading.Event().wait()
            os.write(writer, str(child).encode())
            threading.Event().wait()
    said = b""
    while len(said) < 3 or b"." not in said:
        said += os.read(reader, 100)
    os.kill(parent, 9)
    os.waitpid(parent, 0)
    place = PostgresPlace(url, storage)
    with place.open(statement_timeout=10) as memory:
        stored = memory.store("k", "mine")["success"]
    os.kill(int(said.replace(b".", b"")), 9)
    return {"stored": stored}


def fork_in_transaction(url: str, storage: str) -> object:
    """Fork in the middle of a transaction; the child exits, its parent commits."""
    complaints = Complaints()
    memory = open_memory(url, storage, "pool")
    with memory.transaction() as block:
        block.store("k", "parent")
        child = os.fork()
        if child == 0:
            sys.exit(0)
        _, status = os.waitpid(child, 0)
    value = memory.retrieve("k")["value"]
    memory.close()
    return {"status": status, "value": value, "warnings": complaints.read()}


ROLES: dict[str, Callable[..., object]] = {
    role.__name__: role
    for role in (fork, fork_pool, fork_threads, die_in_transaction, fork_in_transaction)
}

if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(ROLES[role](*arguments)))
