"""Queries in many threads, across forks, and without the packages that they need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from query_place import LARGE

from ltm.backend.duckdb import DuckDBLTMBackend

PATIENCE = 60

FORKING = """
import os, signal, sys, threading, warnings
from ltm import create_ltm_backend
warnings.simplefilter("ignore", DeprecationWarning)
place, how = sys.argv[1:]
memory = create_ltm_backend(
    catalog_config={"path": place + "/c.db"}, storage_uri=place + "/data", raise_errors=True
)
memory.store("k", 1)
SQL = "SELECT value, count(*) AS n FROM entries, range(3000000) WHERE key = 'k' GROUP BY ALL"
SMALL = "SELECT value FROM entries"
busy = None
if how == "loaded":
    import duckdb
    duckdb.execute("SELECT 1").fetchall()
elif how == "used":
    memory.query(SQL)
elif how == "during":
    memory.query(SMALL)  # a fork amid an import is Python's to mind
    begun, ended = threading.Event(), threading.Event()
    def ask():
        begun.set()
        while not ended.is_set():
            memory.query("SELECT sum(x) AS s FROM range(20000000) t(x)")
    busy = threading.Thread(target=ask)
    busy.start()
    begun.wait(60)
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(50)
        assert memory.query(SMALL) == [{"value": 1}]
        assert memory.query(SQL) == [{"value": 1, "n": 3000000}]
        memory.close()
        sys.exit(0)  # not os._exit: what the parent had must not fall over either
    children.append(child)
statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert memory.query(SMALL) == [{"value": 1}]
if busy is not None:
    ended.set()
    busy.join()
memory.close()
assert statuses == [0, 0, 0], statuses
"""

ENDING = """
import os, sys, tempfile, threading, warnings
from ltm.backend.query_database import open_database
warnings.simplefilter("ignore", DeprecationWarning)
tempfile.tempdir = sys.argv[1]
begun, ended = threading.Event(), threading.Event()
def hold():
    with open_database():
        begun.set()
        ended.wait(60)
thread = threading.Thread(target=hold)
thread.start()
begun.wait(60)
child = os.fork()
if child == 0:
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert len(os.listdir(sys.argv[1])) == 1
ended.set()
thread.join()
assert os.listdir(sys.argv[1]) == []
"""

WITHOUT = """
import sys
from ltm import create_ltm_backend
sys.modules[sys.argv[2]] = None  # as if it were not installed
from ltm.errors import MissingDependencyError
with create_ltm_backend(
    catalog_config={"path": sys.argv[1] + "/c.db"}, storage_uri=sys.argv[1] + "/data"
) as memory:
    assert memory.store("k", "x" * 5000)["success"]
    try:
        memory.query("FROM entries")
    except MissingDependencyError as error:
        assert error.extra == "duckdb"
        print(error)
"""

LOADED = """
import sys
from ltm import create_ltm_backend
with create_ltm_backend(
    catalog_config={"path": sys.argv[1] + "/c.db"}, storage_uri=sys.argv[1] + "/data"
) as memory:
    memory.store("k", "x" * 5000)
    print(sorted({"duckdb", "duckdb_engine", "pyarrow", "ctypes"} & set(sys.modules)))
    memory.query("FROM entries")
    print(sorted({"duckdb", "duckdb_engine", "pyarrow"} & set(sys.modules)))
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_threads_ask_at_once(memory: DuckDBLTMBackend) -> None:
    memory.store_batch([(f"k{number}", [number, LARGE]) for number in range(40)])
    start = threading.Barrier(8)

    def ask(number: int) -> None:
        start.wait(PATIENCE)
        for turn in range(4):
            key = f"k{number + 8 * turn}"
            rows = memory.query(
                "SELECT value->0 AS n, (SELECT count(*) FROM entries) AS c FROM entries"
                " WHERE key = $key",
                parameters={"key": key},
            )
            assert rows == [{"n": number + 8 * turn, "c": 40}]

    with ThreadPoolExecutor(8) as pool:
        for asked in [pool.submit(ask, number) for number in range(8)]:
            asked.result(PATIENCE)


def test_threads_ask_while_others_write(memory: DuckDBLTMBackend) -> None:
    memory.store_batch([(f"k{number:02}", [0, LARGE]) for number in range(30)])
    is_over = threading.Event()

    def write() -> int:
        turn = 0
        while not is_over.is_set():
            turn += 1
            for number in range(0, 30, 3):
                memory.store(f"k{number:02}", [turn, LARGE])
        return turn

    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(write)
        try:
            for _ in range(10):
                rows = memory.query("SELECT key, value->>1 AS text FROM entries")
                assert [row["key"] for row in rows] == [f"k{number:02}" for number in range(30)]
                assert {row["text"] for row in rows} == {LARGE}
        finally:
            is_over.set()
        assert writer.result(PATIENCE) >= 1


@pytest.mark.parametrize("how", ["unused", "loaded", "used", "during"])
def test_children_ask_after_a_fork(tmp_path: Path, how: str) -> None:
    done = run(FORKING, str(tmp_path), how)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_that_ends_leaves_the_files_of_its_parent(tmp_path: Path) -> None:
    done = run(ENDING, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("package", ["duckdb", "duckdb_engine", "pyarrow", "pytz"])
def test_a_missing_package_is_named(tmp_path: Path, package: str) -> None:
    done = run(WITHOUT, str(tmp_path), package)
    assert done.returncode == 0, done.stderr
    assert package.replace("_", "-") in done.stdout
    assert "ltm[duckdb]" in done.stdout


def test_nothing_is_loaded_before_the_first_query(tmp_path: Path) -> None:
    done = run(LOADED, str(tmp_path))
    assert done.stdout.splitlines() == ["[]", "['duckdb', 'duckdb_engine', 'pyarrow']"], done.stderr


def test_an_interrupt_ends_a_query(memory: DuckDBLTMBackend) -> None:
    memory.store("k", 1)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt):
        memory.query("SELECT count(*) AS n FROM range(10000000) a, range(10000000) b WHERE a < b")
    timer.join()
    assert memory.query("SELECT key FROM entries") == [{"key": "k"}]
