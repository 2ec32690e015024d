"""What runs in processes of its own against one DuckDB file, as ``python native_workers.py ...``.

The first argument names the work, the second the file; the others are the work's. Each line that is
printed acknowledges something that has happened.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from ltm.errors import PayloadError, PayloadNotFoundError
from ltm.payload import native_file
from ltm.payload.native import DuckDBFilePayloadStore


def content_of(path: str) -> bytes:
    """Return the content that belongs at *path*, of 20 to 20,000 bytes."""
    return path.encode() * (20_000 // len(path) if path.endswith("0") else 1)


def write_and_read(file: str, mark: str, count: str) -> None:
    """Write objects, read each and the one before, delete every third."""
    store = DuckDBFilePayloadStore(file)
    for number in range(int(count)):
        path = f"a/{mark}/{number}"
        store.write(path, content_of(path))
        assert store.read(path) == content_of(path)
        if number % 3 == 2:
            store.delete(path)
        print(path, flush=True)


def race(file: str, mark: str, count: str) -> None:
    """Write the same names as others do, and say which were won."""
    store = DuckDBFilePayloadStore(file)
    for number in range(int(count)):
        try:
            store.write(f"a/{number}", mark.encode())
        except PayloadError as error:
            if "the name is taken" not in str(error):
                raise
        else:
            print(number, flush=True)


def write_for_ever(file: str, mark: str, checkpoints: str) -> None:
    """Write, in batches and alone, and delete, until killed."""
    native_file.COMMITS_PER_CHECKPOINT = int(checkpoints)
    store = DuckDBFilePayloadStore(file)
    for number in range(10**9):
        path = f"a/{mark}/{number}"
        store.write(path, content_of(path))
        print("written", path, flush=True)
        batch = [f"a/{mark}/{number}-{part}0" for part in range(3)]
        assert store.write_many([(each, content_of(each)) for each in batch]) == [None] * 3
        print("written", *batch, flush=True)
        print("deleting", batch[0], flush=True)
        store.delete(batch[0])
        print("deleted", batch[0], flush=True)


def overlap(file: str) -> None:
    """Keep the file in use with threads that overlap, until the input ends."""
    import threading

    store = DuckDBFilePayloadStore(file)
    store.write("a/one", b"1")
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            assert store.read("a/one") == b"1"

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    print("busy", flush=True)
    sys.stdin.read()
    is_over.set()
    for thread in threads:
        thread.join()


def hold(file: str) -> None:
    """Have the file open in DuckDB itself, until the input ends."""
    import duckdb

    with duckdb.connect(file):
        print(os.getpid(), flush=True)
        sys.stdin.read()


def open_files(file: str) -> list[str]:
    """Return which files whose path begins with *file* this process has open, as far as known."""
    if not os.path.isdir("/proc/self/fd"):
        return []
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that listed the directory
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in names if name.startswith(file)]


def fork(file: str) -> None:
    """Use a store in a parent whose threads are at work, and in children forked meanwhile."""
    import threading
    import warnings

    warnings.simplefilter("ignore", DeprecationWarning)
    store = DuckDBFilePayloadStore(file)
    store.write("a/one", b"parent")
    is_over = threading.Event()

    def work(mark: int) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            store.write(f"b/{mark}/{number}", b"thread")

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(2)]
    for thread in threads:
        thread.start()
    children = []
    for number in range(6):
        child = os.fork()
        if child == 0:
            assert open_files(file) == []
            assert store.read("a/one") == b"parent"
            store.write(f"c/{number}", b"child")
            sys.exit(7)  # with all that an interpreter does at its end
        children.append(child)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    is_over.set()
    for thread in threads:
        thread.join()
    assert ends == [7] * 6, ends
    assert sorted(found.path for found in store.list("c")) == [f"c/{n}" for n in range(6)]


def limited(file: str, *sizes: str) -> None:
    """Write objects of *sizes* where no file may become larger than 8 MB; say what happened."""
    import resource

    store = DuckDBFilePayloadStore(file)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, 8_000_000))
    for number, size in enumerate(sizes):
        try:
            store.write(f"a/{number}", os.urandom(int(size)))
        except PayloadError as error:
            print(error)
        else:
            print("written")


def unprivileged(file: str) -> None:
    """Read and write as a user without rights; say what happened."""
    import duckdb  # noqa: F401 whose files that user may have no way to

    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    store = DuckDBFilePayloadStore(file)
    for call in (
        lambda: store.read("a/one"),
        lambda: store.write("a/two", b""),
        lambda: store.delete("a/one"),
        lambda: [*store.list("a")],
    ):
        try:
            call()
        except PayloadNotFoundError:
            print("not found")
        except PayloadError as error:
            print(error)
        else:
            print("done")


if __name__ == "__main__":
    work, *arguments = sys.argv[1:]
    with suppress(BrokenPipeError):
        globals()[work](*arguments)
