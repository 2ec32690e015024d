"""What holds where many values share an object, for every store and format."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.clock import utc_now
from ltm.errors import LTMError
from ltm.locations import locate, object_path
from ltm.payload.base import PayloadStore
from ltm.testing.backend_fixtures import payloads_of
from ltm.testing.catalog_faults import FailingCatalog
from ltm.testing.clock import FakeClock
from ltm.testing.payload_faults import FailingPayloadStore

PATIENCE = 60
"""Seconds after which something has deadlocked."""


def value_of(number: int, size: int = 10_000) -> dict[str, Any]:
    """Return a value of about *size* bytes that doesn't compress."""
    return {"number": number, "text": random.Random(number).randbytes(size // 2).hex()}


def uri_of(memory: DuckDBLTMBackend, key: str) -> str:
    """Return where the payload of *key* is."""
    entry = memory.catalog.get_entry(key)
    assert entry is not None
    assert entry["storage_uri"] is not None
    return entry["storage_uri"]


def delete_all(memory: DuckDBLTMBackend, keys: Iterable[str]) -> None:
    with memory.transaction() as block:
        for key in keys:
            assert block.delete(key)["deleted"]


def bytes_of(memory: DuckDBLTMBackend) -> int:
    prefix = memory.catalog.table().storage_prefix
    return sum(each.byte_size for each in memory.payloads.list(prefix))


def expect_sound(memory: DuckDBLTMBackend, expected: dict[str, Any]) -> None:
    """Expect exactly these entries, and nothing that verification objects to."""
    assert {key: value for key, value, _ in memory.iterate_all()} == expected
    verified = memory.verify()
    assert (verified["problems"], verified["unreferenced"]) == ([], 0)


class FormatSuite:
    """Batches, garbage, compaction; a subclass says which format and where."""

    payload_format: str
    largest = 50_000_000
    """Bytes of the largest value that is stored."""

    def open_store(self, tmp_path: Path) -> PayloadStore:
        """Return the store of this test, empty at first."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[FailingPayloadStore]:
        with_faults = self.open_store(tmp_path)
        yield FailingPayloadStore(with_faults)
        with_faults.close()

    @pytest.fixture
    def catalog(self, tmp_path: Path, clock: FakeClock) -> Iterator[FailingCatalog]:
        catalog = SQLiteCatalog(tmp_path / "catalog.db", clock=clock)
        yield FailingCatalog(catalog)
        catalog.close()

    @pytest.fixture
    def memory(self, catalog: FailingCatalog, store: FailingPayloadStore) -> DuckDBLTMBackend:
        return DuckDBLTMBackend(
            catalog, store=store, payload_format=self.payload_format, raise_errors=True
        )

    def test_a_batch_is_one_object(
        self, memory: DuckDBLTMBackend, store: FailingPayloadStore
    ) -> None:
        expected = {f"k{number:03}": value_of(number) for number in range(100)}
        assert memory.store_batch(list(expected.items()))["stored"] == 100
        assert [operation for operation, _ in store.calls] == ["write"]
        (path,) = payloads_of(memory)
        assert path.endswith(f".{self.payload_format}")
        assert {object_path(uri_of(memory, key)) for key in expected} == {path}
        store.calls.clear()
        assert memory.retrieve_batch(list(expected))["results"] == expected
        assert len(store.calls) == 1
        assert memory.retrieve("k042")["value"] == expected["k042"]
        assert len(store.calls) == 2
        again = memory.store_batch(list(expected.items()))
        assert (again["stored"], again["deduplicated"]) == (0, 100)
        expect_sound(memory, expected)

    def test_many_values_are_a_few_objects(self, memory: DuckDBLTMBackend) -> None:
        expected = {f"k{number:04}": value_of(number, 1_200) for number in range(2_500)}
        memory.store_batch(list(expected.items()), atomic=True)
        assert len(payloads_of(memory)) == 3
        expect_sound(memory, expected)

    @pytest.mark.parametrize("size", [1, 1_000_000, None], ids=["1 B", "1 MB", "50 MB"])
    def test_a_value_of_any_size(
        self, catalog: FailingCatalog, store: FailingPayloadStore, size: int | None
    ) -> None:
        memory = DuckDBLTMBackend(
            catalog,
            store=store,
            payload_format=self.payload_format,
            inline_threshold=0,
            raise_errors=True,
        )
        value = 7 if size == 1 else value_of(1, size or self.largest)
        assert memory.store("k", value, {"n": 1})["inlined"] is False
        assert memory.retrieve("k")["value"] == value
        memory.delete("k")
        assert payloads_of(memory) == []

    def test_an_object_goes_with_its_last_value(self, memory: DuckDBLTMBackend) -> None:
        memory.store_batch([(key, value_of(number)) for number, key in enumerate("abcd")])
        (shared,) = payloads_of(memory)
        memory.delete("a")
        memory.store("b", "inlined now")
        memory.store("c", value_of(7))
        assert shared in payloads_of(memory)
        assert memory.gc(grace=0)["scheduled"] == 0
        expect_sound(memory, {"b": "inlined now", "c": value_of(7), "d": value_of(3)})
        memory.delete("d")
        assert shared not in payloads_of(memory)
        assert memory.catalog.scheduled_deletions("", 10) == []
        expect_sound(memory, {"b": "inlined now", "c": value_of(7)})

    def test_an_object_that_could_not_be_deleted_is_garbage_once(
        self, memory: DuckDBLTMBackend, store: FailingPayloadStore
    ) -> None:
        memory.store_batch([(key, value_of(number)) for number, key in enumerate("abc")])
        store.fail("delete")
        delete_all(memory, "abc")
        store.heal()
        for dry_run in (True, False):
            answer = memory.gc(dry_run, grace=0)
            assert (answer["scheduled"], answer["unreferenced"]) == (1, 0)
        assert payloads_of(memory) == []
        assert memory.catalog.scheduled_deletions("", 10) == []

    def test_a_value_that_a_rival_stored_first_leaves_its_neighbours(
        self, memory: DuckDBLTMBackend, catalog: FailingCatalog, store: FailingPayloadStore
    ) -> None:
        rival = DuckDBLTMBackend(catalog, store=store, raise_errors=True)
        values = {key: value_of(number) for number, key in enumerate("abc")}
        raced = memory.catalog
        write = raced.write

        def write_late(changes: Any, now: datetime) -> Any:
            rival.store("b", values["b"])
            return write(changes, now)

        raced.write = write_late  # type: ignore[method-assign] # only the moment is another
        answer = memory.store_batch(list(values.items()))
        assert (answer["stored"], answer["deduplicated"]) == (2, 1)
        assert object_path(uri_of(memory, "b")) != object_path(uri_of(memory, "a"))
        expect_sound(memory, values)

    def test_a_snapshot_keeps_what_it_sees(self, memory: DuckDBLTMBackend) -> None:
        memory.store_batch([(key, value_of(number)) for number, key in enumerate("abcd")])
        (shared,) = payloads_of(memory)
        memory.create_snapshot("before")
        delete_all(memory, "abcd")
        assert payloads_of(memory) == [shared]
        assert memory.retrieve("c", snapshot="before")["value"] == value_of(2)
        memory.expire_snapshot("before")
        assert payloads_of(memory) == []

    def test_a_transaction_that_rolls_back_leaves_no_object(self, memory: DuckDBLTMBackend) -> None:
        with pytest.raises(ZeroDivisionError), memory.transaction() as block:  # noqa: PT012
            block.store_batch([(key, value_of(number)) for number, key in enumerate("abcd")])
            block.delete("a")
            raise ZeroDivisionError
        assert payloads_of(memory) == []

    def test_sparse_objects_are_compacted(self, memory: DuckDBLTMBackend, clock: FakeClock) -> None:
        for batch in range(4):
            memory.store_batch(
                [(f"{batch}-{number:03}", value_of(number)) for number in range(400)]
            )
        memory.create_snapshot("before")
        for batch in range(3):
            delete_all(memory, [f"{batch}-{number:03}" for number in range(5, 400)])
        memory.expire_snapshot("before")
        memory.create_snapshot("after")
        memory.store("0-004", "replaced")
        clock.advance(5)
        before, objects = bytes_of(memory), payloads_of(memory)
        dense = object_path(uri_of(memory, "3-000"))
        assert memory.gc(dry_run=True, compact=True)["compacted"] == 3
        assert payloads_of(memory) == objects
        answer = memory.gc(compact=True)
        assert (answer["compacted"], answer["errors"]) == (3, [])
        left = payloads_of(memory)
        assert dense in left
        assert len(left) == 2
        assert bytes_of(memory) < before / 2
        assert memory.gc(compact=True)["compacted"] == 0
        expected = {
            f"{batch}-{number:03}": value_of(number) for batch in range(3) for number in range(5)
        }
        expected |= {f"3-{number:03}": value_of(number) for number in range(400)}
        assert memory.retrieve("0-004", snapshot="after")["value"] == value_of(4)
        expect_sound(memory, expected | {"0-004": "replaced"})
        assert memory.catalog.scheduled_deletions("", 10) == []

    @pytest.mark.parametrize("after_effect", [False, True], ids=["undone", "unanswered"])
    @pytest.mark.parametrize(
        "fault", ["write", "read", "delete", "move_payloads", "named_payloads"]
    )
    def test_a_compaction_that_fails_loses_nothing(
        self,
        memory: DuckDBLTMBackend,
        catalog: FailingCatalog,
        store: FailingPayloadStore,
        fault: Any,
        after_effect: bool,
    ) -> None:
        memory.store_batch([(f"k{number:03}", value_of(number)) for number in range(300)])
        delete_all(memory, [f"k{number:03}" for number in range(3, 300)])
        expected = {f"k{number:03}": value_of(number) for number in range(3)}
        if fault in ("write", "read", "delete"):
            store.fail(fault, after_effect=after_effect)
        else:
            catalog.fail(fault, after_effect=after_effect)
        with pytest.raises(LTMError):
            memory.gc(compact=True)
        store.heal()
        catalog.heal()
        assert {key: value for key, value, _ in memory.iterate_all()} == expected
        memory.gc(grace=timedelta(0), compact=True)
        expect_sound(memory, expected)
        assert len(payloads_of(memory)) == 1

    def test_readers_and_writers_go_on_while_objects_are_compacted(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        clock.now = utc_now()  # by which fresh objects are spared
        count = 60
        memory.store_batch([(f"k{number:03}", [number, 0, "x" * 9_000]) for number in range(count)])
        is_over = threading.Event()
        latest = [0] * count

        def write(first: int) -> None:
            turn = 0
            while not is_over.is_set():
                turn += 1
                numbers = range(first, count, 2)
                memory.store_batch(
                    [(f"k{number:03}", [number, turn, "x" * 9_000]) for number in numbers]
                )
                for number in numbers:
                    latest[number] = turn

        def read() -> None:
            while not is_over.is_set():
                known = list(latest)
                values = memory.retrieve_batch([f"k{number:03}" for number in range(count)])
                assert values["found"] == count
                for number, value in enumerate(values["results"].values()):
                    assert value[0] == number
                    assert value[1] >= known[number]

        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(write, 0), pool.submit(write, 1), pool.submit(read)]
            try:
                for _ in range(10):
                    assert memory.gc(compact=True)["errors"] == []
            finally:
                is_over.set()
            for each in running:
                each.result(PATIENCE)
        memory.gc(grace=timedelta(0), compact=True)
        expected = {
            f"k{number:03}": [number, latest[number], "x" * 9_000] for number in range(count)
        }
        expect_sound(memory, expected)

    def test_a_damaged_object_is_an_integrity_error_of_its_values_alone(
        self, memory: DuckDBLTMBackend
    ) -> None:
        memory.store_batch([(f"k{number}", value_of(number)) for number in range(3)])
        memory.store("other", value_of(9))
        uri = uri_of(memory, "k1")
        location = locate(uri)
        content = bytearray(memory.payloads.read(location.path))
        inside = content.index(value_of(1)["text"][4_000:4_100].encode())
        content[inside : inside + 20] = b"#" * 20
        memory.payloads.delete(location.path)
        memory.payloads.write(location.path, bytes(content))
        answering = DuckDBLTMBackend(memory.catalog, store=memory.payloads)
        read = answering.retrieve_batch(["k0", "k1", "k2", "other"])
        assert {each["error_type"] for each in read["errors"]} == {"integrity_error"}
        # A database file has check sums, so that no value of a damaged one is trusted.
        damaged = ["k1"] if self.payload_format == "parquet" else ["k0", "k1", "k2"]
        assert [each["key"] for each in read["errors"]] == damaged
        expected = {"k0": value_of(0), "k2": value_of(2), "other": value_of(9)}
        for key in damaged:
            expected.pop(key, None)
        assert read["results"] == expected
