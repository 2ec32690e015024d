"""Backends and catalogs by name, by settings, and by what others register."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltm import (
    DuckDBLTMBackend,
    FirestoreCatalog,
    SQLiteCatalog,
    ValidationError,
    create_catalog_backend,
    create_ltm_backend,
    create_ltm_from_settings,
    register_catalog_backend,
    register_ltm_backend,
)
from ltm.backend.base import LTMBackend
from ltm.testing.clock import FakeClock


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("name", ["duckdb", "ducklake"])
def test_the_defaults_are_sqlite_and_a_folder_and_nothing_is_opened_yet(
    tmp_path: Path, name: str
) -> None:
    with create_ltm_backend(name) as memory:
        assert isinstance(memory, LTMBackend)
        assert files(tmp_path) == []
        assert memory.store("k", "x" * 5000)["success"]
        assert {"ltm_catalog.db", "ltm_data"} <= set(files(tmp_path))


def test_an_eager_backend_opens_its_catalog_at_once(tmp_path: Path) -> None:
    create_ltm_backend(lazy=False).close()
    assert "ltm_catalog.db" in files(tmp_path)


def test_a_catalog_that_was_handed_in_stays_open() -> None:
    catalog = create_catalog_backend("sqlite", path=":memory:")
    with create_ltm_backend(catalog=catalog, storage_uri="memory://factory") as memory:
        memory.store("k", 1)
    assert catalog.get_entry("k") is not None
    catalog.close()


def test_a_backend_works_on_the_table_its_catalog_is_bound_to() -> None:
    with create_catalog_backend(table="notes", path=":memory:") as catalog:
        memory = create_ltm_backend(catalog=catalog, storage_uri="memory://factory")
        assert memory.stats()["table"] == "notes"
        other = create_ltm_backend(catalog=catalog, storage_uri="memory://factory", table="tasks")
        assert other.stats()["table"] == "tasks"


def test_a_backend_and_its_catalog_go_by_one_clock() -> None:
    clock = FakeClock()
    catalog = create_catalog_backend(path=":memory:")
    memory = create_ltm_backend(catalog=catalog, storage_uri="memory://clock", clock=clock)
    assert isinstance(memory, DuckDBLTMBackend)
    memory.store("k", 1, ttl=60)
    assert memory.catalog.get_entry("k") is not None
    clock.advance(60)
    assert memory.catalog.get_entry("k") is None
    assert catalog.clock is not clock, "a catalog that was handed in stays as it is"
    catalog.close()


def test_a_catalog_that_was_made_is_closed() -> None:
    memory = create_ltm_backend(catalog_config={"type": "sqlite", "path": "c.db"})
    assert isinstance(memory, DuckDBLTMBackend)
    memory.store("k", 1)
    memory.close()
    with pytest.raises(Exception, match="closed"):
        memory.catalog.get_entry("k")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create_ltm_backend("duckbd"), "unknown backend 'duckbd': known are duckdb, duck"),
        (lambda: create_catalog_backend("oracle"), "unknown catalog 'oracle': known are"),
        (lambda: create_catalog_backend("sqlite", pth="x"), "catalog 'sqlite'.*pth"),
        (lambda: create_ltm_backend(storage="x"), "backend 'duckdb'.*storage"),
        (lambda: create_ltm_backend(catalog="sqlite"), "catalog: expected a subclass"),
        (lambda: create_ltm_backend(payload_format="xml"), "xml"),
        (lambda: create_ltm_backend(inline_threshold=-1), "inline_threshold: -1 is not from 0"),
        (lambda: create_ltm_backend(inline_threshold="1k"), "inline_threshold: expected bytes"),
        (lambda: create_ltm_backend(max_workers=0), "max_workers"),
        (lambda: create_ltm_backend(table=""), "table: expected 1 to 200 characters"),
        (lambda: create_ltm_backend(language="klingon"), "language: 'klingon'"),
        (lambda: create_ltm_backend(storage_uri="gopher://x"), "gopher"),
        (lambda: create_catalog_backend(path=""), "path: expected a file name"),
        (lambda: create_catalog_backend(durability="maybe"), "durability: expected 'normal'"),
        (lambda: create_catalog_backend(busy_timeout=0), "busy_timeout: expected seconds above 0"),
        (lambda: create_catalog_backend("firestore", pth="x"), "catalog 'firestore'.*pth"),
        (lambda: create_catalog_backend("firestore", timeout=0), "timeout: expected seconds above"),
        (lambda: create_catalog_backend("firestore", collection_prefix="a/b"), "collection_prefix"),
        (
            lambda: create_catalog_backend("firebase"),
            "unknown catalog 'firebase': known.*firestore",
        ),
    ],
)
def test_a_bad_name_or_option_is_named(tmp_path: Path, call: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        call()
    assert files(tmp_path) == []


def test_a_catalog_in_firestore_is_made_by_name_and_nothing_is_opened(tmp_path: Path) -> None:
    options = {"project": "p", "database": "d", "collection_prefix": "a_", "timeout": 5}
    catalog = create_catalog_backend("firestore", index_directory="words", **options)
    assert isinstance(catalog, FirestoreCatalog)
    assert "firestore://p/d" in repr(catalog)
    catalog.close()
    settings = {"catalog": {"type": "firestore", **options}, "storage": "memory://firestore"}
    with create_ltm_from_settings(settings) as memory:
        assert isinstance(memory, DuckDBLTMBackend)
        assert "firestore://p/d" in repr(memory.catalog)
    assert files(tmp_path) == []


def test_a_catalog_and_its_configuration_exclude_one_another() -> None:
    with pytest.raises(ValidationError, match="give one, not both"):
        create_ltm_backend(catalog=SQLiteCatalog(":memory:"), catalog_config={})


def test_what_others_register_is_made_by_its_name() -> None:
    register_catalog_backend("elsewhere", lambda **options: SQLiteCatalog(":memory:", **options))
    register_ltm_backend("renamed", DuckDBLTMBackend)
    with create_ltm_backend("renamed", catalog_config={"type": "elsewhere"}) as memory:
        assert memory.store("k", 1)["success"]


def test_entry_points_of_installed_packages_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_catalog.py").write_text(
        "from ltm.catalog.sqlite import SQLiteCatalog\n"
        "def make(**options):\n    return SQLiteCatalog(':memory:', **options)\n"
    )
    installed = tmp_path / "their_catalog-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: their-catalog\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[ltm.catalogs]\ntheirs = their_catalog:make\n")
    monkeypatch.syspath_prepend(tmp_path)
    catalog = create_catalog_backend("theirs", table="notes")
    assert catalog.table().name == "notes"
    catalog.close()


def test_settings_make_the_backend_they_describe(tmp_path: Path) -> None:
    document = {
        "settings": {
            "ltm": {
                "backend": "duckdb",
                "catalog": {"type": "sqlite", "path": "${WHERE}/agent.db", "durability": "full"},
                "storage": {"uri": "./payloads/", "format": "json"},
                "inline_threshold": 10,
                "table": "notes",
            }
        }
    }
    with create_ltm_from_settings(document, environ={"WHERE": str(tmp_path)}) as memory:
        answer = memory.store("k", "more than ten bytes")
        assert answer["storage_uri"].startswith(f"{tmp_path}/payloads/notes-")
        assert memory.stats()["table"] == "notes"
    assert "agent.db" in files(tmp_path)


def test_settings_come_from_a_yaml_file_too(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("ltm:\n  catalog: {type: sqlite, path: ':memory:'}\n")
    with create_ltm_from_settings(tmp_path / "agent.yaml") as memory:
        assert memory.store("k", 1)["success"]
    with pytest.raises(ValidationError, match=r"ltm\.catalog\.pth: unknown key"):
        create_ltm_from_settings({"ltm": {"catalog": {"type": "sqlite", "pth": "x"}}})
