"""A backend over object stores on real servers: their clocks, loops, threads and processes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.clock import utc_now
from ltm.payload.base import payload_path
from ltm.testing.backend_fixtures import LARGE, payloads_of
from ltm.testing.clock import FakeClock
from tests.services.object_server import ObjectPlace

PATIENCE = 60
"""Seconds after which something has deadlocked."""


class ObjectBackendSuite:
    """What depends on when a server says that an object was written, and on who calls."""

    @pytest.fixture
    def place(self) -> ObjectPlace:
        """An empty bucket or container."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock(utc_now())

    @pytest.fixture
    def memory(
        self, place: ObjectPlace, tmp_path: Path, clock: FakeClock
    ) -> Iterator[DuckDBLTMBackend]:
        catalog = SQLiteCatalog(tmp_path / "catalog.db", clock=clock)
        with DuckDBLTMBackend(
            catalog,
            place.uri,
            storage_options=place.options,
            raise_errors=True,
            owns_catalog=True,
        ) as memory:
            yield memory

    def test_garbage_is_spared_until_the_server_s_time_says_that_it_is_old(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        memory.store("k", LARGE)
        prefix = memory.catalog.table().storage_prefix
        orphan = payload_path(prefix, "ab" * 32, "sha256:" + "cd" * 32, "json")
        memory.payloads.write(orphan, b"orphan")
        clock.now = utc_now()
        young = memory.gc(grace=3600)
        assert (young["unreferenced"], young["spared"]) == (0, 1)
        clock.advance(3600 + 300)  # the server's clock may differ by minutes
        rehearsed = memory.gc(dry_run=True, grace=3600)
        assert (rehearsed["unreferenced"], rehearsed["freed_bytes"]) == (1, len(b"orphan"))
        assert orphan in payloads_of(memory)
        assert memory.gc(grace=timedelta(hours=1))["unreferenced"] == 1
        assert orphan not in payloads_of(memory)
        assert memory.retrieve("k")["value"] == LARGE

    def test_verification_finds_what_is_lost_and_what_is_nobody_s(
        self, memory: DuckDBLTMBackend
    ) -> None:
        memory.store_batch([{"key": f"k{number}", "value": [number, LARGE]} for number in range(5)])
        assert memory.verify()["problems"] == []
        lost = memory.catalog.get_entry("k3")
        assert lost is not None
        memory.payloads.delete(lost["storage_uri"] or "")
        prefix = memory.catalog.table().storage_prefix
        orphan = payload_path(prefix, "ab" * 32, "sha256:" + "cd" * 32, "json")
        memory.payloads.write(orphan, b"orphan")
        found = memory.verify()
        assert [(each["kind"], each["key"]) for each in found["problems"]] == [
            ("payload_missing", "k3")
        ]
        assert found["unreferenced"] == 1

    def test_a_synchronous_call_inside_of_a_running_loop_ends(
        self, memory: DuckDBLTMBackend
    ) -> None:
        async def remember(number: int) -> Any:
            memory.store(f"k{number}", [number, LARGE])
            await asyncio.sleep(0)
            return memory.retrieve(f"k{number}")["value"]

        async def main() -> list[Any]:
            inside = await asyncio.gather(*map(remember, range(5)))
            aside = await asyncio.gather(
                *(asyncio.to_thread(memory.store, f"t{number}", LARGE) for number in range(5))
            )
            assert all(answer["success"] for answer in aside)
            return inside

        for _ in range(2):  # a second loop finds what the first one left
            assert asyncio.run(main()) == [[number, LARGE] for number in range(5)]
        assert memory.retrieve("t4")["value"] == LARGE

    def test_threads_remember_at_once(self, memory: DuckDBLTMBackend) -> None:
        start = threading.Barrier(8)

        def remember(number: int) -> None:
            start.wait(PATIENCE)
            for turn in range(3):
                memory.store(f"k{number}", [number, turn, LARGE])
                assert memory.retrieve(f"k{number}")["value"] == [number, turn, LARGE]

        with ThreadPoolExecutor(8) as pool:
            for ended in [pool.submit(remember, number) for number in range(8)]:
                ended.result(PATIENCE)
        assert len(payloads_of(memory)) == 8
        assert memory.verify()["problems"] == []

    def test_parent_and_child_remember_after_a_fork(self, memory: DuckDBLTMBackend) -> None:
        memory.store_batch([{"key": f"k{number}", "value": [number, LARGE]} for number in range(9)])
        with warnings.catch_warnings():
            # Python warns of forks with threads alive; that they do no harm is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(PATIENCE)
                assert memory.retrieve("k1")["value"] == [1, LARGE]
                memory.store("child", LARGE)
                memory.close()
                status = 0
            finally:
                os._exit(status)
        memory.store("parent", LARGE)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for key in ("child", "parent"):
            assert memory.retrieve(key)["value"] == LARGE
        assert memory.verify()["problems"] == []


class TestBackendAndS3(ObjectBackendSuite):
    @pytest.fixture
    def place(self, s3_place: ObjectPlace) -> ObjectPlace:
        return s3_place


class TestBackendAndGCS(ObjectBackendSuite):
    @pytest.fixture
    def place(self, gcs_place: ObjectPlace) -> ObjectPlace:
        return gcs_place


class TestBackendAndAzure(ObjectBackendSuite):
    @pytest.fixture
    def place(self, azure_place: ObjectPlace) -> ObjectPlace:
        return azure_place
