"""Every answer is made of plain Python and nothing else, whatever the catalog and the store."""

from __future__ import annotations

import enum
import json
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from ltm import LTMBackend, create_ltm_backend

LONG = {"text": "Invoices are paid within thirty days. " * 60, "pages": [1, 2.5, None, True]}
LEAVES = (str, int, float, bool, type(None))

Call = Callable[[LTMBackend], Any]


@pytest.fixture(params=["sqlite", "native", "postgres", "supabase", "firestore"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What makes a memory on one kind of catalog, with payloads in files or in rows."""
    match request.param:
        case "postgres" | "supabase" as kind:
            url = request.getfixturevalue("postgres_url")
            config: dict[str, Any] = {"type": kind, "connection_string": url}
        case "firestore":
            config = {"type": "firestore", "project": request.getfixturevalue("firestore_project")}
        case _:
            config = {"type": "sqlite", "path": f"{tmp_path}/catalog.db"}
    name = "payloads.duckdb" if request.param == "native" else "payloads"
    return {"catalog_config": config, "storage_uri": f"{tmp_path}/{name}"}


@pytest.fixture
def memory(options: dict[str, Any]) -> Any:
    with create_ltm_backend("duckdb", **options) as made:
        yield made


def require_plain(value: Any, path: str = "answer") -> None:
    """Fail where anything in *value* is an instance of more than JSON and aware instants are."""
    if type(value) is dict:
        for key, each in value.items():
            assert type(key) is str, f"{path}: key {key!r}"
            require_plain(each, f"{path}[{key!r}]")
    elif type(value) is list:
        for index, each in enumerate(value):
            require_plain(each, f"{path}[{index}]")
    elif type(value) is datetime:
        assert value.utcoffset() == timedelta(0), path
    else:
        assert type(value) in LEAVES, f"{path}: {type(value)}"


# Last words of the names of calls that are to fail.
FAILING = {"refused", "conflict", "part"}


def fill(memory: LTMBackend) -> None:
    memory.store(key="short", value={"n": [1, {"m": None}]}, metadata={"kind": {"deep": [1, "x"]}})
    memory.store(key="long", value=LONG, metadata={"kind": "page"})
    memory.create_snapshot(name="before")
    memory.store(key="short", value="other", ttl=3600.5)


CORE: dict[str, Call] = {
    "store": lambda m: m.store(key="new", value=LONG, metadata={"a": 1}, ttl=60),
    "store again": lambda m: m.store(key="long", value=LONG, metadata={"kind": "page"}),
    "store refused": lambda m: m.store(key="long", value={"when": datetime.now}),
    "store of a bad key, refused": lambda m: m.store(key=7, value=1),  # type: ignore[arg-type]
    "store in conflict": lambda m: m.store(key="long", value=1, if_absent=True),
    "retrieve": lambda m: m.retrieve(key="long", default=None),
    "retrieve inlined": lambda m: m.retrieve(key="short"),
    "retrieve nothing": lambda m: m.retrieve(key="none", default=[]),
    "retrieve of a snapshot": lambda m: m.retrieve(key="short", snapshot="before"),
    "retrieve of no snapshot, refused": lambda m: m.retrieve(key="short", snapshot="never"),
    "delete": lambda m: m.delete(key="long"),
    "delete nothing": lambda m: m.delete(key="none"),
    "delete in conflict": lambda m: m.delete(key="long", if_match="sha256:0"),
    "search": lambda m: m.search(query="invoices", metadata_filter={"kind": "page"}, limit=5),
    "search newest": lambda m: m.search(query=None, metadata_filter=None, limit=10),
    "search a snapshot": lambda m: m.search(metadata_filter={}, limit=10, snapshot="before"),
    "search refused": lambda m: m.search(query="x", metadata_filter={"a": {"$no": 1}}, limit=1),
    "store_batch": lambda m: m.store_batch(
        entries=[("a", LONG), ("b", 1, {"x": 1}), {"key": "c", "value": None}],
        atomic=True,
        batch_size=2,
    ),
    "store_batch in part": lambda m: m.store_batch(
        entries=[("a", 1), ("", 2), ("c", {1}), (7, 1), "no entry"], atomic=False
    ),
    "retrieve_batch": lambda m: m.retrieve_batch(keys=["long", "short", "none"]),
    "retrieve_batch refused": lambda m: m.retrieve_batch(keys=["long", ""]),
    "cleanup_expired": lambda m: m.cleanup_expired(limit=10),
    "cleanup_expired otherwise": lambda m: m.cleanup_expired(batch_size=10),
    "update": lambda m: m.update(key="count", fn=lambda n: n + 1, default=0, retries=3),
}
OTHERS: dict[str, Call] = {
    "create_snapshot": lambda m: m.create_snapshot(name="now"),
    "create_snapshot refused": lambda m: m.create_snapshot(name=""),
    "list_snapshots": lambda m: m.list_snapshots(),
    "restore": lambda m: m.restore(snapshot="before"),
    "expire_snapshot": lambda m: m.expire_snapshot(snapshot="before"),
    "expire_snapshot of none, refused": lambda m: m.expire_snapshot(snapshot="never"),
    "gc": lambda m: m.gc(dry_run=True, grace=0.0),
    "verify": lambda m: m.verify(repair=True),
    "stats": lambda m: m.stats(),
    "health_check": lambda m: m.health_check(),
}


def test_an_answer_is_a_plain_dictionary_all_the_way_down(memory: LTMBackend) -> None:
    for name, call in {**CORE, **OTHERS}.items():
        fill(memory)
        answer = call(memory)
        assert type(answer) is dict, name
        require_plain(answer, name)
        assert type(answer["success"]) is bool
        assert answer["success"] is (name.split()[-1] not in FAILING), answer
        assert answer["success"] or {"error", "error_type"} <= {*answer}, answer
        if name in CORE:
            assert json.loads(json.dumps(answer)) == answer


def test_what_is_iterated_over_is_plain_too(memory: LTMBackend) -> None:
    fill(memory)
    for entry in memory.iterate_all(prefix=""):
        assert type(entry) is tuple
        require_plain([*entry])
    (point,) = memory.list_snapshots()["snapshots"]
    memory.create_snapshot(name="after")
    changed = [*memory.changes(since=point["snapshot_id"]), *memory.diff(a="before", b="after")]
    assert [change["key"] for change in changed] == ["short", "short"]
    require_plain(changed)


class Topic(enum.StrEnum):
    THEME = "user:7:theme"
    UNHEARD = "user:7:unheard"


class Level(enum.IntEnum):
    HIGH = 3


def test_what_an_application_subclasses_is_taken_for_what_it_is(memory: LTMBackend) -> None:
    value = OrderedDict(level=Level.HIGH, topic=Topic.THEME)
    about = MappingProxyType({"level": Level.HIGH, "topic": Topic.THEME})
    require_plain(memory.store(key=Topic.THEME, value=value, metadata=about))
    require_plain(memory.store_batch(entries=[(Topic.THEME, value, about)]))
    require_plain(memory.store_batch(entries=[(Topic.THEME, {1})], atomic=False))
    found = memory.retrieve(key="user:7:theme")
    plain = {"level": 3, "topic": "user:7:theme"}
    assert (found["value"], found["metadata"]) == (plain, plain)
    assert memory.retrieve(key=Topic.THEME) == found
    require_plain(found)
    assert [key for key, _, _ in memory.iterate_all(prefix=Topic.THEME)] == ["user:7:theme"]
    many = memory.retrieve_batch(keys=[Topic.THEME, Topic.UNHEARD])
    assert (many["results"], many["missing"]) == ({"user:7:theme": plain}, ["user:7:unheard"])
    require_plain(many)
    searched = memory.search(metadata_filter={"level": Level.HIGH, "topic": Topic.THEME})
    assert [each["key"] for each in searched["results"]] == ["user:7:theme"]
    require_plain(searched)
    require_plain(memory.create_snapshot(name=Topic.THEME))
    require_plain(memory.retrieve(key=Topic.THEME, snapshot=Topic.THEME))
    removed = memory.delete(key=Topic.THEME)
    assert removed["deleted"]
    require_plain(removed)
