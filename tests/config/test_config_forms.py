"""Every form in which settings may be written means what section 15 of the design says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ltm.config import (
    FirestoreSettings,
    PluginSettings,
    PostgresSettings,
    Settings,
    SQLiteSettings,
    StorageSettings,
    SupabaseSettings,
    load_settings,
    parse_settings,
    parse_yaml,
)

WHOLE = """
settings:
  ltm:
    backend: duckdb
    catalog: {type: firestore, project: my-project, collection_prefix: ltm_}
    storage: {uri: "gs://my-bucket/agents/ltm/", format: json}
    inline_threshold: 1024
"""


def catalog(text: str, **environ: str):
    return parse_yaml(f"catalog: {text}", environ=environ).catalog


def storage(text: str, **environ: str) -> StorageSettings:
    return parse_yaml(f"storage: {text}", environ=environ).storage


def test_the_documented_example_parses_to_what_it_says():
    settings = parse_yaml(WHOLE)
    assert settings.backend == "duckdb"
    assert settings.catalog == FirestoreSettings(project="my-project", collection_prefix="ltm_")
    assert settings.storage == StorageSettings(uri="gs://my-bucket/agents/ltm/", format="json")
    assert settings.inline_threshold == 1024


def test_the_document_may_begin_at_settings_at_ltm_or_at_the_inner_mapping():
    inner = {"backend": "duckdb", "catalog": "sqlite", "table": "notes"}
    whole = parse_settings({"settings": {"ltm": inner, "llm": {"model": "x"}}, "agents": []})
    assert whole == parse_settings({"ltm": inner, "other": 1}) == parse_settings(inner)
    assert whole.table == "notes"


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"ltm": None},
        {"ltm": {}},
        {"settings": None},
        {"settings": {}},
        {"settings": {"ltm": None}},
        {"settings": {"ltm": {}}},
        {"catalog": None, "storage": None},
        {"catalog": {}, "storage": {"options": None}},
    ],
)
def test_an_empty_section_means_the_defaults(document):
    assert parse_settings(document, environ={}) == Settings()


@pytest.mark.parametrize("text", ["", "# nothing", "---", "{}", "settings:\n  ltm:\n"])
def test_an_empty_document_means_the_defaults(text):
    assert parse_yaml(text) == Settings()


def test_the_defaults_are_those_of_the_design():
    settings = Settings()
    assert (settings.backend, settings.table, settings.language) == ("duckdb", "default", "english")
    assert (settings.inline_threshold, settings.max_workers) == (1024, 16)
    assert (settings.enable_fts, settings.verify_reads, settings.lazy) == (True, True, True)
    assert settings.raise_errors is False
    assert settings.catalog == SQLiteSettings(path="ltm_catalog.db")
    assert settings.catalog.options() == {"path": "ltm_catalog.db"}
    assert settings.storage == StorageSettings(uri="./ltm_data/", format="json", options={})


def test_every_top_level_setting_is_read():
    values = {"enable_fts": False, "table": "t", "verify_reads": False, "lazy": False}
    values |= {"raise_errors": True, "max_workers": 256, "language": "german"}
    values |= {"inline_threshold": 0, "backend": "ducklake"}
    settings = parse_settings(values)
    assert {name: getattr(settings, name) for name in values} == values


def test_a_backend_of_a_third_party_keeps_its_name():
    assert parse_yaml("backend: my.own-backend").backend == "my.own-backend"


@pytest.mark.parametrize(
    ("text", "expected", "options"),
    [
        (
            "{type: firestore, project: my-project, collection_prefix: ltm_}",
            FirestoreSettings(project="my-project", collection_prefix="ltm_"),
            {"project": "my-project", "collection_prefix": "ltm_"},
        ),
        (
            "{type: firestore, database: d, credentials: ./key.json}",
            FirestoreSettings(database="d", credentials="./key.json"),
            {"database": "d", "credentials": "./key.json"},
        ),
        (
            "{type: firestore, timeout: 5, index_directory: ./words/}",
            FirestoreSettings(timeout=5.0, index_directory="./words/"),
            {"timeout": 5.0, "index_directory": "./words/"},
        ),
        (
            '{type: postgres, connection_string: "${POSTGRES_URL}"}',
            PostgresSettings(connection_string="postgresql://u:p@h/db"),
            {"connection_string": "postgresql://u:p@h/db"},
        ),
        (
            "{type: postgres, host: localhost, database: ltm, user: me, password: pw}",
            PostgresSettings(host="localhost", database="ltm", user="me", password="pw"),
            {"host": "localhost", "database": "ltm", "user": "me", "password": "pw"},
        ),
        (
            "{type: postgres, port: 5433, schema: s, pool_min: 0, pool_max: 4, pool_timeout: 1, "
            "connect_timeout: 2.5, auto_migrate: true, sslmode: verify-full}",
            PostgresSettings(
                port=5433,
                schema="s",
                pool_min=0,
                pool_max=4,
                pool_timeout=1.0,
                connect_timeout=2.5,
                auto_migrate=True,
                sslmode="verify-full",
            ),
            {"port": 5433, "schema": "s", "pool_min": 0, "pool_max": 4, "pool_timeout": 1.0}
            | {"connect_timeout": 2.5, "auto_migrate": True, "sslmode": "verify-full"},
        ),
        (
            '{type: supabase, connection_string: "${SUPABASE_DB_URL}", '
            'access_token: "${SUPABASE_ACCESS_TOKEN}"}',
            SupabaseSettings(connection_string="postgresql://s", access_token="jwt"),
            {"connection_string": "postgresql://s", "access_token": "jwt"},
        ),
        (
            "{type: supabase, url: https://x.supabase.co, anon_key: k, tenant: t, jwt_secret: j, "
            "schema: s, auto_migrate: false, pool_min: 1, pool_size: 2, pool_timeout: 3}",
            SupabaseSettings(
                url="https://x.supabase.co",
                anon_key="k",
                tenant="t",
                jwt_secret="j",
                schema="s",
                auto_migrate=False,
                pool_min=1,
                pool_max=2,
                pool_timeout=3.0,
            ),
            {"url": "https://x.supabase.co", "anon_key": "k", "tenant": "t", "jwt_secret": "j"}
            | {"schema": "s", "auto_migrate": False, "pool_min": 1, "pool_max": 2}
            | {"pool_timeout": 3.0},
        ),
        (
            "{type: sqlite, path: ./ltm_catalog.db}",
            SQLiteSettings(path="./ltm_catalog.db"),
            {"path": "./ltm_catalog.db"},
        ),
        (
            "{type: sqlite, durability: full, busy_timeout: 0.5}",
            SQLiteSettings(durability="full", busy_timeout=0.5),
            {"path": "ltm_catalog.db", "durability": "full", "busy_timeout": 0.5},
        ),
        ("sqlite", SQLiteSettings(), {"path": "ltm_catalog.db"}),
        ("postgres", PostgresSettings(), {}),
        ("${KIND}", FirestoreSettings(), {}),
        ("redis", PluginSettings(type="redis"), {}),
        (
            "{type: redis, servers: [a, '${KIND}'], nested: {depth: 1, 2: null}, ttl: 1.5}",
            PluginSettings(
                type="redis",
                plugin_options={
                    "servers": ["a", "firestore"],
                    "nested": {"depth": 1, 2: None},
                    "ttl": 1.5,
                },
            ),
            {"servers": ["a", "firestore"], "nested": {"depth": 1, 2: None}, "ttl": 1.5},
        ),
    ],
)
def test_a_catalog_parses_to_its_type_and_the_options_that_were_set(text, expected, options):
    found = catalog(
        text,
        POSTGRES_URL="postgresql://u:p@h/db",
        SUPABASE_DB_URL="postgresql://s",
        SUPABASE_ACCESS_TOKEN="jwt",
        KIND="firestore",
    )
    assert found == expected
    assert found.type == expected.type
    assert found.options() == options


def test_pool_size_is_another_name_of_pool_max():
    assert catalog("{type: postgres, pool_size: 7}").options() == {"pool_max": 7}


def test_options_may_be_changed_without_changing_the_settings():
    found = catalog("{type: redis, host: h}")
    found.options().clear()
    assert found.options() == {"host": "h"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("./here/", StorageSettings(uri="./here/")),
        ("s3://bucket/ltm", StorageSettings(uri="s3://bucket/ltm")),
        (
            '{uri: "gs://my-bucket/agents/ltm/", format: json}',
            StorageSettings(uri="gs://my-bucket/agents/ltm/", format="json"),
        ),
        (
            '{uri: "s3://b/p", s3_region: us-east-1}',
            StorageSettings(
                uri="s3://b/p", options={"client_kwargs": {"region_name": "us-east-1"}}
            ),
        ),
        (
            "{uri: ./ltm_data/, options: {auto_mkdir: true, level: 3}}",
            StorageSettings(uri="./ltm_data/", options={"auto_mkdir": True, "level": 3}),
        ),
        ("{format: parquet}", StorageSettings(format="parquet")),
        ("{format: duckdb}", StorageSettings(format="duckdb")),
        (
            "{uri: 's3://b', s3_endpoint: 'http://127.0.0.1:9000', s3_access_key_id: a, "
            "s3_secret_access_key: '${SECRET}', options: {anon: false, "
            "client_kwargs: {verify: false}}, s3_region: eu}",
            StorageSettings(
                uri="s3://b",
                options={
                    "anon": False,
                    "client_kwargs": {"verify": False, "region_name": "eu"},
                    "endpoint_url": "http://127.0.0.1:9000",
                    "key": "a",
                    "secret": "s",
                },
            ),
        ),
        (
            "{options: {client_kwargs: null}, s3_region: eu}",
            StorageSettings(options={"client_kwargs": {"region_name": "eu"}}),
        ),
    ],
)
def test_a_storage_parses_to_uri_format_and_options(text, expected):
    assert storage(text, SECRET="s") == expected


def test_the_payload_format_may_stand_at_the_top():
    assert parse_yaml("payload_format: parquet").storage.format == "parquet"
    settings = parse_yaml("payload_format: parquet\nstorage: s3://b")
    assert settings.storage == StorageSettings(uri="s3://b", format="parquet")
    both = parse_yaml("{payload_format: duckdb, storage: {format: duckdb}}")
    assert both.storage.format == "duckdb"


def test_yaml_merge_keys_are_no_duplicates_of_what_they_override():
    text = """
base: &base {type: postgres, host: a, port: 1}
nested: {deep: {deeper: &n {<<: *base, port: 3}}}
ltm:
  catalog: {<<: *n, host: b}
"""
    assert parse_yaml(text).catalog == PostgresSettings(host="b", port=3)


def test_a_file_is_loaded_by_a_string_or_a_path(tmp_path: Path):
    path = tmp_path / "agent.yaml"
    path.write_text(WHOLE, encoding="utf-8-sig")
    assert load_settings(path) == load_settings(str(path)) == parse_yaml(WHOLE)


def test_a_mapping_is_loaded_as_it_is():
    assert load_settings({"table": "t"}) == Settings(table="t")


def test_the_document_is_left_as_it_was():
    document = {"storage": {"options": {"client_kwargs": {"a": 1}}, "s3_region": "eu"}}
    parse_settings(document)
    assert document == {"storage": {"options": {"client_kwargs": {"a": 1}}, "s3_region": "eu"}}


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        Settings().table = "other"  # type: ignore[misc]


def test_importing_the_module_does_not_import_yaml():
    code = "import sys, ltm.config; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
