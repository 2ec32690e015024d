"""Rows that cannot be carried are reported and written to a side file, never dropped silently."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from old_database import TIME, Row, Target, bad_rows, build, change, good_rows, row

from ltm.errors import IntegrityError, PayloadError, ValidationError
from ltm.hashing import MAX_DEPTH
from ltm.legacy import migrate_sqlite_backend
from ltm.legacy.rejected import RejectedRow

DIGITS = "9" * 5000


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


REJECTED: list[tuple[Row, str]] = [
    (("k", "", None, TIME, TIME), "value: is not JSON"),
    (("k", "{not json", None, TIME, TIME), "value: is not JSON"),
    (("k", "1 2", None, TIME, TIME), "value: is not JSON"),
    (("k", '"a\0b"', None, TIME, TIME), "value: is not JSON"),
    (("k", '[1, {"a": NaN}]', None, TIME, TIME), "value: holds NaN, which is not JSON"),
    (("k", "Infinity", None, TIME, TIME), "value: holds Infinity, which is not JSON"),
    (("k", "[-Infinity]", None, TIME, TIME), "value: holds -Infinity, which is not JSON"),
    (("k", '{"a": [1e999]}', None, TIME, TIME), "value: $.a[0]: inf is not JSON"),
    (("k", DIGITS, None, TIME, TIME), "value: is not JSON"),
    (("k", nested(MAX_DEPTH + 1), None, TIME, TIME), "value: $[0][0]"),
    (("k", nested(100_000), None, TIME, TIME), "value: is not JSON"),
    (("k", b"1", None, TIME, TIME), "value: is a BLOB, not text"),
    (("k", "1", "[oops", TIME, TIME), "metadata: is not JSON"),
    (("k", "1", "", TIME, TIME), "metadata: is not JSON"),
    (("k", "1", '["a"]', TIME, TIME), "metadata: expected an object, got list"),
    (("k", "1", '"text"', TIME, TIME), "metadata: expected an object, got str"),
    (("k", "1", '{"a": NaN}', TIME, TIME), "metadata: holds NaN"),
    (("k", "1", r'{"a": "\u0000"}', TIME, TIME), "metadata.a: holds NUL"),
    (("k", "1", r'{"a": "\ud800"}', TIME, TIME), "metadata.a: holds a lone surrogate"),
    (("k", "1", b"{}", TIME, TIME), "metadata: is a BLOB, not text"),
    (("k", "1", '{"_cache_expires_at": "soon"}', TIME, TIME), "metadata._cache_expires_at: 'soon'"),
    (("k", "1", '{"_cache_expires_at": 1e9}', TIME, TIME), "metadata._cache_expires_at: expected"),
    (("k", "1", None, "yesterday", TIME), "created_at: 'yesterday' is not ISO 8601"),
    (("k", "1", None, TIME, "2026-13-01 00:00:00"), "updated_at: '2026-13-01 00:00:00' is not ISO"),
    (("k", "1", None, TIME, 1_700_000_000), "updated_at: is an INTEGER, not text"),
    (("k", "1", None, 0.5, TIME), "created_at: is a REAL, not text"),
    (("k", "1", None, float("inf"), TIME), "created_at: is a REAL, not text"),
    (("k", "1", None, TIME, "0001-01-01T00:00:00+10:00"), "updated_at: 0001"),
    (("", "1", None, TIME, TIME), "key: is empty"),
    (("k" * 1025, "1", None, TIME, TIME), "key: 1025 bytes in UTF-8"),
    (("é" * 513, "1", None, TIME, TIME), "key: 1026 bytes in UTF-8"),
    (("a\0b", "1", None, TIME, TIME), "key: 'a\\x00b' holds NUL"),
    ((None, "1", None, TIME, TIME), "key: is NULL, not text"),
    ((b"k", "1", None, TIME, TIME), "key: is a BLOB, not text"),
]


@pytest.mark.parametrize(("bad", "reason"), REJECTED, ids=range(len(REJECTED)))
def test_a_row_that_cannot_be_carried_is_rejected_with_a_reason(
    tmp_path: Path, target: Target, bad: Row, reason: str
) -> None:
    memory = target.open()
    old = build(tmp_path / "old.db", [row("before", 1), bad, row("behind", 2)])
    report = migrate_sqlite_backend(old, memory)
    assert (report.total, report.migrated, report.verified) == (3, 2, 2)
    key = bad[0] if isinstance(bad[0], str) else None
    (rejected,) = report.rejected
    assert (rejected.rowid, rejected.key) == (2, key)
    assert rejected.reason.startswith(reason)
    assert [found for found, *_ in memory.iterate_all()] == ["before", "behind"]
    (line,) = lines_of(report.rejected_path)
    assert line == dict(
        zip(
            ("key", "value", "metadata", "created_at", "updated_at"), map(as_json, bad), strict=True
        ),
        rowid=2,
        reason=rejected.reason,
    )


def as_json(raw: Any) -> Any:
    if isinstance(raw, bytes):
        return {"base64": base64.b64encode(raw).decode(), "type": "blob"}
    return {"real": "inf"} if raw == float("inf") else raw


def lines_of(path: str | Path | None) -> list[dict[str, Any]]:
    assert path is not None

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = Path(path).read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_text_that_is_not_utf_8_is_kept_as_its_bytes(tmp_path: Path, target: Target) -> None:
    old = build(tmp_path / "old.db", [row("k", 1), row("m", 1)])
    change(old, "UPDATE ltm_store SET value = CAST(x'22ff22' AS TEXT) WHERE key = 'k'")
    change(old, "UPDATE ltm_store SET key = CAST(x'fe' AS TEXT) WHERE key = 'm'")
    report = migrate_sqlite_backend(old, target.open())
    assert report.rejected == (
        RejectedRow(rowid=1, key="k", reason="value: is not UTF-8"),
        RejectedRow(rowid=2, key=None, reason="key: is not UTF-8"),
    )
    first, second = lines_of(report.rejected_path)
    assert first["value"] == {"base64": base64.b64encode(b'"\xff"').decode(), "type": "text"}
    assert second["key"] == {"base64": base64.b64encode(b"\xfe").decode(), "type": "text"}


def test_as_many_levels_as_are_allowed_are_carried(tmp_path: Path, target: Target) -> None:
    memory = target.open()
    rows = [("k", nested(MAX_DEPTH), None, TIME, TIME), row("wide", [[]] * (MAX_DEPTH + 1))]
    assert migrate_sqlite_backend(build(tmp_path / "old.db", rows), memory).is_complete
    assert memory.retrieve("k")["value"] == json.loads(nested(MAX_DEPTH))


def test_the_side_file_holds_the_rows_in_full_and_is_the_same_after_a_second_run(
    old: Path, target: Target, in_an_empty_directory: Path
) -> None:
    first = migrate_sqlite_backend(old, target.open())
    path = in_an_empty_directory / "memory.rejected.jsonl"
    assert first.rejected_path == str(path)
    count = len(good_rows())
    assert [
        (line["rowid"], line["key"], line["value"], line["metadata"]) for line in lines_of(path)
    ] == [
        (count + number, key, value, metadata)
        for number, (key, value, metadata, *_) in enumerate(bad_rows(), 1)
    ]
    before = path.read_bytes()
    second = migrate_sqlite_backend(old, target.open(), batch_size=1)
    assert second.rejected == first.rejected
    assert path.read_bytes() == before
    assert [found.name for found in in_an_empty_directory.iterdir()] == [path.name]


def test_the_side_file_lies_where_it_is_asked_for(
    old: Path, target: Target, tmp_path: Path, in_an_empty_directory: Path
) -> None:
    path = tmp_path / "lost.txt"
    path.write_text("what was there before")
    report = migrate_sqlite_backend(old, target.open(), rejected_path=path)
    assert report.rejected_path == str(path)
    assert len(lines_of(path)) == 3
    assert list(in_an_empty_directory.iterdir()) == []


def test_there_is_no_side_file_where_nothing_is_rejected(
    tmp_path: Path, target: Target, in_an_empty_directory: Path
) -> None:
    old = build(tmp_path / "memory.db", good_rows())
    report = migrate_sqlite_backend(old, target.open())
    assert report.is_complete
    assert report.rejected_path is None
    assert list(in_an_empty_directory.iterdir()) == []
    earlier = in_an_empty_directory / "memory.rejected.jsonl"
    earlier.write_text("rows that an earlier run rejected")
    migrate_sqlite_backend(old, target.open())
    assert earlier.read_text() == "rows that an earlier run rejected"


def test_a_run_that_fails_leaves_the_side_file_as_it_was(
    old: Path, target: Target, in_an_empty_directory: Path
) -> None:
    def fail(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    path = in_an_empty_directory / "memory.rejected.jsonl"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt):
        migrate_sqlite_backend(old, target.open(), batch_size=1, progress=fail)
    assert path.read_text() == "before"
    assert [found.name for found in in_an_empty_directory.iterdir()] == [path.name]


def test_the_side_file_is_there_even_if_the_target_is_found_damaged(
    old: Path, target: Target, in_an_empty_directory: Path
) -> None:
    memory = target.open()
    migrate_sqlite_backend(old, memory)
    path = in_an_empty_directory / "memory.rejected.jsonl"
    path.unlink()
    next(found for found in target.storage.rglob("*") if found.is_file()).unlink()
    with pytest.raises(IntegrityError):
        migrate_sqlite_backend(old, memory)
    assert len(lines_of(path)) == 3


def test_a_path_that_cannot_be_a_side_file_is_refused_before_anything_is_done(
    old: Path, target: Target, tmp_path: Path
) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(old)
    memory = target.open()
    before = old.read_bytes()
    for path in (tmp_path / "no" / "directory.jsonl", tmp_path, old, link):
        with pytest.raises(ValidationError, match="rejected_path"):
            migrate_sqlite_backend(old, memory, rejected_path=path)
    assert memory.stats()["entries"] == 0
    assert old.read_bytes() == before


def test_a_full_disk_under_the_side_file_is_a_typed_error(old: Path, target: Target) -> None:
    limited = f"""
import resource, signal
from ltm.errors import PayloadError
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.legacy import migrate_sqlite_backend

class Done(Exception): ...

memory = DuckDBLTMBackend(SQLiteCatalog({str(target.catalog)!r}), {str(target.storage)!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def limit(done, total):
    if done == total:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
try:
    migrate_sqlite_backend({str(old)!r}, memory, progress=limit)
except PayloadError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print("PayloadError", error)
"""
    assert issubclass(PayloadError, OSError)
    done = subprocess.run(
        [sys.executable, "-c", limited], capture_output=True, text=True, timeout=60
    )
    assert "PayloadError" in done.stdout, done.stderr
    assert "memory.rejected.jsonl: rejected rows cannot be written" in done.stdout
    assert os.listdir() == []
