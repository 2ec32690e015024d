"""Conditions that the catalog is asked for change nothing in the answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from query_place import CountedMemory

from ltm.errors import ValidationError
from ltm.testing.clock import FakeClock

TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "a%",
    "é",
    "1",
    "1.0",
    "-1",
    "0",
    "1e16",
    "1.5",
    "true",
    "null",
    "{}",
    "[1]",
    '"',
]
NUMBERS = [0, 1, 1.0, -1, 1.5, 0.1, 1e16, 10**16, 1e22, 2**63, 2**64, 2**80, 1e-7, 5e-324, -0.0]
WRITTEN = [
    *TEXTS,
    "10000000000000000",
    "10000000000000000.0",
    "18446744073709551616",
    "1e22",
    "1E22",
    "1208925819614629174706176",
    "1.2089258196146292e24",
    "0.1",
    "1e-7",
    "-0.0",
    "-0",
    "01",
    "1.50",
    "false",
    '{"b":1}',
    '["a"]',
    "9223372036854775808",
    "5e-324",
]
SCALARS = [*TEXTS, *NUMBERS, True, False, None]
NAMES = ["t", "u", "a.b", "$x", "x y", "a", "b"]
KEYS = [
    "a",
    "a%",
    "a:1",
    "a:2",
    "a:10",
    "a_",
    "b",
    "b\\",
    "B",
    "é",
    "\U0001f600",
    "\ud7ff",
    "\ue000x",
]


def random_metadata(source: random.Random, depth: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in source.sample(NAMES, source.randrange(len(NAMES))):
        kind = source.random()
        if kind < 0.2 and depth < 2:
            found[name] = random_metadata(source, depth + 1)
        elif kind < 0.3:
            found[name] = source.sample(SCALARS, 2)
        else:
            found[name] = source.choice(SCALARS)
    return found


@pytest.fixture(scope="module", params=[1, 2, 3])
def counted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CountedMemory]:
    source = random.Random(request.param)
    place = CountedMemory(Path(tmp_path_factory.mktemp("pushdown")), FakeClock(), enable_fts=False)
    keys = {source.choice(KEYS) + source.choice(["", *KEYS]) for _ in range(400)}
    place.memory.store_batch(
        {"key": key, "value": len(key), "metadata": random_metadata(source)} for key in sorted(keys)
    )
    place.memory.create_snapshot("s")
    yield place
    place.close()


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


keys = st.one_of(
    st.sampled_from(KEYS), st.sampled_from(KEYS).map(lambda key: key + "a"), st.just("")
)
key_texts = keys.map(quoted)
patterns = st.lists(st.sampled_from([*KEYS, "%", "_"]), max_size=3).map("".join).map(quoted)
paths = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(
        ["$.t", "$.a", "$.a.b", "$.a.b.t", "$.u.a", '$."a.b"', "$.a[0]", "/a/b", "$", 'a"b', "0"]
    ),
).map(quoted)
texts = st.sampled_from(WRITTEN).map(quoted)
comparisons = st.sampled_from(["=", "<", "<=", ">", ">=", "<>"])
members = st.builds("(metadata->>{})".format, paths) | st.builds(
    "json_extract_string(metadata, {})".format, paths
)
leaves = st.one_of(
    st.builds("key {} {}".format, comparisons, key_texts),
    st.builds("{} {} key".format, key_texts, comparisons),
    st.builds("key BETWEEN {} AND {}".format, key_texts, key_texts),
    st.builds("key IN ({}, {})".format, key_texts, key_texts),
    st.builds("key LIKE {}".format, patterns),
    st.builds("starts_with(key, {})".format, key_texts),
    st.builds("key ^@ {}".format, key_texts),
    st.builds("{} = {}".format, members, texts),
    st.builds("{} = {}".format, members, texts),
    st.builds("{} = {}".format, texts, members),
    st.builds("{} IN ({}, {})".format, members, texts, texts),
    st.builds("{} IS NOT NULL".format, members),
    st.builds("{} IS NULL".format, members),
    st.just("byte_size > 1"),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("(NOT {})".format, inner),
    ),
    max_leaves=5,
)


def outcome(
    counted: CountedMemory, sql: str, snapshot: str | None
) -> tuple[list[dict[str, Any]] | str, int]:
    """Return the answer and how many rows were read, or the error of a path that is none."""
    try:
        answer, rows, _ = counted.ask(sql, snapshot=snapshot)
    except ValidationError as error:
        return str(error).splitlines()[0], 0
    return answer, rows


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=conditions, as_of=st.sampled_from([None, None, "s"]))
def test_the_answer_is_that_of_all_rows(
    counted: CountedMemory, where: str, as_of: str | None
) -> None:
    sql = f"SELECT key FROM entries WHERE {where}"
    narrowed, _ = outcome(counted, sql, as_of)
    # A second name of the table, and nothing is asked of the catalog.
    everything, rows = outcome(counted, f"WITH second AS (FROM entries) {sql}", as_of)
    if as_of is None and isinstance(everything, list):
        assert rows == counted.memory.stats()["entries"]
    assert narrowed == everything


def test_every_text_that_metadata_can_be_finds_what_is_written_so(counted: CountedMemory) -> None:
    written = counted.memory.query(
        "SELECT DISTINCT metadata->>'t' AS text FROM entries ORDER BY text"
    )
    assert len(written) > 20
    for (text,) in (row.values() for row in written):
        if text is not None:
            sql = "SELECT key FROM entries WHERE (metadata->>'t') = $t"
            parameters = {"t": text}
            narrowed = counted.memory.query(sql, parameters=parameters)
            assert narrowed
            assert narrowed == counted.memory.query(
                f"WITH second AS (FROM entries) {sql}", parameters=parameters
            )


def test_a_key_with_a_dot_beside_a_path_hides_nothing(counted: CountedMemory) -> None:
    memory = counted.memory
    memory.store("both", 1, {"user": {"id": "7"}, "user.id": "8"})
    try:
        for path, text, found in (
            ("$.user.id", "7", True),
            ("$.user.id", "8", False),
            ("user.id", "8", True),
            ("user.id", "7", False),
        ):
            rows = memory.query(
                "SELECT key FROM entries WHERE (metadata->>$path) = $text",
                parameters={"path": path, "text": text},
            )
            assert bool(rows) is found
    finally:
        memory.delete("both")
