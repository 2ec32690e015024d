"""What is wrong with the file of a local index, or with the disk, loses no answer."""

from __future__ import annotations

import logging
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from duckdb_words import START, TEA, Model, ids, reference, words

from ltm.errors import CatalogUnavailableError
from ltm.search.duckdb_index import DuckDBIndex, IndexState

duckdb = pytest.importorskip("duckdb")
pytest.importorskip("duckdb_extension_fts")


def break_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def break_off_a_block(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 262_144)


def break_as_foreign(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" * 1000)


def break_as_empty(path: Path) -> None:
    path.write_bytes(b"")


def break_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(12288))


def break_format(path: Path) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("UPDATE state SET format = format + 1")


def break_state(path: Path) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("DELETE FROM state")


def break_tables(path: Path) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("DROP TABLE state")


@pytest.mark.parametrize(
    "destroy",
    [
        break_in_half,
        break_off_a_block,
        break_as_foreign,
        break_as_empty,
        break_header,
        break_format,
        break_state,
        break_tables,
    ],
)
def test_a_file_that_is_no_index_is_taken_for_none_and_made_anew(
    tmp_path: Path, destroy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "index"
    first = DuckDBIndex(path)
    first.apply([words("a", "tea")], position=5, at=START)
    first.close()
    destroy(path)
    index = DuckDBIndex(path, rebuild_after=0)
    assert index.state == IndexState(-1, None)
    assert index.find(TEA, START) == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    index.apply([words("b", "tea")], position=1, at=START)
    index.close()
    assert ids(DuckDBIndex(path).find(TEA, START)) == ["b"]
    assert len(caplog.records) == 1


def damage_blocks(path: Path) -> None:
    """Overwrite what lies behind the headers, in place, so that who has it open sees it too."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(12288)
        file.write(random.Random(3).randbytes(size - 12288))


def test_damage_found_by_a_question_is_told_and_the_next_refresh_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "index"
    first = DuckDBIndex(path)
    many = [words(f"{number:05d}", f"tea word{number}") for number in range(1000)]
    first.apply(many, position=5, at=START)
    first.close()
    index = DuckDBIndex(path, rebuild_after=0)
    assert index.state.position == 5
    damage_blocks(path)
    with pytest.raises(CatalogUnavailableError, match="made anew"):
        index.find(TEA, START)
    assert index.state == IndexState(-1, None)
    assert not path.exists()
    index.apply(many, position=6, at=START)
    assert len(index.find(TEA, START)) == 1000
    assert DuckDBIndex(path).state.position == 6


def test_damage_found_by_a_change_loses_no_other_silently(tmp_path: Path) -> None:
    path = tmp_path / "index"
    first = DuckDBIndex(path)
    first.apply([words("a", "tea"), words("b", "tea")], position=5, at=START)
    first.close()
    index = DuckDBIndex(path, rebuild_after=0)
    assert index.state.position == 5
    damage_blocks(path)
    with pytest.raises(CatalogUnavailableError):
        index.apply([words("c", "tea")], position=6, at=START)
    assert index.state == IndexState(-1, None)


def test_a_damaged_file_that_was_replaced_meanwhile_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "index"
    first = DuckDBIndex(path, rebuild_after=0)
    first.apply([words("a", "tea")], position=5, at=START)
    index = DuckDBIndex(path)
    assert index.state.position == 5
    damage_blocks(path)
    path.rename(tmp_path / "damaged")
    other = DuckDBIndex(path)
    other.apply([words("b", "tea")], position=6, at=START)
    other.close()
    with pytest.raises(CatalogUnavailableError):
        index.find(TEA, START)
    assert DuckDBIndex(path).state.position == 6


def test_without_a_directory_to_write_to_the_index_goes_on_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    index = DuckDBIndex(tmp_path / "file" / "index", rebuild_after=2)
    model: Model = {}
    for number in range(10):
        change = words(str(number), f"tea word{number}")
        model[change.entry_id] = change
        index.apply([change], position=number, at=START)
        assert index.find(TEA, START) == reference(model, TEA, START)
    index.reset()
    index.apply([words("a", "tea")], position=1, at=START)
    index.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_full_disk_stops_no_search(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    resource = pytest.importorskip("resource")
    index = DuckDBIndex(tmp_path / "index", rebuild_after=0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # A write past this size fails, as on a disk that is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        index.apply([words("a", "tea")], position=1, at=START)
        assert ids(index.find(TEA, START)) == ["a"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert list(tmp_path.iterdir()) == []
    index.close()
    assert DuckDBIndex(tmp_path / "index").state.position == 1


def test_files_begun_long_ago_are_removed_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "index"
    names = ["index.0123.building", "index.0123.building.wal", "index2.0123.building", "index.old"]
    for name in [*names, "index.4567.building"]:
        (tmp_path / name).write_text("")
    for name in names:
        os.utime(tmp_path / name, (1, 1))
    index = DuckDBIndex(path)
    index.apply([words("a", "tea")], position=1, at=START)
    index.close()
    left = {"index", "index2.0123.building", "index.old", "index.4567.building"}
    assert set(os.listdir(tmp_path)) == left
