"""Files lost, damaged, locked or full: each is told apart from an entry that is not there."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from place import Place

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import (
    CatalogUnavailableError,
    ClosedError,
    IntegrityError,
    LTMError,
    PayloadNotFoundError,
)

LARGE = "large" * 1000

VERBS: dict[str, Callable[[DuckDBLTMBackend], Any]] = {
    "store": lambda memory: memory.store("k", "new"),
    "retrieve": lambda memory: memory.retrieve("k"),
    "delete": lambda memory: memory.delete("k"),
    "update": lambda memory: memory.update("k", lambda value: value),
    "search": lambda memory: memory.search("k"),
    "newest": lambda memory: memory.search(),
    "store_batch": lambda memory: memory.store_batch([("k", 1)]),
    "each": lambda memory: memory.store_batch([("k", 1)], atomic=False),
    "retrieve_batch": lambda memory: memory.retrieve_batch(["k"]),
    "cleanup_expired": lambda memory: memory.cleanup_expired(),
    "stats": lambda memory: memory.stats(),
    "health_check": lambda memory: memory.health_check(),
}
READS = ("retrieve", "update", "search", "newest", "retrieve_batch")


@pytest.fixture
def memory(place: Place) -> Iterator[DuckDBLTMBackend]:
    with place.open() as memory:
        yield memory


def expect_error(memory: DuckDBLTMBackend, error: type[LTMError]) -> None:
    """Check that no way to read ``k`` gives a value or the word that there is none."""
    for verb in READS:
        answer = VERBS[verb](memory)
        assert not answer["success"], verb
        assert answer["error_type"] == error.error_type, (verb, answer)
        assert not answer.get("missing"), verb
        assert not answer.get("results"), verb
    with pytest.raises(error):
        next(memory.iterate_all())


def payload(place: Place) -> Path:
    (path,) = place.files()
    return place.storage / path


def test_a_payload_removed_by_hand_is_missing_not_absent(
    place: Place, memory: DuckDBLTMBackend
) -> None:
    memory.store("k", LARGE)
    payload(place).unlink()
    expect_error(memory, PayloadNotFoundError)
    assert memory.retrieve_batch(["k"])["errors"][0]["key"] == "k"
    assert memory.store("k", LARGE + "!")["stored"]
    assert memory.retrieve("k")["value"] == LARGE + "!"


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_one_flipped_bit_in_a_payload_is_noticed(
    place: Place, memory: DuckDBLTMBackend, where: str
) -> None:
    memory.store("k", LARGE)
    content = bytearray(payload(place).read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[where]] ^= 1
    payload(place).write_bytes(content)
    expect_error(memory, IntegrityError)
    assert memory.store("k", "new")["stored"]
    assert memory.retrieve("k")["value"] == "new"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b" ",
        lambda content: b"\xff" + content[1:],
        lambda content: b"[" * len(content),
        lambda content: content.replace(b"large", b"small"),
    ],
    ids=["emptied", "cut short", "longer", "not UTF-8", "not JSON", "another value"],
)
def test_a_payload_with_another_content_is_never_a_value(
    place: Place, memory: DuckDBLTMBackend, damage: Callable[[bytes], bytes]
) -> None:
    memory.store("k", LARGE)
    payload(place).write_bytes(damage(payload(place).read_bytes()))
    expect_error(memory, IntegrityError)


def test_payloads_that_change_places_are_noticed(place: Place, memory: DuckDBLTMBackend) -> None:
    memory.store("k", LARGE)
    memory.store("other", LARGE + "!")
    one, other = (place.storage / path for path in place.files())
    (content, others) = one.read_bytes(), other.read_bytes()
    one.write_bytes(others)
    other.write_bytes(content)
    expect_error(memory, IntegrityError)


def test_one_damaged_payload_hides_no_other(place: Place, memory: DuckDBLTMBackend) -> None:
    memory.store("k", LARGE)
    payload(place).write_bytes(b"damaged")
    memory.store("sound", LARGE + "!")
    answer = memory.retrieve_batch(["k", "sound", "absent"])
    assert not answer["success"]
    assert answer["results"] == {"sound": LARGE + "!"}
    assert answer["missing"] == ["absent"]
    found = memory.search(limit=10)
    assert not found["success"]
    assert [each["key"] for each in found["results"]] == ["sound"]


@pytest.mark.parametrize(
    "damage",
    [
        "inlined_value = '2'",
        "inlined_value = '1 '",
        "inlined_value = ''",
        "inlined_value = '{broken'",
        "inlined_value = x'ff00'",
        "content_hash = 'sha256:0'",
        "content_hash = ''",
        "inlined_value = CAST(x'ff31' AS TEXT)",
        "expires_at = 'someday'",
        "metadata = '{broken'",
    ],
)
def test_a_damaged_row_is_an_integrity_error(place: Place, damage: str) -> None:
    with place.open() as memory:
        memory.store("k", 1)
    place.rows(f"UPDATE ltm_entries SET {damage}")
    with place.open() as memory:
        expect_error(memory, IntegrityError)


def test_a_damaged_instant_hides_no_value_and_is_an_error_where_it_is_read(place: Place) -> None:
    with place.open() as memory:
        memory.store("k", 1)
        place.rows("UPDATE ltm_entries SET created_at = 'yesterday'")
        assert memory.retrieve("k")["value"] == 1
        assert memory.retrieve_batch(["k"])["results"] == {"k": 1}
        for call in (lambda: memory.store("k", 2), lambda: memory.stats(), memory.search):
            assert call()["success"] or call()["error_type"] == "integrity_error"
        with pytest.raises(IntegrityError, match="yesterday"):
            memory.catalog.get_entry("k")


@pytest.mark.parametrize("value", [1, LARGE], ids=["inlined", "payload"])
def test_storing_the_value_again_mends_a_damaged_entry(place: Place, value: object) -> None:
    with place.open() as memory:
        memory.store("k", value)
        place.rows("UPDATE ltm_entries SET inlined_value = '2' WHERE storage_uri IS NULL")
        for path in place.files():
            (place.storage / path).unlink()
        assert memory.store("k", value)["success"]
        assert memory.retrieve("k")["success"]


def write_garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def write_header_and_garbage(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + os.urandom(8192))


def make_directory(path: Path) -> None:
    path.mkdir()


BROKEN = {"garbage": write_garbage, "header": write_header_and_garbage, "directory": make_directory}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_catalog_file_is_unavailable_whatever_is_asked(
    place: Place, broken: str, verb: str
) -> None:
    BROKEN[broken](place.catalog)
    with place.open() as memory:
        answer = VERBS[verb](memory)
        assert answer["success"] is False
        assert answer["error_type"] == "catalog_unavailable", answer
        assert str(place.catalog) in answer["error"]
        with pytest.raises(CatalogUnavailableError):
            next(memory.iterate_all())
    assert place.files() == set()


@pytest.mark.parametrize("verb", VERBS)
def test_a_catalog_below_a_file_is_unavailable(tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with DuckDBLTMBackend(
        SQLiteCatalog(tmp_path / "file" / "catalog.db"), str(tmp_path), owns_catalog=True
    ) as memory:
        answer = VERBS[verb](memory)
        assert answer["success"] is False
        assert answer["error_type"] == "catalog_unavailable", answer


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
def test_a_catalog_whose_pages_are_lost_is_never_an_empty_one(place: Place, filler: bytes) -> None:
    with place.open() as memory:
        for number in range(50):
            memory.store(f"k{number}", "x" * 500, {"number": number})
        memory.store("k", 1)
    size = place.catalog.stat().st_size
    with place.catalog.open("r+b") as file:
        file.seek(4096)
        file.write(filler * (size - 4096))
    with place.open() as memory:
        expect_error(memory, CatalogUnavailableError)


def test_a_catalog_file_cut_short_is_never_an_empty_one(place: Place) -> None:
    with place.open() as memory:
        for number in range(200):
            memory.store(f"k{number}", "x" * 500)
        memory.store("k", 1)
    os.truncate(place.catalog, place.catalog.stat().st_size // 2)
    with place.open() as memory:
        for number in range(200):
            answer = memory.retrieve(f"k{number}")
            assert answer.get("found") or answer["error_type"] == "catalog_unavailable"


def test_a_write_that_waits_too_long_for_another_is_unavailable(place: Place) -> None:
    catalog = SQLiteCatalog(place.catalog, busy_timeout=0.05)
    with DuckDBLTMBackend(catalog, str(place.storage), owns_catalog=True) as memory:
        memory.store("k", LARGE)
        with closing(sqlite3.connect(place.catalog, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for value in ("new", LARGE + "!"):
                answer = memory.store("k", value)
                assert not answer["success"]
                assert answer["error_type"] == "catalog_unavailable"
            assert memory.retrieve("k")["value"] == LARGE
            other.execute("ROLLBACK")
        assert memory.store("k", LARGE + "?")["stored"]
        assert memory.retrieve("k")["value"] == LARGE + "?"
    assert place.faults() == []


FULL_DISK = """
import resource, sys
from place import Place
place = Place(sys.argv[1])
with place.open() as memory:
    memory.store("old", "x" * 500)
    memory.store("large", "x" * 5000)
    # SQLite and the payload store both meet this as a write that fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
    refused = 0
    for number in range(300):
        answer = memory.store(f"k{number}", "x" * 900)
        if answer["success"]:
            print(number)
        else:
            assert answer["error_type"] == "catalog_unavailable", answer
            refused += 1
    assert refused > 20, refused
    assert memory.store("large", "y" * 900_000)["error_type"] == "storage_error"
    assert memory.retrieve("old")["value"] == "x" * 500
    assert memory.retrieve("large")["value"] == "x" * 5000
