"""Entries, words, tables and snapshots come back from documents as they were, type for type."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore import Client
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.documents import (
    TOMBSTONE_LIFE,
    TableDocument,
    WordsDocument,
    deletion_fields,
    entry_fields,
    gone_fields,
    metadata_codes,
    read_entry,
    read_snapshot,
    read_table,
    read_version,
    read_words,
    scope_fields,
    snapshot_fields,
    table_fields,
    version_fields,
    version_id,
    words_fields,
)
from ltm.catalog.firestore import DEFAULT_DATABASE, FirestoreCatalog
from ltm.catalog.firestore_access import Place
from ltm.catalog.firestore_client import FirestoreClient
from ltm.catalog.history import Snapshot
from ltm.catalog.primitives import LogicalTable
from ltm.entry import EntryRow
from ltm.errors import IntegrityError
from ltm.hashing import canonical_json, compute_content_hash
from ltm.search.analysis import Document
from ltm.testing.clock import FakeClock
from ltm.testing.strategies import json_values, keys, metadata, same_json, storable_text

relaxed = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

AWKWARD: dict[str, Any] = {
    "__x__": {"__name__": 1},
    "": {"": ""},
    "a.b": {"c.d": [1, [2, [3, []]]]},
    "`": 2**80,
    "small": 5e-324,
    "float": 1e16,
    "int": 10**16,
    "zero": 0.0,
    "none": None,
    "kinds": [1, 1.0, True, "1", None, {}, []],
}

instants = st.datetimes(timezones=st.just(UTC)) | st.sampled_from(
    [EARLIEST, EARLIEST + MICROSECOND, EPOCH - MICROSECOND, EPOCH, EPOCH + MICROSECOND, LATEST]
)
numbers = st.integers(0, 2**62)
names = storable_text.filter(bool)
rows = st.builds(
    EntryRow,
    id=st.from_regex("[0-9a-f]{64}", fullmatch=True),
    key=keys,
    content_hash=names,
    storage_uri=st.none() | names,
    byte_size=st.integers(0, 2**50),
    inlined_text=st.none() | json_values.map(canonical_json),
    metadata=metadata | st.just(AWKWARD),
    expires_at=st.none() | instants,
    begin_seq=numbers,
    created_at=instants,
    updated_at=instants,
)
documents = st.builds(Document, st.text("abc x0", max_size=20), numbers)
tables = st.builds(
    TableDocument,
    st.builds(LogicalTable, names, names, st.integers(0, 2**31 - 1), names),
    numbers,
    st.integers(-1, 2**62),
    numbers,
    st.none() | names,
    instants,
)
snapshots = st.builds(Snapshot, names, names, numbers, numbers, numbers, instants)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
    | st.binary(max_size=50)
    | instants
)
fields = st.dictionaries(
    st.from_regex("[a-z][a-z_]{0,9}", fullmatch=True),
    scalars | st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4),
    max_size=6,
)


@pytest.fixture
def client(firestore_project: str) -> Iterator[FirestoreClient]:
    client = FirestoreClient(Place(firestore_project, DEFAULT_DATABASE, None))
    yield client
    client.close()


@pytest.fixture
def official(firestore_project: str) -> Iterator[Client]:
    client = Client(firestore_project)
    yield client
    client.close()


def same_row(one: EntryRow, other: EntryRow) -> bool:
    return one == other and same_json(one.metadata, other.metadata)


def shape(content: Any) -> Any:
    """Return *content* with the type of everything in it."""
    if isinstance(content, dict):
        return {name: shape(value) for name, value in content.items()}
    return [type(content), [shape(each) for each in content] if type(content) is list else content]


# Pure


@given(row=rows, tenant=storable_text, table=names)
@relaxed
def test_any_row_comes_back_from_its_document(row: EntryRow, tenant: str, table: str) -> None:
    made = entry_fields(row, tenant, table, has_words=True)
    assert same_row(read_entry(row.id, made), row)
    assert made == entry_fields(row, tenant, table, has_words=True)
    assert scope_fields(tenant, table).items() <= made.items()
    assert made["metadata"] == canonical_json(row.metadata)
    assert (made["metadata_codes"], made["has_words"]) == (metadata_codes(row.metadata), True)


@given(row=rows, end_seq=numbers)
@relaxed
def test_any_version_comes_back_with_the_id_of_its_entry(row: EntryRow, end_seq: int) -> None:
    made = version_fields(row, "", "t", end_seq=end_seq)
    assert same_row(read_version(made), row)
    assert made["end_seq"] == end_seq
    assert version_id(row) != version_id(row._replace(begin_seq=row.begin_seq + 1))


@given(document=documents, expires_at=st.none() | instants, now=instants)
@relaxed
def test_words_come_back_and_their_end_is_told_apart(
    document: Document, expires_at: datetime | None, now: datetime
) -> None:
    made = words_fields(document, expires_at, "", "t")
    assert read_words(made) == WordsDocument(document, expires_at)
    assert "forget_at" not in made
    gone = gone_fields(now, "", "t")
    assert read_words(gone).document is None
    assert gone["forget_at"] == (LATEST if now > LATEST - TOMBSTONE_LIFE else now + TOMBSTONE_LIFE)


@given(state=tables)
@relaxed
def test_any_table_comes_back(state: TableDocument) -> None:
    assert read_table(table_fields(state, "tenant")) == state


@given(snapshot=snapshots)
@relaxed
def test_any_snapshot_comes_back(snapshot: Snapshot) -> None:
    assert read_snapshot(snapshot_fields(snapshot, "", "t")) == snapshot


@pytest.mark.parametrize("change", [{"metadata": 7}, {"metadata": "{"}, {"begin_seq": None}, {}])
def test_what_is_no_entry_is_said_to_be_none(change: dict[str, Any]) -> None:
    row = EntryRow("id", "k", "h", None, 1, "1", {}, None, 0, EPOCH, EPOCH)
    made: dict[str, Any] = entry_fields(row, "", "t", has_words=False) | change
    if change in ({}, {"begin_seq": None}):
        del made["begin_seq"]
    with pytest.raises(IntegrityError, match="document 'id'"):
        read_entry("id", made)


def test_documents_are_made_without_the_library_of_the_database() -> None:
    code = (
        "import sys, ltm.catalog.documents, ltm.catalog.document_queries\n"
        "assert not {'google.cloud', 'grpc', 'sqlalchemy', 'duckdb'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Through the emulator


@given(written=fields)
@example(written={"a": "", "b": b"", "c": 0, "d": False, "e": [], "f": None, "g": [""], "h": "\0"})
@example(written={"a": EARLIEST, "b": LATEST, "c": EPOCH - MICROSECOND, "d": 2**63 - 1})
@relaxed
def test_every_type_of_field_comes_back_from_the_database(
    client: FirestoreClient, written: dict[str, Any]
) -> None:
    client.commit({"things/a thing": written})
    answer = client.get(["things/a thing", "things/another"])
    assert list(answer.documents) == ["things/a thing"]
    assert shape(answer.documents["things/a thing"].fields) == shape(written)


@given(row=rows, document=documents, state=tables, snapshot=snapshots, now=instants)
@relaxed
def test_every_document_comes_back_from_the_database(
    client: FirestoreClient,
    row: EntryRow,
    document: Document,
    state: TableDocument,
    snapshot: Snapshot,
    now: datetime,
) -> None:
    made = {
        "x/entry": entry_fields(row, "", "t", has_words=False),
        "x/version": version_fields(row, "", "t", end_seq=3),
        "x/words": words_fields(document, row.expires_at, "", "t"),
        "x/gone": gone_fields(now, "", "t"),
        "x/table": table_fields(state, ""),
        "x/snapshot": snapshot_fields(snapshot, "", "t"),
        "x/deletion": deletion_fields("a/b", now, "", "t"),
    }
    client.commit(made)
    found = client.get(list(made)).documents
    assert {path: shape(each.fields) for path, each in found.items()} == {
        path: shape(each) for path, each in made.items()
    }
    assert same_row(read_entry(row.id, found["x/entry"].fields), row)


def test_a_document_is_replaced_as_a_whole(client: FirestoreClient) -> None:
    client.commit({"x/a": {"one": 1, "two": [""]}})
    client.commit({"x/a": {"one": 1}})
    assert client.get(["x/a"]).documents["x/a"].fields == {"one": 1}


# As others see them


class Memory:
    """A backend on Firestore, and a look at its documents with Google's own client."""

    def __init__(self, project: str, official: Client, directory: Path, prefix: str) -> None:
        self.official = official
        self.prefix = prefix
        self.clock = FakeClock()
        self.catalog = FirestoreCatalog(project, collection_prefix=prefix, clock=self.clock)
        self.backend = DuckDBLTMBackend(self.catalog, f"{directory}/data")

    def documents(self, name: str) -> dict[str, dict[str, Any]]:
        """Return the fields of all documents of a collection by id."""
        return {
            each.id: each.to_dict() or {}
            for each in self.official.collection(self.prefix + name).stream()
        }


