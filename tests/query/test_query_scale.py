"""A query over 100,000 entries and 1,000 payloads is what Python makes of them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from query_place import CountedMemory

from ltm.testing.clock import FakeClock

INLINED = 100_000
PAYLOADS = 1_000


def remembered() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    source = random.Random(7)
    for number in range(INLINED):
        metadata = {"type": source.choice("abc"), "rank": number} if number % 20 == 0 else {}
        yield (
            f"event:{number:06}",
            {"n": source.randrange(1000), "text": "é" * (number % 5)},
            metadata,
        )
    for number in range(PAYLOADS):
        text = f"{source.random()} " * 100
        yield f"page:{number:04}", {"n": number, "text": text}, {"type": "page"}


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountedMemory]:
    place = CountedMemory(Path(tmp_path_factory.mktemp("scale")), FakeClock(), enable_fts=False)
    place.memory.store_batch(remembered())
    yield place
    place.close()


def test_the_answer_is_that_of_python(counted: CountedMemory) -> None:
    sums: dict[str | None, int] = defaultdict(int)
    lengths: Counter[str | None] = Counter()
    count: Counter[str | None] = Counter()
    for _, value, metadata in remembered():
        kind = metadata.get("type")
        sums[kind] += value["n"]
        lengths[kind] += len(value["text"])
        count[kind] += 1
    rows, read, reads = counted.ask(
        "SELECT metadata->>'type' AS kind, sum(CAST(value->>'n' AS INT)) AS n,"
        " sum(length(value->>'text')) AS length, count(*) AS count, min(key) AS first FROM entries"
        " GROUP BY kind ORDER BY kind NULLS FIRST"
    )
    assert (read, reads) == (INLINED + PAYLOADS, PAYLOADS)
    assert {row["kind"]: row["n"] for row in rows} == sums
    assert {row["kind"]: row["length"] for row in rows} == lengths
    assert {row["kind"]: row["count"] for row in rows} == count
    assert [row["kind"] for row in rows] == [None, "a", "b", "c", "page"]
    assert rows[-1]["first"] == "page:0000"


def test_few_of_many_are_read_alone(counted: CountedMemory) -> None:
    wanted = [
        (key, value) for key, value, metadata in remembered() if metadata.get("type") == "page"
    ]
    rows, read, reads = counted.ask(
        "SELECT key, value FROM entries WHERE metadata->>'type' = 'page' ORDER BY key"
    )
    assert [(row["key"], row["value"]) for row in rows] == wanted
    assert (read, reads) == (PAYLOADS, PAYLOADS)
    rows, read, reads = counted.ask("SELECT count(*) AS n FROM entries WHERE key LIKE 'page:00%'")
    assert (rows, read, reads) == ([{"n": 100}], 100, 0)
