"""What is told of calls that go through a cache."""

from __future__ import annotations

import asyncio

import pytest

from ltm import cache_get, cache_wrap
from ltm.backend.duckdb import DuckDBLTMBackend
from tests.telemetry.collecting import Collector, is_child


def test_a_cached_call_tells_hit_or_miss_and_holds_what_it_sends(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    cache_wrap(memory, lambda: 1, key="secret key", cleanup_probability=0)
    miss = collector.only("ltm.cache_wrap")
    assert dict(miss.attributes or {}) == {
        "ltm.table": "notes",
        "ltm.hit": False,
        "ltm.cached": True,
    }
    statements = collector.named("ltm.catalog.statement")
    assert statements
    assert all(is_child(each, miss) for each in statements)
    collector.forget()
    cache_wrap(memory, lambda: 1, key="secret key", cleanup_probability=0)
    assert collector.attributes("ltm.cache_wrap")["ltm.hit"] is True
    assert "secret key" not in collector.text()


def test_in_an_event_loop_what_is_sent_in_threads_is_of_the_call(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    async def act() -> int:
        return 1

    asyncio.run(cache_wrap(memory, act, key="k", cleanup_probability=0))
    call = collector.only("ltm.cache_wrap")
    statements = collector.named("ltm.catalog.statement")
    assert statements
    assert all(is_child(each, call) for each in statements)


def test_a_clean_up_is_part_of_the_call_that_makes_it(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    cache_wrap(memory, lambda: 1, key="k", cleanup_probability=1)
    call, cleanup = collector.only("ltm.cache_wrap"), collector.only("ltm.cleanup_expired")
    assert is_child(cleanup, call)
    statements = collector.named("ltm.catalog.statement")
    assert any(is_child(each, cleanup) for each in statements)
    assert all(is_child(each, call) or is_child(each, cleanup) for each in statements)


def test_hits_and_misses_are_counted(memory: DuckDBLTMBackend, collector: Collector) -> None:
    for _ in range(3):
        cache_wrap(memory, lambda: 1, key="k")
    cache_get(memory, "k")
    cache_get(memory, "absent")
    points = collector.metrics()["ltm.cache.lookups"]
    counts = {tuple(sorted(each.attributes.items())): each.value for each in points}
    assert counts == {
        (("ltm.cache.action", "get"), ("ltm.hit", False)): 1,
        (("ltm.cache.action", "get"), ("ltm.hit", True)): 1,
        (("ltm.cache.action", "wrap"), ("ltm.hit", False)): 1,
        (("ltm.cache.action", "wrap"), ("ltm.hit", True)): 2,
    }


def test_what_an_action_raises_makes_its_call_a_failure(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    with pytest.raises(ZeroDivisionError):
        cache_wrap(memory, lambda: 1 / 0, key="k")
    assert collector.attributes("ltm.cache_wrap")["error.type"] == "ZeroDivisionError"
