"""A commit whose answer is cut short has happened whole or not at all, and can be sent again.

``LTM_CUT_STRIDE`` says how many bytes of an answer lie between two cuts: 1 in a long run, 40 if it
is not set.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest
from firestore_place import FirestorePlace
from outcomes import UNKNOWN, is_outage, judge_cut, succeed

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.firestore_client import FirestoreClient
from ltm.errors import CatalogUnavailableError
from tests.services.firestore import FirestoreEmulator
from tests.services.fixtures import MakeProxy
from tests.services.proxy import FaultProxy

STRIDE = int(os.environ.get("LTM_CUT_STRIDE", "40"))
LONGEST = 120
"""Bytes of an answer that are worth cutting."""

ALL_ANSWERS = 2900
"""Bytes of all answers that a store gets, and somewhat more."""

LARGE = 2000

Write = Callable[[DuckDBLTMBackend, str], Any]


class Aim:
    """Cuts all connections at the answer to one of the commits that follow."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.number = -1
        """How many commits come before it; below 0 for none to be cut."""
        self.after = 0
        """How many bytes of its answer are let through."""

    def let_through(self, commit: Callable[..., None]) -> Callable[..., None]:
        """Return *commit* with the connections cut while it waits for the answer."""

        def commit_cut(*arguments: Any, **options: Any) -> None:
            if self.number == 0:
                self.proxy.cut_after(self.after)
            self.number -= 1
            commit(*arguments, **options)

        return commit_cut

    def has_cut(self) -> bool:
        """Return whether the commit has come, and aim no more."""
        has_cut, self.number = self.number < 0, -1
        self.proxy.pass_through()
        return has_cut


@pytest.fixture
def aim(
    firestore_emulator: FirestoreEmulator, make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> Aim:
    aim = Aim(make_proxy(firestore_emulator.host, firestore_emulator.port))
    for name in ("commit", "commit_encoded"):
        commit = aim.let_through(getattr(FirestoreClient, name))
        monkeypatch.setattr(FirestoreClient, name, commit)
    # Nobody is there to carry a batch out but who comes next.
    monkeypatch.setattr("ltm.catalog.firestore_batches.PATIENCE_SECONDS", 0)
    return aim


def transact(memory: DuckDBLTMBackend, value: str) -> Any:
    try:
        with memory.transaction() as block:
            block.store("a", value)
            return block.store("b", value)
    except CatalogUnavailableError as error:
        return {"success": False, "error": str(error), "error_type": error.error_type}


WRITES: dict[str, Write] = {
    "store": lambda memory, value: memory.store("a", value),
    "batch": lambda memory, value: memory.store_batch([("a", value), ("b", value)]),
    "staged batch": lambda memory, value: memory.store_batch([("a", value), ("b", value)]),
    "transaction": transact,
}


@pytest.mark.parametrize("verb", WRITES)
def test_a_write_cut_in_any_commit_has_happened_whole_or_not_at_all(
    place: FirestorePlace, aim: Aim, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    if verb == "staged batch":
        monkeypatch.setattr("ltm.catalog.firestore_batches.WRITES_PER_COMMIT", 3)
    outcomes: list[str] = []
    with place.open() as observer:
        succeed(observer.store_batch([("a", "old"), ("b", "old")]))
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"{aim.proxy.host}:{aim.proxy.port}")
        with place.open() as memory:
            succeed(memory.retrieve("a"))

            def cut(number: int, after: int) -> bool:
                """Return whether a write was cut in that commit, after so many bytes."""
                before = succeed(observer.retrieve("a"))["value"]
                value = f"{verb} {number} {after}".rjust(LARGE)
                aim.number, aim.after = number, after
                answer = WRITES[verb](memory, value)
                if not aim.has_cut():
                    succeed(answer)
                    return False
                found = succeed(observer.retrieve("a"))["value"]
                outcomes.append(judge_cut(answer, before, value, found))
                if verb != "store":
                    assert succeed(observer.retrieve("b"))["value"] == found
                    assert len({each["value"] for each in observer.search()["results"]}) == 1
                again = succeed(WRITES[verb](memory, value))
                if verb == "store":
                    assert again["stored"] is (found == before), "a written value was not noticed"
                assert succeed(observer.retrieve("a"))["value"] == value
                return True

            afters = range(0, LONGEST, STRIDE)
            for number in itertools.count():
                if not [after for after in afters if cut(number, after)]:
                    break
        assert "unknown new" in outcomes, outcomes
        # Of batches that were cut before they counted, parts are left until they are old.
        monkeypatch.setattr("ltm.catalog.firestore_batches.ABANDONED_AFTER", -60)
        succeed(observer.cleanup_expired())
    place.expect_sound()


def test_a_store_cut_at_any_byte_of_its_answers_leaves_nothing_in_the_way_of_the_next(
    place: FirestorePlace, aim: Aim, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[str] = []
    with place.open() as observer:
        succeed(observer.store("a", "old"))
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"{aim.proxy.host}:{aim.proxy.port}")
        with place.open() as memory:
            succeed(memory.retrieve("a"))
            # What a transaction has read would stay locked for a minute if nobody could end it.
            for after in range(0, ALL_ANSWERS, 3 * STRIDE):
                before = succeed(observer.retrieve("a"))["value"]
                value = f"cut after {after}".rjust(LARGE)
                aim.proxy.cut_after(after)
                answer = memory.store("a", value)
                aim.proxy.pass_through()
                found = succeed(observer.retrieve("a"))["value"]
                outcomes.append(judge_cut(answer, before, value, found))
                succeed(observer.store("a", f"{value}!"))
                succeed(memory.store("a", value))
    assert "success" in outcomes, "what only reads is sent again"
    place.expect_sound()


def test_a_first_use_cut_in_any_commit_is_an_outage_or_none(
    place: FirestorePlace, aim: Aim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"{aim.proxy.host}:{aim.proxy.port}")
    for number, after in itertools.product(range(2), range(0, LONGEST, STRIDE)):
        table = f"{number}-{after}"
        with place.open(table=table) as memory:
            aim.number, aim.after = number, after
            answer = memory.store("k", 1)
            assert aim.has_cut()
            assert answer["success"] or (is_outage(answer) and UNKNOWN in answer["error"]), answer
            succeed(memory.store("k", 1))
            assert succeed(memory.stats())["entries"] == 1


def test_payloads_of_a_commit_whose_answer_is_lost_stay(
    place: FirestorePlace, aim: Aim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"{aim.proxy.host}:{aim.proxy.port}")
    with place.open() as memory:
        succeed(memory.store("k", "old".rjust(LARGE)))
        before = place.files()
        aim.number = 0
        answer = memory.store("k", "new".rjust(LARGE))
        assert aim.has_cut()
        assert is_outage(answer)
        assert UNKNOWN in answer["error"]
        assert len(place.files()) == 2
        assert place.scheduled() == before
        assert place.faults() == []
        answer = succeed(memory.store("k", "new".rjust(LARGE)))
        assert answer["stored"] is False
        assert memory.retrieve("k")["value"] == "new".rjust(LARGE)
    place.expect_sound()
