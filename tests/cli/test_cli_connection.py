"""Which memory a command works on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ltm.cli.connection import Target, parse_catalog_url, resolve_settings
from ltm.config import FirestoreSettings, PostgresSettings, SQLiteSettings, SupabaseSettings
from ltm.errors import ValidationError


def _resolved(environ=None, **flags):
    settings = resolve_settings(Target(**flags), environ or {})
    return settings.catalog.path, settings.storage.uri


ENVIRON = {"LTM_CATALOG_URL": "sqlite:///env.db", "LTM_STORAGE_URI": "env_data"}


def test_defaults_lie_in_the_working_directory():
    assert _resolved() == ("ltm_catalog.db", "./ltm_data/")


def test_the_environment_counts_over_defaults_and_empty_variables_count_for_nothing():
    assert _resolved(ENVIRON) == ("env.db", "env_data")
    assert _resolved({"LTM_CATALOG_URL": ""}) == ("ltm_catalog.db", "./ltm_data/")


def test_a_settings_file_counts_over_the_environment(tmp_path):
    Path("agent.yaml").write_text("ltm: {catalog: {type: sqlite, path: yaml.db}}")
    assert _resolved(ENVIRON, config="agent.yaml") == ("yaml.db", "./ltm_data/")


def test_flags_count_over_everything(tmp_path):
    Path("agent.yaml").write_text("ltm: {catalog: {type: sqlite, path: yaml.db}, storage: y}")
    flags = {"catalog": "flag.db", "storage": "flag_data"}
    assert _resolved(ENVIRON, config="agent.yaml", **flags) == ("flag.db", "flag_data")
    assert _resolved(ENVIRON, **flags) == ("flag.db", "flag_data")


def test_a_flag_keeps_what_else_the_settings_file_says(tmp_path):
    Path("agent.yaml").write_text(
        "ltm: {catalog: {type: sqlite, path: a.db, durability: full}, table: t,"
        " storage: {uri: 's3://a/', options: {key: k}}}"
    )
    target = Target(config="agent.yaml", catalog="b.db", storage="s3://b/")
    settings = resolve_settings(target, {})
    assert settings.catalog.durability == "full"
    assert settings.storage.options == {"key": "k"}
    assert settings.table == "t"


def test_a_storage_flag_of_another_kind_drops_the_options_of_the_first(tmp_path):
    Path("agent.yaml").write_text("ltm: {storage: {uri: 's3://a/', options: {key: k}}}")
    settings = resolve_settings(Target(config="agent.yaml", storage="./local"), {})
    assert settings.storage.options == {}


def test_a_catalog_flag_replaces_a_catalog_of_another_kind(tmp_path):
    Path("agent.yaml").write_text("ltm: {catalog: {type: postgres, host: db}}")
    assert _resolved(config="agent.yaml", catalog="local.db")[0] == "local.db"


URL = "postgresql://me:new@elsewhere/other"


def _with_flag(document, url=URL):
    Path("agent.yaml").write_text(f"ltm: {{catalog: {document}}}")
    return resolve_settings(Target(config="agent.yaml", catalog=url), {}).catalog


def test_a_url_takes_the_place_of_an_address_and_of_nothing_else():
    configured = (
        "{type: postgres, host: h, port: 1, database: d, user: u, password: p, sslmode: disable,"
        " schema: agents, pool_max: 3, pool_mode: transaction, statement_timeout: 5}"
    )
    assert _with_flag(configured) == PostgresSettings(
        connection_string=URL,
        schema="agents",
        pool_max=3,
        pool_mode="transaction",
        statement_timeout=5,
    )


def test_a_url_loses_no_access_token():
    configured = "{type: supabase, connection_string: x, access_token: t, schema: agents}"
    assert _with_flag(configured) == SupabaseSettings(
        connection_string=URL, access_token="t", schema="agents"
    )


def test_a_url_of_another_kind_keeps_what_both_kinds_know():
    url = "postgresql://me:new@db.abc.supabase.co/postgres"
    assert _with_flag("{type: postgres, host: h, schema: agents}", url) == SupabaseSettings(
        connection_string=url, schema="agents"
    )
    assert _with_flag("{type: sqlite, path: a.db, durability: full}") == PostgresSettings(
        connection_string=URL
    )
    assert _with_flag("{type: other, schema: agents}") == PostgresSettings(connection_string=URL)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///a.db", "a.db"),
        ("sqlite:///dir/a b%20.db", "dir/a b%20.db"),
        ("sqlite:////abs/a.db", "/abs/a.db"),
        ("a.db", "a.db"),
        ("/abs/a.db", "/abs/a.db"),
        ("C:\\a.db", "C:\\a.db"),
        (":memory:", ":memory:"),
    ],
)
def test_a_catalog_url_names_a_file(url, path):
    assert parse_catalog_url(url) == SQLiteSettings(path=path)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "PostgreSQL"])
def test_a_catalog_url_names_a_server(scheme):
    url = f"{scheme}://me:pa:ss@h:5433/db?sslmode=require"
    assert parse_catalog_url(url) == PostgresSettings(connection_string=url)


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("firestore://my-project", {"project": "my-project"}),
        ("Firestore://my-project/", {"project": "my-project"}),
        ("firestore://my-project/agents", {"project": "my-project", "database": "agents"}),
        ("firestore://p/(default)", {"project": "p", "database": "(default)"}),
        ("firestore://p/%28default%29", {"project": "p", "database": "(default)"}),
        ("firestore://p?collection_prefix=a_", {"project": "p", "collection_prefix": "a_"}),
        ("firestore://p/d?collection_prefix=", {"project": "p", "database": "d"}),
        ("firestore://example.com:p", {"project": "example.com:p"}),
        ("firestore:///d", {"database": "d"}),
        ("firestore://", {}),
    ],
)
def test_a_catalog_url_names_a_database_of_firestore(url, settings):
    prefix = {"collection_prefix": ""} if url.endswith("=") else {}
    assert parse_catalog_url(url) == FirestoreSettings(**settings, **prefix)


def test_a_url_of_firestore_takes_the_place_of_the_database_and_of_nothing_else():
    configured = (
        "{type: firestore, project: p, database: d, collection_prefix: a_, credentials: key.json,"
        " timeout: 5, index_directory: words}"
    )
    kept = {"credentials": "key.json", "timeout": 5, "index_directory": "words"}
    assert _with_flag(configured, "firestore://q") == FirestoreSettings(
        project="q", collection_prefix="a_", **kept
    )
    assert _with_flag(configured, "firestore://q/e?collection_prefix=") == FirestoreSettings(
        project="q", database="e", collection_prefix="", **kept
    )
    assert _with_flag(configured) == PostgresSettings(connection_string=URL)
    assert _with_flag("{type: postgres, host: h, database: d}", "firestore://q") == (
        FirestoreSettings(project="q")
    )


@pytest.mark.parametrize(
    "place",
    [
        "db.abc.supabase.co:5432",
        "DB.abc.Supabase.CO",
        "aws-0-eu-west-1.pooler.supabase.com:6543",
        "db.abc.supabase.co.",
    ],
)
def test_a_host_of_supabase_makes_a_catalog_of_supabase(place):
    url = f"postgresql://me:hunter2@{place}/postgres"
    assert parse_catalog_url(url) == SupabaseSettings(connection_string=url)


@pytest.mark.parametrize(
    "url", ["postgresql://supabase.co.example.org/db", "postgresql://notsupabase.co/db"]
)
def test_a_host_that_only_looks_like_supabases_does_not(url):
    assert parse_catalog_url(url) == PostgresSettings(connection_string=url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://me:hunter2@h/db",
        "postgresql+asyncpg://me:hunter2@h/db",
        "postgresql://me:hunter2@h:no/db",
        "postgresql://me:hunter2@h/db?hunter2",
        "postgresql:hunter2",
        "postgres://me:hunter2%@h/db",
        "host=h user=me password=hunter2",
        "password=hunter2 host=h",
        "sqlite:///a.db?password=hunter2",
        "postgressql://me:hunter2@h/db",
        "mysql://me:hunter2@h/db",
        "firestore://me:hunter2@p/d",
        "firestore://p/d?password=hunter2",
        "firestore://p/d?hunter2",
        "firestore://p/d/hunter2",
        "firestore:hunter2",
        "firestore://p/d?collection_prefix=a#hunter2",
    ],
)
def test_a_url_that_is_refused_keeps_its_password_to_itself(ltm, monkeypatch, url):
    result = ltm("--catalog", url, "--json", "ls")
    assert result.status == 2
    monkeypatch.setenv("LTM_CATALOG_URL", url)
    copied = ltm("copy", "--to", url, "--to-storage", "x")
    checked = ltm("db", "check")
    assert (copied.status, checked.status) == (2, 2)
    for each in (result, copied, checked):
        assert "hunter2" not in each.out + each.err
    assert os.listdir() == []


@pytest.mark.parametrize(
    "url", ["mysql://me:hunter2@h/db", "duckdb:///x", "sqlite://a.db", "sqlite:a.db", ""]
)
def test_another_catalog_url_is_refused_naming_what_is_supported(url):
    with pytest.raises(
        ValidationError, match=r"supported are sqlite:///PATH.*firestore://PROJECT"
    ) as caught:
        parse_catalog_url(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///a.db?mode=ro"])
def test_a_sqlite_url_is_a_path_and_nothing_else(url):
    with pytest.raises(ValidationError, match="expected a path"):
        parse_catalog_url(url)


def test_the_variables_reach_a_command(ltm, monkeypatch, tmp_path):
    monkeypatch.setenv("LTM_CATALOG_URL", f"sqlite:///{tmp_path}/deep/e.db")
    monkeypatch.setenv("LTM_STORAGE_URI", f"file://{tmp_path}/payloads")
    assert ltm("store", "k", "--text", "x" * 2000).status == 0
    assert (tmp_path / "deep" / "e.db").exists()
    assert (tmp_path / "payloads").is_dir()
    assert not os.path.exists("ltm_catalog.db")


def test_a_table_is_a_memory_of_its_own(ltm):
    ltm("--table", "one", "store", "k", "1")
    assert ltm("--table", "one", "get", "k").status == 0
    assert ltm("get", "k").status == 1


def test_a_settings_file_makes_the_memory(ltm, tmp_path):
    Path("agent.yaml").write_text(
        "settings: {ltm: {catalog: {type: sqlite, path: y.db}, raise_errors: true, table: t}}"
    )
    assert ltm("--config", "agent.yaml", "store", "k", "1").status == 0
    assert ltm("--config", "agent.yaml", "store", "k", "1", "--if-absent").status == 3
    assert ltm("--catalog", "y.db", "--table", "t", "get", "k").status == 0
    assert ltm("--config", "nowhere.yaml", "ls").status == 2