"""


def test_a_catalog_that_cannot_grow_refuses_and_keeps_what_it_confirmed(place: Place) -> None:
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, str(place.directory)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    confirmed = {f"k{number}" for number in ended.stdout.split()}
    assert len(confirmed) > 10
    assert place.faults() == []
    with place.open() as memory:
        assert {key for key, _, _ in memory.iterate_all()} == confirmed | {"old", "large"}
        assert memory.store("next", "x" * 900)["stored"]


@pytest.mark.parametrize("verb", VERBS)
def test_after_closing_every_verb_answers_closed(place: Place, verb: str) -> None:
    memory = place.open()
    memory.store("k", LARGE)
    pages = memory.iterate_all()
    memory.close()
    memory.close()
    answer = VERBS[verb](memory)
    assert answer["success"] is False
    assert answer["error_type"] == "closed"
    with pytest.raises(ClosedError):
        memory.iterate_all()
    with pytest.raises(ClosedError):
        next(pages)


@pytest.mark.parametrize("verb", VERBS)
def test_after_closing_the_catalog_every_verb_answers_closed(place: Place, verb: str) -> None:
    catalog = SQLiteCatalog(place.catalog)
    with DuckDBLTMBackend(catalog, str(place.storage)) as memory:
        memory.store("k", LARGE)
        catalog.close()
        answer = VERBS[verb](memory)
        assert answer["success"] is False
        assert answer["error_type"] == "closed"


def test_cleaning_up_is_a_fine_first_thing_to_do(memory: DuckDBLTMBackend) -> None:
    assert memory.cleanup_expired()["deleted"] == 0


@pytest.mark.parametrize(
    "name", ["ein Gedächtnis 記憶", "with space", "a#b?c%20d", "a'b\"c;--", "file:x", "%(x)s{y}"]
)
def test_paths_with_unusual_characters_are_taken_literally(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path / name)
    place.catalog = tmp_path / name / f"{name}.db"
    place.storage = tmp_path / name / f"{name} payloads"
    for value in (LARGE, "small", LARGE + "!"):
        with place.open() as memory:
            answer = memory.store("k", value)
            assert answer["success"], answer
            if "storage_uri" in answer:
                assert Path(answer["storage_uri"]).is_file()
        with place.open() as memory:
            assert memory.retrieve("k")["value"] == value
    assert place.catalog.is_file()
    assert len(place.files()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {name}
