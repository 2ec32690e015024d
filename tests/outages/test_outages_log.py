"""An outage is told once, and so is its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cut import Cut, is_outage
from outcomes import in_threads

from ltm import LTMBackend
from ltm.backend.outage import Outage
from ltm.errors import CatalogUnavailableError, PayloadError

THREADS = 20


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the levels of what was logged, and begin anew."""
    caplog.set_level(logging.INFO, logger="ltm")

    def take() -> list[str]:
        levels = [record.levelname for record in caplog.records]
        caplog.clear()
        return levels

    return take


@pytest.mark.parametrize("stale_reads", [False, True])
def test_an_outage_that_twenty_threads_meet_is_one_warning_and_another_is_another(
    tmp_path: Path, told: Callable[[], list[str]], stale_reads: bool
) -> None:
    with Cut(tmp_path, stale_reads=stale_reads) as cut:
        cut.remember("k", 1)
        verbs: list[Callable[[], Any]] = [
            lambda: cut.memory.retrieve("k"),
            lambda: cut.memory.retrieve_batch(["k", "other"]),
            lambda: cut.memory.store("k", 1),
            lambda: cut.memory.store_batch([("k", 1)], atomic=False),
            lambda: cut.memory.search("k"),
        ]

        def use(thread: int) -> None:
            for number in range(5):
                verbs[(thread + number) % len(verbs)]()

        for _ in range(2):
            cut.fail()
            in_threads(use, THREADS)
            assert told() == ["WARNING"]
            cut.heal()
            in_threads(use, THREADS)
            assert told() == ["INFO"]


def raise_in_block(memory: LTMBackend) -> None:
    with memory.transaction() as block:
        block.retrieve("k")


CALLS: dict[str, Callable[[LTMBackend], object]] = {
    "retrieve": lambda memory: memory.retrieve("k"),
    "retrieve_batch": lambda memory: memory.retrieve_batch(["k"]),
    "store": lambda memory: memory.store("k", 1),
    "update": lambda memory: memory.update("k", lambda value: value),
    "delete": lambda memory: memory.delete("k"),
    "store_batch": lambda memory: memory.store_batch([("k", 1)]),
    "store each": lambda memory: memory.store_batch([("", 1), ("k", 1)], atomic=False),
    "search": lambda memory: memory.search("tea"),
    "transaction": raise_in_block,
    "iterate_all": lambda memory: list(memory.iterate_all()),
    "iterate_all as of": lambda memory: list(memory.iterate_all(snapshot="s")),
    "changes": lambda memory: list(memory.changes("s")),
    "diff": lambda memory: list(memory.diff("s", "s")),
    "query": lambda memory: memory.query("SELECT key FROM entries"),
    "query as of": lambda memory: memory.query("SELECT 1", snapshot="s"),
    "query of snapshots": lambda memory: memory.query("SELECT name FROM snapshots"),
    "snapshots": lambda memory: memory.list_snapshots(),
    "cleanup": lambda memory: memory.cleanup_expired(),
    "stats": lambda memory: memory.stats(),
    "health_check": lambda memory: memory.health_check(),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("stale_reads", [False, True])
@pytest.mark.parametrize("raise_errors", [False, True])
def test_every_call_tells_of_an_outage_and_of_its_end(
    tmp_path: Path,
    told: Callable[[], list[str]],
    name: str,
    stale_reads: bool,
    raise_errors: bool,
) -> None:
    with Cut(tmp_path, stale_reads=stale_reads, raise_errors=raise_errors) as cut:
        cut.remember("k", "tea")
        cut.memory.create_snapshot("s")
        cut.fail()
        for _ in range(3):
            with suppress(ConnectionError, ValueError):
                CALLS[name](cut.memory)
        assert told() == ["WARNING"]
        cut.heal()
        with suppress(ValueError):
            CALLS[name](cut.memory)
        if name == "store each":  # a batch that isn't stored whole is no success
            cut.memory.stats()
        assert told() == ["INFO"]


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_commit_that_fails_tells_of_an_outage(
    cut: Cut, told: Callable[[], list[str]], after_effect: bool
) -> None:
    cut.catalog.fail("commit", after_effect=after_effect)
    with pytest.raises(CatalogUnavailableError), cut.memory.transaction() as block:
        block.store("k", 1)
    assert told() == ["WARNING"]


def test_an_outage_of_another_memory_within_a_block_is_not_this_one_s(
    cut: Cut, told: Callable[[], list[str]]
) -> None:
    with pytest.raises(CatalogUnavailableError), cut.memory.transaction():
        raise CatalogUnavailableError("of another catalog")
    assert told() == []


def test_calls_that_need_no_catalog_do_not_tell_of_the_end_of_an_outage(
    cut: Cut, told: Callable[[], list[str]]
) -> None:
    memory = cut.memory
    cut.remember("k", 1)
    cut.fail()
    assert is_outage(memory.stats())
    for answer in (
        memory.retrieve("k"),
        memory.retrieve_batch(["k"]),
        memory.retrieve_batch([]),
        memory.store_batch([]),
        memory.search("the"),
        memory.search('"'),
    ):
        assert answer["success"]
    assert memory.store("", 1)["error_type"] == "validation_error"
    assert memory.query("SELECT 1 AS one") == [{"one": 1}]
    assert told() == ["WARNING"]


def test_a_failure_of_another_kind_is_no_outage(cut: Cut, told: Callable[[], list[str]]) -> None:
    memory = cut.memory
    assert not memory.store("", 1)["success"]
    assert not memory.retrieve("k", snapshot="none")["success"]
    assert not memory.store("k", 1, if_match="sha256:0")["success"]
    assert told() == []


def test_the_warning_names_the_catalog_and_what_becomes_of_reads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for stale_reads, meanwhile in ((True, "answered from memory, as stale"), (False, "calls fail")):
        caplog.clear()
        (tmp_path / str(stale_reads)).mkdir()
        with Cut(tmp_path / str(stale_reads), stale_reads=stale_reads) as cut:
            cut.fail()
            cut.memory.stats()
            (message,) = caplog.messages
            assert repr(cut.memory.catalog) in message
            assert meanwhile in message
            assert "statistics failed on command" in message


def test_a_call_that_ends_late_says_nothing_of_the_time_after_it(
    told: Callable[[], list[str]],
) -> None:
    outage = Outage("of tests", recalls=False)
    error = CatalogUnavailableError("gone")
    before = outage.epoch
    outage.began(error, before)
    outage.began(error, before)
    during = outage.epoch
    outage.ended(before)  # it was answered before the outage
    assert told() == ["WARNING"]
    outage.ended(during)
    outage.ended(during)
    outage.began(error, during)  # it waited for a server that is back by now
    outage.began(error, before)
    assert told() == ["INFO"]
    outage.began(PayloadError("not the catalog's"), outage.epoch)
    assert told() == []
    outage.began(error, outage.epoch)
    assert told() == ["WARNING"]


def test_of_threads_that_fail_at_once_one_tells(told: Callable[[], list[str]]) -> None:
    outage = Outage("of tests", recalls=False)
    ready = threading.Barrier(THREADS)

    def use(_: int) -> None:
        for _ in range(50):
            epoch = outage.epoch
            ready.wait()
            outage.began(CatalogUnavailableError("gone"), epoch)
            ready.wait()
            epoch = outage.epoch
            ready.wait()
            outage.ended(epoch)
            ready.wait()

    in_threads(use, THREADS)
    assert told() == ["WARNING", "INFO"] * 50