@pytest.fixture(params=["", "agents-1_"])
def memory(
    request: pytest.FixtureRequest, firestore_project: str, official: Client, tmp_path: Path
) -> Iterator[Memory]:
    memory = Memory(firestore_project, official, tmp_path, request.param)
    with memory.catalog, memory.backend:
        yield memory


def test_documents_lie_in_collections_by_their_ids(memory: Memory) -> None:
    large = "a large value " * 100
    memory.backend.store("k", large)
    memory.backend.create_snapshot("s")
    memory.backend.store("k", "new")
    memory.backend.expire_snapshot("s")
    memory.backend.create_snapshot("t")
    memory.catalog.track_entry("p", "h", "somewhere/else", 7, None)
    memory.catalog.track_entry("p", "i", "somewhere", 7, None)
    memory.backend.store("k", "newer")
    entry_id = memory.catalog.entry_id("k")
    assert memory.documents("ltm_entries").keys() == {entry_id, memory.catalog.entry_id("p")}
    assert list(memory.documents("ltm_entry_versions")) == [f"{entry_id}-1"]
    assert [each["name"] for each in memory.documents("ltm_snapshots").values()] == ["t"]
    (table,) = memory.documents("ltm_tables").values()
    assert (table["table_name"], table["type"], table["snapshot_seq"]) == ("default", "memory", 2)
    (deletion,) = memory.documents("ltm_payload_deletions").values()
    assert deletion["storage_uri"] == "somewhere/else"
    written = {each.id.removeprefix(memory.prefix) for each in memory.official.collections()}
    known = ["entries", "tables", "snapshots", "entry_versions", "payload_deletions"]
    assert written == {f"ltm_{name}" for name in [*known, "entry_search"]}


