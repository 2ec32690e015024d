"""What every payload store must do, as tests that one of your own can run too.

Subclass it in a test module; pytest collects the tests with the subclass::

    class TestMyStore(PayloadStoreSuite):
        def make_store(self, tmp_path):
            return MyStore(tmp_path / "payloads")
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from ltm.clock import utc_now
from ltm.errors import ClosedError, PayloadError, PayloadNotFoundError
from ltm.payload.base import PayloadStore, is_payload_path, payload_path
from ltm.payload.objects import ByteRange

CHILD_SECONDS = 30
"""A forked child that has not ended after so many seconds is killed."""

ESCAPES = (
    "",
    "/",
    "/etc/hostname",
    "..",
    "../outside",
    "a/../../outside",
    "a/..",
    "a/./b",
    "./a",
    "a//b",
    "a/",
    "a\\..\\b",
    "a\0b",
    "a/\ud800",
)


class PayloadStoreSuite:
    """The conformance suite of :class:`~ltm.payload.base.PayloadStore`."""

    def make_store(self, tmp_path: Path) -> PayloadStore:
        """Return a new store with nothing in it; the suite closes it."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[PayloadStore]:
        store = self.make_store(tmp_path)
        yield store
        store.close()

    @pytest.mark.parametrize("byte_size", [0, 1, 4097, 1 << 20])
    def test_what_was_written_is_read(self, store: PayloadStore, byte_size: int) -> None:
        content = os.urandom(byte_size)
        store.write("a/one", content)
        assert store.read("a/one") == content

    def test_parts_of_an_object_are_read(self, store: PayloadStore) -> None:
        content = bytes(range(256)) * 1_000
        store.write("p/one", content)
        store.write("p/two", b"\xfftwo")
        for start, length in [(0, 1), (255, 3), (255_999, 1), (0, 256_000), (100_000, 70_000)]:
            assert store.read_range("p/one", start, length) == content[start : start + length]
        assert store.read_range("p/one", 7, 0) == b""
        assert store.read_range("p/one", 255_990, 100) == content[-10:]
        with pytest.raises(PayloadNotFoundError):
            store.read_range("p/none", 0, 1)
        ranges = [ByteRange("p/one", 5, 2), ByteRange("p/none", 1, 1), ByteRange("p/two")]
        first, missing, last = store.read_ranges([*ranges])
        assert (first, last) == (b"\x05\x06", b"\xfftwo")
        assert isinstance(missing, PayloadNotFoundError)
        assert store.read_ranges([ByteRange("p/two"), ByteRange("p/two", 1, 3)])[1] == b"two"

    def test_a_payload_path_is_a_path_of_the_store(self, store: PayloadStore) -> None:
        path = payload_path("default-1f/tenant", "ab" * 32, "sha256:" + "cd" * 32, "json")
        store.write(path, b"{}")
        assert [found.path for found in store.list("default-1f/tenant")] == [path]
        assert is_payload_path(path, "default-1f/tenant")

    def test_names_are_taken_as_they_are(self, store: PayloadStore) -> None:
        paths = [f"a/{name}" for name in ("*", "?", "[ab]", "%2e", "~", "a b", "ключ", "#", "x@y")]
        for path in paths:
            store.write(path, path.encode())
        assert store.read_many(paths) == [path.encode() for path in paths]
        assert sorted(found.path for found in store.list("a")) == sorted(paths)
        store.delete("a/*")
        assert len([*store.list("a")]) == len(paths) - 1

    def test_the_address_of_an_object_begins_with_the_root(self, store: PayloadStore) -> None:
        assert store.uri("a/one") == f"{store.root.rstrip('/')}/a/one"

    def test_an_object_is_never_overwritten(self, store: PayloadStore) -> None:
        store.write("a/one", b"old")
        with pytest.raises(PayloadError):
            store.write("a/one", b"new")
        assert store.read("a/one") == b"old"
        assert [found.path for found in store.list("a")] == ["a/one"]

    def test_writing_the_same_bytes_again_is_refused_too(self, store: PayloadStore) -> None:
        store.write("a/one", b"same")
        with pytest.raises(PayloadError):
            store.write("a/one", b"same")

    def test_an_absent_object_is_not_found(self, store: PayloadStore) -> None:
        with pytest.raises(PayloadNotFoundError):
            store.read("a/none")
        store.write("a/one", b"1")
        with pytest.raises(PayloadNotFoundError):
            store.read("a/none")

    def test_an_object_can_be_read_as_soon_as_it_is_written(self, store: PayloadStore) -> None:
        for path in ("a/one", "a/two", "a/b/three"):
            with pytest.raises(PayloadNotFoundError):
                store.read(path)
            store.write(path, b"here")
            assert store.read(path) == b"here"
            assert path in {found.path for found in store.list("a")}

    def test_deleting_twice_is_deleting_once(self, store: PayloadStore) -> None:
        store.write("a/one", b"1")
        store.write("a/two", b"2")
        store.delete("a/one")
        store.delete("a/one")
        store.delete("never/there")
        with pytest.raises(PayloadNotFoundError):
            store.read("a/one")
        assert [found.path for found in store.list("a")] == ["a/two"]

    def test_a_listing_tells_path_size_and_time(self, store: PayloadStore) -> None:
        before = utc_now()
        store.write("a/b/one", b"12345")
        (found,) = store.list("a")
        assert (found.path, found.byte_size) == ("a/b/one", 5)
        assert found.modified_at.tzinfo is UTC
        # Clocks of servers and time stamps of file systems are not those of this process.
        assert abs(found.modified_at - before) < timedelta(minutes=5)

    def test_a_listing_shows_its_own_prefix_only(self, store: PayloadStore) -> None:
        for path in ("a/one", "a/b/two", "a/b/c/three", "ab/four", "b/a/five", "aa"):
            store.write(path, b"1")
        assert sorted(found.path for found in store.list("a")) == [
            "a/b/c/three",
            "a/b/two",
            "a/one",
        ]
        assert sorted(found.path for found in store.list("a/b")) == ["a/b/c/three", "a/b/two"]
        assert [*store.list("aa")] == []
        assert [*store.list("nothing")] == []

    def test_batches_answer_in_the_order_of_their_items(self, store: PayloadStore) -> None:
        items = [(f"a/{number:02}", b"%d" % number) for number in range(40)]
        paths = [path for path, _ in items]
        assert store.write_many(items) == [None] * 40
        assert store.read_many(paths[::-1]) == [content for _, content in items[::-1]]
        assert store.delete_many(paths) == [None] * 40
        assert [*store.list("a")] == []

    def test_batches_of_none_and_one(self, store: PayloadStore) -> None:
        assert store.write_many([]) == store.read_many([]) == store.delete_many([]) == []
        assert store.write_many([("a/one", b"1")]) == [None]
        assert store.read_many(["a/one"]) == [b"1"]
        assert store.delete_many(["a/one"]) == [None]

    def test_a_failure_in_a_batch_hides_no_other_item(self, store: PayloadStore) -> None:
        store.write("a/taken", b"old")
        outcomes = store.write_many(
            [("a/one", b"1"), ("a/taken", b"new"), ("../out", b""), ("a/two", b"2")]
        )
        assert [outcome is None for outcome in outcomes] == [True, False, False, True]
        contents = store.read_many(["a/two", "a/none", "a/taken", "../out", "a/one"])
        assert contents[::2] == [b"2", b"old", b"1"]
        assert isinstance(contents[1], PayloadNotFoundError)
        assert isinstance(contents[3], PayloadError)
        deleted = store.delete_many(["a/one", "../out", "a/none", "a/two"])
        assert [outcome is None for outcome in deleted] == [True, False, True, True]
        assert [found.path for found in store.list("a")] == ["a/taken"]

    @pytest.mark.parametrize("path", ESCAPES)
    def test_a_path_that_leaves_the_root_is_refused(self, store: PayloadStore, path: str) -> None:
        for attempt in (
            lambda: store.write(path, b""),
            lambda: store.read(path),
            lambda: store.delete(path),
            lambda: [*store.list(path)],
            lambda: store.uri(path),
        ):
            with pytest.raises(PayloadError) as caught:
                attempt()
            assert not isinstance(caught.value, PayloadNotFoundError)

    def test_threads_write_objects_of_their_own(self, store: PayloadStore) -> None:
        contents = {
            f"a/{number}/{turn}": os.urandom(5000) for number in range(8) for turn in (0, 1)
        }

        def write(number: int) -> None:
            for turn in (0, 1):
                path = f"a/{number}/{turn}"
                store.write(path, contents[path])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        assert {found.path for found in store.list("a")} == set(contents)
        assert all(store.read(path) == content for path, content in contents.items())

    def test_of_many_writers_of_one_name_exactly_one_wins(self, store: PayloadStore) -> None:
        def write(path: str, content: bytes, start: threading.Barrier) -> bytes | None:
            start.wait()
            try:
                store.write(path, content)
            except PayloadError:
                return None
            return content

        with _frequent_switches(), ThreadPoolExecutor(8) as pool:
            for path in (f"a/{turn}" for turn in range(12)):
                start = threading.Barrier(8)
                contents = [os.urandom(20_000) for _ in range(8)]
                attempts = [pool.submit(write, path, content, start) for content in contents]
                outcomes = [attempt.result() for attempt in attempts]
                assert [one for one in outcomes if one is not None] == [store.read(path)]
        assert len([*store.list("a")]) == 12

    def test_a_reader_never_sees_part_of_an_object(self, store: PayloadStore) -> None:
        content = os.urandom(1 << 20)
        paths = [f"a/{number}" for number in range(12)]
        has_ended = threading.Event()

        def write() -> None:
            try:
                for path in paths:
                    store.write(path, content)
            finally:
                has_ended.set()

        def observe() -> int:
            """Return of how many objects the first sight was the whole."""
            whole = 0
            for path in paths:
                is_last = False
                while not is_last:
                    is_last = has_ended.is_set()
                    try:
                        found = store.read(path)
                    except PayloadNotFoundError:
                        continue
                    whole += found == content
                    break
            return whole

        with ThreadPoolExecutor(3) as pool:
            observers = [pool.submit(observe) for _ in range(2)]
            pool.submit(write).result()
            assert [observer.result() for observer in observers] == [len(paths)] * 2

    def test_closing_twice_is_closing_once(self, store: PayloadStore) -> None:
        store.write_many([("a/one", b"1"), ("a/two", b"2")])
        store.close()
        store.close()
        for attempt in (
            lambda: store.write("a/three", b""),
            lambda: store.read("a/one"),
            lambda: store.delete("a/one"),
            lambda: [*store.list("a")],
            lambda: store.write_many([]),
            lambda: store.read_many(["a/one", "a/two"]),
            lambda: store.delete_many(["a/one", "a/two"]),
        ):
            with pytest.raises(ClosedError):
                attempt()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
    def test_a_forked_child_goes_on_using_the_store(self, store: PayloadStore) -> None:
        # Enough for the threads to be as many as they ever get: in the child, none of them runs.
        items = [(f"a/{number}", b"parent") for number in range(8 * store.max_workers)]
        assert store.write_many(items) == [None] * len(items)

        def use() -> None:
            paths = [path for path, _ in items]
            assert store.read_many(paths) == [b"parent"] * len(paths)
            assert store.write_many([(f"b/{n}", b"child") for n in range(8)]) == [None] * 8
            assert sorted(found.path for found in store.list("b")) == [f"b/{n}" for n in range(8)]
            store.delete("a/0")
            store.close()

        assert _run_in_child(use) == 0
        assert store.read_many(["a/1", "a/2"]) == [b"parent"] * 2


@contextmanager
def _frequent_switches() -> Iterator[None]:
    """Let threads alternate after almost every bytecode, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def _run_in_child(use: Callable[[], None]) -> int:
    """Return the exit code of a forked child that calls *use*: 0 unless it raised or hung."""
    with warnings.catch_warnings():
        # Python warns of forks with threads alive; that they do no harm is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
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
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
