"""What each call costs a SQLite catalog and a local payload store, counted.

The numbers are budgets: a change that raises one has to say why, and one that lowers it says so
here. Seconds are not measured; they wobble on shared machines, and these counts don't.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sql_plain import EXPECTED
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.search.analysis import Analyzer
from ltm.testing.clock import FakeClock

SMALL = {"text": "a small value"}
LARGE = {"text": "a large value " * 200}
NOTE = {"type": "note", "user": {"id": 7}}

Call = Callable[[DuckDBLTMBackend], Any]


def store(key: str, value: Any, metadata: Any = None, **options: Any) -> Call:
    return lambda memory: memory.store(key, value, metadata, **options)


def many(prefix: str, value: Any, count: int = 1000) -> list[tuple[str, Any, Any]]:
    return [(f"{prefix}{number:04}", value, NOTE) for number in range(count)]


STATEMENTS: dict[str, tuple[Call, int]] = {
    "retrieve": (lambda memory: memory.retrieve("small"), 1),
    "retrieve a payload": (lambda memory: memory.retrieve("large"), 1),
    "retrieve what is absent": (lambda memory: memory.retrieve("absent"), 1),
    "retrieve 500": (lambda memory: memory.retrieve_batch([k for k, _, _ in many("m", 0, 500)]), 1),
    # The row as it is, BEGIN, three inserts, COMMIT.
    "store": (store("new", SMALL, NOTE), 6),
    "store without words and metadata": (store("new", 1), 5),
    "store the same": (store("small", SMALL, NOTE), 1),
    "store another value": (store("small", {"text": "another"}, NOTE), 6),
    "store other metadata": (store("small", SMALL, {"type": "task"}), 8),
    "store a payload": (store("new", LARGE, NOTE), 6),
    "store a payload over another": (store("large", {"text": LARGE["text"] + "!"}, NOTE), 12),
    "store a batch of 1,000": (lambda memory: memory.store_batch(many("b", SMALL)), 10),
    "delete": (lambda memory: memory.delete("small"), 4),
    "delete what is absent": (lambda memory: memory.delete("absent"), 3),
    "update": (lambda memory: memory.update("small", lambda value: value), 4),
    "search words": (lambda memory: memory.search("small value"), 5),
    "search metadata": (lambda memory: memory.search(metadata_filter={"type": "note"}), 1),
    "snapshot": (lambda memory: memory.create_snapshot("s"), 6),
    "clean up nothing": (lambda memory: memory.cleanup_expired(), 6),
    "statistics": (lambda memory: memory.stats(), 1),
}

AFTER_NEW_KEYS: dict[str, tuple[Call, int]] = {
    # BEGIN, three inserts, COMMIT.
    "store": (store("newer", SMALL, NOTE), 5),
    "store without words and metadata": (store("newer", 1), 4),
    # BEGIN, an insert that finds the row, COMMIT, the row as it is.
    "store the same": (store("small", SMALL, NOTE), 4),
}

# Functions of Python's that are called once caches are warm: on one statement of SQLite's they are
# most of what a call takes. From 3.12 on they are fewer, for comprehensions are none.
FUNCTIONS: dict[str, tuple[Call, int]] = {
    "retrieve": (lambda memory: memory.retrieve("small"), 23),
    "store": (store("new 0", SMALL, NOTE), 100),
    "store flat metadata": (store("new 0", SMALL, {"type": "note"}), 67),
    "store without metadata": (store("new 0", SMALL), 57),
}

SYNCS: dict[str, tuple[Call, int]] = {
    "store": (store("new", SMALL, NOTE), 0),
    "store a payload": (store("new", LARGE, NOTE), 3),
    "store the same payload": (store("large", LARGE, NOTE), 0),
    "store a payload over another": (store("large", {"text": LARGE["text"] + "!"}, NOTE), 3),
    "store 20 payloads": (lambda memory: memory.store_batch(many("b", LARGE, 20)), 41),
    "delete a payload": (lambda memory: memory.delete("large"), 1),
    "retrieve a payload": (lambda memory: memory.retrieve("large"), 0),
}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[DuckDBLTMBackend]:
    """A memory that is used already: its schema, tables and directories are there."""
    catalog = SQLiteCatalog(tmp_path / "catalog.db", clock=FakeClock())
    with DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True) as memory:
        memory.create_snapshot("warm")
        memory.expire_snapshot("warm")
        memory.store("small", SMALL, NOTE)
        memory.store("large", LARGE, NOTE)
        memory.store_batch(many("m", SMALL, 500))
        memory.search("warm")
        yield memory


def statements_of(memory: DuckDBLTMBackend, call: Call) -> list[str]:
    """Return how the statements begin that *call* sends to the one connection in use.

    One that is run with many rows counts once, and so does one that sets off triggers: both are
    traced as the same statement again and again.
    """
    seen: list[str] = []

    def note(statement: str) -> None:
        beginning = " ".join(statement.split()[:3])
        # FTS5's own statements come as comments.
        if not statement.startswith("--") and seen[-1:] != [beginning]:
            seen.append(beginning)

    pool = memory.catalog.database.pool
    connection = pool.acquire()
    connection.set_trace_callback(note)
    pool.release(connection)
    answer = call(memory)
    connection.set_trace_callback(None)
    assert answer["success"], answer
    return seen


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_call_sends_no_more_statements_than_its_budget(
    memory: DuckDBLTMBackend, name: str
) -> None:
    call, budget = STATEMENTS[name]
    seen = statements_of(memory, call)
    assert len(seen) == budget, seen


@pytest.mark.parametrize("name", AFTER_NEW_KEYS)
def test_after_new_keys_the_next_one_is_expected_to_be_new(
    memory: DuckDBLTMBackend, name: str
) -> None:
    for number in range(EXPECTED):
        memory.store(f"new {number}", number)
    call, budget = AFTER_NEW_KEYS[name]
    seen = statements_of(memory, call)
    assert len(seen) == budget, seen


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_call_calls_no_more_functions_than_its_budget(
    memory: DuckDBLTMBackend, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, budget = FUNCTIONS[name]
    # As where nobody collects, whatever else this process has loaded.
    monkeypatch.setattr("ltm.telemetry.API", "nobody")
    monkeypatch.setattr("ltm.telemetry.is_on", False)
    for number in range(EXPECTED + 1):
        memory.store(f"new {number}", SMALL, NOTE)
    memory.delete("new 0")
    called: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    gc.disable()  # what it would finalise is of other tests
    sys.setprofile(note)
    try:
        answer = call(memory)
    finally:
        sys.setprofile(None)
        gc.enable()
    assert answer["success"], answer
    assert len(called) <= budget, called


def test_a_new_key_without_anything_beside_it_is_one_statement(tmp_path: Path) -> None:
    catalog = SQLiteCatalog(tmp_path / "catalog.db")
    with DuckDBLTMBackend(
        catalog, f"{tmp_path}/data", owns_catalog=True, enable_fts=False
    ) as memory:
        for number in range(EXPECTED):
            memory.store(f"new {number}", number)
        assert statements_of(memory, store("newer", 2)) == ["INSERT INTO ltm_entries"]


@pytest.mark.parametrize("name", SYNCS)
def test_a_call_waits_for_the_disk_no_more_often_than_its_budget(
    memory: DuckDBLTMBackend, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, budget = SYNCS[name]
    syncs: list[int] = []
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (syncs.append(descriptor), sync(descriptor))
    )
    assert call(memory)["success"]
    assert len(syncs) == budget


def test_what_is_there_already_is_not_analysed(
    memory: DuckDBLTMBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = many("m", SMALL, 500)
    analyzed: list[str] = []
    analyze = Analyzer._analyze
    monkeypatch.setattr(
        Analyzer,
        "_analyze",
        lambda self, text, **how: (analyzed.append(text), analyze(self, text, **how))[1],
    )
    assert memory.store_batch(batch)["deduplicated"] == len(batch)
    assert memory.store("small", SMALL, NOTE)["deduplicated"]
    assert memory.store("large", LARGE, NOTE)["deduplicated"]
    assert analyzed == []
    assert memory.store("new", SMALL)["stored"]
    assert analyzed == [f"new\n{SMALL['text']}"]
