"""What is damaged behind the back of a memory is found; what can be repaired is repaired."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from place import Place

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog

LARGE = "Large " * 400
VALUES: dict[str, Any] = {
    "small": "alpha sparrow",
    "other": "beta finch",
    "large": f"gamma heron {LARGE}",
    "kept": f"delta crane {LARGE}",
}
WORDS = {"sparrow": "small", "finch": "other", "heron": "large", "crane": "kept"}


@pytest.fixture
def memory(memory: DuckDBLTMBackend) -> DuckDBLTMBackend:
    for key, value in VALUES.items():
        assert memory.store(key, value, {"name": key})["success"]
    assert memory.verify() == {"success": True, "checked": 4, "problems": [], "unreferenced": 0}
    return memory


def expect_searchable(memory: DuckDBLTMBackend, keys: set[str]) -> None:
    for word, key in WORDS.items():
        found = memory.search(word)["results"]
        assert [hit["key"] for hit in found if hit["key"] in keys] == [key] * (key in keys)
    for key in keys:
        assert [hit["key"] for hit in memory.search(None, {"name": key})["results"]] == [key]


def kinds(answer: Any) -> dict[str | None, str]:
    return {problem["key"]: problem["kind"] for problem in answer["problems"]}


INDEX_DAMAGE = {
    "metadata rows are gone": ("DELETE FROM ltm_entry_metadata", "metadata", 4),
    "a metadata row is wrong": ("UPDATE ltm_entry_metadata SET value = '4x'", "metadata", 4),
    "one entry's words are gone": (
        "DELETE FROM ltm_entry_search WHERE text LIKE '%sparrow%'",
        "words",
        1,
    ),
    "all words are gone": ("DELETE FROM ltm_entry_search", "words", 4),
    "words are wrong": ("UPDATE ltm_entry_search SET text = 'nonsense'", "words", 4),
    "the index lost a document": (
        "INSERT INTO ltm_entry_fts(ltm_entry_fts, rowid, text)"
        " SELECT 'delete', document_id, text FROM ltm_entry_search LIMIT 1",
        "index",
        1,
    ),
    "the index has a document too many": (
        "INSERT INTO ltm_entry_fts(rowid, text) VALUES (999, 'sparrow')",
        "index",
        1,
    ),
    "the index is empty": (
        "INSERT INTO ltm_entry_fts(ltm_entry_fts) VALUES ('delete-all')",
        "index",
        1,
    ),
}


@pytest.mark.parametrize("damage", INDEX_DAMAGE)
def test_damage_to_an_index_is_found_and_repaired(
    memory: DuckDBLTMBackend, place: Place, damage: str
) -> None:
    statement, kind, count = INDEX_DAMAGE[damage]
    place.rows(statement)
    before = {key: value for key, value, _ in memory.iterate_all()}
    for _ in range(2):
        found = memory.verify()
        assert (found["success"], found["error_type"]) == (False, "integrity_error")
        assert [problem["kind"] for problem in found["problems"]] == [kind] * count
        assert not any(problem["repaired"] for problem in found["problems"])
    repaired = memory.verify(repair=True)
    assert (repaired["success"], len(repaired["problems"])) == (True, count)
    assert all(problem["repaired"] for problem in repaired["problems"])
    assert memory.verify()["problems"] == []
    expect_searchable(memory, set(VALUES))
    assert {key: value for key, value, _ in memory.iterate_all()} == before == VALUES
    assert place.faults() == []


def payload_file(place: Place, key: str) -> Path:
    ((path,),) = place.rows("SELECT storage_uri FROM ltm_entries WHERE key = ?", key)
    return place.storage / path


def lose_payload(place: Place) -> None:
    payload_file(place, "large").unlink()


def flip_a_byte(place: Place) -> None:
    file = payload_file(place, "large")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_payload(place: Place) -> None:
    file = payload_file(place, "large")
    file.write_bytes(file.read_bytes()[:-1])


def alter_inlined(place: Place) -> None:
    place.rows(
        "UPDATE ltm_entries SET storage_uri = NULL, inlined_value = '\"x\"' WHERE key = 'large'"
    )


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lose_payload, "payload_missing"),
        (flip_a_byte, "integrity_error"),
        (cut_payload, "integrity_error"),
        (alter_inlined, "integrity_error"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_a_lost_value_is_reported_and_no_other_is_lost(
    memory: DuckDBLTMBackend, place: Place, damage: Any, kind: str, repair: bool
) -> None:
    damage(place)
    place.rows("DELETE FROM ltm_entry_search WHERE text LIKE '%finch%'")
    dump = place.dump()
    answer = memory.verify(repair=repair)
    assert not answer["success"]
    assert kinds(answer) == {"large": kind, "other": "words"}
    assert {each["key"]: each["repaired"] for each in answer["problems"]} == {
        "large": False,
        "other": repair,
    }
    others = {key: value for key, value in VALUES.items() if key != "large"}
    assert memory.retrieve_batch(others)["results"] == others
    assert memory.retrieve("large")["error_type"] == kind
    if repair:
        expect_searchable(memory, set(others))
        assert kinds(memory.verify()) == {"large": kind}
    else:
        assert place.dump() == dump


def test_a_lost_value_of_a_snapshot_is_reported(memory: DuckDBLTMBackend, place: Place) -> None:
    for name in ("one", "two"):
        memory.create_snapshot(name)
    file = payload_file(place, "large")
    memory.delete("large")
    file.unlink()
    answer = memory.verify(repair=True)
    assert kinds(answer) == {"large": "payload_missing"}
    assert memory.retrieve("large", snapshot="one")["error_type"] == "payload_missing"
    memory.expire_snapshot("one")
    memory.expire_snapshot("two")
    assert memory.verify()["success"]


def test_a_version_is_checked_once_however_many_snapshots_see_it(
    memory: DuckDBLTMBackend,
) -> None:
    for name in ("one", "two", "three"):
        memory.create_snapshot(name)
    memory.delete("large")
    assert memory.verify()["checked"] == 4


def test_an_index_that_cannot_be_written_to_is_made_anew(
    memory: DuckDBLTMBackend, place: Place
) -> None:
    place.rows("DELETE FROM ltm_entry_search WHERE text LIKE '%sparrow%'")
    place.rows("UPDATE ltm_entry_fts_data SET block = x'00' WHERE id = 10")
    assert memory.verify(repair=True)["success"]
    expect_searchable(memory, set(VALUES))


def test_a_catalog_that_is_locked_is_unavailable_and_not_damaged(place: Place) -> None:
    with DuckDBLTMBackend(
        SQLiteCatalog(place.catalog, busy_timeout=0.05), str(place.storage), owns_catalog=True
    ) as memory:
        memory.store("k", 1)
        other = sqlite3.connect(place.catalog, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = memory.verify()
        other.close()
    assert answer["error_type"] == "catalog_unavailable"


def test_nothing_is_wrong_while_others_write(place: Place) -> None:
    with place.open() as memory:
        memory.store_batch([(f"k{number}", f"w{number}", {"n": -1}) for number in range(100)])
        is_done = threading.Event()

        def write() -> None:
            for number in range(20_000):
                if is_done.is_set():
                    return
                memory.store(f"k{number % 100}", f"word{number}", {"n": number})

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        answers = [memory.verify() for _ in range(10)]
        is_done.set()
        writer.join()
        assert memory.verify()["success"]
    assert [answer["problems"] for answer in answers] == [[]] * len(answers)
