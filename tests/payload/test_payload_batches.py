"""Batches: parallel within bounds, and without threads where one item needs none."""

from __future__ import annotations

import threading

import pytest

from ltm.errors import ClosedError, ValidationError
from ltm.payload.local import LocalPayloadStore
from ltm.payload.store import open_payload_store


class MeetingStore(LocalPayloadStore):
    """A local store whose reads wait for one another, and that counts those under way."""

    def __init__(self, root, *, max_workers: int, expected: int) -> None:
        super().__init__(root, max_workers=max_workers)
        self.meeting = threading.Barrier(expected, timeout=20)
        self.lock = threading.Lock()
        self.under_way = self.most_under_way = 0
        self.threads: set[int] = set()

    def read(self, path: str) -> bytes:
        with self.lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self.threads.add(threading.get_ident())
        try:
            self.meeting.wait()
            return super().read(path)
        finally:
            with self.lock:
                self.under_way -= 1


def test_a_batch_uses_all_workers_and_no_more(tmp_path) -> None:
    store = MeetingStore(tmp_path, max_workers=4, expected=4)
    paths = [f"a/{number}" for number in range(16)]
    assert store.write_many([(path, path.encode()) for path in paths]) == [None] * 16
    assert store.read_many(paths) == [path.encode() for path in paths]
    assert store.most_under_way == 4
    store.close()


def test_two_batches_share_the_bound(tmp_path) -> None:
    store = MeetingStore(tmp_path, max_workers=2, expected=2)
    store.write_many([("a/1", b"1"), ("a/2", b"2")])
    batches = [
        threading.Thread(target=store.read_many, args=(["a/1", "a/2"] * 4,)) for _ in range(3)
    ]
    for batch in batches:
        batch.start()
    for batch in batches:
        batch.join()
    assert store.most_under_way == 2
    store.close()


def test_one_item_is_read_in_the_thread_of_the_caller(tmp_path) -> None:
    store = MeetingStore(tmp_path, max_workers=16, expected=1)
    store.write("a/1", b"1")
    before = threading.active_count()
    assert store.read_many(["a/1"]) == [b"1"]
    assert store.read_many([]) == []
    assert store.threads == {threading.get_ident()}
    assert threading.active_count() == before
    store.close()


def test_one_worker_needs_no_thread(tmp_path) -> None:
    store = MeetingStore(tmp_path, max_workers=1, expected=1)
    store.write_many([("a/1", b"1"), ("a/2", b"2")])
    assert store.read_many(["a/1", "a/2"]) == [b"1", b"2"]
    assert store.threads == {threading.get_ident()}
    store.close()


def test_closing_ends_the_threads(tmp_path) -> None:
    before = set(threading.enumerate())
    store = LocalPayloadStore(tmp_path)
    store.write_many([(f"a/{number}", b"") for number in range(8)])
    assert set(threading.enumerate()) > before
    store.close()
    assert set(threading.enumerate()) == before


def test_a_batch_under_way_when_the_store_is_closed_says_so(tmp_path) -> None:
    has_begun = threading.Event()

    class EndlessStore(LocalPayloadStore):
        def read(self, path: str) -> bytes:
            while True:
                super().read(path)
                has_begun.set()

    def close() -> None:
        has_begun.wait(timeout=20)
        store.close()

    store = EndlessStore(tmp_path, max_workers=2)
    store.write("a/one", b"1")
    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(ClosedError):
        store.read_many(["a/one"] * 8)
    closer.join()


def test_a_batch_being_handed_out_when_the_store_is_closed_says_so(tmp_path) -> None:
    class Paths(tuple):
        """Two paths, between which the store is closed."""

        def __iter__(self):
            yield self[0]
            store.close()
            yield self[1]

    store = LocalPayloadStore(tmp_path)
    with pytest.raises(ClosedError):
        store.delete_many(Paths(("a/one", "a/two")))


@pytest.mark.parametrize("max_workers", [0, -1, True, 2.5, "4", None])
@pytest.mark.parametrize("uri", ["/nowhere", "memory://x"])
def test_max_workers_is_a_count(uri: str, max_workers) -> None:
    with pytest.raises(ValidationError, match="max_workers"):
        open_payload_store(uri, max_workers=max_workers)
