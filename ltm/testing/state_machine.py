"""A state machine that compares a whole backend with a plain model of it, one step at a time.

A backend of a third party proves itself like this; the model says what every answer must be::

    class Machine(MemoryMachine):
        def make_backend(self, directory, clock, **options):
            catalog = SQLiteCatalog(directory / "catalog.db", clock=clock)
            return DuckDBLTMBackend(catalog, f"{directory}/data", owns_catalog=True, **options)

    TestMachine = Machine.TestCase
    TestMachine.settings = machine_settings
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from ltm.backend.base import LTMBackend
from ltm.entry import JSONValue
from ltm.hashing import compute_content_hash
from ltm.payload.base import payload_path
from ltm.testing.memory_model import (
    DAY,
    FILTERS,
    MAX_SNAPSHOTS,
    Content,
    ModelledMemory,
    ModelSnapshot,
    Shape,
    if_short,
    is_equal,
    keys_matching,
    keys_of,
)
from ltm.testing.strategies import json_values, same_json

machine_settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
"""A run takes seconds on SQLite; for a long one raise ``max_examples``."""

KEYS = st.sampled_from(["a", "b", "c/1", "c/2", "c%", "C/1"])
METADATA = st.sampled_from(
    [None, {"type": "note"}, {"type": "fact", "n": 1}, {"n": 1.0}, {"user": {"id": 7}, "n": True}]
)
SECONDS = st.sampled_from([None, None, 1, 10.5, 100])
WAITS = st.sampled_from([0.5, 1, 9.5, 100, 100_000])
SHAPES = st.sampled_from(["small", "large", "again"])
ITEMS = st.lists(st.tuples(KEYS, json_values, SHAPES, METADATA, SECONDS), max_size=5)
INDEX = st.integers(0, MAX_SNAPSHOTS - 1)


class MemoryMachine(ModelledMemory):
    """Does whatever a caller may do, in any order; every answer must be the model's.

    Subclasses give :meth:`make_backend`.
    """

    shares_objects = False
    """Whether several payloads may be in one object."""

    # One key

    @rule(
        key=KEYS,
        drawn=json_values,
        shape=SHAPES,
        metadata=METADATA,
        seconds=SECONDS,
        condition=st.sampled_from([None, None, None, "if_match", "stale", "if_absent"]),
    )
    def store(
        self,
        key: str,
        drawn: JSONValue,
        shape: Shape,
        metadata: dict[str, Any] | None,
        seconds: float | None,
        condition: str | None,
    ) -> None:
        """Store a value, perhaps on a condition."""
        present = self.live().get(key)
        options: dict[str, Any] = {"if_absent": True} if condition == "if_absent" else {}
        if condition in ("if_match", "stale"):
            same = condition == "if_match" and present is not None
            options["if_match"] = compute_content_hash(present.value if same and present else "no")
        refused = condition == "stale" or (
            condition is not None and (present is None) == (condition == "if_match")
        )
        value = self.make_value(drawn, shape)
        answer = self.memory.store(key, value, metadata, ttl=seconds, **options)
        if refused:
            assert answer["error_type"] == "conflict", answer
        else:
            self.expect_stored(answer, key, self.make_entry(value, metadata, seconds))

    @rule(key=KEYS, is_stale=st.sampled_from([False, False, True]))
    def delete(self, key: str, is_stale: bool) -> None:
        """Delete a key, perhaps on a condition that does not hold."""
        if is_stale:
            refused = self.memory.delete(key, if_match=compute_content_hash("no"))
            assert refused["error_type"] == "conflict", refused
            return
        answer = self.memory.delete(key)
        assert answer == {"success": True, "deleted": key in self.live(), "key": key}
        self.rows.pop(key, None)  # and what has expired, though nobody is told of it

    @rule(key=KEYS, drawn=json_values, shape=SHAPES)
    def update(self, key: str, drawn: JSONValue, shape: Shape) -> None:
        """Replace a value by one that is made of it."""
        value = self.make_value(drawn, shape)
        present = self.live().get(key)
        answer = self.memory.update(key, lambda old: [if_short(old), value], default="default")
        old = "default" if present is None else present.value
        entry = self.make_entry([if_short(old), value], None, None)
        if present is not None:
            entry = replace(entry, metadata=present.metadata, expires_at=present.expires_at)
        self.expect_stored(answer, key, entry)

    # Many keys

    @rule(items=ITEMS, atomic=st.booleans(), batch_size=st.sampled_from([1, 2, 500]))
    def store_batch(self, items: list[Any], atomic: bool, batch_size: int) -> None:
        """Store several values, some perhaps under one key."""
        entries: list[dict[str, Any]] = []
        last: Content = {}
        for key, drawn, shape, metadata, seconds in items:
            value = self.make_value(drawn, shape)
            entries.append({"key": key, "value": value, "metadata": metadata, "ttl": seconds})
            last[key] = self.make_entry(value, metadata, seconds)
        answer = self.memory.store_batch(entries, atomic=atomic, batch_size=batch_size)
        live = self.live()
        changed = [key for key, new in last.items() if not is_equal(live.get(key), new)]
        assert (answer["success"], answer["stored"], answer["failed"]) == (True, len(changed), 0)
        self.rows |= {key: last[key] for key in changed}

    @rule(items=ITEMS, deleted=st.lists(KEYS, max_size=3), end=st.sampled_from(["commit", "raise"]))
    def transaction(self, items: list[Any], deleted: list[str], end: str) -> None:
        """Store and delete in a transaction that commits or rolls back."""
        before = dict(self.rows)

        class RolledBackError(Exception):
            pass

        try:
            with self.memory.transaction() as block:
                callers: list[LTMBackend] = [block, self.memory]
                for number, (key, drawn, shape, metadata, seconds) in enumerate(items):
                    value = self.make_value(drawn, shape)
                    answer = callers[number % 2].store(key, value, metadata, ttl=seconds)
                    self.expect_stored(answer, key, self.make_entry(value, metadata, seconds))
                for number, key in enumerate(deleted):
                    answered = callers[number % 2].delete(key)
                    assert answered["deleted"] == (key in self.live())
                    self.rows.pop(key, None)
                self.expect_content(block.iterate_all(), self.live())
                if end == "raise":
                    raise RolledBackError
        except RolledBackError:
            self.rows = before

    @rule(limit=st.sampled_from([1, 1000]))
    def cleanup_expired(self, limit: int) -> None:
        """Remove what has expired, earliest first."""
        expired = sorted(
            (entry.expires_at, key)
            for key, entry in self.rows.items()
            if entry.expires_at is not None and entry.expires_at <= self.clock()
        )
        if len({expires_at for expires_at, _ in expired}) < len(expired):
            limit = 1000  # which of two that expired together goes first is not said
        answer = self.memory.cleanup_expired(limit)
        assert answer["success"], answer
        assert answer["deleted"] == len(expired[:limit])
        assert answer["remaining"] == len(expired[limit:])
        for _, key in expired[:limit]:
            del self.rows[key]

    @rule(seconds=WAITS)
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    # Snapshots

    @precondition(lambda self: len(self.snapshots) < MAX_SNAPSHOTS)
    @rule(name=st.sampled_from(["nightly", "weekly"]))
    def create_snapshot(self, name: str) -> None:
        """Take a snapshot."""
        answer = self.memory.create_snapshot(name)
        content = self.live()
        assert answer["success"], answer
        assert answer["entry_count"] == len(content)
        assert answer["total_bytes"] == sum(entry.byte_size for entry in content.values())
        taken = ModelSnapshot(id=answer["snapshot_id"], name=name, content=content)
        self.snapshots.append(taken)

    @precondition(lambda self: len(self.snapshots) < MAX_SNAPSHOTS)
    @rule(items=ITEMS, key=KEYS, seconds=WAITS, index=INDEX)
    def rotate(self, items: list[Any], key: str, seconds: float, index: int) -> None:
        """Do what is done every night: write, take a snapshot, go on, forget another one."""
        self.store_batch(items, atomic=True, batch_size=500)
        self.create_snapshot("nightly")
        self.delete(key, is_stale=False)
        self.wait(seconds)
        if len(self.snapshots) > 2:
            self.expire_snapshot(index)

    @precondition(lambda self: self.snapshots)
    @rule(index=INDEX, by_name=st.booleans(), key=KEYS)
    def look_back(self, index: int, by_name: bool, key: str) -> None:
        """Read as of a snapshot in every way there is."""
        snapshot = self.snapshot(index)
        reference = snapshot.id
        if by_name:
            reference = snapshot.name
            snapshot = next(each for each in self.snapshots[::-1] if each.name == reference)
        self.expect_content(self.memory.iterate_all(snapshot=reference), snapshot.content)
        inside = {key: entry for key, entry in snapshot.content.items() if key.startswith("c/")}
        self.expect_content(self.memory.iterate_all("c/", snapshot=reference), inside)
        answer = self.memory.retrieve(key, "default", snapshot=reference)
        entry = snapshot.content.get(key)
        assert (answer["success"], answer["found"]) == (True, entry is not None)
        assert same_json(answer["value"], "default" if entry is None else entry.value)
        for condition, holds in FILTERS:
            hits = self.memory.search(metadata_filter=condition, limit=99, snapshot=reference)
            assert keys_of(hits["results"]) == keys_matching(snapshot.content, holds)

    @precondition(lambda self: self.snapshots)
    @rule(a=INDEX, b=INDEX)
    def diff(self, a: int, b: int) -> None:
        """Compare two snapshots, in either order."""
        one, two = self.snapshot(a), self.snapshot(b)
        self.expect_changes(self.memory.diff(one.id, two.id), one.content, two.content)
        self.expect_changes(self.memory.changes(None), {}, self.live())

    @precondition(lambda self: self.snapshots)
    @rule(index=INDEX)
    def restore(self, index: int) -> None:
        """Go back to a snapshot."""
        snapshot, live = self.snapshot(index), self.live()
        wanted = {
            key: entry for key, entry in snapshot.content.items() if entry.is_live(self.clock())
        }
        answer = self.memory.restore(snapshot.id)
        changed = [key for key, entry in wanted.items() if not is_equal(live.get(key), entry)]
        gone = live.keys() - wanted.keys()
        assert answer == {"success": True, "restored": len(changed), "deleted": len(gone)}
        self.rows = {key: row for key, row in self.rows.items() if key not in gone} | wanted

    @precondition(lambda self: self.snapshots)
    @rule(index=INDEX)
    def expire_snapshot(self, index: int) -> None:
        """Forget a snapshot."""
        snapshot = self.snapshot(index)
        answer = self.memory.expire_snapshot(snapshot.id)
        assert answer == {"success": True, "snapshot_id": snapshot.id, "errors": []}
        self.snapshots.remove(snapshot)
        again = self.memory.retrieve("a", snapshot=snapshot.id)
        assert again["error_type"] == "snapshot_not_found", again

    # Upkeep

    @rule(name=st.sampled_from(["payload", "temporary"]), key=KEYS)
    def leave_stray(self, name: str, key: str) -> None:
        """Leave behind what a writer leaves that is killed before its commit."""
        catalog = self.memory.catalog
        identity = catalog.entry_id(key), compute_content_hash(len(self.strays))
        path = payload_path(catalog.table().storage_prefix, *identity, "json")
        if name == "temporary":
            directory, _, last = path.rpartition("/")
            path = f"{directory}/.{last}.{'0' * 16}.tmp"
        self.memory.payloads.write(path, b"stray")
        self.strays.add(path)

    @rule(grace=st.sampled_from([0, None]), dry_run=st.booleans(), compact=st.booleans())
    def gc(self, grace: float | None, dry_run: bool, compact: bool) -> None:
        """Collect garbage: all of it, or what is older than a day."""
        is_old = grace == 0 or self.clock() - self.start >= DAY
        before = self.files()
        options = {} if grace is None else {"grace": grace}
        answer = self.memory.gc(dry_run, compact=compact, **options)
        assert answer["success"], answer
        assert answer["scheduled"] == 0, "what a commit frees goes right after it"
        counted = answer["unreferenced"], answer["spared"], answer["foreign"]
        count = len(self.strays)
        assert counted == ((count, 0, 0) if is_old else (0, count, 0))
        if is_old and not dry_run:
            before -= self.strays
            self.strays = set()
        if answer["compacted"] and not dry_run:
            assert compact
            assert self.shares_objects
            assert len(self.files() - before) < answer["compacted"] == len(before - self.files())
        else:
            assert self.files() == before

    @rule(repair=st.booleans())
    def verify(self, repair: bool) -> None:
        """Find nothing wrong."""
        answer = self.memory.verify(repair)
        assert (answer["success"], answer["problems"]) == (True, [])
        assert answer["unreferenced"] == len(self.strays)
        assert answer["checked"] >= len(self.rows)

    @rule()
    def restart(self) -> None:
        """Close the memory and open it again."""
        self.memory.close()
        self.memory = self.open_memory()

    # What holds after every step

    @invariant()
    def the_present_is_the_models(self) -> None:
        """Compare every way to read the present."""
        live = self.live()
        self.expect_content(self.memory.iterate_all(), live)
        batch = self.memory.retrieve_batch([*live, "nobody"])
        assert batch["success"], batch
        assert batch["missing"] == ["nobody"]
        assert same_json(batch["results"], {key: entry.value for key, entry in live.items()})
        for condition, holds in FILTERS:
            hits = self.memory.search(metadata_filter=condition, limit=99)
            assert keys_of(hits["results"]) == keys_matching(live, holds)
        stats = self.memory.stats()
        counted = [stats["entries"], stats["payloads"], stats["total_bytes"], stats["expired"]]
        sizes = [entry.byte_size for entry in live.values()]
        large = sum(entry.is_large for entry in live.values())
        assert counted == [len(live), large, sum(sizes), len(self.rows) - len(live)]

    @invariant()
    def words_find_what_is_live(self) -> None:
        """Ask for each word of a live value, and for all other words at once."""
        live = self.live()
        present: set[str] = set().union(*(entry.words for entry in live.values()))
        for word in present:
            hits = self.memory.search(word, limit=99)
            holding = {key for key, entry in live.items() if word in entry.words}
            assert keys_of(hits["results"]) == holding
        gone = sorted(self.words - present)
        if gone:
            assert self.memory.search(" ".join(gone), limit=99)["results"] == []

    @invariant()
    def snapshots_are_as_they_were_taken(self) -> None:
        """Read every snapshot whole, and what has changed since."""
        listed = self.memory.list_snapshots()["snapshots"]
        assert [each["snapshot_id"] for each in listed] == [each.id for each in self.snapshots]
        for snapshot in self.snapshots:
            self.expect_content(self.memory.iterate_all(snapshot=snapshot.id), snapshot.content)
            changes = self.memory.changes(snapshot.id)
            self.expect_changes(changes, snapshot.content, self.live())

    @invariant()
    def every_payload_is_accounted_for(self) -> None:
        """Compare the objects with the rows that name them."""
        files = self.files()
        named = self.memory.catalog.named_payloads(sorted(files))
        assert files == named | self.strays
        if not self.snapshots and not self.shares_objects:
            assert len(named) == sum(entry.is_large for entry in self.rows.values())

    # Inside
