"""Processes that fork after use, started as ``python firestore_forking.py ROLE ...``.

They say ``ready``, wait for a line, do their part and print what came of it as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

from firestore_place import FirestorePlace
from google.cloud.firestore import Client

from ltm.backend.duckdb import DuckDBLTMBackend

CHILD_SECONDS = 20
"""After which a child is taken to hang."""


def use(memory: DuckDBLTMBackend, name: str) -> list[Any]:
    """Call each kind of verb; return the failures."""
    answers: list[Any] = [memory.store(f"{name} {number}", "x" * number * 300) for number in (1, 9)]
    answers += [memory.store_batch([(f"{name} a", "tea"), (f"{name} b", "tea")])]
    answers += [memory.retrieve("before"), memory.stats(), memory.list_snapshots()]
    found: Any = memory.search(f'tea "{name}"', limit=100)
    answers.append(found)
    failures = [answer for answer in answers if not answer["success"]]
    if found["success"] and {f"{name} a", f"{name} b"} - {each["key"] for each in found["results"]}:
        failures.append(found)
    return failures


@contextmanager
def busy(memory: DuckDBLTMBackend, threads: int, failures: list[Any]) -> Iterator[None]:
    """Let threads use *memory* until the block ends."""
    stop = threading.Event()

    def work(thread: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            failures.extend(use(memory, f"thread{thread} {number}"))

    workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join(CHILD_SECONDS)


def fork(project: str, directory: str, threads: str, times: str) -> object:
    """Fork so many times while threads use a memory, and use it on both sides."""
    memory = FirestorePlace(project, directory).open()
    failures: list[Any] = use(memory, "parent before")
    statuses: list[object] = []
    with busy(memory, int(threads), failures):
        for number in range(int(times)):
            child = os.fork()
            if child == 0:
                os._exit(_use_in_child(memory, number))
            failures.extend(use(memory, f"parent {number}"))
            statuses.append(_wait_for(child))
            if statuses[-1] != 0:
                break
    failures.extend(use(memory, "parent after"))
    memory.close()
    return {"statuses": statuses, "failures": failures[:3]}


def _use_in_child(memory: DuckDBLTMBackend, number: int) -> int:
    # Ends it whatever it waits for, even if nobody is left to.
    signal.alarm(2 * CHILD_SECONDS)
    try:
        failures = use(memory, f"child {number}")
        memory.close()
    except BaseException as error:  # noqa: BLE001 -- said, and told by the status
        failures = [error]
    if failures:
        print(failures, file=sys.stderr, flush=True)
    return 2 if failures else 0


def _wait_for(child: int) -> object:
    """Return the status of *child*, or that it hangs, and end it then."""
    deadline = time.monotonic() + CHILD_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


def fork_after_close(project: str, directory: str, times: str) -> object:
    """Fork so many times right after a memory is closed, and open one in each child."""
    place = FirestorePlace(project, directory)
    statuses: list[object] = []
    for number in range(int(times)):
        with place.open() as memory:
            memory.store("parent", number)
        child = os.fork()
        if child == 0:
            os._exit(_store_in_child(place, number))
        statuses.append(_wait_for(child))
        if statuses[-1] != 0:
            break
    return {"statuses": statuses}


def fork_amid_calls(project: str, directory: str, times: str) -> object:
    """Fork so many times while threads do nothing but read, and read in each child."""
    with FirestorePlace(project, directory).open() as memory:
        memory.store("k", 1)
        is_over = threading.Event()
        answers: set[object] = set()

        def read() -> None:
            while not is_over.is_set():
                answers.add(memory.retrieve("k").get("value"))

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        statuses: list[object] = []
        for _ in range(int(times)):
            child = os.fork()
            if child == 0:
                signal.alarm(2 * CHILD_SECONDS)
                os._exit(0 if memory.retrieve("k").get("value") == 1 else 2)
            statuses.append(_wait_for(child))
            if statuses[-1] != 0:
                break
        is_over.set()
        for reader in readers:
            reader.join()
    return {"statuses": statuses, "answers": list(answers)}


class SlowReads:
    """Google's generated client, each of whose reads takes a while to return."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self.has_begun = threading.Event()
        self.has_returned = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    def batch_get_documents(self, **request: Any) -> Any:
        self.has_begun.set()
        answer = self._api.batch_get_documents(**request)
        time.sleep(0.3)
        self.has_returned = True
        return answer


def fork_amid_a_request(project: str, directory: str) -> object:
    """Fork while a thread reads; say whether that was over by then, and what it read."""
    with closing(Client(project)) as client:
        api = SlowReads(client._firestore_api)
        client._firestore_api_internal = api
        with FirestorePlace(project, directory).open(client=client) as memory:
            memory.store("k", 1)
            api.has_begun.clear()
            api.has_returned = False
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(memory.retrieve, "k")
                api.has_begun.wait(CHILD_SECONDS)
                child = os.fork()
                if child == 0:
                    os._exit(0 if api.has_returned else 3)
                return {"status": _wait_for(child), "value": answer.result()["value"]}


def _store_in_child(place: FirestorePlace, number: int) -> int:
    signal.alarm(2 * CHILD_SECONDS)
    with place.open() as memory:
        return 0 if memory.store("child", number)["success"] else 2


_inherited: Any = None


def fork_pool(project: str, directory: str) -> object:
    """Use a memory, and use it again in the processes of a forked pool and in their parent."""
    global _inherited
    _inherited = FirestorePlace(project, directory).open()
    use(_inherited, "before")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pending = pool.map_async(use_inherited, range(6), chunksize=1)
        mine = use(_inherited, "mine")
        theirs = pending.get(2 * CHILD_SECONDS)
        pool.close()
        pool.join()
    _inherited.close()
    return {"mine": mine, "theirs": theirs}


def use_inherited(number: int) -> list[Any]:
    return use(_inherited, f"theirs {number}")


ROLES: dict[str, Callable[..., object]] = {
    "fork": fork,
    "fork_amid_a_request": fork_amid_a_request,
    "fork_amid_calls": fork_amid_calls,
    "fork_after_close": fork_after_close,
    "fork_pool": fork_pool,
}

if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(ROLES[role](*arguments)))
