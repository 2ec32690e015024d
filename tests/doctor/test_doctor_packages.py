"""Drivers that are missing or too old are told, and hide nothing else; so are bad settings."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from ltm.catalog.sqlite import SQLiteCatalog
from ltm.doctor import diagnose
from ltm.doctor.packages import PACKAGES, Package, describe_package
from ltm.factory import register_catalog_backend
from ltm.finding import Finding, problem

ROOT = Path(__file__).parents[2]

WITHOUT = """
import json, sys
from dataclasses import asdict
settings, *missing = sys.argv[1:]

class Missing:
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in missing):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Missing())
from ltm.doctor import diagnose
print(json.dumps([asdict(each) for each in diagnose(json.loads(settings))]))
"""


def examine_without(settings: dict[str, Any], *missing: str) -> list[dict[str, Any]]:
    """Look at *settings* in a Python in which *missing* modules can't be imported."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps(settings), *missing],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("catalog", "storage", "missing", "extra"),
    [
        ({"type": "postgres", "host": "127.0.0.1", "port": 1}, {}, "psycopg", "postgres"),
        ({"type": "firestore", "project": "p"}, {}, "google.cloud.firestore", "firestore"),
        ({}, {"uri": "s3://bucket/x"}, "s3fs", "s3"),
        ({}, {"uri": "gs://bucket/x"}, "gcsfs", "gcs"),
        ({}, {"uri": "az://bucket/x"}, "adlfs", "azure"),
        ({}, {"format": "parquet"}, "pyarrow", "duckdb"),
        ({}, {"format": "duckdb"}, "duckdb", "duckdb"),
    ],
)
def test_a_package_that_is_missing_names_the_extra_that_brings_it(
    catalog: dict[str, Any], storage: dict[str, Any], missing: str, extra: str, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "payloads"
    in_the_way.write_text("a file")
    where = {"uri": str(in_the_way)} | storage
    settings = {"catalog": {"type": "sqlite", "path": ":memory:"} | catalog, "storage": where}
    if "type" in catalog:
        settings["catalog"] = catalog
    found = examine_without(settings, missing)
    (driver,) = [each for each in found if each["check"] == "driver" and each["remedy"]]
    assert driver["state"] == "problem"
    assert driver["error_type"] == "dependency_missing"
    assert driver["remedy"] == f"pip install 'ltm[{extra}]'"
    if "uri" not in storage:
        # It hides no other fault.
        (store,) = [each for each in found if each["check"] == "storage"]
        assert store["state"] == "problem"
    # Nor is it told twice.
    others = [each["check"] for each in found if each["error_type"] == "dependency_missing"]
    assert set(others) <= {"driver", "round_trip"}


def test_a_version_that_is_not_supported_is_told() -> None:
    old = describe_package(Package("pyjwt", "jwt", (999, 1)), "postgres")
    assert old.state == "problem"
    assert "it takes 999.1 or newer" in old.message
    new = describe_package(Package("pyjwt", "jwt", (1,), (2,)), "postgres")
    assert new.state == "problem"
    assert "below 2" in new.message
    assert new.remedy == "pip install --upgrade 'ltm[postgres]'"


def requirements() -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra, texts in project["optional-dependencies"].items():
        if extra != "dev":
            yield from map(Requirement, texts)


@pytest.mark.parametrize("package", PACKAGES.values(), ids=list(PACKAGES))
def test_versions_are_those_that_the_project_asks_for(package: Package) -> None:
    asked = [each for each in requirements() if each.name == package.distribution]
    assert asked
    for each in asked:
        bounds = {one.operator: one.version for one in each.specifier}
        assert ".".join(map(str, package.least)) == bounds[">="]
        below = None if package.below is None else ".".join(map(str, package.below))
        assert below == bounds.get("<")


def test_duckdbs_extension_that_is_missing_is_a_warning() -> None:
    settings = {"catalog": {"type": "sqlite", "path": ":memory:"}, "storage": "memory://doctor"}
    found = examine_without(settings, "duckdb_extension_ducklake")
    warnings = [each for each in found if each["state"] == "warning"]
    # One that DuckDB has installed itself will do, too.
    assert {each["check"] for each in warnings} <= {"extension"}
    assert not [each for each in found if each["state"] == "problem"]
    assert not [each for each in examine_without(settings, "duckdb") if each["state"] == "warning"]


# Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"catalog": {"type": "postgres", "pool_max": "many"}}, "catalog.pool_max: expected int"),
        ({"catalog": {"type": "postgres", "password": "${NOT_SET}"}}, "NOT_SET is not set"),
        ({"storge": "x"}, "did you mean 'storage'?"),
    ],
)
def test_settings_that_cannot_be_read_are_a_finding_that_names_the_place(
    settings: dict[str, Any], words: str
) -> None:
    (found,) = diagnose(settings, environ={})
    assert (found.check, found.state, found.error_type) == (
        "settings",
        "problem",
        "validation_error",
    )
    assert words in found.message


def test_a_file_of_settings_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    (found,) = diagnose(str(tmp_path / "agent.yaml"))
    assert found.check == "settings"
    assert "agent.yaml" in found.message


def test_a_catalog_that_nobody_registered_is_a_finding(tmp_path: Path) -> None:
    found = diagnose({"catalog": {"type": "nonesuch"}, "storage": str(tmp_path)})
    problems = [each for each in found if each.state == "problem"]
    assert [each.check for each in problems] == ["settings"]
    assert "known are" in problems[0].message


class ThirdParty(SQLiteCatalog):
    """A catalog with something to say for itself."""

    def diagnose(self) -> Iterator[Finding]:
        yield problem("licence", "has run out", "buy another", "validation_error")


def test_a_third_partys_catalog_takes_part(tmp_path: Path) -> None:
    register_catalog_backend("third-party", lambda: ThirdParty(":memory:"))
    found = diagnose({"catalog": {"type": "third-party"}, "storage": str(tmp_path)})
    assert [each.check for each in found if each.state == "problem"] == ["licence"]
    assert found[-1].state == "skipped"
