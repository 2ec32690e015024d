"""How much a document holds, and what becomes of what it can't hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.documents import (
    MAX_CODES,
    MAX_DOCUMENT_BYTES,
    UNCODED,
    document_bytes,
    entry_fields,
    inline_limit,
    metadata_codes,
    version_fields,
    version_id,
)
from ltm.catalog.firestore import DEFAULT_DATABASE, FirestoreCatalog
from ltm.catalog.firestore_access import Place
from ltm.catalog.firestore_client import FirestoreClient
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.entry import EntryRow
from ltm.errors import ValidationError
from ltm.testing.backend_fixtures import payloads_of
from ltm.testing.clock import FakeClock
from ltm.testing.strategies import same_json

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LONGEST_PREFIX = "p" * 100
NO_LIMIT = 2**30

some_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
some_fields = st.dictionaries(
    st.from_regex("[a-z_]{1,12}", fullmatch=True).filter(lambda name: name[:2] != "__"),
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.just(NOW)
    | some_text
    | st.binary(max_size=30)
    | st.lists(some_text, max_size=4),
    max_size=8,
)


def counted(path: str, fields: Mapping[str, Any]) -> int:
    """Return what Firestore counts for a document, by the formula of its documentation."""
    name = sum(len(segment.encode()) + 1 for segment in path.split("/")) + 16
    return name + 32 + sum(len(each.encode()) + 1 + counted_value(fields[each]) for each in fields)


def counted_value(value: Any) -> int:
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, str):
        return len(value.encode()) + 1
    if isinstance(value, bytes):
        return len(value)
    # The emulator counts a list without members as one byte.
    return sum(map(counted_value, value)) or 1 if isinstance(value, list) else 8


def row(text: str | None, **changes: Any) -> EntryRow:
    fresh = EntryRow("0" * 64, "k", "h" * 71, None, 1, text, {}, NOW, 2**40, NOW, NOW)
    return fresh._replace(**changes)


def fields_of(made: EntryRow) -> dict[str, Any]:
    return entry_fields(made, "t" * 200, "\U0001f600" * 200, has_words=True)


def longest_inlined(made: EntryRow) -> EntryRow:
    """Return *made* with the longest value that its document takes."""
    fits, too_long = 0, MAX_DOCUMENT_BYTES
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        try:
            fields_of(made._replace(inlined_text="x" * middle))
            fits = middle
        except ValidationError:
            too_long = middle
    return made._replace(inlined_text="x" * fits)


@pytest.fixture
def client(firestore_project: str) -> Iterator[FirestoreClient]:
    client = FirestoreClient(Place(firestore_project, DEFAULT_DATABASE, None))
    yield client
    client.close()


def is_taken(client: FirestoreClient, path: str, fields: Mapping[str, Any]) -> bool:
    try:
        client.commit({path: fields})
    except ValidationError as error:
        if "maximum entity size is 1048576 bytes" not in str(error):
            raise
        return False
    return True


@given(fields=some_fields, path=st.sampled_from(["x/y", f"{LONGEST_PREFIX}x/{'0' * 64}-{2**62}"]))
@settings(max_examples=60, deadline=None)
def test_no_more_is_counted_by_the_formula_than_here(fields: dict[str, Any], path: str) -> None:
    assert counted(path, fields) <= document_bytes(fields)


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"none": None, "true": True, "int": -(2**63), "instant": NOW, "text": "é\0", "bytes": b"b"},
        {"list": [], "texts": ["", "é", "x" * 1000], "ü\U0001f600": ""},
    ],
)
def test_the_database_counts_by_the_formula(client: FirestoreClient, kept: dict[str, Any]) -> None:
    # No one text or bytes may have as many as a document.
    room = MAX_DOCUMENT_BYTES - counted("x/é", kept | {"one": "x" * 500_000, "two": b""})
    full = kept | {"one": "x" * 500_000, "two": b"x" * room}
    assert is_taken(client, "x/é", full)
    assert not is_taken(client, "x/é", full | {"two": b"x" * (room + 1)})


SHAPES = {
    "plain": row(None),
    "long names": row(None, key="\U0001f600" * 256, storage_uri="é" * 1024),
    "most codes": row(None, metadata={f"k{i}": i for i in range(MAX_CODES)}),
    "large metadata": row(None, metadata={"text": "é" * 80_000}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_longest_value_that_fits_here_fits_there(client: FirestoreClient, name: str) -> None:
    longest = longest_inlined(SHAPES[name])
    assert longest.inlined_text is not None
    # What is spilled to a payload would have fitted.
    assert inline_limit(longest.metadata) < len(longest.inlined_text)
    fields = fields_of(longest)
    assert is_taken(client, f"{LONGEST_PREFIX}ltm_entries/{longest.id}", fields)
    version = version_fields(longest, "t" * 200, "\U0001f600" * 200, end_seq=2**62)
    assert is_taken(client, f"{LONGEST_PREFIX}ltm_entry_versions/{version_id(longest)}", version)


# What doesn't fit


class Memory:
    def __init__(self, project: str, directory: Path) -> None:
        self.clock = FakeClock()
        self.catalog = FirestoreCatalog(
            project, collection_prefix=LONGEST_PREFIX, clock=self.clock, inline_threshold=NO_LIMIT
        )
        self.backend = DuckDBLTMBackend(
            self.catalog, f"{directory}/data", inline_threshold=NO_LIMIT
        )

    def expect(self, key: str, value: Any, metadata: Any, *, inlined: bool) -> None:
        found = self.backend.retrieve(key)
        assert found["success"], found
        assert same_json(found["value"], value)
        assert same_json(found["metadata"], metadata)
        assert found["inlined"] == inlined


@pytest.fixture
def memory(firestore_project: str, tmp_path: Path) -> Iterator[Memory]:
    memory = Memory(firestore_project, tmp_path)
    with memory.catalog, memory.backend:
        yield memory


LIMIT = inline_limit({})
LARGE_METADATA = {"text": "x" * 600_000}
SPILLED = [
    ("x" * (LIMIT - 2), {}, True),
    ("x" * (LIMIT - 1), {}, False),
    ("x" * 3_000_000, {}, False),
    ("é" * (LIMIT // 6), {}, False),
    ("x" * 300_000, LARGE_METADATA, True),
    ("x" * 500_000, LARGE_METADATA, False),
]


@pytest.mark.parametrize("number", range(len(SPILLED)))
def test_what_passes_a_document_is_spilled_whatever_the_threshold(
    memory: Memory, number: int
) -> None:
    value, metadata, inlined = SPILLED[number]
    for key, answer in (
        ("one", memory.backend.store("one", value, metadata)),
        ("many", memory.backend.store_batch([("many", value, metadata), ("small", 1, metadata)])),
        ("made", memory.backend.store("made", 1, metadata)),
        ("made", memory.backend.update("made", lambda _: value)),
    ):
        assert answer["success"], (key, answer)
    for key in ("one", "many", "made"):
        memory.expect(key, value, metadata, inlined=inlined)
    assert len(payloads_of(memory.backend)) == (0 if inlined else 3)
    assert memory.backend.verify()["problems"] == []


def test_the_longest_inlined_value_can_be_superseded_found_and_restored(memory: Memory) -> None:
    key = "\U0001f600" * 256
    value = "word " * ((LIMIT - 2) // 5)
    assert memory.backend.store(key, value)["inlined"]
    assert memory.backend.create_snapshot("s")["success"]
    assert memory.backend.store(key, "other")["success"]
    assert memory.backend.retrieve(key, snapshot="s")["value"] == value
    assert memory.backend.restore("s")["success"]
    memory.expect(key, value, {}, inlined=True)
    assert [each["key"] for each in memory.backend.search("word")["results"]] == [key]


TOO_LARGE = {"text": "x" * 1_100_000}


@pytest.mark.parametrize("value", [1, "x" * 2_000_000])
def test_metadata_that_passes_a_document_is_refused_and_leaves_nothing(
    memory: Memory, value: Any
) -> None:
    memory.backend.store("other", 1)
    refusals: list[Any] = [
        memory.backend.store("k", value, TOO_LARGE),
        memory.backend.store("other", value, TOO_LARGE),
        memory.backend.store_batch([("a", value), ("k", value, TOO_LARGE), ("b", value)]),
    ]
    for refusal, key in zip(refusals, ["k", "other", "k"], strict=True):
        assert refusal["success"] is False
        assert refusal["error_type"] == "validation_error", refusal
        assert f"entry {key!r}" in refusal["error"]
        assert "1100012 of metadata" in refusal["error"]
    memory.expect("other", 1, {}, inlined=True)
    assert memory.backend.stats()["entries"] == 1
    assert payloads_of(memory.backend) == []
    assert memory.backend.gc(dry_run=True)["scheduled"] == 0
    stored = memory.backend.store_batch([("a", 1), ("k", value, TOO_LARGE)], atomic=False)
    assert (stored["stored"], stored["failed"]) == (1, 1)
    assert [(each["index"], each["key"]) for each in stored["errors"]] == [(1, "k")]


def test_a_transaction_with_metadata_too_large_leaves_nothing(memory: Memory) -> None:
    def store_two() -> None:
        with memory.backend.transaction() as inside:
            inside.store("a", "x" * 2_000_000)
            inside.store("k", "x" * 2_000_000, TOO_LARGE)

    with pytest.raises(ValidationError, match="entry 'k'"):
        store_two()
    assert memory.backend.stats()["entries"] == 0
    assert payloads_of(memory.backend) == []


def test_tracking_a_value_that_passes_a_document_is_refused(memory: Memory) -> None:
    text = "x" * MAX_DOCUMENT_BYTES
    with pytest.raises(
        ValidationError, match=r"entry 'k': 1048578 bytes of inlined value and 2 of"
    ):
        memory.catalog.track_entry("k", "h", None, len(text), None, text)
    with pytest.raises(ValidationError, match="entry 'k'"):
        memory.catalog.store_batch(
            [
                {"key": "a", "content_hash": "h"},
                {"key": "k", "content_hash": "h", "inlined_value": text},
            ]
        )
    assert memory.catalog.list_entries() == []


# Metadata with more codes than are kept

NUMEROUS = {f"k{i}": i for i in range(MAX_CODES)} | {"list": ["x"], "deep": {"a": None}}
FEW = {"k1": 1, "list": ["x", 2], "deep": {"a": True}}
FILTERS: list[dict[str, Any]] = [
    {"k1": 1},
    {"k1": 2},
    {"k499": 499},
    {"k1": 1, "k2": 2},
    {"k1": {"$in": [1, 2]}},
    {"k1": {"$in": list(range(29))}},
    {"k1": {"$in": list(range(30))}},
    {"k1": {"$nin": [1]}},
    {"k1": {"$gte": 1}},
    {"k1": {"$exists": True}},
    {"k2": {"$exists": False}},
    {"list": {"$contains": "x"}},
    {"list": {"$contains": 2}},
    {"list": ["x"]},
    {"deep.a": None},
    {"deep": {"a": True}},
    {"$or": [{"k2": 2}, {"deep.a": True}]},
    {"$not": {"k2": 2}},
]


def test_metadata_with_many_codes_is_found_by_every_filter(
    memory: Memory, firestore_project: str
) -> None:
    assert len(metadata_codes({f"k{i}": i for i in range(MAX_CODES)})) == MAX_CODES
    with SQLiteCatalog(":memory:", clock=memory.clock) as other:
        for catalog in (memory.catalog, other):
            for key, metadata in (("few", FEW), ("many", NUMEROUS), ("none", {})):
                catalog.track_entry(key, "h", None, 1, metadata, "word")
        for wanted in FILTERS:
            for query in (None, "word"):
                one, two = (
                    [(each["key"], each["score"]) for each in catalog.search(query, wanted)]
                    for catalog in (memory.catalog, other)
                )
                assert one == two, wanted
            one, two = (
                [each["key"] for each in catalog.list_entries(None, wanted)]
                for catalog in (memory.catalog, other)
            )
            assert one == two, wanted
    official = Client(firestore_project)
    document = official.document(f"{LONGEST_PREFIX}ltm_entries/{other.entry_id('many')}").get()
    assert document.get("metadata_codes") == [UNCODED]
    official.close()
