"""What a cache over every backend must do for one caller at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ltm import cache_get, cache_invalidate, cache_wrap
from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.cache.policy import DEFAULT_TTL_DAYS
from ltm.testing.backend_fixtures import LARGE, BackendFixtures, BackendMaker, payloads_of
from ltm.testing.clock import FakeClock
from ltm.testing.threads import wait_until

DAY = 86_400


class Weather:
    """An action that counts how often it is run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, city: str, unit: str = "C") -> dict[str, Any]:
        self.runs += 1
        return {"city": city, "unit": unit, "run": self.runs}


class CacheSuite(BackendFixtures):
    """Hits, misses, expiry, what is not remembered, and what is forgotten."""

    @pytest.fixture
    def weather(self) -> Weather:
        return Weather()

    def test_a_result_is_computed_once_and_then_remembered(
        self, memory: DuckDBLTMBackend, clock: FakeClock, weather: Weather
    ) -> None:
        first = cache_wrap(memory, weather, {"city": "Bern"})
        created_at = clock.now
        clock.advance(5)
        again = cache_wrap(memory, weather, {"city": "Bern", "unit": "C"})
        assert weather.runs == 1
        assert first["result"] == again["result"] == {"city": "Bern", "unit": "C", "run": 1}
        assert (first["_cache_hit"], again["_cache_hit"]) == (False, True)
        assert first["_cached"] is again["_cached"] is first["success"] is again["success"] is True
        assert first["_cache_created_at"] == again["_cache_created_at"] == created_at
        assert first["_cache_key"] == again["_cache_key"]
        assert "_cache_error" not in first
        assert cache_wrap(memory, weather, {"city": "Basel"})["_cache_hit"] is False

    @pytest.mark.parametrize("result", [None, 0, "", [], {}, False, LARGE, {"success": True}])
    def test_every_result_is_remembered_type_for_type(
        self, memory: DuckDBLTMBackend, result: Any
    ) -> None:
        runs: list[int] = []

        def act() -> Any:
            runs.append(1)
            return result

        answers = [cache_wrap(memory, act, key="k") for _ in range(3)]
        assert len(runs) == 1
        assert all(
            each["result"] == result and type(each["result"]) is type(result) for each in answers
        )

    def test_a_result_that_expired_is_computed_again_and_hits_again_any_number_of_times(
        self, memory: DuckDBLTMBackend, clock: FakeClock, weather: Weather
    ) -> None:
        for run in range(1, 6):
            hits = []
            for _ in range(3):
                answer = cache_wrap(memory, weather, {"city": "Bern"}, ttl_seconds=10)
                assert answer["result"]["run"] == run
                hits.append(answer["_cache_hit"])
            assert hits == [False, True, True]
            clock.advance(10)

    @pytest.mark.parametrize(
        ("options", "seconds"),
        [
            ({}, DEFAULT_TTL_DAYS * DAY),
            ({"ttl_days": 2}, 2 * DAY),
            ({"ttl_hours": 1.5}, 5400),
            ({"ttl_seconds": 0.5}, 0.5),
            ({"ttl_days": 1, "ttl_hours": 1, "ttl_seconds": 1}, DAY + 3601),
            ({"ttl": 30}, 30),
            ({"ttl": timedelta(minutes=2)}, 120),
        ],
    )
    def test_a_result_lives_as_long_as_it_was_told_to(
        self,
        memory: DuckDBLTMBackend,
        clock: FakeClock,
        weather: Weather,
        options: dict[str, Any],
        seconds: float,
    ) -> None:
        def is_hit() -> bool:
            answer = cache_wrap(memory, weather, {"city": "Bern"}, **options)
            return answer["_cache_hit"]

        assert is_hit() is False
        clock.advance(seconds - 0.001)
        assert is_hit() is True
        clock.advance(0.001)
        assert is_hit() is False

    def test_what_an_action_raises_is_raised_and_not_remembered(
        self, memory: DuckDBLTMBackend
    ) -> None:
        runs: list[int] = []

        def fail_first() -> str:
            runs.append(1)
            if len(runs) == 1:
                raise LookupError("no such city")
            return "done"

        with pytest.raises(LookupError, match="no such city"):
            cache_wrap(memory, fail_first, key="k")
        assert memory.catalog.leases.under("") == []
        assert cache_wrap(memory, fail_first, key="k")["result"] == "done"
        assert cache_wrap(memory, fail_first, key="k")["_cache_hit"] is True
        assert len(runs) == 2

    def test_a_result_that_says_it_failed_is_answered_and_not_remembered(
        self, memory: DuckDBLTMBackend
    ) -> None:
        results = [{"success": False, "error": "quota"}, {"success": True, "items": []}]
        answers = [cache_wrap(memory, lambda: results.pop(0), key="k") for _ in range(2)]
        assert [each["success"] for each in answers] == [False, True]
        assert [each["_cached"] for each in answers] == [False, True]
        assert answers[0]["result"] == {"success": False, "error": "quota"}
        assert memory.catalog.leases.under("") == []
        assert cache_wrap(memory, lambda: 1 / 0, key="k")["result"] == {
            "success": True,
            "items": [],
        }

    def test_should_cache_decides_what_is_remembered(self, memory: DuckDBLTMBackend) -> None:
        numbers = [1, 2, 3]
        answers = [
            cache_wrap(memory, lambda: numbers.pop(0), key="k", should_cache=lambda n: n % 2 == 0)
            for _ in range(3)
        ]
        assert [each["result"] for each in answers] == [1, 2, 2]
        assert [each["_cached"] for each in answers] == [False, True, True]

    @pytest.mark.parametrize("options", [{"skip_cache": True}, {"cache_enabled": False}])
    def test_a_skipped_cache_is_neither_read_nor_written(
        self, memory: DuckDBLTMBackend, weather: Weather, options: Any
    ) -> None:
        kept = cache_wrap(memory, weather, {"city": "Bern"})
        skipped = cache_wrap(memory, weather, {"city": "Bern"}, **options)
        assert skipped["result"]["run"] == 2
        assert (skipped["_cache_hit"], skipped["_cached"]) == (False, False)
        assert cache_wrap(memory, weather, {"city": "Bern"})["result"] == kept["result"]
        assert cache_wrap(memory, weather, {"city": object()}, **options)["success"] is True

    def test_a_result_that_is_no_json_is_answered_and_said_not_to_be_remembered(
        self, memory: DuckDBLTMBackend
    ) -> None:
        answer = cache_wrap(memory, lambda: {1, 2}, key="k")
        assert answer["result"] == {1, 2}
        assert (answer["success"], answer["_cached"]) == (True, False)
        assert answer["_cache_error_type"] == "serialization_error"
        assert "set is not JSON" in answer["_cache_error"]
        assert memory.catalog.leases.under("") == []

    def test_results_are_entries_that_are_found_by_agent_and_action(
        self, memory: DuckDBLTMBackend, weather: Weather
    ) -> None:
        answer = cache_wrap(
            memory, weather, {"city": "Bern"}, agent_name="scout", metadata={"kind": "weather"}
        )
        key = answer["_cache_key"]
        assert key is not None
        assert key.startswith("scout:")
        assert memory.retrieve(key)["value"] == answer["result"]
        wanted = {"_cache_agent": "scout", "kind": "weather"}
        (found,) = memory.search(metadata_filter=wanted)["results"]
        assert found["key"] == key
        assert cache_wrap(memory, weather, {"city": "Bern"})["_cache_hit"] is False

    def test_a_large_result_that_is_lost_is_computed_again(self, memory: DuckDBLTMBackend) -> None:
        cache_wrap(memory, lambda: LARGE, key="k")
        (path,) = payloads_of(memory)
        memory.payloads.delete(path)
        answer = cache_wrap(memory, lambda: LARGE, key="k")
        assert (answer["_cache_hit"], answer["_cached"]) == (False, True)
        assert cache_wrap(memory, lambda: 1 / 0, key="k")["result"] == LARGE

    # Expired results

    def test_an_expired_result_is_answered_while_it_is_refreshed_in_the_background(
        self, memory: DuckDBLTMBackend, clock: FakeClock, weather: Weather
    ) -> None:
        def ask() -> Any:
            return cache_wrap(memory, weather, {"city": "Bern"}, ttl=10, on_expired="refresh")

        created = ask()["_cache_created_at"]
        clock.advance(11)
        stale = ask()
        assert stale["result"]["run"] == 1
        assert (stale["_cache_hit"], stale["_cache_stale"], stale["_cached"]) == (True, True, False)
        assert stale["_cache_created_at"] == created
        wait_until(lambda: "_cache_stale" not in ask(), "the result is not refreshed")
        fresh = ask()
        assert (fresh["_cache_hit"], fresh["result"]["run"]) == (True, 2)

    def test_an_expired_result_that_was_cleaned_up_is_waited_for(
        self, memory: DuckDBLTMBackend, clock: FakeClock, weather: Weather
    ) -> None:
        cache_wrap(memory, weather, {"city": "Bern"}, ttl=10)
        clock.advance(11)
        memory.cleanup_expired()
        answer = cache_wrap(memory, weather, {"city": "Bern"}, ttl=10, on_expired="refresh")
        assert answer["result"]["run"] == 2

    def test_with_stale_whoever_gets_the_lease_computes(
        self, memory: DuckDBLTMBackend, clock: FakeClock, weather: Weather
    ) -> None:
        def ask() -> Any:
            return cache_wrap(memory, weather, {"city": "Bern"}, ttl=10, on_expired="stale")

        ask()
        clock.advance(11)
        answer = ask()
        assert (answer["result"]["run"], answer["_cache_hit"]) == (2, False)

    @pytest.mark.parametrize("on_expired", ["stale", "refresh"])
    def test_neither_a_deleted_nor_an_invalidated_result_is_answered_as_stale(
        self, memory: DuckDBLTMBackend, clock: FakeClock, on_expired: Any
    ) -> None:
        forget: list[Callable[[], Any]] = [
            lambda: memory.delete("k"),
            lambda: cache_invalidate(memory, key="k"),
            lambda: cache_invalidate(memory, prefix="k"),
        ]
        for number, forget_it in enumerate(forget):
            cache_wrap(memory, lambda: "old", key="k", ttl=10)
            clock.advance(11)
            forget_it()
            new = f"new {number}"
            answer = cache_wrap(memory, lambda new=new: new, key="k", on_expired=on_expired)
            assert answer["result"] == new
            memory.delete("k")

    def test_expired_entries_and_leases_are_cleaned_up_after_a_miss_as_often_as_asked(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        for number in range(8):
            cache_wrap(memory, lambda: 1, key=f"old {number}", ttl=1, cleanup_probability=0)
        clock.advance(2)
        cache_wrap(memory, lambda: 1, key="a", cleanup_probability=0)
        assert memory.stats()["expired"] == 8
        cache_wrap(memory, lambda: 1, key="b", cleanup_probability=1)
        assert memory.stats()["expired"] == 3
        cache_wrap(memory, lambda: 1, key="b", cleanup_probability=1)
        assert memory.stats()["expired"] == 3
        cache_wrap(memory, lambda: 1, key="c", cleanup_probability=1, cleanup_limit=2)
        assert memory.stats()["expired"] == 1

    # Reading and forgetting

    def test_a_result_is_read_without_running_anything(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        cache_wrap(memory, lambda: None, key="k", agent_name="scout", ttl=10)
        found = cache_get(memory, "k", "default", agent_name="scout")
        assert (found["success"], found["_cache_hit"], found["result"]) == (True, True, None)
        assert (found["_cache_key"], found["_cache_created_at"]) == ("scout:k", clock.now)
        assert cache_get(memory, "k", "default")["result"] == "default"
        clock.advance(10)
        gone = cache_get(memory, "k", "default", agent_name="scout")
        assert (gone["success"], gone["_cache_hit"], gone["result"]) == (True, False, "default")

    def test_results_are_forgotten_by_key_prefix_pattern_and_metadata(
        self, memory: DuckDBLTMBackend
    ) -> None:
        def fill() -> None:
            for name in ("user:1", "user:2", "User:3", "users", "a*b", "axb"):
                cache_wrap(memory, lambda: 1, key=name, metadata={"first": name[0]})

        def left_after(**selection: Any) -> set[str]:
            fill()
            before = memory.stats()["entries"]
            answer = cache_invalidate(memory, **selection)
            assert answer["success"], answer
            left = {key for key, _, _ in memory.iterate_all()}
            assert answer["deleted"] == before - len(left)
            return {"user:1", "user:2", "User:3", "users", "a*b", "axb"} - left

        assert left_after(key="user:1") == {"user:1"}
        assert left_after(key="absent") == set()
        assert left_after(prefix="user:") == {"user:1", "user:2"}
        assert left_after(pattern="user?[12]") == {"user:1", "user:2"}
        assert left_after(pattern="*b") == {"a*b", "axb"}
        assert left_after(pattern="a[*]b") == {"a*b"}
        assert left_after(metadata_filter={"first": "u"}) == {"user:1", "user:2", "users"}
        assert left_after(metadata_filter={"first": "u"}, pattern="*s") == {"users"}
        assert left_after(prefix="user", pattern="*:*") == {"user:1", "user:2"}

    def test_an_agent_forgets_its_own_results_alone(self, memory: DuckDBLTMBackend) -> None:
        for agent in ("scout", "scout2", "[s]cout", None):
            for key in ("a", "b"):
                cache_wrap(memory, lambda: 1, key=key, agent_name=agent)
        assert cache_invalidate(memory, key="a", agent_name="scout")["deleted"] == 1
        assert cache_invalidate(memory, pattern="*", agent_name="[s]cout")["deleted"] == 2
        assert cache_invalidate(memory, agent_name="scout")["deleted"] == 1
        left = sorted(key for key, _, _ in memory.iterate_all())
        assert left == ["a", "b", "scout2:a", "scout2:b"]

    def test_forgetting_has_no_row_cap(self, memory: DuckDBLTMBackend) -> None:
        memory.store_batch([(f"k{number:04}", number, {"n": number % 2}) for number in range(1203)])
        assert cache_invalidate(memory, metadata_filter={"n": 1})["deleted"] == 601
        assert cache_invalidate(memory, pattern="k*[02468]")["deleted"] == 602
        assert memory.stats()["entries"] == 0

    def test_nothing_is_forgotten_by_a_selection_that_says_nothing_or_too_much(
        self, memory: DuckDBLTMBackend, make: BackendMaker
    ) -> None:
        cache_wrap(memory, lambda: 1, key="k")
        selections: list[dict[str, Any]] = [
            {},
            {"prefix": ""},
            {"metadata_filter": {}},
            {"key": "k", "prefix": "k"},
            {"key": ""},
            {"metadata_filter": {"a": {"$near": 1}}},
        ]
        for selection in selections:
            answer = cache_invalidate(memory, **selection)
            assert (answer["success"], answer["error_type"]) == (False, "validation_error")
        assert cache_get(memory, "k")["_cache_hit"] is True

    def test_in_a_transaction_results_are_remembered_when_it_commits(
        self, memory: DuckDBLTMBackend
    ) -> None:
        with memory.transaction():
            assert cache_wrap(memory, lambda: "kept", key="a")["_cached"] is True
            assert cache_wrap(memory, lambda: 1 / 0, key="a")["_cache_hit"] is True

        def fail() -> None:
            with memory.transaction():
                cache_wrap(memory, lambda: "lost", key="b")
                cache_wrap(memory, lambda: 1 / 0, key="c")

        with pytest.raises(ZeroDivisionError):
            fail()
        assert cache_get(memory, "a")["result"] == "kept"
        assert cache_get(memory, "b")["_cache_hit"] is False
