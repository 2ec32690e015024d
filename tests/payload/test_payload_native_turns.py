"""One DuckDB file and many who want it: threads, processes, forks, other programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb
import pytest
from native_workers import content_of

from ltm.errors import PayloadError, PayloadNotFoundError
from ltm.fork_gate import forks_wait
from ltm.payload.native import DuckDBFilePayloadStore

WORKERS = Path(__file__).with_name("native_workers.py")

PATIENCE = 90
"""Seconds after which something has deadlocked."""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "payloads.duckdb"


@pytest.fixture
def start(file: Path) -> Iterator[Start]:
    """Start work on the file in processes of its own; what still runs at the end is killed."""
    with ExitStack() as stack:

        def start(work: str, *arguments: object) -> subprocess.Popen[str]:
            command = [sys.executable, "-W", "error", str(WORKERS), work, str(file)]
            process = subprocess.Popen(
                [*command, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return output.splitlines()


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Fail a block that takes longer than anything but a deadlock does."""

    def fail(number: int, frame: object) -> None:
        raise TimeoutError(f"not done in {seconds} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_processes_write_and_read_at_once(file: Path, start: Start) -> None:
    processes = [start("write_and_read", mark, 25) for mark in "abcd"]
    written = [path for process in processes for path in lines_of(process)]
    assert len(written) == 100
    kept = [path for path in written if int(path.rpartition("/")[2]) % 3 != 2]
    store = DuckDBFilePayloadStore(file)
    assert sorted(found.path for found in store.list("a")) == sorted(kept)
    assert store.read_many(kept) == [content_of(path) for path in kept]


def test_of_processes_that_write_one_name_exactly_one_wins(file: Path, start: Start) -> None:
    processes = {mark: start("race", mark, 25) for mark in "abcd"}
    won = {mark: lines_of(process) for mark, process in processes.items()}
    assert sorted(int(name) for names in won.values() for name in names) == [*range(25)]
    store = DuckDBFilePayloadStore(file)
    for mark, names in won.items():
        assert all(store.read(f"a/{name}") == mark.encode() for name in names)
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM payloads").fetchall() == [(25,)]


def test_processes_that_make_the_file_make_one(file: Path, start: Start) -> None:
    for turn in range(3):
        for path in file.parent.iterdir():
            path.unlink()
        processes = [start("write_and_read", f"{turn}{mark}", 2) for mark in "abc"]
        written = [path for process in processes for path in lines_of(process)]
        found = [found.path for found in DuckDBFilePayloadStore(file).list("a")]
        assert sorted(found) == sorted(written)


def test_threads_that_overlap_for_ever_let_other_processes_in(file: Path, start: Start) -> None:
    busy = start("overlap")
    assert busy.stdout is not None
    assert busy.stdout.readline() == "busy\n"
    store = DuckDBFilePayloadStore(file)
    with limited(PATIENCE):
        for number in range(10):
            store.write(f"b/{number}", b"2")
            assert store.read("a/one") == b"1"
    assert busy.poll() is None
    lines_of(busy)


def test_threads_of_two_stores_in_one_process_take_turns(file: Path) -> None:
    stores = [DuckDBFilePayloadStore(file) for _ in range(2)]
    gate = threading.Barrier(8)

    def work(number: int) -> None:
        gate.wait(PATIENCE)
        for turn in range(6):
            path = f"a/{number}/{turn}"
            stores[number % 2].write(path, content_of(path))
            assert stores[turn % 2].read(path) == content_of(path)
            stores[turn % 2].delete(path)

    with limited(PATIENCE), ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert [*stores[0].list("a")] == []


def test_the_file_is_open_only_while_somebody_works_on_it(file: Path) -> None:
    store = DuckDBFilePayloadStore(file)
    store.write("a/one", b"1")
    assert next(store.list("a")).path == "a/one"
    with pytest.raises(PayloadNotFoundError):
        store.read("a/none")
    with duckdb.connect(str(file)) as connection:
        connection.execute("INSERT INTO payloads VALUES ('a/two', 'x'::BLOB, 1, now())")
    assert store.read("a/two") == b"x"


def test_another_program_that_has_the_file_open_is_named(file: Path, start: Start) -> None:
    store = DuckDBFilePayloadStore(file, timeout=0.5)
    store.write("a/one", b"1")
    holder = start("hold")
    assert holder.stdout is not None
    process = int(holder.stdout.readline())
    for attempt in (
        lambda: store.read("a/one"),
        lambda: store.write("a/two", b""),
        lambda: store.delete("a/one"),
        lambda: [*store.list("a")],
    ):
        with pytest.raises(PayloadError, match=rf"0\.5 seconds.*PID {process}\b") as caught:
            attempt()
        assert not isinstance(caught.value, PayloadNotFoundError)
    outcomes = store.write_many([("a/two", b""), ("../out", b""), ("a/three", b"")])
    assert [f"PID {process}" in str(outcome) for outcome in outcomes] == [True, False, True]
    lines_of(holder)
    assert store.read("a/one") == b"1"
    assert [found.path for found in store.list("a")] == ["a/one"]


def test_who_waits_for_another_program_goes_on_when_it_ends(file: Path, start: Start) -> None:
    store = DuckDBFilePayloadStore(file)
    store.write("a/one", b"1")
    holder = start("hold")
    assert holder.stdout is not None
    holder.stdout.readline()
    with limited(PATIENCE), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.read, "a/one")
        assert not waiting.done()
        lines_of(holder)
        assert waiting.result(PATIENCE) == b"1"


def test_the_application_s_own_connection_is_named_and_left_alone(file: Path) -> None:
    store = DuckDBFilePayloadStore(file, timeout=0.2)
    store.write("a/one", b"1")
    with duckdb.connect(str(file)) as connection:
        with pytest.raises(PayloadError, match="already attached"):
            store.read("a/one")
        assert connection.execute("SELECT count(*) FROM payloads").fetchall() == [(1,)]
    assert store.read("a/one") == b"1"


def test_a_lock_that_another_process_keeps_is_waited_for_in_vain(file: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    store = DuckDBFilePayloadStore(file, timeout=0.2)
    store.write("a/one", b"1")
    for suffix in (".lock", ".queue"):
        with open(f"{file}{suffix}", "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(PayloadError, match="other processes have it open"):
                store.read("a/one")
        assert store.read("a/one") == b"1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_children_forked_while_threads_write_use_the_store_and_end(start: Start) -> None:
    assert lines_of(start("fork")) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_fork_gets_through_while_somebody_waits_for_the_file(file: Path, start: Start) -> None:
    store = DuckDBFilePayloadStore(file)
    store.write("a/one", b"1")
    holder = start("hold")
    assert holder.stdout is not None
    holder.stdout.readline()
    with ThreadPoolExecutor(1) as pool, limited(PATIENCE):
        waiting = pool.submit(store.read, "a/one")
        lines = subprocess.run(
            [sys.executable, "-c", "print(1)"],
            preexec_fn=lambda: None,  # makes it a fork that Python's handlers see
            capture_output=True,
            text=True,
            check=True,
        )
        assert lines.stdout == "1\n"
        assert not waiting.done()
        lines_of(holder)
        assert waiting.result(PATIENCE) == b"1"


def test_a_thread_inside_of_duckdb_may_use_the_store(file: Path) -> None:
    store = DuckDBFilePayloadStore(file)
    with forks_wait(), duckdb.connect() as connection:
        store.write("a/one", b"1")
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
        assert store.read("a/one") == b"1"
