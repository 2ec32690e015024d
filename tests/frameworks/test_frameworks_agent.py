"""A backend stands where an agent framework expects a long-term memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from framework_agent import Agent, LongTermMemory, live

from ltm import LTMBackend, create_ltm_backend

OPTIONS: dict[str, Any] = {
    "catalog_config": {"type": "sqlite", "path": "agent.db"},
    "storage_uri": "./payloads/",
    "storage_options": None,
    "payload_format": "json",
    "inline_threshold": 256,
    "enable_fts": True,
    "table": "lessons",
    "lazy": True,
}
"""Every keyword that the factory is promised to take, but a catalog."""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def by_attribute() -> Agent:
    agent = Agent()
    agent._ltm_backend = create_ltm_backend("duckdb", **OPTIONS)
    return agent


WAYS: dict[str, Callable[[], Agent]] = {
    "attribute": by_attribute,
    "argument": lambda: Agent(create_ltm_backend("duckdb", **OPTIONS)),
    "factory": lambda: Agent(
        factory=create_ltm_backend, memory_type="duckdb", memory_options=OPTIONS
    ),
    "defaults": lambda: Agent(factory=create_ltm_backend, memory_type="ducklake"),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_agent_that_knows_nothing_of_ltm_lives_with_it(way: str) -> None:
    agent = WAYS[way]()
    live(agent)
    agent.retire()
    agent.retire()
    with pytest.raises(RuntimeError, match="closed"):
        agent.recall("invoices")


@pytest.mark.parametrize("way", WAYS)
def test_another_agent_remembers_what_the_first_has_learned(way: str) -> None:
    first = WAYS[way]()
    first.learn("one", {"n": 1})
    first.retire()
    second = WAYS[way]()
    assert second.recall("one") == {"n": 1}
    second.retire()


def test_ducklake_needs_no_option_and_keeps_all_in_two_places(directory: Path) -> None:
    agent = WAYS["defaults"]()
    agent.learn("long", "x" * 2000)
    assert (directory / "ltm_catalog.db").is_file()
    assert [path for path in (directory / "ltm_data").rglob("*.json") if path.is_file()]
    agent.retire()


def test_a_check_for_the_calls_of_a_memory_is_passed() -> None:
    with create_ltm_backend() as memory:
        assert isinstance(memory, LongTermMemory)
        assert isinstance(memory, LTMBackend)


def test_threads_share_one_agent() -> None:
    agent = WAYS["factory"]()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: agent.learn(f"n{number}", number), range(64)))
        assert list(pool.map(lambda number: agent.recall(f"n{number}"), range(64))) == [*range(64)]
    agent.retire()


def test_an_agent_in_asyncio_calls_from_threads_of_the_loop() -> None:
    async def learn_and_recall() -> list[Any]:
        agent = WAYS["factory"]()
        await asyncio.gather(
            *(asyncio.to_thread(agent.learn, f"n{number}", number) for number in range(32))
        )
        found = await asyncio.gather(
            *(asyncio.to_thread(agent.recall, f"n{number}") for number in range(32))
        )
        await asyncio.to_thread(agent.retire)
        return list(found)

    assert asyncio.run(learn_and_recall()) == [*range(32)]


def test_a_block_of_writes_in_asyncio_runs_in_one_thread() -> None:
    def learn_both(memory: LTMBackend) -> None:
        with memory.transaction() as block:
            block.store(key="a", value=1)
            block.store(key="b", value=2)

    async def learn_and_read() -> Any:
        with create_ltm_backend("duckdb", **OPTIONS) as memory:
            await asyncio.to_thread(learn_both, memory)
            return (await asyncio.to_thread(memory.retrieve_batch, keys=["a", "b"]))["results"]

    assert asyncio.run(learn_and_read()) == {"a": 1, "b": 2}


def test_closing_from_several_threads_at_once_is_harmless() -> None:
    for _ in range(20):
        memory = create_ltm_backend("duckdb", **OPTIONS)
        assert memory.store(key="k", value=1)["success"]
        together = threading.Barrier(8)

        def close(memory: LTMBackend = memory, together: threading.Barrier = together) -> None:
            together.wait()
            memory.close()

        with ThreadPoolExecutor(8) as pool:
            for each in [pool.submit(close) for _ in range(8)]:
                each.result()


def test_calls_that_meet_a_close_are_answered_and_none_is_lost_that_succeeded() -> None:
    memory = create_ltm_backend("duckdb", **OPTIONS)
    started = threading.Barrier(5)

    def learn_until_closed(worker: int) -> tuple[list[str], str]:
        kept: list[str] = []
        started.wait()
        while True:
            key = f"{worker}:{len(kept)}"
            answer = memory.store(key=key, value=worker)
            if not answer["success"]:
                return kept, answer["error_type"]
            kept.append(key)

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(learn_until_closed, worker) for worker in range(4)]
        started.wait()
        memory.store(key="between", value=None)
        memory.close()
        ended = [each.result() for each in working]
    assert {error_type for _, error_type in ended} == {"closed"}
    with create_ltm_backend("duckdb", **OPTIONS) as again:
        keys = [key for kept, _ in ended for key in kept]
        assert again.retrieve_batch(keys=keys)["missing"] == []
