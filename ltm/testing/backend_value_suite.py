"""What every LTM backend must do with values: stored, read, updated, forgotten, expired."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.entry import JSONValue
from ltm.errors import ConflictError, ValidationError
from ltm.hashing import canonical_json, compute_content_hash
from ltm.locations import object_path
from ltm.payload.values import read_texts
from ltm.testing import strategies
from ltm.testing.backend_fixtures import LARGE, SMALL, BackendFixtures, BackendMaker, payloads_of
from ltm.testing.catalog_fixtures import relaxed
from ltm.testing.clock import FakeClock

ODD_VALUES: tuple[JSONValue, ...] = (
    None,
    False,
    True,
    0,
    -0.0,
    1,
    1.0,
    1e16,
    5e-324,
    2**80,
    "",
    "nul\0",
    "\ud83d",
    [],
    {},
    [[1, [2, [3]]], {"": {"": 0}}],
    {"__x__": 1, "a.b": 2, "": 3},
)


class BackendValueSuite(BackendFixtures):
    """Values stored, read, updated and forgotten."""

    def test_a_small_value_is_inlined(self, memory: DuckDBLTMBackend) -> None:
        assert memory.store("k", SMALL, {"type": "note"}) == {
            "success": True,
            "stored": True,
            "created": True,
            "key": "k",
            "content_hash": compute_content_hash(SMALL),
            "inlined": True,
            "byte_size": len(canonical_json(SMALL)),
            "deduplicated": False,
        }
        assert memory.retrieve("k") == {
            "success": True,
            "found": True,
            "value": SMALL,
            "metadata": {"type": "note"},
            "content_hash": compute_content_hash(SMALL),
            "inlined": True,
        }
        assert payloads_of(memory) == []

    def test_a_large_value_is_a_payload(self, memory: DuckDBLTMBackend) -> None:
        answer = memory.store("k", LARGE)
        assert answer["inlined"] is False
        (path,) = payloads_of(memory)
        assert object_path(answer["storage_uri"] or "") == memory.payloads.uri(path)
        entry = memory.catalog.get_entry("k")
        assert entry is not None
        uris = [entry["storage_uri"] or ""]
        assert read_texts(memory.payloads, uris) == [canonical_json(LARGE)]
        read = memory.retrieve("k")
        assert (read["value"], read["inlined"], read["metadata"]) == (LARGE, False, {})

    def test_a_value_strictly_below_the_threshold_is_inlined(self, make: BackendMaker) -> None:
        memory = make(inline_threshold=10)
        assert memory.store("below", "1234567")["inlined"] is True
        assert memory.store("at", "12345678")["inlined"] is False

    def test_an_absent_key_answers_the_default(self, memory: DuckDBLTMBackend) -> None:
        assert memory.retrieve("k", [1]) == {
            "success": True,
            "found": False,
            "value": [1],
            "metadata": None,
            "content_hash": None,
            "inlined": False,
        }

    @pytest.mark.parametrize("threshold", [0, 1024])
    @pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
    def test_odd_values_come_back_type_for_type(
        self, make: BackendMaker, value: JSONValue, threshold: int
    ) -> None:
        memory = make(inline_threshold=threshold)
        assert memory.store("k", value)["inlined"] is (threshold > 0)
        read = memory.retrieve("k", "default")
        assert read["found"]
        assert strategies.same_json(read["value"], value)

    @relaxed
    @given(value=strategies.json_values, is_inlined=st.booleans())
    def test_any_json_value_comes_back_type_for_type(
        self, make: BackendMaker, value: JSONValue, is_inlined: bool
    ) -> None:
        memory = make(inline_threshold=10**9 if is_inlined else 0)
        answer = memory.store("k", value)
        assert answer["content_hash"] == compute_content_hash(value)
        read = memory.retrieve("k")
        assert read["found"]
        assert strategies.same_json(read["value"], value)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({"items": [0, {"when": datetime(2030, 1, 1)}]}, "$.items[1].when: datetime is not"),  # noqa: DTZ001 -- naive on purpose
            ({"raw": b"x"}, "$.raw: bytes is not JSON"),
            ([{1, 2}], "$[0]: set is not JSON"),
            ({"a": float("nan")}, "$.a: nan is not JSON"),
            ([float("inf")], "$[0]: inf is not JSON"),
            ({1: "x"}, "$: key 1 is int, not a string"),
            ((1, 2), "$: tuple is not JSON"),
            ("\ud83d\ude00", "$: holds a surrogate pair"),
            (10**5000, "$: integer has too many digits"),
            (object(), "$: object is not JSON"),
        ],
        ids=lambda case: type(case).__name__,
    )
    def test_what_is_not_json_is_refused_with_its_path(
        self, memory: DuckDBLTMBackend, value: Any, message: str
    ) -> None:
        answer = memory.store("k", value)
        assert (answer["success"], answer["error_type"]) == (False, "serialization_error")
        assert message in answer["error"]
        assert memory.retrieve("k")["found"] is False
        assert payloads_of(memory) == []

    def test_a_value_that_contains_itself_is_refused(self, memory: DuckDBLTMBackend) -> None:
        loop: list[Any] = [1]
        loop.append({"again": loop})
        assert "$[1].again: contains itself" in memory.store("k", loop)["error"]
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        assert memory.store("k", deep)["error_type"] == "serialization_error"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"key": ""}, "key: is empty"),
            ({"key": "x" * 1025}, "key: 1025 bytes"),
            ({"key": "a\0"}, "key: 'a\\x00' holds NUL"),
            ({"ttl": 0}, "ttl: expected seconds above 0, got 0"),
            ({"ttl": -1}, "ttl: expected seconds above 0, got -1"),
            ({"ttl": "60"}, "ttl: expected seconds as int or float, got '60'"),
            ({"ttl": True}, "ttl: expected seconds"),
            ({"ttl": float("nan")}, "ttl: expected seconds above 0, got nan"),
            ({"ttl": float("inf")}, "ttl: expected seconds above 0, got inf"),
            ({"ttl": 1e300}, "past the year 9999"),
            ({"expires_at": datetime(2030, 1, 1)}, "expires_at: 2030-01-01T00:00:00 has no UTC"),  # noqa: DTZ001 -- naive on purpose
            ({"ttl": 1, "expires_at": FakeClock()()}, "ttl and expires_at: give one"),
            ({"metadata": {"ttl": "soon"}}, "metadata.ttl: expected seconds"),
            ({"metadata": {"_cache_expires_at": "soon"}}, "metadata._cache_expires_at: 'soon'"),
            ({"metadata": {"expires_at": 5}}, "metadata.expires_at: expected ISO 8601"),
            ({"metadata": {"expires_at": "2030-01-01T00:00:00"}}, "has no UTC offset"),
            ({"metadata": "note"}, "metadata: expected an object, got str"),
            ({"if_match": "sha256:0", "if_absent": True}, "if_match and if_absent: give one"),
        ],
        ids=lambda case: str(case)[:40],
    )
    def test_bad_arguments_are_named_and_nothing_is_written(
        self, memory: DuckDBLTMBackend, arguments: dict[str, Any], message: str
    ) -> None:
        answer = memory.store(**{"key": "k", "value": LARGE, **arguments})
        assert (answer["success"], answer["error_type"]) == (False, "validation_error")
        assert message in answer["error"]
        assert memory.stats()["entries"] == 0
        assert payloads_of(memory) == []

    def test_failures_are_raised_where_that_was_asked_for(self, make: BackendMaker) -> None:
        memory = make(raise_errors=True)
        memory.store("k", 1)
        with pytest.raises(ValidationError):
            memory.retrieve("")
        with pytest.raises(ConflictError):
            memory.store("k", 2, if_absent=True)
        with pytest.raises(ValidationError):
            memory.store_batch([("k", 1), ("", 2)])

    # Deduplication

    @pytest.mark.parametrize("value", [SMALL, LARGE], ids=["inlined", "payload"])
    def test_an_unchanged_value_is_not_written_again(
        self, memory: DuckDBLTMBackend, clock: FakeClock, value: JSONValue
    ) -> None:
        memory.store("k", value, {"a": 1})
        before, objects = memory.catalog.get_entry("k"), payloads_of(memory)
        clock.advance(5)
        again = memory.store("k", value, {"a": 1})
        assert (again["stored"], again["created"], again["deduplicated"]) == (False, False, True)
        assert memory.catalog.get_entry("k") == before
        assert payloads_of(memory) == objects

    def test_new_terms_for_the_same_value_leave_its_payload(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        memory.store("k", LARGE, {"a": 1})
        objects = payloads_of(memory)
        answer = memory.store("k", LARGE, {"a": 2})
        assert (answer["stored"], answer["deduplicated"]) == (True, True)
        assert memory.store("k", LARGE, {"a": 2}, ttl=60)["stored"] is True
        assert payloads_of(memory) == objects
        assert memory.retrieve("k")["metadata"] == {"a": 2}
        clock.advance(60)
        assert memory.retrieve("k")["found"] is False

    def test_a_replaced_payload_is_deleted_after_the_commit(self, memory: DuckDBLTMBackend) -> None:
        memory.store("k", LARGE)
        (old,) = payloads_of(memory)
        memory.store("k", [LARGE])
        (new,) = payloads_of(memory)
        assert old != new
        memory.store("k", SMALL)
        assert payloads_of(memory) == []
        assert memory.catalog.scheduled_deletions("", 10) == []

    def test_the_same_value_again_gets_an_object_of_its_own(self, memory: DuckDBLTMBackend) -> None:
        memory.store("k", LARGE)
        (first,) = payloads_of(memory)
        memory.delete("k")
        memory.store("k", LARGE)
        (second,) = payloads_of(memory)
        assert first != second, "names are never used again"

    # Conditions, update, delete

    def test_conditional_stores_lose_with_the_current_hash(self, memory: DuckDBLTMBackend) -> None:
        memory.store("k", LARGE)
        lost = memory.store("k", [LARGE], if_absent=True)
        assert (lost["success"], lost["error_type"]) == (False, "conflict")
        assert lost["current_hash"] == compute_content_hash(LARGE)
        lost = memory.store("k", [LARGE], if_match=compute_content_hash("other"))
        assert lost["error_type"] == "conflict"
        assert memory.store("k", SMALL, if_match=compute_content_hash(LARGE))["stored"]
        assert memory.delete("k", if_match=compute_content_hash(LARGE))["error_type"] == "conflict"
        assert memory.delete("k", if_match=compute_content_hash(SMALL))["deleted"]
        assert payloads_of(memory) == []

    def test_update_keeps_metadata_and_expiry(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        memory.store("k", 1, {"type": "count"}, ttl=60)
        assert memory.update("k", lambda value: value + 1)["stored"]
        assert memory.retrieve("k")["metadata"] == {"type": "count"}
        clock.advance(60)
        assert memory.update("k", lambda value: value + 1, default=10)["created"]
        assert memory.retrieve("k")["value"] == 11

    def test_update_starts_from_a_copy_of_the_default(self, memory: DuckDBLTMBackend) -> None:
        default: list[int] = []

        def add(value: JSONValue) -> JSONValue:
            value.append(1)
            return value

        memory.update("a", add, default=default)
        memory.update("b", add, default=default)
        assert (default, memory.retrieve("b")["value"]) == ([], [1])

    def test_update_calls_again_when_another_writer_came_first(
        self, memory: DuckDBLTMBackend
    ) -> None:
        seen = []

        def double(value: JSONValue) -> JSONValue:
            seen.append(value)
            if len(seen) == 1:
                memory.store("k", 50, {"by": "another"})
            return value * 2

        memory.store("k", 1)
        assert memory.update("k", double)["success"]
        assert (seen, memory.retrieve("k")["value"]) == ([1, 50], 100)
        assert memory.retrieve("k")["metadata"] == {"by": "another"}

    def test_update_gives_up_after_its_retries(self, memory: DuckDBLTMBackend) -> None:
        def disturbed(value: JSONValue) -> JSONValue:
            memory.store("k", value + 1)
            return value * 2

        memory.store("k", 1)
        assert memory.update("k", disturbed, retries=2)["error_type"] == "conflict"
        assert memory.retrieve("k")["value"] == 4
        assert memory.update("k", disturbed, retries=-1)["error_type"] == "validation_error"

    def test_what_an_update_function_raises_is_raised(self, memory: DuckDBLTMBackend) -> None:
        memory.store("k", 1)
        with pytest.raises(ZeroDivisionError):
            memory.update("k", lambda value: value / 0)
        assert memory.retrieve("k")["value"] == 1

    @pytest.mark.parametrize("value", [SMALL, LARGE], ids=["inlined", "payload"])
    def test_a_deleted_key_is_gone_with_its_payload(
        self, memory: DuckDBLTMBackend, value: JSONValue
    ) -> None:
        memory.store("k", value)
        assert memory.delete("k") == {"success": True, "deleted": True, "key": "k"}
        assert memory.delete("k") == {"success": True, "deleted": False, "key": "k"}
        assert memory.retrieve("k")["found"] is False
        assert payloads_of(memory) == []

    # Expiry

    def test_storing_an_expired_key_with_the_same_value_makes_it_live(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        for value in (SMALL, LARGE):
            memory.store("k", value, ttl=10)
            clock.advance(10)
            assert memory.retrieve("k")["found"] is False
            again = memory.store("k", value, ttl=10)
            assert (again["stored"], again["created"]) == (True, True)
            assert memory.retrieve("k")["value"] == value

    def test_an_expired_entry_is_invisible_on_every_read_path(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        memory.store("k", LARGE, {"type": "x"}, expires_at=clock.now + timedelta(seconds=9.5))
        clock.advance(9.5)
        assert memory.retrieve("k")["found"] is False
        assert memory.retrieve_batch(["k"])["missing"] == ["k"]
        assert memory.search("large value")["count"] == 0
        assert memory.search(None, {"type": "x"})["count"] == memory.search()["count"] == 0
        assert list(memory.iterate_all()) == []
        stats = memory.stats()
        assert (stats["entries"], stats["total_bytes"], stats["expired"]) == (0, 0, 1)
        assert memory.delete("k")["deleted"] is False
        assert memory.update("k", lambda value: value, default="new")["created"]

    def test_clean_up_removes_rows_words_and_payloads(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        for index in range(4):
            memory.store(f"k{index}", [LARGE, index], ttl=index + 1)
        memory.store("stays", LARGE)
        clock.advance(3)
        answer = memory.cleanup_expired(limit=2)
        assert answer == {"success": True, "deleted": 2, "remaining": 1, "errors": []}
        assert memory.cleanup_expired(batch_size=5)["deleted"] == 1
        assert len(payloads_of(memory)) == 2
        clock.advance(-10)
        assert [key for key, _, _ in memory.iterate_all()] == ["k3", "stays"]
        assert memory.search("large value")["count"] == 2

    @pytest.mark.parametrize(
        "metadata",
        [
            {"_cache_expires_at": "2030-01-01T00:01:00+00:00"},
            {"expires_at": "2029-12-31T21:01:00-03:00"},
            {"ttl": 60},
        ],
        ids=str,
    )
    def test_expiry_in_metadata_counts_where_no_argument_is_given(
        self, memory: DuckDBLTMBackend, clock: FakeClock, metadata: dict[str, Any]
    ) -> None:
        memory.store("k", 1, metadata)
        memory.store("argument", 1, metadata, ttl=120)
        clock.advance(60)
        assert memory.retrieve("k")["found"] is False
        assert memory.retrieve("argument")["found"] is True
