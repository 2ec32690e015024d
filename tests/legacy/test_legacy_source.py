"""The old database is only read, whatever state it is in, and what is none is said to be none."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from old_database import (
    Row,
    Target,
    assert_carried,
    bad_rows,
    build,
    change,
    good_rows,
    listing,
    row,
)

import ltm.legacy.source
from ltm.errors import CatalogUnavailableError, IntegrityError, ValidationError
from ltm.legacy import migrate_sqlite_backend


def test_the_old_database_and_its_directory_stay_as_they_are(old: Path, target: Target) -> None:
    before = listing(old.parent)
    migrate_sqlite_backend(old, target.open())
    assert listing(old.parent) == before


def test_a_database_in_wal_mode_is_read_without_a_file_beside_it(
    tmp_path: Path, target: Target
) -> None:
    old = build(tmp_path / "wal" / "old.db", good_rows(), wal=True)
    seen: list[list[str]] = []
    before = listing(old.parent)
    migrate_sqlite_backend(
        old, target.open(), progress=lambda *_: seen.append(os.listdir(old.parent))
    )
    assert seen == [["old.db"]]
    assert listing(old.parent) == before
    assert_carried(target, good_rows())


PROGRAM = """
import json, sqlite3, sys
program = sqlite3.connect(sys.argv[1])
for line in sys.stdin:
    program.execute("INSERT INTO ltm_store VALUES (?, ?, ?, ?, ?)", json.loads(line))
    program.commit()
    print("committed", flush=True)
"""


class Program:
    """Another process that has a database open."""

    def __init__(self, path: Path, process: subprocess.Popen[str]) -> None:
        self.path = path
        self._process = process

    def insert(self, added: Row) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(added) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "committed\n"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A program with a database in WAL mode, the last row of which is in the log only."""
    old = build(tmp_path / "used" / "old.db", good_rows()[:-1], wal=True)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(old)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        made = Program(old, process)
        made.insert(good_rows()[-1])
        yield made
        process.communicate("", timeout=60)


@pytest.fixture
def used(program: Program) -> Path:
    return program.path


def test_a_database_that_a_program_is_using_is_read_with_its_log(
    used: Path, target: Target
) -> None:
    before = listing(used.parent)
    assert len(before) == 3
    migrate_sqlite_backend(used, target.open())
    assert listing(used.parent) == before
    assert_carried(target, good_rows())


@pytest.mark.parametrize("checkpoint", [False, True])
def test_rows_that_a_program_adds_meanwhile_wait_for_the_next_run(
    program: Program, target: Target, checkpoint: bool
) -> None:
    memory = target.open()
    # SQLite moves the log into the file at a thousand pages, if nobody reads.
    added = [row(f"later:{n}", "x" * (9_000_000 if checkpoint else 1)) for n in range(3)]
    waiting = iter(added)

    def add(*_: int) -> None:
        for found in waiting:
            program.insert(found)

    report = migrate_sqlite_backend(program.path, memory, batch_size=10, progress=add)
    assert report.total == report.migrated == report.verified == len(good_rows())
    assert migrate_sqlite_backend(program.path, memory).migrated == 3
    assert_carried(target, good_rows() + added)


def test_a_log_left_by_a_crash_is_read_from_a_copy(
    used: Path, target: Target, tmp_path: Path
) -> None:
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("old.db", "old.db-wal"):
        shutil.copy(used.with_name(name), crashed)
    before = listing(crashed)
    migrate_sqlite_backend(crashed / "old.db", target.open())
    assert listing(crashed) == before
    assert_carried(target, good_rows())


def test_a_log_left_by_a_crash_is_read_beside_its_shared_memory(
    used: Path, target: Target, tmp_path: Path
) -> None:
    crashed = tmp_path / "crashed"
    shutil.copytree(used.parent, crashed)
    before = listing(crashed)
    migrate_sqlite_backend(crashed / "old.db", target.open())
    assert listing(crashed) == before
    assert_carried(target, good_rows())


