"""Decorated functions, and what a memory may be found in."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import ltm
from ltm import CacheOptions, ClosedError, ValidationError, cache_get, cache_wrap, cached
from ltm.backend.base import LTMBackend
from ltm.cache.policy import CachePolicy
from ltm.errors import ConflictError
from ltm.testing.clock import FakeClock
from ltm.testing.threads import wait_until


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[LTMBackend]:
    with ltm.create_ltm_backend(
        catalog_config={"type": "sqlite", "path": str(tmp_path / "catalog.db")},
        storage_uri=str(tmp_path / "data"),
    ) as memory:
        yield memory


def test_a_decorated_function_stays_what_it_is_and_tells_more(memory: LTMBackend) -> None:
    runs: list[int] = []

    @cached(memory, ttl=60)
    def double(number: int, *, by: int = 2) -> int:
        """Multiply."""
        runs.append(number)
        return number * by

    assert (double.__name__, double.__doc__) == ("double", "Multiply.")
    assert list(inspect.signature(double).parameters) == ["number", "by"]
    assert [double(4), double(4, by=2), double(number=4)] == [8, 8, 8]
    assert runs == [4]
    assert double.__wrapped__(4) == 8
    answer = double.answer(4)
    assert (answer["_cache_hit"], answer["_cache_key"]) == (True, double.cache_key(4))
    assert cache_get(memory, double.cache_key(4))["result"] == 8
    assert double.invalidate(4) == {"success": True, "deleted": 1}
    assert double.answer(4)["_cache_hit"] is False
    with pytest.raises(TypeError):
        double()


def test_a_decorated_coroutine_function_is_one(memory: LTMBackend) -> None:
    runs: list[int] = []

    @cached(memory)
    async def double(number: int) -> int:
        runs.append(number)
        return 2 * number

    async def ask() -> list[Any]:
        return [await double(2), await double(2), (await double.answer(2))["_cache_hit"]]

    assert inspect.iscoroutinefunction(double)
    assert asyncio.run(ask()) == [4, 4, True]
    assert runs == [2]


def test_what_a_decorated_function_raises_is_raised(memory: LTMBackend) -> None:
    @cached(memory)
    def fail(number: int) -> None:
        raise ConflictError("k", None, f"number {number}")

    @cached(memory)
    async def fail_async(number: int) -> None:
        raise KeyError(number)

    with pytest.raises(ConflictError, match="number 7"):
        fail(7)
    with pytest.raises(KeyError):
        asyncio.run(fail_async(7))


def test_methods_find_the_memory_of_their_object_which_is_not_in_the_key(
    memory: LTMBackend,
) -> None:
    class Agent:
        def __init__(self) -> None:
            self._ltm_backend = memory
            self.runs = 0

        @cached(ttl_hours=1)
        def look_up(self, word: str) -> str:
            self.runs += 1
            return word.upper()

        @cached()
        async def look_up_later(self, word: str) -> str:
            self.runs += 1
            return word.title()

    one, other = Agent(), Agent()
    assert [one.look_up("a"), one.look_up("a"), other.look_up("a")] == ["A"] * 3
    assert asyncio.run(one.look_up_later("b")) == asyncio.run(other.look_up_later("b")) == "B"
    assert (one.runs, other.runs) == (2, 0)
    assert Agent.look_up.cache_key(one, "a") == Agent.look_up.cache_key(other, "a")
    assert Agent.look_up.invalidate(other, "a")["deleted"] == 1
    assert (one.look_up("a"), one.runs) == ("A", 3)
    assert cache_wrap(one, lambda: 1, key="k")["_cached"] is True
    assert cache_get(other, "k")["result"] == 1


def test_a_memory_may_be_made_at_the_first_call(memory: LTMBackend) -> None:
    asked: list[int] = []

    def find() -> LTMBackend:
        asked.append(1)
        return memory

    @cached(find)
    def double(number: int) -> int:
        return 2 * number

    assert asked == []
    assert (double(2), double.answer(2)["_cache_hit"]) == (4, True)


@pytest.mark.parametrize("backend", [None, object(), {}, "memory"])
def test_what_holds_no_memory_is_a_clear_error(backend: Any) -> None:
    with pytest.raises(ValidationError, match=f"_ltm_backend, got {type(backend).__name__}"):
        cache_wrap(backend, lambda: 1, key="k")


def test_a_closed_memory_is_an_error_and_no_outage(memory: LTMBackend) -> None:
    memory.close()
    with pytest.raises(ClosedError):
        cache_wrap(memory, lambda: 1, key="k")


def test_a_generator_function_is_refused(memory: LTMBackend) -> None:
    with pytest.raises(ValidationError, match="count yields"):

        @cached(memory)
        def count() -> Iterator[int]:
            yield 1


def test_results_that_are_no_json_are_logged_once(
    memory: LTMBackend, caplog: pytest.LogCaptureFixture
) -> None:
    @cached(memory)
    def look() -> object:
        return {1, 2}

    with caplog.at_level(logging.WARNING, "ltm"):
        assert [look(), look(), look()] == [{1, 2}] * 3
    (record,) = [each for each in caplog.records if "remembered" in each.message]
    assert "look" in record.message
    assert "set is not JSON" in record.message


def test_a_refresh_that_fails_in_the_background_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    memory = ltm.create_ltm_backend(
        catalog_config={"type": "sqlite", "path": ":memory:"},
        storage_uri=str(tmp_path),
        clock=clock,
    )
    with memory:
        cache_wrap(memory, lambda: "old", key="k", ttl=1)
        clock.advance(2)
        with caplog.at_level(logging.WARNING, "ltm"):
            stale = cache_wrap(memory, lambda: 1 / 0, key="k", on_expired="refresh")
            assert stale["result"] == "old"
            wait_until(lambda: bool(caplog.records), "nothing is logged")
        assert "in the background failed" in caplog.records[0].message
        wait_until(lambda: not memory.catalog.leases.under(""), "the lease stays")


def test_the_options_that_are_typed_are_those_that_are_taken() -> None:
    taken = {each.name for each in fields(CachePolicy) if each.init}
    assert set(get_type_hints(CacheOptions)) == taken


def test_an_answer_is_a_plain_dictionary(memory: LTMBackend) -> None:
    answer = cache_wrap(memory, lambda: {"a": [1]}, key="k")
    assert type(answer) is dict
    assert set(answer) == {
        "success",
        "result",
        "_cache_hit",
        "_cache_key",
        "_cache_created_at",
        "_cached",
    }
