"""Every public verb of a catalog and of a backend, to be called while the server is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.firestore import FirestoreCatalog
from ltm.hashing import compute_content_hash

LARGE = "tea " * 500
SNAPSHOT = "before"


def prepare(memory: DuckDBLTMBackend) -> None:
    """Store what the verbs are about: two keys, a snapshot, and a change since."""
    answers: list[Any] = [memory.store("k", "tea"), memory.store("large", LARGE)]
    answers += [memory.create_snapshot(SNAPSHOT), memory.store("k", "green tea", {"n": 1})]
    answers.append(memory.search("tea"))
    assert all(answer["success"] for answer in answers), answers


def track(catalog: FirestoreCatalog, key: str = "k") -> object:
    return catalog.track_entry(key, compute_content_hash(1), None, 1, None, inlined_value=1)


def write_in_block(catalog: FirestoreCatalog) -> None:
    with catalog.transaction() as block:
        track(block, "blocked")


def catalog_verbs(catalog: FirestoreCatalog) -> dict[str, Callable[[], object]]:
    """Return the verbs by name; made while the server is there."""
    now, history = catalog.clock(), catalog.history
    rows = list(catalog.read_many(["k", "large"], now).values())
    uris = [row.storage_uri for row in rows if row.storage_uri is not None]
    snapshot = history.find(SNAPSHOT)
    entry = {
        "key": "batched",
        "content_hash": compute_content_hash(1),
        "storage_uri": None,
        "byte_size": 1,
        "metadata": {},
        "inlined_value": 1,
    }
    unused = catalog.bind("unused", inline_threshold=10, language="english")
    return {
        "table": unused.table,
        "track_entry": lambda: track(catalog),
        "get_entry": lambda: catalog.get_entry("k"),
        "list_entries": catalog.list_entries,
        "list_entries of a filter": lambda: catalog.list_entries("k", {"n": 1}),
        "delete_entry": lambda: catalog.delete_entry("k"),
        "store_batch": lambda: catalog.store_batch([entry]),
        "retrieve_batch": lambda: catalog.retrieve_batch(["k", "none"]),
        "cleanup_expired": catalog.cleanup_expired,
        "search": lambda: catalog.search("tea"),
        "search for the newest": catalog.search,
        "create_snapshot": lambda: catalog.create_snapshot("another"),
        "get_changed_entries": lambda: catalog.get_changed_entries(SNAPSHOT),
        "get_changed_entries of all": catalog.get_changed_entries,
        "snapshots": history.snapshots,
        "find": lambda: history.find("none"),
        "expire": lambda: history.expire(snapshot, now),
        "rows_as_of": lambda: history.rows_as_of(snapshot, "", "", 10),
        "read_as_of": lambda: history.read_as_of(snapshot, ["k"]),
        "read_live": lambda: history.read_live(["k"], now),
        "rows_live": lambda: history.rows_live("", "", 10, now),
        "keys_changed": lambda: history.keys_changed(snapshot, "", 10, now),
        "probe": lambda: catalog.probe(now),
        "statistics": lambda: catalog.statistics(now),
        "count_expired": lambda: catalog.count_expired(now),
        "named_payloads": lambda: catalog.named_payloads(uris),
        "deletable_payloads": lambda: catalog.deletable_payloads(uris),
        "scheduled_deletions": lambda: catalog.scheduled_deletions("", 10),
        "forget_deletions": lambda: catalog.forget_deletions(uris),
        "indexed": lambda: catalog.indexed(rows),
        "index_again": lambda: catalog.index_again([(rows[0], None)]),
        "check_search_index": lambda: catalog.check_search_index(repair=True),
        "transaction": lambda: write_in_block(catalog),
    }


def store_in_block(memory: DuckDBLTMBackend) -> None:
    with memory.transaction() as block:
        block.store("blocked", 1)


ANSWERING: dict[str, Callable[[DuckDBLTMBackend], Any]] = {
    "store": lambda memory: memory.store("k", "during"),
    "store a payload": lambda memory: memory.store("large", "during " * 500),
    "store the same": lambda memory: memory.store("k", "green tea", {"n": 1}),
    "store if absent": lambda memory: memory.store("k", 1, if_absent=True),
    "retrieve": lambda memory: memory.retrieve("k", "a default"),
    "retrieve what is not there": lambda memory: memory.retrieve("none", "a default"),
    "retrieve as of": lambda memory: memory.retrieve("k", snapshot=SNAPSHOT),
    "delete": lambda memory: memory.delete("k"),
    "update": lambda memory: memory.update("k", lambda value: value, default="a default"),
    "search": lambda memory: memory.search("tea"),
    "search for the newest": lambda memory: memory.search(),
    "search as of": lambda memory: memory.search(metadata_filter={"n": 1}, snapshot=SNAPSHOT),
    "store_batch": lambda memory: memory.store_batch([("a", 1), ("b", LARGE)]),
    "retrieve_batch": lambda memory: memory.retrieve_batch(["k", "none"]),
    "cleanup_expired": lambda memory: memory.cleanup_expired(),
    "create_snapshot": lambda memory: memory.create_snapshot("another"),
    "list_snapshots": lambda memory: memory.list_snapshots(),
    "expire_snapshot": lambda memory: memory.expire_snapshot(SNAPSHOT),
    "restore": lambda memory: memory.restore(SNAPSHOT),
    "gc": lambda memory: memory.gc(grace=0),
    "gc as a dry run": lambda memory: memory.gc(dry_run=True),
    "verify": lambda memory: memory.verify(),
    "verify and repair": lambda memory: memory.verify(repair=True),
    "stats": lambda memory: memory.stats(),
    "health_check": lambda memory: memory.health_check(),
}

RAISING: dict[str, Callable[[DuckDBLTMBackend], object]] = {
    "iterate_all": lambda memory: list(memory.iterate_all()),
    "iterate_all as of": lambda memory: list(memory.iterate_all(snapshot=SNAPSHOT)),
    "changes": lambda memory: list(memory.changes(SNAPSHOT)),
    "changes of all": lambda memory: list(memory.changes(None)),
    "diff": lambda memory: list(memory.diff(SNAPSHOT, SNAPSHOT)),
    "transaction": store_in_block,
}
