"""Whatever may have been changed, deleted or expired is never answered from memory."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from cut import LARGE, Cut, is_outage, is_stale
from outcomes import PATIENCE, wait_until

from ltm import LTMBackend
from ltm.catalog.commit import Removal
from ltm.payload.local import LocalPayloadStore

NEW = {"new": True}


class UndoneError(Exception):
    """Raised in a block so that it rolls back."""


def in_transaction(memory: LTMBackend, *, fails: bool = False) -> None:
    with suppress(UndoneError), memory.transaction() as block:
        block.delete("k")
        if fails:
            raise UndoneError


def joined_in(memory: LTMBackend) -> None:
    with memory.transaction():
        memory.store("k", NEW)


def invalidate(memory: Any) -> None:
    memory.parts.writer.commit([Removal(id=memory.catalog.entry_id("k"), key="k")])


CHANGES: dict[str, Callable[[Any], object]] = {
    "store": lambda memory: memory.store("k", NEW),
    "store what is there": lambda memory: memory.store("k", LARGE),
    "store with terms": lambda memory: memory.store("k", LARGE, {"new": 1}, ttl=60),
    "delete": lambda memory: memory.delete("k"),
    "update": lambda memory: memory.update("k", lambda _: NEW),
    "store_batch": lambda memory: memory.store_batch([("other", 1), ("k", NEW)]),
    "store each": lambda memory: memory.store_batch([("k", NEW), ("other", 1)], atomic=False),
    "restore": lambda memory: memory.restore("empty"),
    "transaction": in_transaction,
    "transaction that others join": joined_in,
    "invalidation": invalidate,
}
LOSABLE = [name for name in CHANGES if "there" not in name]


@pytest.fixture
def kept(cut: Cut) -> Cut:
    """A memory that keeps the entry *k*."""
    cut.memory.create_snapshot("empty")
    cut.remember("k", LARGE)
    return cut


def attempt(change: Callable[[Any], object], memory: LTMBackend) -> None:
    with suppress(ConnectionError):
        change(memory)


@pytest.mark.parametrize("name", [name for name in CHANGES if "there" not in name])
def test_after_a_change_the_value_of_before_is_not_answered(kept: Cut, name: str) -> None:
    CHANGES[name](kept.memory)
    assert is_outage(kept.stale("k"))


@pytest.mark.parametrize("name", LOSABLE)
def test_after_a_change_that_failed_the_value_of_before_is_not_answered(
    kept: Cut, name: str
) -> None:
    kept.catalog.fail("write")
    attempt(CHANGES[name], kept.memory)
    kept.heal()
    assert is_outage(kept.stale("k"))
    assert kept.memory.retrieve("k")["value"] == LARGE
    assert is_stale(kept.stale("k"), LARGE)


@pytest.mark.parametrize("name", LOSABLE)
def test_after_a_change_that_was_tried_in_an_outage_the_value_of_before_is_not_answered(
    kept: Cut, name: str
) -> None:
    kept.fail()
    attempt(CHANGES[name], kept.memory)
    answer = kept.memory.retrieve("k")
    if name in ("restore", "transaction", "transaction that others join"):
        assert is_stale(answer, LARGE)  # it never came to the key
    else:
        assert is_outage(answer)


def test_no_key_of_a_batch_is_answered_after_a_part_of_it_met_an_outage(cut: Cut) -> None:
    cut.memory.store_batch([(key, key) for key in "abc"])
    cut.memory.retrieve_batch(list("abc"))
    cut.fail()
    answer = cut.memory.store_batch([("a", 1), ("b", 2)], atomic=False, batch_size=1)
    assert (answer["stored"], answer["failed"]) == (0, 2)
    for key in "ab":
        assert is_outage(cut.memory.retrieve(key))
    assert is_stale(cut.memory.retrieve("c"), "c")


def test_after_a_change_that_met_a_conflict_the_value_of_before_is_not_answered(kept: Cut) -> None:
    kept.elsewhere.store("k", NEW)
    hash_of_before = kept.stale("k")["content_hash"]
    answer = kept.memory.store("k", 1, if_match=hash_of_before)
    assert answer["error_type"] == "conflict"
    assert is_outage(kept.stale("k"))


@pytest.mark.parametrize("name", LOSABLE)
def test_after_a_change_whose_outcome_is_unknown_the_value_of_before_is_not_answered(
    kept: Cut, name: str
) -> None:
    kept.catalog.fail("write", times=1, after_effect=True)
    attempt(CHANGES[name], kept.memory)
    kept.heal()
    assert is_outage(kept.stale("k"))


@pytest.mark.parametrize("name", ["restore", "transaction", "transaction that others join"])
def test_after_a_commit_whose_answer_is_lost_the_value_of_before_is_not_answered(
    kept: Cut, name: str
) -> None:
    kept.catalog.fail("commit", after_effect=True)
    attempt(CHANGES[name], kept.memory)
    kept.heal()
    assert is_outage(kept.stale("k"))
    assert kept.memory.retrieve("k")["value"] != LARGE


def test_after_a_rollback_the_entry_is_read_anew(kept: Cut) -> None:
    in_transaction(kept.memory, fails=True)
    assert is_outage(kept.stale("k"))
    assert kept.memory.retrieve("k")["value"] == LARGE
    assert is_stale(kept.stale("k"), LARGE)


def test_a_read_by_another_thread_amid_a_block_is_void_once_it_has_committed(kept: Cut) -> None:
    with kept.memory.transaction() as block:
        block.delete("k")
        answers: list[Any] = []
        reader = threading.Thread(target=lambda: answers.append(kept.memory.retrieve("k")))
        reader.start()
        reader.join(PATIENCE)
        assert answers[0]["value"] == LARGE  # not committed yet
    assert is_outage(kept.stale("k"))


@pytest.mark.parametrize("in_a_batch", [False, True])
def test_an_expired_entry_is_not_answered_from_its_very_instant_on(
    cut: Cut, in_a_batch: bool
) -> None:
    cut.memory.store("k", 1, ttl=10)
    cut.memory.retrieve_batch(["k"]) if in_a_batch else cut.memory.retrieve("k")
    cut.fail()
    cut.clock.advance(9.999999)
    assert is_stale(cut.memory.retrieve("k"), 1)
    cut.clock.advance(0.000001)
    assert is_outage(cut.memory.retrieve("k"))
    assert is_outage(cut.memory.retrieve_batch(["k"]))
    cut.clock.advance(-5)
    assert is_outage(cut.memory.retrieve("k"))


def test_what_is_cleaned_up_is_not_answered_however_it_was_read(cut: Cut) -> None:
    cut.remember("k", 1)
    cut.elsewhere.store("k", 1, ttl=10)
    cut.clock.advance(10)
    assert cut.memory.cleanup_expired()["deleted"] == 1
    assert is_outage(cut.stale("k"))


@pytest.mark.parametrize("in_a_batch", [False, True])
def test_a_key_that_is_read_as_absent_or_changed_is_not_answered_as_it_was(
    cut: Cut, in_a_batch: bool
) -> None:
    cut.remember("k", 1)

    def read() -> Any:
        if in_a_batch:
            return cut.memory.retrieve_batch(["k"])["results"].get("k")
        return cut.memory.retrieve("k")["value"]

    cut.elsewhere.store("k", 2)
    assert read() == 2
    assert is_stale(cut.stale("k"), 2)
    cut.elsewhere.delete("k")
    assert read() is None
    assert is_outage(cut.stale("k"))


@pytest.mark.parametrize("in_a_batch", [False, True])
def test_a_key_whose_new_value_cannot_be_read_is_not_answered_as_it_was(
    tmp_path: Path, in_a_batch: bool
) -> None:
    with Cut(tmp_path) as cut:
        cut.remember("k", 1)
        cut.elsewhere.store("k", LARGE)
        for file in (tmp_path / "payloads").rglob("*.json"):
            file.unlink()
        answer: Any = cut.memory.retrieve_batch(["k"]) if in_a_batch else cut.memory.retrieve("k")
        assert answer["error_type"] == "payload_missing"
        assert is_outage(cut.stale("k"))


def test_one_key_of_many_is_dropped_and_the_others_stay(cut: Cut) -> None:
    cut.memory.store_batch([(key, key) for key in "abc"])
    cut.memory.retrieve_batch(list("abc"))
    cut.memory.delete("b")
    cut.fail()
    answer = cut.memory.retrieve_batch(list("abc"))
    assert answer["results"] == {"a": "a", "c": "c"}
    assert [each["key"] for each in answer["errors"]] == ["b"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_process_answers_nothing_that_its_parent_may_delete_meanwhile(cut: Cut) -> None:
    cut.remember("k", 1)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.read(read_end, 1)
            before = is_outage(cut.stale("k"))
            cut.remember("k", 2)
            os._exit(0 if before and is_stale(cut.stale("k"), 2) else 1)
        finally:
            os._exit(2)
    assert cut.memory.delete("k")["deleted"]
    os.write(write_end, b".")
    _, status = os.waitpid(child, 0)
    os.close(read_end)
    os.close(write_end)
    assert os.waitstatus_to_exitcode(status) == 0


class GatedStore(LocalPayloadStore):
    """Holds a read back, after it has read, until the gate is opened."""

    is_gated = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.has_read = threading.Event()
        self.gate = threading.Event()

    def read(self, path: str) -> bytes:
        content = super().read(path)
        if self.is_gated:
            self.is_gated = False
            self.has_read.set()
            assert self.gate.wait(PATIENCE)
        return content


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Cut]:
    with Cut(tmp_path, store=GatedStore(tmp_path / "payloads")) as cut:
        cut.memory.create_snapshot("empty")
        yield cut


def read_across(cut: Cut, change: Callable[[], object], *, in_a_batch: bool) -> Any:
    """Carry out *change* after a reader has read *k* and before it is answered; return that."""
    store: Any = cut.store
    store.is_gated = True
    answers: list[Any] = []

    def read() -> None:
        found: Any = (
            cut.memory.retrieve_batch(["k"])["entries"]["k"]
            if in_a_batch
            else cut.memory.retrieve("k")
        )
        answers.append(found["value"])

    reader = threading.Thread(target=read)
    reader.start()
    assert store.has_read.wait(PATIENCE)
    change()
    store.gate.set()
    reader.join(PATIENCE)
    return answers[0]


@pytest.mark.parametrize("in_a_batch", [False, True])
@pytest.mark.parametrize("name", [name for name in CHANGES if "there" not in name])
def test_a_reader_that_read_before_a_change_does_not_keep_what_it_read(
    gated: Cut, name: str, in_a_batch: bool
) -> None:
    gated.memory.store("k", LARGE)
    change = CHANGES[name]
    answer = read_across(gated, lambda: change(gated.memory), in_a_batch=in_a_batch)
    assert answer == LARGE
    assert is_outage(gated.stale("k"))


def test_a_reader_that_reads_while_a_change_is_on_its_way_does_not_keep_what_it_reads(
    kept: Cut,
) -> None:
    assert isinstance(kept.sqlite.path, str)
    with closing(sqlite3.connect(kept.sqlite.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        kept.catalog.calls.clear()
        deleter = threading.Thread(target=lambda: kept.memory.delete("k"))
        deleter.start()
        wait_until(lambda: "write" in kept.catalog.calls, "the deletion is not tried")
        assert kept.memory.retrieve("k")["value"] == LARGE
        other.execute("ROLLBACK")
        deleter.join(PATIENCE)
    assert is_outage(kept.stale("k"))


@pytest.mark.parametrize("in_a_batch", [False, True])
def test_a_reader_that_read_before_another_found_the_key_gone_does_not_keep_it(
    gated: Cut, in_a_batch: bool
) -> None:
    gated.memory.store("k", LARGE)

    def delete_elsewhere() -> None:
        gated.elsewhere.delete("k")
        assert not gated.memory.retrieve("k")["found"]

    assert read_across(gated, delete_elsewhere, in_a_batch=in_a_batch) == LARGE
    assert is_outage(gated.stale("k"))


def test_of_two_reads_at_a_time_that_differ_neither_is_kept(gated: Cut) -> None:
    gated.memory.store("k", LARGE)

    def replace_elsewhere() -> None:
        gated.elsewhere.store("k", 2)
        assert gated.memory.retrieve("k")["value"] == 2

    assert read_across(gated, replace_elsewhere, in_a_batch=False) == LARGE
    assert is_outage(gated.stale("k"))


def test_two_reads_at_a_time_that_agree_are_kept(gated: Cut) -> None:
    gated.memory.store("k", LARGE)
    read_across(gated, lambda: gated.memory.retrieve("k"), in_a_batch=False)
    assert is_stale(gated.stale("k"), LARGE)
