"""``stats``, ``cleanup``, ``health`` and ``migrate``."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ltm import create_ltm_backend


@pytest.fixture
def expired(tmp_path):
    """2,500 entries that have expired, one that lives."""
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    with create_ltm_backend(raise_errors=True) as memory:
        memory.store_batch(
            {"key": f"k/{number}", "value": number, "expires_at": long_ago}
            for number in range(2500)
        )
        memory.store("alive", 1)


def test_stats_count_entries_and_bytes(ltm):
    ltm("store", "small", "1")
    ltm("store", "large", "--text", "x" * 2000)
    answer = ltm("--json", "stats").document
    assert (answer["entries"], answer["inlined"], answer["payloads"]) == (2, 1, 1)
    assert "entries\t2\n" in ltm("stats").out


def test_cleanup_removes_all_that_has_expired_and_nothing_else(ltm, expired):
    answer = ltm("--json", "cleanup").document
    assert (answer["deleted"], answer["remaining"], answer["errors"]) == (2500, 0, [])
    assert [entry["key"] for entry in ltm("--json", "ls").documents] == ["alive"]
    assert ltm("cleanup").out == "removed 0 expired, 0 remain\n"


@pytest.mark.parametrize("limit", [1, 999, 1000, 1001, 2500])
def test_cleanup_removes_at_most_as_many_as_the_limit(ltm, expired, limit):
    answer = ltm("--json", "cleanup", "--limit", str(limit)).document
    assert (answer["deleted"], answer["remaining"]) == (limit, 2500 - limit)


def test_health_proves_both_parts(ltm):
    assert ltm("health").out == "catalog\tok\t-\nstorage\tok\t-\n"
    assert ltm("--json", "health").document["healthy"]


def test_health_fails_with_the_status_of_the_part_that_fails(ltm, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    result = ltm("--storage", "file", "health")
    assert result.status == 5
    assert result.out.startswith("catalog\tok\t-\nstorage\tfailing\t")
    answer = ltm("--storage", "file", "--json", "health")
    assert answer.document["catalog"]["healthy"]
    assert not answer.document["storage"]["healthy"]


@pytest.fixture
def old(tmp_path):
    """Make an old database with so many good rows and so many broken ones."""

    def make(good: int, broken: int) -> str:
        with sqlite3.connect(tmp_path / "old.db") as connection:
            connection.execute(
                "CREATE TABLE ltm_store (key TEXT PRIMARY KEY, value TEXT NOT NULL, "
                "metadata TEXT, created_at TIMESTAMP, updated_at TIMESTAMP)"
            )
            stamps = ("2024-01-02 03:04:05", "2024-05-06 07:08:09")
            rows = [(f"good/{n}", json.dumps({"n": n}), None, *stamps) for n in range(good)]
            rows += [(f"broken/\x1b{n}", "{", None, *stamps) for n in range(broken)]
            connection.executemany("INSERT INTO ltm_store VALUES (?, ?, ?, ?, ?)", rows)
        connection.close()
        return "old.db"

    return make


def test_migration_carries_every_row_with_its_times_and_is_idempotent(ltm, old):
    target = ("--to", "sqlite:///new.db", "--storage", "new_data")
    first = ltm("--json", "migrate", "sqlite-backend", old(7, 0), *target)
    assert first.status == 0
    assert first.document["migrated"] == first.document["verified"] == 7
    entries = ltm("--catalog", "new.db", "--storage", "new_data", "--json", "ls").documents
    assert len(entries) == 7
    assert {entry["updated_at"] for entry in entries} == {"2024-05-06T07:08:09+00:00"}
    again = ltm("--json", "migrate", "sqlite-backend", "old.db", *target).document
    assert (again["migrated"], again["unchanged"]) == (0, 7)
    assert not Path("ltm_catalog.db").exists()


def test_rejected_rows_make_exit_status_1_and_are_listed_and_kept(ltm, old):
    result = ltm("migrate", "sqlite-backend", old(2, 25), "--report", "rejected.jsonl")
    assert result.status == 1
    assert "27 rows: 2 migrated, 0 unchanged, 25 rejected\n" in result.out
    assert "broken/\\x1b0" in result.out
    assert "\x1b" not in result.out
    assert "and 5 more\n" in result.out
    assert len(Path("rejected.jsonl").read_text().splitlines()) == 25
    answer = ltm("--json", "migrate", "sqlite-backend", "old.db", "--report", "rejected.jsonl")
    assert answer.status == 1
    assert len(answer.document["rejected"]) == 25


def test_a_dry_run_writes_no_entry(ltm, old):
    result = ltm("migrate", "sqlite-backend", old(3, 0), "--dry-run")
    assert result.status == 0
    assert "3 would be migrated" in result.out
    assert ltm("ls").out == ""


def test_a_source_that_is_no_old_database_is_refused(ltm):
    assert ltm("migrate", "sqlite-backend", "nowhere.db").status in (2, 4)
    assert not Path("nowhere.db").exists()


def test_long_work_draws_a_bar_on_a_terminal_only(ltm, expired, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    on_terminal = ltm("cleanup", "--limit", "1500", is_terminal=True)
    assert "cleaning up" in on_terminal.err
    assert ltm("--json", "cleanup", "--limit", "1", is_terminal=True).err == ""
    assert ltm("cleanup").err == ""


def payload_paths() -> list[Path]:
    return [path for path in Path("ltm_data").rglob("*.json") if path.is_file()]


def test_gc_deletes_what_nothing_names_after_the_grace_period(ltm):
    ltm("store", "k", "--text", "x" * 2000)
    (named,) = payload_paths()
    # The same name but for its random end: as a crash leaves a payload before its commit.
    lost = named.with_name(f"{named.stem[:-16]}{'0' * 16}.json")
    lost.write_bytes(named.read_bytes())
    assert ltm("--json", "gc").document["spared"] == 1
    dry = ltm("gc", "--dry-run", "--grace", "0").out
    assert dry.startswith("would delete 0 scheduled and 1 unreferenced payloads (2.0 kB)")
    assert lost.exists()
    assert ltm("--json", "gc", "--grace", "0").document["unreferenced"] == 1
    assert payload_paths() == [named]


def test_gc_refuses_a_grace_period_that_makes_no_sense(ltm):
    assert ltm("gc", "--grace", "-1").status == 2
    assert ltm("gc", "--grace", "nan").status == 2


def test_verify_finds_nothing_wrong_with_a_sound_memory(ltm):
    ltm("store", "a", "1")
    ltm("store", "b", "--text", "x" * 2000)
    result = ltm("verify")
    assert (result.status, result.err) == (0, "")
    assert result.out == "checked 2: 0 open problems, 0 repaired, 0 unreferenced payloads\n"
    assert ltm("--json", "verify").document["problems"] == []


def test_verify_lists_what_is_lost_and_has_exit_status_6(ltm):
    ltm("store", "b\x1b", "--text", "x" * 2000)
    payload_paths()[0].unlink()
    result = ltm("verify", "--repair")
    assert result.status == 6
    assert result.out.startswith("payload_missing\tb\\x1b\topen\t")
    assert "checked 1: 1 open problems, 0 repaired" in result.out
    assert result.err.endswith("(integrity_error)\n")
    (problem,) = ltm("--json", "verify").document["problems"]
    assert (problem["kind"], problem["repaired"]) == ("payload_missing", False)


def test_verify_repairs_an_index(ltm):
    ltm("store", "a", "--text", "findable words")
    with sqlite3.connect("ltm_catalog.db") as connection:
        connection.execute("DELETE FROM ltm_entry_metadata")
        connection.execute("UPDATE ltm_entry_search SET text = ''")
    connection.close()
    assert ltm("verify").status == 6
    result = ltm("verify", "--repair")
    assert result.status == 0
    assert "\trepaired\t" in result.out
    assert ltm("verify").status == 0
    assert ltm("search", "findable").out.startswith("a\t")
