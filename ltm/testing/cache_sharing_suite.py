"""What a cache over every backend must do for callers that ask at once."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from ltm import cache_get, cache_invalidate, cache_wrap, cached
from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.testing.backend_fixtures import BackendFixtures, BackendMaker
from ltm.testing.clock import FakeClock
from ltm.testing.threads import PATIENCE, in_threads, wait_until


class Slow:
    """An action that goes on until it is let, and counts how often it was begun."""

    def __init__(self) -> None:
        self.runs = 0
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self) -> str:
        self.runs += 1
        run = self.runs
        self.has_begun.set()
        assert self.may_end.wait(PATIENCE)
        return f"run {run}"


class Caller(threading.Thread):
    """Calls through a cache in a thread of its own."""

    def __init__(self, memory: Any, action: Any, **options: Any) -> None:
        super().__init__(daemon=True)
        self._call = (memory, action), options
        self.answer: Any = None
        self.start()

    def run(self) -> None:
        arguments, options = self._call
        self.answer = cache_wrap(*arguments, **options)

    def result(self) -> Any:
        """Wait for the answer and return it."""
        self.join(PATIENCE)
        assert self.answer is not None, "a caller gets no answer"
        return self.answer


class CacheSharingSuite(BackendFixtures):
    """One computation among callers, taking over, and no deadlock."""

    @pytest.fixture
    def slow(self) -> Slow:
        return Slow()

    def test_of_twenty_threads_that_ask_at_once_one_runs_the_action(
        self, memory: DuckDBLTMBackend
    ) -> None:
        runs: list[int] = []
        answers: list[Any] = []

        def act() -> dict[str, int]:
            runs.append(1)
            time.sleep(0.2)
            return {"run": len(runs)}

        in_threads(lambda _: answers.append(cache_wrap(memory, act, key="k")), 20)
        assert len(runs) == 1
        assert [each["result"] for each in answers] == [{"run": 1}] * 20
        assert sum(each["_cache_hit"] for each in answers) == 19
        assert memory.catalog.leases.under("") == []

    def test_callers_on_two_backends_share_one_computation(
        self, memory: DuckDBLTMBackend, make: BackendMaker, slow: Slow
    ) -> None:
        first = Caller(memory, slow, key="k")
        assert slow.has_begun.wait(PATIENCE)
        second = Caller(make(), slow, key="k")
        other = Caller(make(), lambda: "other", key="other")
        assert other.result()["result"] == "other"
        slow.may_end.set()
        assert first.result()["_cache_hit"] is False
        assert second.result()["_cache_hit"] is True
        assert second.result()["result"] == "run 1"

    def test_when_the_first_fails_the_next_one_tries(
        self, memory: DuckDBLTMBackend, slow: Slow
    ) -> None:
        def fail() -> None:
            slow()
            raise LookupError("first")

        def first() -> None:
            with pytest.raises(LookupError):
                cache_wrap(memory, fail, key="k")

        failing = threading.Thread(target=first, daemon=True)
        failing.start()
        assert slow.has_begun.wait(PATIENCE)
        second = Caller(memory, lambda: "second", key="k")
        slow.may_end.set()
        assert second.result()["result"] == "second"
        failing.join(PATIENCE)

    def test_a_lease_is_renewed_as_long_as_its_owner_computes(
        self, memory: DuckDBLTMBackend, clock: FakeClock, slow: Slow
    ) -> None:
        owner = Caller(memory, slow, key="k", lease_seconds=0.3)
        assert slow.has_begun.wait(PATIENCE)
        (taken,) = memory.catalog.leases.under("k")
        clock.advance(0.2)
        wait_until(
            lambda: memory.catalog.leases.under("k")[0].expires_at > taken.expires_at,
            "the lease is not renewed",
        )
        clock.advance(0.2)  # past the expiry that it had at first
        waiting = cache_wrap(memory, lambda: "mine", key="k", timeout=0)
        assert (waiting["result"], waiting["_cached"]) == ("mine", False)
        slow.may_end.set()
        assert owner.result()["_cached"] is True

    def test_whoever_waits_longer_than_its_timeout_runs_the_action_itself(
        self, memory: DuckDBLTMBackend, slow: Slow
    ) -> None:
        owner = Caller(memory, slow, key="k")
        assert slow.has_begun.wait(PATIENCE)
        answer = cache_wrap(memory, lambda: "mine", key="k", timeout=0.1)
        assert (answer["result"], answer["_cache_hit"], answer["_cached"]) == ("mine", False, False)
        assert answer["_cache_error_type"] == "timeout"
        slow.may_end.set()
        assert owner.result()["_cached"] is True
        assert cache_get(memory, "k")["result"] == "run 1"

    def test_a_slow_owner_does_not_overwrite_the_result_of_its_successor(
        self, memory: DuckDBLTMBackend, clock: FakeClock, slow: Slow
    ) -> None:
        owner = Caller(memory, slow, key="k", lease_seconds=3600)
        assert slow.has_begun.wait(PATIENCE)
        clock.advance(3600)
        successor = cache_wrap(memory, lambda: "successor", key="k")
        assert (successor["result"], successor["_cached"]) == ("successor", True)
        slow.may_end.set()
        late = owner.result()
        assert (late["result"], late["_cached"]) == ("run 1", False)
        assert late["_cache_error_type"] == "conflict"
        assert cache_get(memory, "k")["result"] == "successor"

    def test_a_result_computed_before_it_was_invalidated_is_not_remembered(
        self, memory: DuckDBLTMBackend
    ) -> None:
        selections: list[dict[str, Any]] = [{"key": "k"}, {"prefix": "k"}, {"pattern": "?"}]
        for selection in selections:
            slow = Slow()
            owner = Caller(memory, slow, key="k")
            assert slow.has_begun.wait(PATIENCE)
            assert cache_invalidate(memory, **selection)["success"]
            slow.may_end.set()
            assert owner.result()["_cached"] is False
            assert cache_get(memory, "k")["_cache_hit"] is False

    def test_the_others_get_an_expired_result_while_one_computes(
        self, memory: DuckDBLTMBackend, clock: FakeClock, slow: Slow
    ) -> None:
        cache_wrap(memory, lambda: "old", key="k", ttl=10)
        clock.advance(11)
        owner = Caller(memory, slow, key="k", on_expired="stale")
        assert slow.has_begun.wait(PATIENCE)
        stale = cache_wrap(memory, slow, key="k", on_expired="stale")
        assert (stale["result"], stale["_cache_stale"]) == ("old", True)
        blocked = Caller(memory, slow, key="k", on_expired="block")
        slow.may_end.set()
        assert owner.result()["result"] == blocked.result()["result"] == "run 1"
        assert slow.runs == 1

    def test_one_of_many_refreshes_in_the_background(
        self, memory: DuckDBLTMBackend, clock: FakeClock, slow: Slow
    ) -> None:
        cache_wrap(memory, lambda: "old", key="k", ttl=10)
        clock.advance(11)
        answers: list[Any] = []

        def ask(_: int) -> None:
            answers.append(cache_wrap(memory, slow, key="k", on_expired="refresh"))

        in_threads(ask, 8)
        assert [each["result"] for each in answers] == ["old"] * 8
        slow.may_end.set()
        wait_until(lambda: cache_get(memory, "k")["_cache_hit"], "nothing is refreshed")
        assert slow.runs == 1

    # Deadlocks that are none

    def test_an_action_that_asks_for_its_own_key_does_not_wait_for_itself(
        self, memory: DuckDBLTMBackend
    ) -> None:
        depths: list[int] = []

        def act() -> int:
            depths.append(1)
            if len(depths) == 3:
                return 0
            inner = cache_wrap(memory, act, key="k")
            assert inner["_cached"] is False
            return int(inner["result"]) + 1

        answer = cache_wrap(memory, act, key="k")
        assert (answer["result"], answer["_cached"], len(depths)) == (2, True, 3)

    def test_recursive_actions_remember_each_step(self, memory: DuckDBLTMBackend) -> None:
        runs: list[int] = []

        @cached(memory)
        def factorial(number: int) -> int:
            runs.append(number)
            return number * factorial(number - 1) if number else 1

        assert factorial(5) == 120
        assert factorial(6) == 720
        assert runs == [5, 4, 3, 2, 1, 0, 6]

    def test_two_actions_that_ask_for_one_another_both_end(self, memory: DuckDBLTMBackend) -> None:
        both_hold = threading.Barrier(2)

        def act(other: str) -> str:
            both_hold.wait(PATIENCE)
            return f"with {cache_wrap(memory, lambda: 'alone', key=other)['result']}"

        first = Caller(memory, lambda: act("b"), key="a")
        second = Caller(memory, lambda: act("a"), key="b")
        results = {first.result()["result"], second.result()["result"]}
        assert results <= {"with alone", "with with alone"}
        assert "with alone" in results

    # In an event loop

    def test_of_many_tasks_that_ask_at_once_one_runs_the_action(
        self, memory: DuckDBLTMBackend
    ) -> None:
        runs: list[int] = []

        async def act(city: str) -> str:
            runs.append(1)
            await asyncio.sleep(0.1)
            return city

        async def ask() -> list[Any]:
            calls = [cache_wrap(memory, act, {"city": "Bern"}) for _ in range(12)]
            return [*await asyncio.gather(*calls)]

        answers = asyncio.run(ask())
        assert len(runs) == 1
        assert {each["result"] for each in answers} == {"Bern"}
        assert sum(each["_cache_hit"] for each in answers) == 11

    def test_a_task_that_is_cancelled_leaves_no_lease_behind(
        self, memory: DuckDBLTMBackend
    ) -> None:
        async def cancel() -> None:
            begun = asyncio.Event()

            async def act() -> None:
                begun.set()
                await asyncio.sleep(PATIENCE)

            task = asyncio.ensure_future(cache_wrap(memory, act, key="k"))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancel())
        assert memory.catalog.leases.under("") == []

    def test_an_expired_result_is_refreshed_by_a_task(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        results = ["old", "new"]

        async def act() -> str:
            return results.pop(0)

        async def ask() -> Any:
            return await cache_wrap(memory, act, key="k", ttl=10, on_expired="refresh")

        async def run() -> list[Any]:
            answers = [await ask()]
            clock.advance(11)
            answers.append(await ask())
            while "_cache_stale" in (latest := await ask()):
                await asyncio.sleep(0.01)
            return [*answers, latest]

        answers = asyncio.run(asyncio.wait_for(run(), PATIENCE))
        assert [each["result"] for each in answers] == ["old", "old", "new"]