def test_values_are_text_and_times_are_times(memory: Memory) -> None:
    expires_at = memory.clock() + timedelta(days=1, microseconds=1)
    value: Any = {"__x__": [[2**80, 5e-324, -0.0]], "": "a\0b\ud800"}
    assert memory.backend.store("k", value, AWKWARD, expires_at=expires_at)["success"]
    (stored,) = memory.documents("ltm_entries").values()
    assert stored["inlined_value"] == canonical_json(value)
    assert stored["metadata"] == canonical_json(AWKWARD)
    assert stored["content_hash"] == compute_content_hash(value)
    for name, instant in (("expires_at", expires_at), ("created_at", memory.clock())):
        assert isinstance(stored[name], datetime)
        assert stored[name] == instant
    assert {type(each) for each in stored["metadata_codes"]} == {str}
    nested = [name for name, each in stored.items() if isinstance(each, dict)]
    assert nested == []
    assert same_json(memory.backend.retrieve("k")["value"], value)
    assert same_json(memory.backend.retrieve("k")["metadata"], AWKWARD)
    (words,) = memory.documents("ltm_entry_search").values()
    assert words["expires_at"] == expires_at


def test_a_value_replaces_the_one_before_as_a_whole(memory: Memory) -> None:
    expiry = memory.clock() + timedelta(days=1)
    memory.backend.store("k", {"a": 1, "b": 2}, {"x": 1, "y": {"z": 2}}, expires_at=expiry)
    memory.clock.advance(1)
    memory.backend.store("k", {"a": 1}, {"x": 1})
    answer = memory.backend.retrieve("k")
    assert (answer["value"], answer["metadata"]) == ({"a": 1}, {"x": 1})
    (stored,) = memory.documents("ltm_entries").values()
    assert json.loads(stored["inlined_value"]) == {"a": 1}
    assert json.loads(stored["metadata"]) == {"x": 1}
    assert stored["metadata_codes"] == metadata_codes({"x": 1})
    assert stored["expires_at"] is None


def test_the_time_of_making_survives_what_replaces_the_entry(memory: Memory) -> None:
    begun = memory.clock()
    memory.backend.store_batch([("a", 1), ("b", 1)])
    for number in range(2, 4):
        memory.clock.advance(1)
        memory.backend.store("a", number)
        memory.backend.store_batch([("b", number), (f"c{number}", number)])
    for key in ("a", "b"):
        entry = memory.catalog.get_entry(key)
        assert entry is not None
        assert (entry["created_at"], entry["updated_at"]) == (begun, memory.clock())
    memory.backend.delete("a")
    memory.backend.store("a", 1)
    entry = memory.catalog.get_entry("a")
    assert entry is not None
    assert entry["created_at"] == memory.clock()
