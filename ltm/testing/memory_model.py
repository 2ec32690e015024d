"""A plain model of a memory, for the state machine to compare a backend with."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from hypothesis.stateful import RuleBasedStateMachine

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.backend.results import StoreAnswer
from ltm.clock import utc_now
from ltm.entry import JSONValue
from ltm.hashing import canonical_json, compute_content_hash
from ltm.testing.clock import FakeClock
from ltm.testing.strategies import same_json

THRESHOLD = 1024
DAY = timedelta(days=1)
MAX_SNAPSHOTS = 4

Shape = Literal["small", "large", "again"]

FILTERS: list[tuple[dict[str, Any], Callable[[Mapping[str, Any]], bool]]] = [
    ({"type": "note"}, lambda metadata: metadata.get("type") == "note"),
    ({"n": 1}, lambda metadata: type(metadata.get("n")) in (int, float)),
    ({"n": True}, lambda metadata: metadata.get("n") is True),
    ({"user.id": 7}, lambda metadata: "user" in metadata),
    ({"type": {"$exists": False}}, lambda metadata: "type" not in metadata),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """What there is to know of an entry."""

    value: JSONValue
    metadata: dict[str, Any]
    expires_at: datetime | None

    @property
    def byte_size(self) -> int:
        """Bytes of the canonical JSON."""
        return len(canonical_json(self.value))

    @property
    def is_large(self) -> bool:
        """Whether the value goes to a payload."""
        return self.byte_size >= THRESHOLD

    @property
    def words(self) -> set[str]:
        """The words in the value that are in no other value but its copies."""
        return set(re.findall(r"unique\d+", canonical_json(self.value)))

    def is_live(self, now: datetime) -> bool:
        """Return whether it exists at *now*."""
        return self.expires_at is None or self.expires_at > now

    def is_same(self, other: ModelEntry) -> bool:
        """Return whether a change from *other* is none."""
        one, two = [[each.value, each.metadata] for each in (self, other)]
        return same_json(one, two) and self.expires_at == other.expires_at


Content = dict[str, ModelEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSnapshot:
    """A copy of all entries that existed when it was taken."""

    id: str
    name: str
    content: Content


class ModelledMemory(RuleBasedStateMachine):
    """A backend beside its model, and what the one must answer according to the other."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="ltm-machine-"))
        # Near the real time, because payloads have the times of their files, and ahead of it,
        # because a collection spares what seems to be of the future.
        self.start = utc_now() + DAY / 2
        self.clock = FakeClock(self.start)
        self.rows: Content = {}
        """By key, expired ones too until they are cleaned up."""
        self.snapshots: list[ModelSnapshot] = []
        self.strays: set[str] = set()
        """Payloads as a crashed writer leaves them."""
        self.words: set[str] = set()
        self.latest: JSONValue = {"word": "beginning"}
        self.memory = self.open_memory()

    def make_backend(self, directory: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        """Return a backend on the one memory in *directory*, the same at each call.

        *options* are those of the backend. The machine closes what it returns.
        """
        raise NotImplementedError

    def teardown(self) -> None:
        self.memory.close()
        shutil.rmtree(self.directory)

    def live(self) -> Content:
        """Return the entries that exist now."""
        return {key: entry for key, entry in self.rows.items() if entry.is_live(self.clock())}

    def open_memory(self) -> DuckDBLTMBackend:
        return self.make_backend(self.directory, self.clock, inline_threshold=THRESHOLD)

    def files(self) -> set[str]:
        prefix = self.memory.catalog.table().storage_prefix
        return {found.path for found in self.memory.payloads.list(prefix)}

    def snapshot(self, index: int) -> ModelSnapshot:
        return self.snapshots[index % len(self.snapshots)]

    def make_value(self, drawn: JSONValue, shape: Shape) -> JSONValue:
        """Return a value with a word of its own, or the one that was made last."""
        if shape != "again":
            word = f"unique{len(self.words)}"
            self.words.add(word)
            pad = "pad " * 300 if shape == "large" else ""
            self.latest = {"word": word, "drawn": drawn, "pad": pad}
        return self.latest

    def make_entry(self, value: JSONValue, metadata: Any, seconds: float | None) -> ModelEntry:
        expires_at = None if seconds is None else self.clock() + timedelta(seconds=seconds)
        return ModelEntry(value=value, metadata=metadata or {}, expires_at=expires_at)

    def expect_stored(self, answer: StoreAnswer, key: str, entry: ModelEntry) -> None:
        present = self.live().get(key)
        assert answer["success"], answer
        assert answer["stored"] == (not is_equal(present, entry))
        assert answer["created"] == (present is None)
        assert answer["inlined"] == (not entry.is_large)
        same = present is not None and same_json(present.value, entry.value)
        assert answer["deduplicated"] == same
        if answer["stored"]:
            self.rows[key] = entry

    def expect_content(
        self, found: Iterable[tuple[str, JSONValue, dict[str, Any]]], content: Content
    ) -> None:
        expected = [
            [key, content[key].value, content[key].metadata]
            for key in sorted(content, key=str.encode)
        ]
        assert same_json([list(each) for each in found], expected)

    def expect_changes(self, found: Iterable[Any], before: Content, after: Content) -> None:
        expected = {}
        for key in sorted(before.keys() | after.keys(), key=str.encode):
            one, two = before.get(key), after.get(key)
            if not (one is two or is_equal(one, two)):
                operation = "added" if one is None else "deleted" if two is None else "modified"
                expected[key] = operation, hash_of(two or one), hash_of(one)
        told = {
            each["key"]: (each["op"], each["content_hash"], each["previous_hash"]) for each in found
        }
        assert list(told.items()) == list(expected.items())


def if_short(value: JSONValue) -> JSONValue:
    """Return *value* unless updates have made it long."""
    return value if len(canonical_json(value)) < 3000 else None


def is_equal(one: ModelEntry | None, other: ModelEntry | None) -> bool:
    return one is not None and other is not None and one.is_same(other)


def hash_of(entry: ModelEntry | None) -> str | None:
    return None if entry is None else compute_content_hash(entry.value)


def keys_of(results: Iterable[Mapping[str, Any]]) -> set[str]:
    return {each["key"] for each in results}


def keys_matching(content: Content, holds: Callable[[Mapping[str, Any]], bool]) -> set[str]:
    return {key for key, entry in content.items() if holds(entry.metadata)}
