"""A call on a store ends in time, whatever its driver does, and what ends late harms nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from payload_unreliable import HandClock, Unreliable

from ltm import create_ltm_from_settings
from ltm.errors import PayloadError, PayloadNotFoundError, ValidationError
from ltm.payload.base import DEFAULT_TIMEOUT, PayloadStore
from ltm.payload.deadline import Deadline
from ltm.payload.remote import FsspecPayloadStore
from ltm.payload.store import open_payload_store

PATIENCE = 20.0
"""Seconds after which a call hangs, on the slowest of machines."""


class StuckFileSystem(MemoryFileSystem):
    """A driver without a loop, all of whose calls wait for the end of the test."""

    protocol = "stuck"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    release: ClassVar[threading.Event] = threading.Event()
    connects: ClassVar[bool] = True
    ended: ClassVar[threading.Semaphore] = threading.Semaphore(0)

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        if not self.connects:
            self.wait()

    def wait(self, *arguments, **options):
        self.release.wait(PATIENCE)
        self.ended.release()
        raise ConnectionResetError("late")

    pipe_file = cat_file = rm_file = ls = wait


class SilentFileSystem(AsyncFileSystem):
    """A driver with a loop, all of whose calls wait for an answer that never comes."""

    protocol = "silent"
    cancelled: ClassVar[list[str]] = []

    async def _wait(self, verb: str) -> None:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            self.cancelled.append(verb)
            raise

    async def _pipe_file(self, path, value, mode="overwrite", **options):
        await self._wait("pipe_file")

    async def _cat_file(self, path, start=None, end=None, **options):
        await self._wait("cat_file")

    async def _rm_file(self, path, **options):
        await self._wait("rm_file")

    async def _ls(self, path, detail=True, **options):
        await self._wait("ls")


class PresentFileSystem(AsyncFileSystem):
    """A driver with a loop that has every object, and one that is cancelled from elsewhere."""

    protocol = "present"

    async def _cat_file(self, path, start=None, end=None, **options):
        await asyncio.sleep(0)
        return path.encode()

    async def _pipe_file(self, path, value, mode="overwrite", **options):
        raise asyncio.CancelledError


@pytest.fixture(autouse=True)
def drivers() -> Iterator[None]:
    for driver in (StuckFileSystem, SilentFileSystem, PresentFileSystem):
        fsspec.register_implementation(driver.protocol, driver, clobber=True)
    StuckFileSystem.release.clear()
    StuckFileSystem.connects = True
    SilentFileSystem.cancelled.clear()
    yield
    StuckFileSystem.release.set()


def attempts_of(store: PayloadStore) -> list[Any]:
    return [
        lambda: store.write("a/one", b"1"),
        lambda: store.read("a/one"),
        lambda: store.delete("a/one"),
        lambda: [*store.list("a")],
    ]


def assert_given_up(attempt: Any) -> None:
    begun = time.monotonic()
    with pytest.raises(PayloadError, match=r"not done within 0\.2 seconds") as caught:
        attempt()
    assert time.monotonic() - begun < PATIENCE / 2
    assert not isinstance(caught.value, PayloadNotFoundError)


@pytest.mark.parametrize("protocol", ["silent", "stuck"])
@pytest.mark.parametrize("verb", range(4))
def test_a_driver_that_waits_for_ever_is_given_up(protocol: str, verb: int) -> None:
    store = open_payload_store(f"{protocol}://x", timeout=0.2)
    assert_given_up(attempts_of(store)[verb])


def test_a_driver_with_a_loop_is_told_to_stop() -> None:
    for verb in range(3):
        assert_given_up(attempts_of(open_payload_store("silent://x", timeout=0.2))[verb])
    assert SilentFileSystem.cancelled == ["pipe_file", "cat_file", "rm_file"]


def test_a_driver_that_does_not_even_connect_is_given_up() -> None:
    StuckFileSystem.connects = False
    for _ in range(2):
        store = open_payload_store("stuck://x", timeout=0.2)
        assert_given_up(lambda store=store: store.read("a/one"))


def test_a_connection_that_others_wait_for_holds_none_of_them_up() -> None:
    StuckFileSystem.connects = False
    store = open_payload_store("stuck://x", timeout=0.2)
    begun = time.monotonic()
    contents = store.read_many([f"a/{number}" for number in range(100)])
    assert time.monotonic() - begun < PATIENCE / 2
    assert all(isinstance(each, PayloadError) for each in contents)
    store.close()


def test_a_batch_against_a_silent_server_takes_no_deadline_for_each_object() -> None:
    store = open_payload_store("silent://x", timeout=0.5, max_workers=4)
    begun = time.monotonic()
    outcomes = store.write_many([(f"a/{number}", b"1") for number in range(1000)])
    assert time.monotonic() - begun < PATIENCE
    assert all(isinstance(each, PayloadError) for each in outcomes)
    assert len(SilentFileSystem.cancelled) <= 2 * 4
    store.close()


def test_closing_does_not_wait_for_what_was_given_up() -> None:
    store = open_payload_store("stuck://x", timeout=0.2)
    assert_given_up(lambda: store.read("a/one"))
    begun = time.monotonic()
    store.close()
    assert time.monotonic() - begun < PATIENCE / 2


def test_attempts_and_pauses_end_at_the_deadline(unreliable: Unreliable) -> None:
    unreliable.faults[:] = [ConnectionResetError("reset")] * 100
    store = unreliable.open(timeout=60)
    begun = unreliable.clock.now
    unreliable.during_calls.append(lambda: unreliable.clock.pass_by(25))
    with pytest.raises(PayloadError, match="reset"):
        store.read("a/one")
    # A third attempt would begin at 50 seconds and a pause, a fourth after the deadline.
    assert len(unreliable.calls) == 3
    assert sum(unreliable.pauses) <= 60 - 25
    assert unreliable.clock.now - begun < 60 + 25


def test_no_time_left_means_no_call() -> None:
    clock = HandClock()
    deadline = Deadline(5, clock)
    clock.now += 5
    assert deadline.seconds_left == 0
    with pytest.raises(TimeoutError):
        deadline.bound(lambda: pytest.fail("was called"))


def test_a_call_in_its_own_thread_raises_what_it_raised() -> None:
    deadline = Deadline(PATIENCE, time.monotonic)
    with pytest.raises(ZeroDivisionError):
        deadline.bound(lambda: 1 // 0)
    assert deadline.bound(threading.current_thread).daemon


def test_a_write_that_somebody_cancelled_is_not_done() -> None:
    store = FsspecPayloadStore("present://x", sleep=HandClock().sleep)
    with pytest.raises(PayloadError, match="cancelled"):
        store.write("a/one", b"1")


def test_a_store_works_within_a_running_event_loop() -> None:
    store = open_payload_store("present://x")

    async def read() -> bytes:
        return store.read("a/one")

    assert asyncio.run(read()) == b"x/a/one"


def test_settings_reach_the_store(tmp_path) -> None:
    settings = {
        "catalog": {"type": "sqlite", "path": str(tmp_path / "c.db")},
        "storage": {"uri": "memory://settings", "timeout": 7},
    }
    with create_ltm_from_settings(settings) as memory:
        assert memory.payloads.timeout == 7
    del settings["storage"]["timeout"]
    with create_ltm_from_settings(settings) as memory:
        assert memory.payloads.timeout == DEFAULT_TIMEOUT
    settings["storage"]["timeout"] = "soon"
    with pytest.raises(ValidationError, match=r"storage\.timeout"):
        create_ltm_from_settings(settings)


@pytest.mark.parametrize("timeout", [0, -1, True, "4", None, float("nan"), float("inf")])
@pytest.mark.parametrize("uri", ["/nowhere", "memory://x"])
def test_a_timeout_is_a_number_of_seconds(uri: str, timeout) -> None:
    with pytest.raises(ValidationError, match="timeout"):
        open_payload_store(uri, timeout=timeout)
