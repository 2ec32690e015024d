"""Random histories of a whole backend on PostgreSQL, against a plain model and against SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.postgres import PostgresCatalog
from ltm.errors import LTMError
from ltm.testing.clock import FakeClock
from ltm.testing.state_machine import MemoryMachine, machine_settings
from ltm.testing.strategies import json_text, json_values, metadata
from tests.postgres.test_postgres_differential import Pair, normal


# A failure takes minutes to be made short.
@pytest.mark.timeout(900)
def test_every_answer_is_the_models(postgres_url: str) -> None:
    with PostgresCatalog(postgres_url) as catalog:

        class Machine(MemoryMachine):
            def make_backend(
                self, directory: Path, clock: FakeClock, **options: Any
            ) -> DuckDBLTMBackend:
                # Each memory has a table of its own in the one database.
                table = directory.name
                uri = f"{directory}/data"
                return DuckDBLTMBackend(catalog, uri, table=table, clock=clock, **options)

        few = settings(machine_settings, max_examples=15, stateful_step_count=25)
        run_state_machine_as_test(Machine, settings=few)


keys = st.sampled_from(["a", "A", "é", "e\u0301", "😀", "c/1", "c/2", "C/1", ""])
values = json_values | json_text | st.sampled_from(["red bicycle", "a red bell", {1}, "x" * 2000])
ttls = st.sampled_from([None, None, 1, 0.5, 10**9, -1, 10**20])
items = st.lists(st.tuples(keys, values, metadata), max_size=4)
snapshots = st.sampled_from(["s", "t"])
questions = st.sampled_from(["red", '"red bell"', "-bell red", "", "😀"])


def call(verb: str, *arguments: Any, **options: Any) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(verb), st.tuples(*arguments), st.fixed_dictionaries(options))


calls = st.one_of(
    call("store", keys, values, metadata, ttl=ttls),
    call("store_batch", items, atomic=st.booleans()),
    call("retrieve_batch", st.lists(keys)),
    call("delete", keys),
    call("cleanup_expired", st.integers(0, 2)),
    call("create_snapshot", snapshots),
    call("restore", snapshots),
    call("expire_snapshot", snapshots),
    call("changes", snapshots),
    call("diff", snapshots, snapshots),
    call("iterate_all", st.just("c"), snapshot=snapshots),
    call("retrieve", keys, snapshot=snapshots),
    call("search", questions),
    call("gc"),
)
ENDINGS = [
    ("iterate_all", (), {}),
    ("search", (), {"limit": 99}),
    ("changes", (None,), {}),
    ("verify", (), {}),
    ("stats", (), {}),
]


def answer(memory: DuckDBLTMBackend, verb: str, arguments: Any, options: Any) -> str:
    """Return what *memory* answers, but for what is its own."""
    try:
        answered = getattr(memory, verb)(*arguments, **options)
    except LTMError as error:
        return repr(error)
    if not isinstance(answered, dict):
        return normal(list(answered))
    own = {"storage_uri", "snapshot_id"}
    return normal({name: each for name, each in answered.items() if name not in own})


def test_a_history_is_that_of_a_memory_on_sqlite(postgres_url: str, tmp_path: Path) -> None:
    pair = Pair(postgres_url, tmp_path)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(history=st.lists(st.tuples(calls, st.sampled_from([0, 0.5, 1])), max_size=20))
    def compare(history: list[Any]) -> None:
        pair.begin()
        one, other = (
            DuckDBLTMBackend(catalog, f"{tmp_path}/{number}", inline_threshold=64)
            for number, catalog in enumerate(pair.both)
        )
        for asked, seconds in [*history, *((ending, 0) for ending in ENDINGS)]:
            assert answer(one, *asked) == answer(other, *asked), asked
            pair.clock.advance(seconds)

    with pair.sqlite, pair.postgres:
        compare()
