"""The store that fails on command fails as commanded and no more."""

from __future__ import annotations

import pytest

from ltm.errors import PayloadError
from ltm.payload.base import PayloadStore
from ltm.payload.local import LocalPayloadStore
from ltm.testing.payload_faults import FailingPayloadStore


@pytest.fixture
def sound(tmp_path) -> PayloadStore:
    store = LocalPayloadStore(tmp_path)
    store.write("a/old", b"old")
    return store


@pytest.fixture
def store(sound: PayloadStore) -> FailingPayloadStore:
    return FailingPayloadStore(sound)


def paths(store: PayloadStore) -> list[str]:
    return sorted(found.path for found in store.list("a"))


def test_a_failure_before_the_effect_has_none(sound, store) -> None:
    for operation in ("write", "read", "delete", "list"):
        store.fail(operation)
    for attempt in (
        lambda: store.write("a/new", b"new"),
        lambda: store.read("a/old"),
        lambda: store.delete("a/old"),
        lambda: store.list("a"),
    ):
        with pytest.raises(PayloadError, match="failed on command"):
            attempt()
    assert paths(sound) == ["a/old"]


def test_a_failure_after_the_effect_leaves_it(sound, store) -> None:
    for operation in ("write", "read", "delete", "list"):
        store.fail(operation, after_effect=True)
    for attempt in (
        lambda: store.write("a/new", b"new"),
        lambda: store.read("a/old"),
        lambda: store.delete("a/old"),
    ):
        with pytest.raises(PayloadError, match="failed on command"):
            attempt()
    assert paths(sound) == ["a/new"]
    listing = store.list("a")
    assert next(listing).path == "a/new"
    with pytest.raises(PayloadError, match="failed on command"):
        next(listing)


def test_failures_end_after_as_many_as_were_asked_for(store) -> None:
    store.fail("read", times=2)
    outcomes = []
    for _ in range(4):
        try:
            outcomes.append(store.read("a/old"))
        except PayloadError:
            outcomes.append(None)
    assert outcomes == [None, None, b"old", b"old"]


def test_healing_ends_every_failure(store) -> None:
    store.fail("read")
    store.fail("write")
    store.heal()
    store.write("a/new", b"new")
    assert store.read("a/new") == b"new"


def test_each_item_of_a_batch_fails_by_itself(store) -> None:
    store.fail("write", times=2)
    outcomes = store.write_many([(f"a/{number}", b"") for number in range(5)])
    assert sum(outcome is not None for outcome in outcomes) == 2
    store.close()


def test_calls_are_noted_failed_or_not(store) -> None:
    store.fail("read", times=1)
    with pytest.raises(PayloadError):
        store.read("a/old")
    store.delete("a/none")
    assert paths(store) == ["a/old"]
    assert store.calls == [("read", "a/old"), ("delete", "a/none"), ("list", "a")]


def test_closing_leaves_the_store_inside_open(sound, store) -> None:
    store.close()
    assert sound.read("a/old") == b"old"
