"""What every LTM backend must do with many entries at once: batches, search, iteration, health."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.locations import object_path
from ltm.testing.backend_fixtures import (
    LARGE,
    SMALL,
    BackendFixtures,
    BackendMaker,
    payloads_of,
)
from ltm.testing.catalog_fixtures import HOSTILE_TEXTS, relaxed
from ltm.testing.clock import FakeClock


class BackendManySuite(BackendFixtures):
    """Batches, search over values, streaming, statistics and health."""

    def test_a_batch_keeps_the_last_of_a_key(self, memory: DuckDBLTMBackend) -> None:
        answer = memory.store_batch(
            [
                {"key": "a", "value": 1, "metadata": {"n": 1}},
                ("b", LARGE, {"n": 2}),
                {"key": "a", "value": 3, "metadata": {"n": 3}},
                ("c", [LARGE]),
            ]
        )
        assert answer == {
            "success": True,
            "stored": 3,
            "failed": 0,
            "deduplicated": 0,
            "errors": [],
        }
        read = memory.retrieve_batch(["c", "a", "nobody", "b", "a"])
        assert list(read["results"].items()) == [("c", [LARGE]), ("a", 3), ("b", LARGE)]
        assert (read["missing"], read["found"], read["errors"]) == (["nobody"], 3, [])
        assert read["entries"]["a"]["metadata"] == {"n": 3}
        assert [entry["inlined"] for entry in read["entries"].values()] == [False, True, False]
        named = {row.storage_uri for row in memory.catalog.iterate("", memory.clock)} - {None}
        assert len(named) == 2
        assert {object_path(uri) for uri in named if uri} == set(payloads_of(memory))

    def test_a_batch_says_what_was_there_already(self, memory: DuckDBLTMBackend) -> None:
        memory.store_batch([("a", SMALL), ("b", LARGE)])
        again = memory.store_batch([("a", SMALL), ("b", LARGE), ("c", 1)])
        assert (again["stored"], again["deduplicated"]) == (1, 2)
        changed = memory.store_batch([("b", LARGE, {"new": True})])
        assert (changed["stored"], changed["deduplicated"]) == (1, 1)
        assert len(payloads_of(memory)) == 1

    @pytest.mark.parametrize("met", ["k3", "k57", "k199"])
    @pytest.mark.parametrize("ttl", [None, 5])
    def test_a_batch_of_new_entries_may_meet_one_that_is_there(
        self, memory: DuckDBLTMBackend, clock: FakeClock, met: str, ttl: int | None
    ) -> None:
        memory.store(met, "old", {"old": 1}, ttl=ttl)
        memory.create_snapshot("before")
        clock.advance(5)
        batch = [(f"k{n}", {"n": n}, {"new": 1}) for n in range(200)]
        answer = memory.store_batch(batch)
        assert (answer["stored"], answer["deduplicated"]) == (200, 0)
        assert memory.retrieve(met)["value"] == {"n": int(met[1:])}
        assert memory.search(metadata_filter={"new": 1}, limit=300)["count"] == 200
        assert memory.search(metadata_filter={"old": 1})["count"] == 0
        if ttl is None:
            assert memory.retrieve(met, snapshot="before")["value"] == "old"
        memory.delete(met)
        again = memory.store_batch(batch)
        assert (again["stored"], again["deduplicated"]) == (1, 199)

    def test_a_batch_keeps_texts_that_look_like_syntax(self, memory: DuckDBLTMBackend) -> None:
        texts = ['"', "\\", '\\"', "{}", "{a,b}", "NULL", ",", " ", "a\nb", "é", "1e+16", "'"]
        batch = [(text, {"text": text}, {text: [text], "x": 1e16}) for text in texts]
        assert memory.store_batch(batch)["success"]
        found = memory.retrieve_batch(texts)
        assert found["results"] == {text: {"text": text} for text in texts}
        metadata = {key: entry["metadata"] for key, entry in found["entries"].items()}
        assert metadata == {text: {text: [text], "x": 1e16} for text in texts}
        assert memory.search(metadata_filter={"x": 1e16}, limit=20)["count"] == len(texts)

    def test_a_batch_takes_each_value_as_it_is_when_it_comes(
        self, memory: DuckDBLTMBackend
    ) -> None:
        value = {"text": ""}

        def entries() -> Iterator[tuple[str, dict[str, str]]]:
            for key, value["text"] in animals.items():
                yield key, value

        animals = {"one": "zebra", "two": "heron", "three": "lynx"}
        assert memory.store_batch(entries())["stored"] == 3
        for key, animal in animals.items():
            assert [each["key"] for each in memory.search(animal)["results"]] == [key]
            assert memory.retrieve(key)["value"] == {"text": animal}

    def test_an_atomic_batch_with_one_bad_entry_stores_nothing(
        self, memory: DuckDBLTMBackend
    ) -> None:
        answer = memory.store_batch([("a", LARGE), {"key": "b", "value": {1}}, ("c", 1)])
        assert (answer["success"], answer["stored"], answer["failed"]) == (False, 0, 1)
        assert answer["error_type"] == "serialization_error"
        assert answer["errors"] == [
            {
                "index": 1,
                "key": "b",
                "error": "$: set is not JSON",
                "error_type": "serialization_error",
            }
        ]
        assert memory.stats()["entries"] == 0
        assert payloads_of(memory) == []

    def test_a_batch_that_is_not_atomic_stores_all_others_and_says_which_failed(
        self, memory: DuckDBLTMBackend
    ) -> None:
        entries: list[Any] = [(f"k{index}", [LARGE, index]) for index in range(7)]
        entries[2] = ("", 1)
        entries[4] = {"key": "k4", "value": 1, "ttl": -1}
        entries[5] = "k5"
        answer = memory.store_batch(entries, atomic=False, batch_size=2)
        assert (answer["success"], answer["stored"], answer["failed"]) == (False, 4, 3)
        assert [(each["index"], each["key"]) for each in answer["errors"]] == [
            (2, ""),
            (4, "k4"),
            (5, None),
        ]
        assert [key for key, _, _ in memory.iterate_all()] == ["k0", "k1", "k3", "k6"]

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ("text", "entries: expected a list"),
            ({"key": "a"}, "entries: expected a list"),
            ([{"key": "a"}], "value: is missing"),
            ([{"value": 1}], "key: is missing"),
            ([{"key": "a", "value": 1, "vlaue": 2}], "unknown field 'vlaue'"),
            ([("a",)], "expected a mapping or"),
            ([7], "expected a mapping or"),
        ],
        ids=str,
    )
    def test_a_batch_of_the_wrong_shape_is_refused(
        self, memory: DuckDBLTMBackend, entries: Any, message: str
    ) -> None:
        answer = memory.store_batch(entries)
        assert (answer["success"], answer["error_type"]) == (False, "validation_error")
        assert message in answer["error"]

    def test_an_empty_batch_is_a_success(self, memory: DuckDBLTMBackend) -> None:
        assert memory.store_batch([])["success"]
        assert memory.retrieve_batch([])["found"] == 0

    def test_expiry_and_times_of_a_batch_are_kept(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        made = clock.now.replace(year=2020)
        entry = {"key": "k", "value": 1, "ttl": 5, "created_at": made, "updated_at": made}
        assert memory.store_batch([entry])["success"]
        row = memory.catalog.get_entry("k")
        assert row is not None
        assert row["created_at"] == row["updated_at"] == made
        clock.advance(5)
        assert memory.retrieve("k")["found"] is False

    @pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
    def test_a_batch_size_below_one_is_refused(
        self, memory: DuckDBLTMBackend, batch_size: Any
    ) -> None:
        answer = memory.store_batch([("k", 1)], batch_size=batch_size)
        assert answer["error_type"] == "validation_error"
        assert memory.retrieve("k")["found"] is False

    # Search

    def test_strings_anywhere_in_a_payload_are_found(self, memory: DuckDBLTMBackend) -> None:
        memory.store("big", {"pages": [LARGE, {"deep": ["the hidden zebra"]}]}, {"type": "doc"})
        memory.store("small", "a zebra", {"type": "note"})
        found = memory.search("Where are hidden zebras?")
        assert found["success"]
        assert [result["key"] for result in found["results"]] == ["big", "small"]
        assert found["count"] == 2
        first = found["results"][0]
        assert first.keys() == {"key", "value", "metadata", "score", "content_hash"}
        assert first["value"]["pages"][1] == {"deep": ["the hidden zebra"]}
        assert first["score"] > found["results"][1]["score"] > 0
        only = memory.search("zebra", {"type": "note"}, limit=5)
        assert [result["key"] for result in only["results"]] == ["small"]

    @pytest.mark.parametrize("text", HOSTILE_TEXTS)
    def test_hostile_text_is_ordinary_everywhere(self, memory: DuckDBLTMBackend, text: str) -> None:
        name = f"x{text}"
        memory.store(text, {text: text}, {name: text})
        memory.store("other", text, {name: f"{text}{text}"})
        assert memory.retrieve(text)["value"] == {text: text}
        assert [each["key"] for each in memory.search(None, {name: text})["results"]] == [text]
        assert [key for key, _, _ in memory.iterate_all(prefix=text)] == [text]
        assert memory.search(text)["success"]
        assert memory.stats()["entries"] == 2

    @relaxed
    @given(query=st.text(st.characters()))
    def test_search_never_fails_on_any_text(self, memory: DuckDBLTMBackend, query: str) -> None:
        memory.store("k", query.encode(errors="replace").decode())
        assert memory.search(query)["success"]

    @pytest.mark.parametrize("limit", [0, -1, 2.5, "3", True])
    def test_a_bad_limit_is_named(self, memory: DuckDBLTMBackend, limit: Any) -> None:
        for answer in (memory.search("x", limit=limit), memory.cleanup_expired(limit)):
            assert (answer["success"], answer["error_type"]) == (False, "validation_error")
            assert "limit" in answer["error"]

    def test_without_full_text_search_values_are_still_found_by_metadata(
        self, make: BackendMaker
    ) -> None:
        memory = make()
        memory.store("k", "apples", {"type": "fruit"})
        plain = make(enable_fts=False)
        plain.store("k", "pears", {"type": "fruit"})
        plain.store("l", "plums")
        assert memory.search("apples pears plums")["count"] == 0
        assert memory.search(None, {"type": "fruit"})["results"][0]["value"] == "pears"

    # Streaming, numbers, health

    def test_iteration_streams_every_entry_in_key_order(self, memory: DuckDBLTMBackend) -> None:
        entries = [
            (f"k{index:04}", [LARGE] if index % 50 == 0 else index, {"i": index})
            for index in range(1100)
        ]
        memory.store_batch(entries)
        assert list(memory.iterate_all()) == [tuple(entry) for entry in entries]
        assert [key for key, _, _ in memory.iterate_all("k109")] == [
            f"k{index:04}" for index in range(1090, 1100)
        ]

    def test_entries_written_during_iteration_break_nothing(self, memory: DuckDBLTMBackend) -> None:
        memory.store_batch([(f"k{index:03}", [LARGE, index]) for index in range(40)])
        seen = []
        for key, _, _ in memory.iterate_all():
            seen.append(key)
            memory.store(key, [LARGE, "changed"])
            memory.delete(f"k{int(key[1:]) + 1:03}")
        assert len(seen) == len(set(seen))
        assert seen == sorted(seen)

    def test_iterators_raise_before_anything_is_yielded(
        self, make: BackendMaker, memory: DuckDBLTMBackend
    ) -> None:
        with pytest.raises(Exception, match="prefix: expected str, got int"):
            next(iter(memory.iterate_all(7)))  # type: ignore[arg-type] # the wrong type is the point

    def test_statistics_count_entries_and_bytes(self, memory: DuckDBLTMBackend) -> None:
        small, large = memory.store("a", SMALL), memory.store("b", LARGE)
        assert memory.stats() == {
            "success": True,
            "table": "default",
            "entries": 2,
            "inlined": 1,
            "payloads": 1,
            "total_bytes": small["byte_size"] + large["byte_size"],
            "inlined_bytes": small["byte_size"],
            "payload_bytes": large["byte_size"],
            "expired": 0,
        }

    def test_a_health_check_uses_both_parts_and_leaves_nothing(
        self, memory: DuckDBLTMBackend
    ) -> None:
        well = {"healthy": True, "error": None, "error_type": None}
        answer = memory.health_check()
        # A remote store has a circuit breaker, too.
        circuit = {"circuit": "closed"} if memory.payloads.circuit is not None else {}
        assert answer == {
            "success": True,
            "healthy": True,
            "catalog": well,
            "storage": {**well, **circuit},
        }
        assert list(memory.iterate_all()) == []
        assert payloads_of(memory) == []
        assert list(memory.payloads.list("ltm-health")) == []

    def test_tables_of_one_catalog_share_a_root_and_never_meet(self, make: BackendMaker) -> None:
        notes, tasks = make(table="notes"), make(table="tasks")
        notes.store("k", LARGE)
        tasks.store("k", [LARGE])
        notes.delete("k")
        assert tasks.retrieve("k")["value"] == [LARGE]
        assert (len(payloads_of(notes)), len(payloads_of(tasks))) == (0, 1)

    def test_a_closed_backend_says_so(self, make: BackendMaker) -> None:
        memory = make()
        memory.store("k", 1)
        memory.close()
        memory.close()
        for answer in (memory.store("k", 2), memory.retrieve("k"), memory.search("x")):
            assert (answer["success"], answer["error_type"]) == (False, "closed")

    def test_everything_is_there_after_reopening(self, make: BackendMaker) -> None:
        with make() as memory:
            memory.store("a", SMALL, {"type": "x"})
            memory.store("b", LARGE)
        again = make()
        assert again.retrieve("a")["value"] == SMALL
        assert again.retrieve("b")["value"] == LARGE
        assert again.search("small value", {"type": "x"})["count"] == 1
