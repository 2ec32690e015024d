"""The commands on a catalog in Firestore, with the emulator behind them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ltm.catalog.firestore_setup import index_definitions
from tests.cli.test_cli_postgres import LITE

REAL = Path(__file__).parents[3] / "shared" / "data" / "sqlite_backend_v1.db"
"""A file that the older ``SQLiteBackend`` made."""


@pytest.fixture
def url(firestore_project):
    """The URL of a database of the test's own."""
    return f"firestore://{firestore_project}"


def test_a_whole_round(ltm, url, monkeypatch):
    monkeypatch.setenv("LTM_CATALOG_URL", f"{url}/(default)?collection_prefix=agents_")
    assert (
        ltm("store", "note/1", "--text", "The disk is full.", "--metadata", '{"n": 1}').status == 0
    )
    assert ltm("store", "note/2", "--text", "big " * 1000).status == 0
    assert ltm("store", "odd", '[-0.0, 1e16, [10000000000000000], "a\\u0000b"]').status == 0
    assert ltm("store", "odd", "1", "--if-absent").status == 3
    assert json.loads(ltm("get", "odd").out) == [-0.0, 1e16, [10**16], "a\0b"]
    assert ltm("search", "disks").out.startswith("note/1\t")
    assert [each["key"] for each in ltm("--json", "ls", "--where", "n=1").documents] == ["note/1"]
    assert [line.split("\t")[0] for line in ltm("ls", "note/").out.splitlines()] == [
        "note/1",
        "note/2",
    ]
    assert ltm("snapshot", "create", "s").out.split(": ")[1].startswith("3 entries")
    assert ltm("store", "note/1", "2").status == 0
    assert ltm("rm", "odd", "nowhere").status == 1
    assert ltm("changes", "s").out.count("\n") == 2
    assert ltm("restore", "s").status == 0
    assert ltm("get", "note/1").out == '"The disk is full."\n'
    assert ltm("snapshot", "expire", "s").status == 0
    assert ltm("rm", "note/2").status == 0
    assert ltm("gc").status == 0
    assert ltm("cleanup").status == 0
    assert ltm("verify").out.startswith("checked 2: 0 open problems, 0 repaired, 0 unreferenced")
    assert ltm("health").status == 0
    assert ltm("--json", "stats").document["entries"] == 2
    assert ltm("export", "all.jsonl").out.startswith("2 entries exported")
    assert ltm("copy", "--to", "lite.db", "--to-storage", "lite_data").out.startswith(
        "2 entries: 2 copied"
    )
    assert ltm("--json", "import", "all.jsonl").document["unchanged"] == 2
    hashes = [
        {each["key"]: each["content_hash"] for each in ltm(*where, "--json", "ls").documents}
        for where in ((), LITE)
    ]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 2


@pytest.mark.skipif(not REAL.exists(), reason="the file of the older backend is not here")
def test_an_old_backend_moves_to_firestore(ltm, url):
    move = ("migrate", "sqlite-backend", str(REAL), "--to", url, "--storage", "new_data")
    moved = ltm("--json", *move).document
    again = ltm("--json", *move).document
    lite = ltm("--json", *move[:3], "--to", "lite.db", "--storage", "lite_data").document
    assert moved["migrated"] > 0
    assert (again["migrated"], again["unchanged"]) == (0, moved["migrated"])
    counts = ("total", "migrated", "unchanged", "kept", "expired", "verified")
    assert [moved[name] for name in counts] == [lite[name] for name in counts]
    new = ("--catalog", url, "--storage", "new_data")
    listed = [ltm(*where, "--json", "ls").documents for where in (new, LITE)]
    assert [(each["key"], each["content_hash"], each["updated_at"]) for each in listed[0]] == [
        (each["key"], each["content_hash"], each["updated_at"]) for each in listed[1]
    ]
    assert ", 0 repaired" in ltm(*new, "verify").out
    assert ltm(*new, "verify").status == 0


def test_prefixes_databases_and_projects_are_memories_of_their_own(ltm, url):
    for number, catalog in enumerate(
        (url, f"{url}/second", f"{url}?collection_prefix=a_", f"{url}-2")
    ):
        assert ltm("--catalog", catalog, "get", "k").status == 1
        assert ltm("--catalog", catalog, "store", "k", str(number)).status == 0
    assert ltm("--catalog", url, "get", "k").out == "0\n"
    # Spelled otherwise it is the same one.
    assert ltm("--catalog", f"{url}/?collection_prefix=", "get", "k").out == "0\n"
    assert ltm("--catalog", f"{url}/%28default%29", "get", "k").out == "0\n"
    assert ltm("--catalog", f"{url}/(default)?collection_prefix=a_", "get", "k").out == "2\n"


def test_a_settings_file_makes_the_memory(ltm, url, firestore_project):
    Path("agent.yaml").write_text(
        f"ltm: {{catalog: {{type: firestore, project: {firestore_project},"
        " collection_prefix: a_, index_directory: words, timeout: 5}}"
    )
    assert ltm("--config", "agent.yaml", "store", "k", '"one word"').status == 0
    assert ltm("--config", "agent.yaml", "search", "words").out.startswith("k\t")
    assert ltm("--catalog", f"{url}?collection_prefix=a_", "get", "k").status == 0
    (words,) = Path("words").iterdir()
    assert words.name.endswith(".duckdb")
    # A flag takes the place of the address, not of the prefix.
    assert ltm("--config", "agent.yaml", "--catalog", url, "get", "k").status == 0


@pytest.mark.parametrize("command", ["upgrade", "current", "check", "sql"])
def test_there_is_no_schema_but_there_are_indexes(ltm, command):
    result = ltm("--catalog", "firestore://nowhere", "db", command)
    assert result.status == 2
    assert result.err == (
        "error: catalog 'firestore' has no schema: 'ltm db indexes' prints the indexes that it "
        "needs (validation_error)\n"
    )


def test_the_indexes_are_those_of_the_prefix_and_nothing_is_connected(ltm):
    catalog = ("--catalog", "firestore://nowhere?collection_prefix=agents_")
    assert json.loads(ltm(*catalog, "db", "indexes").out) == index_definitions("agents_")
    with_policy = ltm("--json", *catalog, "db", "indexes", "--ttl").document
    assert with_policy == {"success": True, **index_definitions("agents_", expire_entries=True)}


def test_indexes_that_there_are_not_are_refused(ltm):
    assert ltm("db", "indexes").err == (
        "error: catalog 'sqlite' has no indexes to deploy: Firestore has (validation_error)\n"
    )
    result = ltm("--catalog", "firestore://nowhere?collection_prefix=a%2Fb", "db", "indexes")
    assert result.status == 2
    assert "collection_prefix: 'a/b' is not up to 100 letters" in result.err


def test_a_server_that_is_not_there_is_exit_status_4(ltm, monkeypatch):
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    Path("agent.yaml").write_text("ltm: {catalog: {type: firestore, project: p, timeout: 0.5}}")
    for command in (("get", "k"), ("store", "k", "1"), ("search", "k"), ("health",)):
        result = ltm("--config", "agent.yaml", *command)
        assert (command, result.status) == (command, 4)
        assert "firestore://p/(default)" in result.err + result.out