def test_a_transaction_left_half_done_is_rolled_back_in_a_copy(
    old: Path, target: Target, tmp_path: Path
) -> None:
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    with closing(sqlite3.connect(old)) as program:
        program.execute("PRAGMA cache_size = 1")
        program.execute("UPDATE ltm_store SET value = '\"' || hex(zeroblob(2000)) || '\"'")
        for name in ("memory.db", "memory.db-journal"):
            shutil.copy(old.with_name(name), crashed)
        program.rollback()
    before = listing(crashed)
    assert before[str(crashed / "memory.db")][2] != old.read_bytes()
    migrate_sqlite_backend(crashed / "memory.db", target.open())
    assert listing(crashed) == before
    assert_carried(target, good_rows())


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="only root can become nobody")
@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_a_directory_without_write_permission_is_enough_for_nobody(wal: bool) -> None:
    # Not below pytest's directories, which nobody may not enter.
    directory = Path("/tmp") / f"ltm-migration-{os.getpid()}-{wal}"
    directory.mkdir()
    try:
        old = build(directory / "old" / "old.db", good_rows() + bad_rows(), wal=wal)
        new = directory / "new"
        new.mkdir()
        new.chmod(0o777)
        old.parent.chmod(0o555)
        old.chmod(0o444)
        directory.chmod(0o755)
        script = f"""
import os
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.legacy import migrate_sqlite_backend

def migrate(name):
    with DuckDBLTMBackend(SQLiteCatalog(name + ".db"), name) as memory:
        return migrate_sqlite_backend({str(old)!r}, memory).verified

migrate("so that nothing remains to be imported, for nobody may not read the interpreter's files")
os.remove("old.rejected.jsonl")
os.setuid(65534)
print(migrate("memory"))
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
            cwd=new,
        )  # fmt: skip
        assert done.stdout == f"{len(good_rows())}\n", done.stderr
        assert os.listdir(old.parent) == ["old.db"]
    finally:
        shutil.rmtree(directory)


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_a_directory_without_write_permission_is_enough(
    tmp_path: Path, target: Target, wal: bool
) -> None:
    old = build(tmp_path / "closed" / "old.db", good_rows(), wal=wal)
    old.chmod(0o444)
    old.parent.chmod(0o555)
    try:
        migrate_sqlite_backend(old, target.open())
    finally:
        old.parent.chmod(0o755)
    assert_carried(target, good_rows())


def test_a_file_opened_as_immutable_and_written_to_meanwhile_is_found_out(
    tmp_path: Path, target: Target
) -> None:
    old = build(tmp_path / "old.db", good_rows(), wal=True)

    def write(*_: int) -> None:
        change(old, "UPDATE ltm_store SET value = '1' WHERE key = 'docs:1'")

    with pytest.raises(IntegrityError, match="written to while it was read"):
        migrate_sqlite_backend(old, target.open(), progress=write)


def test_a_locked_database_is_unavailable(
    old: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ltm.legacy.source, "BUSY_TIMEOUT", 0.01)
    with closing(sqlite3.connect(old)) as program:
        program.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CatalogUnavailableError, match=r"memory\.db: is locked"):
            migrate_sqlite_backend(old, target.open())


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "what?.db", "#1&mode=rwc.db", "ä🧠.db"])
def test_a_name_is_taken_literally(tmp_path: Path, target: Target, name: str) -> None:
    old = build(tmp_path / "names" / name, good_rows())
    assert migrate_sqlite_backend(old, target.open()).is_complete
    assert os.listdir(old.parent) == [name]


def test_a_symbolic_link_is_followed_to_the_log(
    used: Path, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link.db").symlink_to(used)
    monkeypatch.chdir(tmp_path)
    migrate_sqlite_backend("link.db", target.open())
    assert_carried(target, good_rows())


def test_a_file_that_is_not_there_is_refused_and_not_made(tmp_path: Path, target: Target) -> None:
    for path in (tmp_path / "none.db", tmp_path, tmp_path / "no" / "where.db"):
        with pytest.raises(ValidationError, match=rf"{path}: no such file"):
            migrate_sqlite_backend(path, target.open())
    assert not (tmp_path / "none.db").exists()


def test_what_is_no_sqlite_database_is_refused(tmp_path: Path, target: Target) -> None:
    text = tmp_path / "text.db"
    text.write_text("not a database " * 100)
    with pytest.raises(ValidationError, match=r"text\.db: not a SQLite database"):
        migrate_sqlite_backend(text, target.open())


@pytest.mark.parametrize(
    ("schema", "missing"),
    [
        ("SELECT 1", "no table ltm_store"),
        ("CREATE TABLE ltm_entries (id)", "no table ltm_store"),
        ("CREATE VIEW ltm_store AS SELECT 1 AS key", "no table ltm_store"),
        ("CREATE TABLE ltm_store (key, value)", "no column metadata, created_at, updated_at"),
        (
            "CREATE TABLE ltm_store"
            " (key TEXT PRIMARY KEY, value, metadata, created_at, updated_at) WITHOUT ROWID",
            "no such column: rowid",
        ),
    ],
)
def test_another_database_is_refused_by_what_it_lacks(
    tmp_path: Path, target: Target, schema: str, missing: str
) -> None:
    other = tmp_path / "other.db"
    change(other, schema)
    with pytest.raises(ValidationError, match=rf"other\.db: not a SQLiteBackend.*{missing}"):
        migrate_sqlite_backend(other, target.open())
    assert not target.catalog.exists()


def test_a_damaged_database_is_told_from_another_one(tmp_path: Path, target: Target) -> None:
    old = build(tmp_path / "old.db", [row(f"k{n}", "x" * 3000) for n in range(200)])
    content = bytearray(old.read_bytes())
    half = len(content) // 2
    content[half:] = b"\xff" * (len(content) - half)
    old.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"old\.db: is damaged"):
        migrate_sqlite_backend(old, target.open(), batch_size=10)


def test_the_search_index_of_the_old_database_is_not_needed(tmp_path: Path, target: Target) -> None:
    old = tmp_path / "plain.db"
    change(old, "CREATE TABLE ltm_store (key, value, metadata, created_at, updated_at)")
    for found in good_rows():
        change(old, "INSERT INTO ltm_store VALUES (?, ?, ?, ?, ?)", *found)
    migrate_sqlite_backend(old, target.open())
    assert_carried(target, good_rows())
