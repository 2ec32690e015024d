"""Random histories: what is answered from memory was read, has not changed and has not expired."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from cut import Cut
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from outcomes import in_threads

KEYS = ("a", "b", "c")
key = st.sampled_from(KEYS)
ttl = st.sampled_from([None, 5, 20])


class StaleMachine(RuleBasedStateMachine):
    """One thread, any faults: a key is answered in an outage if, and only if, it may be."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.cut = Cut(self.directory)
        self.cut.memory.create_snapshot("empty")
        self.number = 0
        self.read: dict[str, tuple[Any, Any]] = {}
        """What may be answered: the value and the expiry as they were read last."""

    def teardown(self) -> None:
        self.cut.__exit__()
        shutil.rmtree(self.directory)

    def next_value(self) -> Any:
        self.number += 1
        return [self.number, "x" * (2000 * (self.number % 2))]

    def note(self, found: str, value: Any) -> None:
        row = self.cut.sqlite.get_entry(found)
        assert row is not None
        self.read[found] = value, row["expires_at"]

    @rule(name=key, elsewhere=st.booleans(), seconds=ttl)
    def store(self, name: str, elsewhere: bool, seconds: float | None) -> None:
        memory = self.cut.elsewhere if elsewhere else self.cut.memory
        memory.store(name, self.next_value(), ttl=seconds)
        if not elsewhere:
            self.read.pop(name, None)

    @rule(name=key, seconds=ttl)
    def remember(self, name: str, seconds: float | None) -> None:
        self.store(name, elsewhere=False, seconds=seconds)
        self.retrieve(name)

    # Twice as likely as anything else: most of the others forget.
    remember_again = remember

    @rule(name=key, elsewhere=st.booleans())
    def delete(self, name: str, elsewhere: bool) -> None:
        (self.cut.elsewhere if elsewhere else self.cut.memory).delete(name)
        if not elsewhere:
            self.read.pop(name, None)

    @rule(
        name=key, verb=st.sampled_from(["store", "delete", "batch", "update"]), late=st.booleans()
    )
    def fail_to_change(self, name: str, verb: str, late: bool) -> None:
        self.cut.catalog.fail("write", times=1, after_effect=late)
        if verb == "store":
            self.cut.memory.store(name, self.next_value())
        elif verb == "delete":
            self.cut.memory.delete(name)
        elif verb == "batch":
            self.cut.memory.store_batch([(name, self.next_value())])
        else:
            self.cut.memory.update(name, lambda _: self.next_value())
        self.cut.heal()
        self.read.pop(name, None)

    @rule(name=key, end=st.sampled_from(["commit", "rollback", "lost", "failed"]))
    def change_in_a_block(self, name: str, end: str) -> None:
        if end in ("lost", "failed"):
            self.cut.catalog.fail("commit", times=1, after_effect=end == "lost")
        try:
            with self.cut.memory.transaction() as block:
                block.store(name, self.next_value())
                block.retrieve(name)
                self.cut.memory.delete(KEYS[0])
                if end == "rollback":
                    raise KeyError
        except (KeyError, ConnectionError):
            pass
        self.read.pop(name, None)
        self.read.pop(KEYS[0], None)

    @rule()
    def restore(self) -> None:
        live = {entry[0] for entry in self.cut.elsewhere.iterate_all()}
        self.cut.memory.restore("empty")
        for name in live:
            self.read.pop(name, None)

    @rule()
    def clean_up(self) -> None:
        expired = set(KEYS) - {entry[0] for entry in self.cut.elsewhere.iterate_all()}
        stored = {name for (name,) in self.rows("SELECT key FROM ltm_entries")}
        self.cut.memory.cleanup_expired()
        for name in expired & stored:
            self.read.pop(name, None)

    def rows(self, statement: str) -> Any:
        with self.cut.sqlite.engine.connect() as connection:
            return connection.exec_driver_sql(statement).fetchall()

    @rule(seconds=st.sampled_from([1, 5, 20]))
    def wait(self, seconds: float) -> None:
        self.cut.clock.advance(seconds)

    @rule(name=key)
    def retrieve(self, name: str) -> None:
        answer = self.cut.memory.retrieve(name)
        assert answer["success"]
        assert "stale" not in answer
        self.read.pop(name, None)
        if answer["found"]:
            self.note(name, answer["value"])

    @rule()
    def retrieve_batch(self) -> None:
        answer = self.cut.memory.retrieve_batch(KEYS)
        assert answer["success"]
        assert "stale" not in answer
        self.read.clear()
        for name, value in answer["results"].items():
            self.note(name, value)

    @invariant()
    def an_outage_is_answered_with_what_may_be(self) -> None:
        now = self.cut.clock()
        may_be = {
            name: value
            for name, (value, expires_at) in self.read.items()
            if expires_at is None or expires_at > now
        }
        self.cut.fail()
        answer = self.cut.memory.retrieve_batch(KEYS)
        single = {name: self.cut.memory.retrieve(name) for name in KEYS}
        self.cut.heal()
        assert answer.get("results", {}) == may_be
        assert {name: each["value"] for name, each in single.items() if each["success"]} == may_be
        assert all(each["stale"] for each in single.values() if each["success"])


@pytest.mark.timeout(600)
class TestStaleMachine(StaleMachine.TestCase):
    settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class Owner:
    """One thread that alone changes a key, and knows which of its values are surely dead."""

    def __init__(self, cut: Cut, name: str, seed: int) -> None:
        self.cut = cut
        self.name = name
        self.random = random.Random(seed)
        self.dead = 0
        """The greatest number of a value that is replaced or deleted for good."""

    def run(self, count: int) -> None:
        for number in range(1, count + 1):
            value = {"n": number, "text": "x" * self.random.choice([0, 2000])}
            if self.random.random() < 0.6:
                if self.cut.memory.store(self.name, value)["success"]:
                    self.dead = number - 1
            elif self.random.random() < 0.5:
                if self.cut.memory.delete(self.name)["success"]:
                    self.dead = number
            else:
                with self.cut.memory.transaction() as block:
                    block.delete(self.name)
                self.dead = number


def test_among_threads_no_value_is_answered_after_it_was_surely_deleted(tmp_path: Path) -> None:
    with Cut(tmp_path) as cut:
        owners = [Owner(cut, name, seed) for seed, name in enumerate(KEYS)]
        stop = threading.Event()
        busy = [*owners]
        wrong: list[Any] = []
        served = [0] * 4

        def read(thread: int) -> None:
            choice = random.Random(thread)
            while not stop.is_set():
                owner = choice.choice(owners)
                dead = owner.dead
                if choice.random() < 0.5:
                    answer: Any = cut.memory.retrieve(owner.name)
                    value = answer["value"] if answer["success"] else None
                else:
                    answer = cut.memory.retrieve_batch(KEYS)
                    value = answer.get("results", {}).get(owner.name)
                if answer.get("stale") and value is not None:
                    served[thread] += 1
                    if value["n"] <= dead:
                        wrong.append((owner.name, value["n"], dead))

        def toggle() -> None:
            while not stop.is_set():
                cut.catalog.fail("read_many")
                cut.catalog.fail("read")
                cut.memory.retrieve_batch(KEYS)
                cut.heal()
                cut.memory.retrieve_batch(KEYS)

        def work(thread: int) -> None:
            if thread < 4:
                read(thread)
            elif thread == 4:
                toggle()
            else:
                try:
                    owners[thread - 5].run(250)
                finally:
                    busy.pop()
                    if not busy:
                        stop.set()

        in_threads(work, 5 + len(owners), 100)
        assert wrong == []
        assert sum(served) > 0
