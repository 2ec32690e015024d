"""Processes that share an index file; each is started as ``python duckdb_indexing.py ROLE ...``.

They say ``ready``, wait for a line, do their part and print what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from ltm.errors import MissingDependencyError
from ltm.search.analysis import Document
from ltm.search.duckdb_index import DuckDBIndex, IndexedWords
from ltm.search.questions import Question

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEA = Question(("tea",), (), ())
FEED = 40
CHILD_SECONDS = 30
FORKS = 6


def feed(start: int, end: int) -> list[IndexedWords]:
    """Return the changes of positions *start* to *end*: to each of ten entries in turn."""
    return [
        IndexedWords(
            f"{position % 10:02d}",
            None if position % 7 == 0 else Document(f"tea word{position}", 2),
            stamp=str(position),
        )
        for position in range(start, end + 1)
    ]


def expected_stamps(position: int) -> dict[str, str]:
    """Return the stamps of the entries that there are at *position* of the feed."""
    last = {words.entry_id: words for words in feed(max(position - 9, 0), position)}
    return {key: words.stamp for key, words in last.items() if words.document is not None}


def faults(index: DuckDBIndex) -> list[str]:
    """Return what is wrong with *index*: its documents must be those of its position."""
    position = index.state.position
    expected = expected_stamps(position)
    found = index.stamps([f"{number:02d}" for number in range(10)])
    hits = {hit.entry_id for hit in index.find(TEA, NOW)}
    if found == expected and hits == expected.keys():
        return []
    return [f"at {position}: stamps {found}, hits {sorted(hits)}, expected {expected}"]


def share(path: str, worker: str) -> list[str]:
    """Open, follow the feed and close again and again; no state is ever torn."""
    found: list[str] = []
    end = 0
    while end < FEED:
        index = DuckDBIndex(path, rebuild_after=3)
        found += faults(index)
        for _ in range(3):
            # The last position again: its changes may have come since.
            start = max(index.state.position, 0)
            end = min(start + 3 + int(worker) % 2, FEED)
            index.apply(feed(start, end), position=end, at=NOW)
            found += faults(index)
        index.close()
    return found


def publish(path: str) -> None:
    """Publish a file for every change, for ever."""
    index = DuckDBIndex(path, rebuild_after=0)
    if index.state.position < 9:
        index.apply(feed(0, 9), position=9, at=NOW)
    # From here on, each position is a change that makes a difference.
    for position in range(index.state.position, 100_000):
        index.apply(feed(position, position), position=position, at=NOW)
        print(position, flush=True)


def die(path: str, step: str) -> list[str]:
    """Follow the feed a little and publish it, killed at a call of the operating system.

    The calls are reported by who survives.
    """
    calls: list[str] = []

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            calls.append(call.__name__)
            if len(calls) == int(step):
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return counted

    index = DuckDBIndex(path)
    start = index.state.position + 1
    index.apply(feed(start, start + 10), position=start + 10, at=NOW)
    for name in ("fsync", "replace", "unlink", "scandir", "stat"):
        setattr(os, name, dying(getattr(os, name)))
    index.close()
    return calls


def without(*modules: str) -> str:
    """Use an index where *modules* can't be imported, and the network can't be reached."""

    class Blocker:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name in modules:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Blocker())  # type: ignore[arg-type]
    try:
        DuckDBIndex(None).find(TEA, NOW)
    except MissingDependencyError as error:
        return str(error)
    return "works"


def in_child(use: Callable[[], None]) -> int:
    """Return the exit code of a forked child that calls *use*: 0 unless it raised or hung."""
    with warnings.catch_warnings():
        # Python warns of forks with threads alive; that they do no harm is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        signal.alarm(CHILD_SECONDS)
        try:
            use()
        except BaseException:  # noqa: BLE001 the exit code says it to the parent
            traceback.print_exc()
            os._exit(1)
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def fork(path: str, has_file: str) -> dict[str, Any]:
    """Fork while other threads ask and change; children go on with what the parent had."""
    rebuild_after = 5 if has_file == "file" else 1000
    index = DuckDBIndex(path or None, rebuild_after=rebuild_after)
    index.apply(feed(0, 30), position=30, at=NOW)
    stop = threading.Event()
    found: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            found.extend(faults_of_find(index))

    def change() -> None:
        position = 30
        while not stop.is_set():
            index.apply(feed(position, position + 1), position=position + 1, at=NOW)
            position += 1

    def go_on() -> None:
        assert faults(index) == []
        assert index.state.position >= 30 or path == ""
        start = max(index.state.position, 0)
        index.apply(feed(start, start + 20), position=start + 20, at=NOW)
        assert faults(index) == []

    threads = [threading.Thread(target=ask), threading.Thread(target=change)]
    for thread in threads:
        thread.start()
    statuses = [in_child(go_on) for _ in range(FORKS)]
    stop.set()
    for thread in threads:
        thread.join()
    return {"statuses": statuses, "faults": found + faults(index)}


def faults_of_find(index: DuckDBIndex) -> list[str]:
    """Return what is wrong with one answer, whichever position it is of."""
    hits = {hit.entry_id for hit in index.find(TEA, NOW)}
    period = range(30, 30 + 140)
    return [] if any(hits == expected_stamps(at).keys() for at in period) else [str(sorted(hits))]


def fork_keeping_changes(path: str) -> list[Any]:
    """Report the position and the number of hits in a parent and, written to a pipe, in a child."""
    index = DuckDBIndex(path, rebuild_after=5)
    index.apply([*feed(0, 19), IndexedWords("kept", Document("tea", 1))], position=19, at=NOW)
    index.apply(feed(20, 29), position=29, at=NOW)
    index.apply([IndexedWords("new", Document("tea", 1))], position=30, at=NOW)
    read, write = os.pipe()

    def report() -> None:
        state = [index.state.position, len(index.find(TEA, NOW))]
        os.write(write, json.dumps(state).encode())

    status = in_child(report)
    return [status, json.loads(os.read(read, 100)), index.state.position]


ROLES: dict[str, Callable[..., Any]] = {
    role.__name__: role for role in (share, publish, die, without, fork, fork_keeping_changes)
}


def main(arguments: Sequence[str]) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(ROLES[arguments[0]](*arguments[1:])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
