"""What a payload store does with objects on a real server, whichever it is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ltm.errors import PayloadError, PayloadNotFoundError
from ltm.payload.base import PayloadStore
from ltm.payload.store import open_payload_store
from tests.services.object_server import ObjectPlace

ROOT = Path(__file__).resolve().parents[2]

OpenStore = Callable[..., PayloadStore]

IN_PARTS = 110 << 20
"""Bytes; more than any driver sends in one request."""

CHILD_SECONDS = 60
"""After so many seconds without an end something has deadlocked."""

RACING = """
import json, sys
from ltm.errors import PayloadError
from ltm.payload.store import open_payload_store

uri, options, mark = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
store = open_payload_store(uri, storage_options=options)
store.write(f"warm/{mark}", b"")
print("ready", flush=True)
for line in sys.stdin:
    try:
        store.write(line.strip(), mark.encode() * 20_000)
    except PayloadError as error:
        assert "taken" in str(error), error
        print("lost", flush=True)
    else:
        print("won", flush=True)
store.close()
"""


class ObjectSuite:
    """Objects of every size, races for a name, and stores in threads, loops and processes."""

    unguarded_bytes: ClassVar[int] = 1 << 40
    """The size from which on the server here lets an object be overwritten, against its model."""

    @pytest.fixture
    def place(self) -> ObjectPlace:
        """An empty bucket or container."""
        raise NotImplementedError

    @pytest.fixture
    def open_store(self, place: ObjectPlace) -> Iterator[OpenStore]:
        """Open stores on the place, or on another way to it; they are closed after the test."""
        with ExitStack() as stack:

            def open_store(
                there: ObjectPlace = place, options: dict[str, Any] | None = None
            ) -> PayloadStore:
                chosen = there.options if options is None else options
                store = open_payload_store(there.uri, storage_options=chosen)
                return stack.enter_context(closing(store))

            yield open_store

    @pytest.mark.parametrize("byte_size", [1, 1_000_000, 50_000_000, IN_PARTS])
    def test_objects_of_every_size_come_back_and_are_never_overwritten(
        self, open_store: OpenStore, byte_size: int
    ) -> None:
        content = os.urandom(byte_size)
        writer, reader = open_store(), open_store()
        writer.write("a/one", content)
        assert reader.read("a/one") == content
        if byte_size < self.unguarded_bytes:
            with pytest.raises(PayloadError, match="taken"):
                writer.write("a/one", bytes(byte_size))
            assert reader.read("a/one") == content
        assert [(found.path, found.byte_size) for found in reader.list("a")] == [
            ("a/one", byte_size)
        ]
        reader.delete("a/one")
        with pytest.raises(PayloadNotFoundError):
            writer.read("a/one")

    def test_a_reader_that_listed_before_sees_a_fresh_object(self, open_store: OpenStore) -> None:
        writer, reader = open_store(), open_store()
        for turn in range(3):
            assert len([*reader.list("a")]) == turn
            with pytest.raises(PayloadNotFoundError):
                reader.read(f"a/{turn}")
            writer.write(f"a/{turn}", b"fresh")
            assert f"a/{turn}" in {found.path for found in reader.list("a")}
            assert reader.read(f"a/{turn}") == b"fresh"

    def test_a_reader_that_listed_before_sees_that_an_object_is_gone(
        self, open_store: OpenStore
    ) -> None:
        writer, reader = open_store(), open_store()
        writer.write("a/one", b"1")
        assert len([*reader.list("a")]) == 1
        assert reader.read("a/one") == b"1"
        writer.delete("a/one")
        assert [*reader.list("a")] == []
        with pytest.raises(PayloadNotFoundError):
            reader.read("a/one")

    def test_of_eight_threads_with_stores_of_their_own_exactly_one_wins(
        self, open_store: OpenStore
    ) -> None:
        stores = [open_store() for _ in range(8)]
        for number, store in enumerate(stores):
            store.write(f"warm/{number}", b"")
        for path in (f"a/{turn}" for turn in range(10)):
            start = threading.Barrier(8)

            def write(
                number: int, path: str = path, start: threading.Barrier = start
            ) -> bytes | None:
                content = b"%d" % number * 20_000
                start.wait(CHILD_SECONDS)
                try:
                    stores[number].write(path, content)
                except PayloadError as error:
                    if "taken" in str(error):
                        return None
                    raise
                return content

            with ThreadPoolExecutor(8) as pool:
                outcomes = [*pool.map(write, range(8))]
            assert [each for each in outcomes if each is not None] == [stores[0].read(path)]

    def test_of_four_processes_exactly_one_wins(
        self, place: ObjectPlace, open_store: OpenStore
    ) -> None:
        marks = "wxyz"
        reader = open_store()
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-c", RACING, place.uri, json.dumps(place.options), mark],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                        cwd=ROOT,
                    )
                )
                for mark in marks
            ]
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
            for path in (f"a/{turn}" for turn in range(10)):
                for writer in writers:
                    assert writer.stdin is not None
                    print(path, file=writer.stdin, flush=True)
                outcomes = [writer.stdout.readline().strip() for writer in writers]  # type: ignore[union-attr]
                assert sorted(outcomes) == ["lost", "lost", "lost", "won"]
                winner = marks[outcomes.index("won")]
                assert reader.read(path) == winner.encode() * 20_000
            for writer in writers:
                writer.communicate(timeout=CHILD_SECONDS)
                assert writer.returncode == 0

    def test_the_environment_is_enough(
        self, place: ObjectPlace, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        store = open_store(options={})
        store.write("a/one", b"1")
        assert open_store().read("a/one") == b"1"
        assert [found.path for found in store.list("a")] == ["a/one"]

    def test_a_running_event_loop_is_no_obstacle(self, open_store: OpenStore) -> None:
        async def use() -> list[Any]:
            store = open_store()
            store.write("a/one", b"1")
            await asyncio.sleep(0)
            outcomes = store.write_many([(f"a/many/{number}", b"2") for number in range(20)])
            assert outcomes == [None] * 20
            return [store.read("a/one"), len([*store.list("a")])]

        assert asyncio.run(use()) == [b"1", 21]
        # The next loop is another one.
        assert asyncio.run(use_again(open_store())) == b"1"

    def test_parent_and_child_go_on_after_a_fork(self, open_store: OpenStore) -> None:
        store = open_store()
        store.write_many([(f"a/{number}", b"parent") for number in range(32)])
        has_begun = threading.Event()
        may_end = threading.Event()

        def read_on() -> int:
            count = 0
            while not may_end.is_set():
                assert store.read(f"a/{count % 32}") == b"parent"
                count += 1
                has_begun.set()
            return count

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read_on) for _ in range(2)]
            assert has_begun.wait(CHILD_SECONDS)
            try:
                children = [
                    fork(lambda number=number: use_in_child(store, number)) for number in (1, 2)
                ]
                codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            finally:
                may_end.set()
            assert codes == [0, 0]
            assert all(reader.result(CHILD_SECONDS) > 0 for reader in readers)
        store.write("b/parent", b"parent")
        assert sorted(found.path for found in store.list("b")) == ["b/1", "b/2", "b/parent"]


async def use_again(store: PayloadStore) -> bytes:
    """Read from within a loop what was written in another."""
    return store.read("a/one")


def use_in_child(store: PayloadStore, number: int) -> None:
    assert store.read("a/0") == b"parent"
    store.write(f"b/{number}", b"child")
    assert store.read_many([f"a/{each}" for each in range(32)]) == [b"parent"] * 32
    store.close()


def fork(use: Callable[[], None]) -> int:
    """Return the id of a child that calls *use* and exits with 0, or 1 if it raised."""
    with warnings.catch_warnings():
        # Python warns of forks with threads alive; that they do no harm is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process:
        return process
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_SECONDS)
        use()
        status = 0
    except BaseException:  # noqa: BLE001 the exit code says it to the parent
        traceback.print_exc()
    finally:
        os._exit(status)
