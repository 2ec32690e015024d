"""The index definitions are those that the queries of the library need: none more, none fewer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.cloud.firestore_admin_v1 import types as admin
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.services.firestore import FirestoreClient as GoogleClient

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.firestore import FirestoreCatalog
from ltm.catalog.firestore_session import Collections
from ltm.catalog.firestore_setup import index_definitions
from ltm.testing.clock import FakeClock

Fields = tuple[tuple[str, str], ...]

UP = "ASCENDING"


class Index(NamedTuple):
    """Fields that a query needs indexed; those compared for equality have no order."""

    collection: str
    equal: frozenset[str]
    rest: Fields
    """The other fields, each with ``CONTAINS`` or a direction."""

    @property
    def is_automatic(self) -> bool:
        """Whether the indexes do that every field has unless it is exempt."""
        directions = [how for _, how in self.rest if how != "CONTAINS"]
        return not directions or len(self.equal) + len(self.rest) == 1

    @property
    def fields(self) -> set[tuple[str, str]]:
        """All of them, each with the collection."""
        return {(self.collection, name) for name in (*self.equal, *dict(self.rest))}


def required_index(query: Any, summed: Sequence[str] = ()) -> Index:
    """Return the index that *query* walks along, with the fields of which it wants the sum.

    The rules are those of "Index types in Cloud Firestore" and "Index merging": every field has
    indexes of its own, and those are merged for any number of equalities, of which ``in`` is a
    choice. As soon as there is an order, a range or a sum beside, one index must have all fields.
    The name of the document is the last field of every index.
    """
    equal, contained, ranged = set(), [], []
    for each in query.where.composite_filter.filters:
        if each.unary_filter.op:
            assert each.unary_filter.op == types.StructuredQuery.UnaryFilter.Operator.IS_NULL
            equal.add(each.unary_filter.field.field_path)
            continue
        name, op = each.field_filter.field.field_path, each.field_filter.op.name
        if op in ("EQUAL", "IN"):
            equal.add(name)
        elif op in ("ARRAY_CONTAINS", "ARRAY_CONTAINS_ANY"):
            contained.append(name)
        else:
            assert "THAN" in op
            ranged.append(name)
    orders = [(each.field.field_path, each.direction.name) for each in query.order_by]
    if orders and orders[-1][0] == "__name__":
        *orders, last = orders
        assert not orders or orders[-1][1] == last[1]
        assert orders or last[1] == "ASCENDING"
    # A range gives the order where none is asked for; a sum is read from the index as well.
    named = [name for name, _ in orders]
    orders += [(name, "ASCENDING") for name in dict.fromkeys(ranged) if name not in named]
    orders += [(name, "ASCENDING") for name in summed if name not in dict(orders)]
    rest = (*((name, "CONTAINS") for name in contained), *orders)
    (collection,) = (each.collection_id for each in query.from_)
    return Index(collection, frozenset(equal), rest)


def defined_indexes() -> dict[Index, int]:
    """Return what the indexes of the file can be asked for, each with its number.

    A definition doesn't say up to which field the query compares for equality: all readings count.
    """
    readings = {}
    for number, each in enumerate(index_definitions()["indexes"]):
        fields = [
            (field["fieldPath"], field.get("order") or field["arrayConfig"])
            for field in each["fields"]
        ]
        for start in range(len(fields)):
            equal, rest = fields[:start], tuple(fields[start:])
            if all(how == "ASCENDING" for _, how in equal):
                names = frozenset(name for name, _ in equal)
                readings[Index(each["collectionGroup"], names, rest)] = number
    return readings


def record_indexes(monkeypatch: pytest.MonkeyPatch, note: Callable[[Index], object]) -> None:
    """Let *note* be called with the index that each query needs which Google's client sends."""
    run, total = GoogleClient.run_query, GoogleClient.run_aggregation_query

    def record_run(self: GoogleClient, request: Any, **options: Any) -> Any:
        note(required_index(request.structured_query))
        return run(self, request=request, **options)

    def record_total(self: GoogleClient, request: Any, **options: Any) -> Any:
        counted = request.structured_aggregation_query
        names = [each.sum.field.field_path for each in counted.aggregations]
        note(required_index(counted.structured_query, [name for name in names if name]))
        return total(self, request=request, **options)

    monkeypatch.setattr(GoogleClient, "run_query", record_run)
    monkeypatch.setattr(GoogleClient, "run_aggregation_query", record_total)


