"""``copy``, ``export`` and ``import``."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

HERE = ("--catalog", "ltm_catalog.db", "--storage", "ltm_data")
OTHER = ("--catalog", "other.db", "--storage", "other")
TO_OTHER = ("--to", "sqlite:///other.db", "--to-storage", "other")


@pytest.fixture
def filled(ltm):
    """Three entries, one of them a payload."""
    ltm("store", "--metadata", '{"n": 1}', "--", "a/1", "-0.0")
    ltm("store", "a/2", "--text", "x" * 2000)
    ltm("store", "b", "1", "--ttl", "3600")
    return ltm("--json", "ls").documents


def without_places(documents):
    return [{**each, "storage_uri": each["storage_uri"] is not None} for each in documents]


def test_copy_brings_everything_and_again_nothing(ltm, filled):
    result = ltm("copy", *TO_OTHER)
    assert result.status == 0
    assert result.out == (
        "3 entries: 3 copied, 0 unchanged, 0 kept as newer there\n3 were read back and are equal\n"
    )
    assert without_places(ltm(*OTHER, "--json", "ls").documents) == without_places(filled)
    answer = ltm("--json", "copy", *TO_OTHER).document
    assert answer == {
        "success": True,
        "total": 3,
        "copied": 0,
        "unchanged": 3,
        "kept": 0,
        "verified": 3,
    }


def test_copy_takes_a_prefix_and_a_snapshot(ltm, filled):
    ltm("snapshot", "create", "s")
    ltm("rm", "a/1")
    assert ltm("--json", "copy", *TO_OTHER, "--snapshot", "s", "a/").document["copied"] == 2
    assert ltm(*OTHER, "get", "a/1").out == "-0.0\n"


def test_copy_keeps_the_table_unless_another_is_named(ltm):
    ltm("--table", "notes", "store", "k", "1")
    ltm("--table", "notes", "copy", *TO_OTHER)
    assert ltm(*OTHER, "--table", "notes", "get", "k").out == "1\n"
    ltm("--table", "notes", "copy", *TO_OTHER, "--to-table", "others")
    assert ltm(*OTHER, "--table", "others", "get", "k").out == "1\n"
    assert ltm(*OTHER, "get", "k").status == 1


def test_copy_goes_where_a_settings_file_says(ltm, filled):
    Path("agent.yaml").write_text(
        "ltm: {catalog: {type: sqlite, path: other.db}, storage: other, table: notes}"
    )
    assert ltm("--json", "copy", "--to-config", "agent.yaml").document["copied"] == 3
    assert len(ltm("--config", "agent.yaml", "--json", "ls").documents) == 3


@pytest.mark.parametrize("given", [(), ("--to", "other.db"), ("--to-storage", "other")])
def test_copy_must_be_told_where_to(ltm, given):
    result = ltm("copy", *given)
    assert result.status == 2
    assert "--to and --to-storage, or --to-config" in result.err


def test_the_variables_name_no_target(ltm, filled, monkeypatch):
    monkeypatch.setenv("LTM_CATALOG_URL", "elsewhere.db")
    monkeypatch.setenv("LTM_STORAGE_URI", "elsewhere")
    assert ltm("--json", *HERE, "copy", *TO_OTHER).status == 0
    assert not Path("elsewhere.db").exists()


def test_a_bundle_goes_out_and_comes_back(ltm, filled):
    result = ltm("export", "all.jsonl")
    assert result.status == 0
    assert result.out.startswith("3 entries exported to all.jsonl (")
    result = ltm(*OTHER, "import", "all.jsonl")
    assert result.out == (
        "3 entries: 3 imported, 0 unchanged, 0 kept as newer here, 0 expired\n"
        "3 were read back and are equal\n"
    )
    assert without_places(ltm(*OTHER, "--json", "ls").documents) == without_places(filled)
    assert ltm(*OTHER, "--json", "import", "all.jsonl").document["unchanged"] == 3


def test_a_bundle_goes_through_a_pipe(ltm, shell, filled):
    line = "ltm export - a/ | ltm --catalog other.db --storage other --json import -"
    result = shell(line)
    assert (result.status, result.err) == (0, "")
    assert result.document["imported"] == 2
    assert ltm("--json", "export", "-").status == 2


def test_export_says_what_is_in_the_file(ltm, filled):
    answer = ltm("--json", "export", "all.jsonl", "a/").document
    lines = Path("all.jsonl").read_text().splitlines()
    assert (answer["total"], answer["path"]) == (2, "all.jsonl")
    assert answer["byte_size"] == Path("all.jsonl").stat().st_size
    assert json.loads(lines[-1])["hash"] == answer["hash"]


def test_an_export_that_fails_leaves_the_file_as_it_was_and_no_other(ltm, filled):
    Path("all.jsonl").write_text("before")
    (path,) = [path for path in Path("ltm_data").rglob("*.json") if path.is_file()]
    path.unlink()
    before = sorted(os.listdir())
    assert ltm("export", "all.jsonl").status == 5
    assert Path("all.jsonl").read_text() == "before"
    assert sorted(os.listdir()) == before


def test_an_export_replaces_what_a_link_leads_to_with_the_usual_rights(ltm, filled):
    Path("target.jsonl").write_text("before")
    Path("all.jsonl").symlink_to("target.jsonl")
    assert ltm("export", "all.jsonl").status == 0
    assert Path("all.jsonl").is_symlink()
    Path("plain").touch()
    rights = [stat.S_IMODE(Path(name).stat().st_mode) for name in ("target.jsonl", "plain")]
    assert rights[0] == rights[1]


@pytest.mark.parametrize(
    ("path", "status"), [("directory", 2), ("pipe", 2), ("nowhere/all.jsonl", 5)]
)
def test_an_export_to_what_is_no_file_is_refused(ltm, filled, path, status):
    Path("directory").mkdir()
    os.mkfifo("pipe")
    result = ltm("export", path)
    assert (result.status, result.out) == (status, "")
    assert f"file '{path}'" in result.err


def test_an_import_that_is_cut_off_or_rubbish_has_its_status(ltm, filled):
    ltm("export", "all.jsonl")
    content = Path("all.jsonl").read_bytes()
    result = ltm(*OTHER, "import", "-", stdin=content[:-5])
    assert result.status == 6
    assert result.err == "error: line 5: the bundle was cut off here (integrity_error)\n"
    assert ltm(*OTHER, "import", "-", stdin=b"rubbish\n").status == 2
    assert ltm(*OTHER, "import", "-", stdin=content.replace(b"xxx", b"xyx")).status == 6
    assert ltm(*OTHER, "ls").out == ""


def test_an_import_of_nothing_is_refused(ltm):
    assert ltm("import", "nowhere.jsonl").status == 2
    assert ltm("import", ".").status == 2
    assert "nothing is piped in" in ltm("import", "-").err


def test_moving_draws_a_bar_on_a_terminal_only(ltm, filled, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert "exporting" in ltm("export", "all.jsonl", is_terminal=True).err
    assert "importing" in ltm("import", "all.jsonl", is_terminal=True).err
    assert "copying" in ltm("copy", *TO_OTHER, is_terminal=True).err
    assert ltm("--json", "copy", *TO_OTHER, is_terminal=True).err == ""
