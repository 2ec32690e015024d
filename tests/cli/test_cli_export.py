"""``export --format``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import duckdb
import pytest

FORMATS = ["parquet", "duckdb", "ducklake"]


@pytest.fixture
def filled(ltm):
    """Three entries, one of them a payload."""
    ltm("store", "a/1", "1", "--metadata", '{"type": "note"}')
    ltm("store", "a/2", "--text", "x" * 2000)
    ltm("store", "b", "[]")


@pytest.mark.parametrize("form", FORMATS)
def test_a_dataset_is_published_and_described(ltm, filled, form):
    result = ltm("export", "here", "--format", form)
    assert result.status == 0
    assert result.out.startswith(f"3 entries exported to {os.getcwd()}/here (")
    answer = ltm("--json", "export", "there", "a/", "--format", form).document
    assert answer.keys() == {"success", "format", "total", "byte_size", "files", "destination"}
    assert (answer["format"], answer["total"]) == (form, 2)
    assert answer["destination"] == f"{os.getcwd()}/there"
    assert ltm("snapshot", "ls").out == ""


def test_fields_make_directories(ltm, filled):
    options = ("--partition-by", "type", "--partition-by", "user.id")
    assert ltm("export", "here", "--format", "parquet", *options).status == 0
    assert Path("here/type=note/user.id=__HIVE_DEFAULT_PARTITION__").is_dir()


def test_a_snapshot_is_exported(ltm, filled):
    ltm("snapshot", "create", "s")
    ltm("rm", "b")
    ltm("export", "here.duckdb", "--format", "duckdb", "--snapshot", "s")
    with duckdb.connect("here.duckdb", read_only=True) as connection:
        assert connection.execute("SELECT key FROM entries ORDER BY key").fetchall() == [
            ("a/1",),
            ("a/2",),
            ("b",),
        ]
    assert ltm("export", "no", "--format", "parquet", "--snapshot", "nowhere").status == 1
    assert not Path("no").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-", "--format", "parquet"), "-: is for a bundle"),
        (("b.jsonl", "--partition-by", "type"), "--partition-by: is for datasets"),
        (("b.jsonl", "--storage-options", "{}"), "--storage-options: is for datasets"),
        (("d", "--format", "parquet", "--storage-options", "[]"), "expected an object"),
        (("d", "--format", "duckdb", "--partition-by", "type"), "is for parquet"),
        (("ltm_data", "--format", "parquet"), "there is something already"),
        (("s3://bucket", "--format", "parquet"), "expected a name below a bucket"),
        (("d", "--format", "csv"), "csv"),
    ],
)
def test_what_makes_no_sense_is_refused(ltm, filled, arguments, message):
    before = sorted(os.listdir())
    result = ltm("export", *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("form", FORMATS)
def test_a_value_that_is_lost_has_its_status(ltm, filled, form):
    (path,) = [path for path in Path("ltm_data").rglob("*.json") if path.is_file()]
    path.unlink()
    before = sorted(os.listdir())
    assert ltm("export", "here", "--format", form).status == 5
    assert sorted(os.listdir()) == before


def test_exporting_draws_a_bar_on_a_terminal_only(ltm, filled, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert "exporting" in ltm("export", "a", "--format", "parquet", is_terminal=True).err
    assert ltm("export", "b", "--format", "parquet").err == ""


def test_a_storage_of_the_same_kind_lends_its_options(ltm, s3_place):
    storage = {"uri": s3_place.uri, "options": s3_place.options}
    settings = {"ltm": {"catalog": {"type": "sqlite", "path": "c.db"}, "storage": storage}}
    Path("agent.yaml").write_text(json.dumps(settings))
    ltm("--config", "agent.yaml", "store", "k", "--text", "x" * 2000)
    destination = f"{s3_place.uri}/published"
    result = ltm("--config", "agent.yaml", "--json", "export", destination, "--format", "parquet")
    assert result.document["destination"] == destination
    # Of another kind, it has to be told.
    ltm("store", "k", "1")
    options = ("--storage-options", json.dumps(s3_place.options))
    assert ltm("export", f"{destination}2", "--format", "parquet", *options).status == 0