@pytest.fixture
def asked(firestore_project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[Index]:
    """What all queries need that any verb sends."""
    found: set[Index] = set()
    record_indexes(monkeypatch, found.add)
    clock = FakeClock()
    catalog = FirestoreCatalog(firestore_project, clock=clock)
    with DuckDBLTMBackend(
        catalog, f"{tmp_path}/data", clock=clock, owns_catalog=True, raise_errors=True
    ) as memory:
        use_everything(memory, clock)
    return found


def use_everything(memory: DuckDBLTMBackend, clock: FakeClock) -> None:
    """Call every verb that selects entries by anything but their key."""
    filters: list[dict[str, Any] | None] = [
        None,
        {"type": "note"},
        {"type": {"$in": ["note", "task"]}},
        {"n": {"$gt": 1}},
    ]
    for n in range(4):
        memory.store(f"note:{n}", f"The disk is {n}.", {"type": "note", "n": n})
    memory.store("large", "x" * 5000)
    memory.store("brief", 1, ttl=60)
    first = memory.create_snapshot("first")["snapshot_id"]
    memory.store("note:1", "The disk is full.", {"type": "note", "n": 1})
    memory.delete("note:2")
    memory.store("large", "y" * 5000)
    second = memory.create_snapshot("second")["snapshot_id"]
    for metadata_filter in filters:
        memory.search("disk", metadata_filter)
        memory.search(None, metadata_filter or {"type": "task"})
        memory.search(None, metadata_filter or {"type": "task"}, snapshot=first)
        memory.catalog.list_entries("note:", metadata_filter, after="note:0")
    list(memory.iterate_all())
    list(memory.iterate_all(snapshot=first))
    list(memory.changes(first))
    list(memory.diff(first, second))
    memory.retrieve("note:1", snapshot=first)
    memory.stats()
    memory.restore(first)
    clock.advance(61)
    assert memory.cleanup_expired()["deleted"] == 1
    clock.advance(86_400 * 31)
    memory.cleanup_expired()
    memory.expire_snapshot(first)
    memory.verify(repair=True)
    memory.gc()
    memory.health_check()


def test_every_query_has_its_index_and_every_index_its_query(asked: set[Index]) -> None:
    defined = defined_indexes()
    composite = {index for index in asked if not index.is_automatic}
    assert composite - defined.keys() == set()
    used = {defined[index] for index in composite}
    indexes = index_definitions()["indexes"]
    assert [each for number, each in enumerate(indexes) if number not in used] == []


def test_no_query_needs_the_automatic_index_of_a_field_that_is_exempt(asked: set[Index]) -> None:
    overrides = index_definitions(expire_entries=True)["fieldOverrides"]
    exempt = {(each["collectionGroup"], each["fieldPath"]) for each in overrides}
    assert len(exempt) == len(overrides)
    needed = {field for index in asked if index.is_automatic for field in index.fields}
    assert needed
    assert needed & exempt == set()


def query(*filters: Any, order: str = "", collection: str = "c") -> Any:
    """Return a query, with its order also by name."""
    built = types.StructuredQuery(from_=[{"collection_id": collection}])
    built.where = {"composite_filter": {"op": "AND", "filters": list(filters)}}
    names = filter(None, (order, "__name__"))
    built.order_by = [{"field": {"field_path": name}, "direction": "ASCENDING"} for name in names]
    return built


def compare(name: str, op: str) -> Any:
    return {
        "field_filter": {"field": {"field_path": name}, "op": op, "value": {"integer_value": 1}}
    }


@pytest.mark.parametrize(
    ("asked_for", "summed", "needed"),
    [
        (query(compare("a", "EQUAL"), compare("b", "IN")), (), ("ab", {}, True)),
        (query(order="a"), (), ("", {"a": UP}, True)),
        (query(compare("a", "GREATER_THAN"), order="a"), (), ("", {"a": UP}, True)),
        (query(), ["s"], ("", {"s": UP}, True)),
        (query(compare("a", "ARRAY_CONTAINS")), (), ("", {"a": "CONTAINS"}, True)),
        (query(compare("a", "EQUAL"), order="b"), (), ("a", {"b": UP}, False)),
        (query(compare("a", "IN"), order="b"), (), ("a", {"b": UP}, False)),
        (query(compare("a", "EQUAL")), ["s"], ("a", {"s": UP}, False)),
        (query(compare("a", "LESS_THAN")), ["s"], ("", {"a": UP, "s": UP}, False)),
        (
            query(compare("a", "ARRAY_CONTAINS_ANY"), order="b"),
            (),
            ("", {"a": "CONTAINS", "b": UP}, False),
        ),
    ],
)
def test_what_a_query_needs_is_told_by_its_fields(
    asked_for: Any, summed: Sequence[str], needed: Any
) -> None:
    equal, rest, is_automatic = needed
    index = required_index(asked_for, summed)
    assert index == Index("c", frozenset(equal), tuple(rest.items()))
    assert index.is_automatic is is_automatic


def test_the_definitions_say_what_the_server_understands() -> None:
    definitions = index_definitions(expire_entries=True)
    assert set(definitions) == {"indexes", "fieldOverrides"}
    for each in definitions["indexes"]:
        index = admin.Index(query_scope=each["queryScope"])
        assert each["collectionGroup"] in Collections.of("")
        for field in each["fields"]:
            how = {"order": field.get("order"), "array_config": field.get("arrayConfig")}
            index.fields.append(admin.Index.IndexField(field_path=field["fieldPath"], **how))
        assert len(index.fields) >= 2
    for each in definitions["fieldOverrides"]:
        assert each.keys() - {"ttl"} == {"collectionGroup", "fieldPath", "indexes"}
        assert each["collectionGroup"] in Collections.of("")
        assert each["indexes"] == []


def test_a_prefix_stands_before_every_collection() -> None:
    plain, prefixed = index_definitions(), index_definitions("app_")
    for kind, group in plain.items():
        names = [f"app_{each['collectionGroup']}" for each in group]
        assert [each["collectionGroup"] for each in prefixed[kind]] == names


def test_only_what_is_asked_for_expires_by_firestores_own_hand() -> None:
    def policies(**options: bool) -> list[str]:
        overrides = index_definitions(**options)["fieldOverrides"]
        return [each["collectionGroup"] for each in overrides if each.get("ttl")]

    assert policies() == ["ltm_entry_search"]
    assert policies(expire_entries=True) == ["ltm_entry_search", "ltm_entries"]
