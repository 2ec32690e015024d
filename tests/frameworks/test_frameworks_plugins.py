"""A package that is installed brings backends and catalogs of its own by entry points."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "their-memory"
version = "1.0"

[project.entry-points."ltm.backends"]
theirs = "their_memory:make_backend"

[project.entry-points."ltm.catalogs"]
theirs = "their_memory:TheirCatalog"
"""

MODULE = """
from ltm import DuckDBLTMBackend, SQLiteCatalog


class TheirCatalog(SQLiteCatalog):
    def __init__(self, *, place, **options):
        super().__init__(f"{place}/theirs.db", **options)


class TheirBackend(DuckDBLTMBackend):
    pass


def make_backend(catalog, **options):
    return TheirBackend(catalog, **options)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory into which pip has installed a package of a third party."""
    source = tmp_path_factory.mktemp("source")
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "their_memory.py").write_text(MODULE)
    target = tmp_path_factory.mktemp("target")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def run(code: str, installed: Path, directory: Path) -> str:
    path = os.pathsep.join([str(installed), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_backend_and_catalog_are_made_by_their_names(installed: Path, tmp_path: Path) -> None:
    code = """
from ltm import create_ltm_backend

with create_ltm_backend("theirs", catalog_config={"type": "theirs", "place": "."}) as memory:
    assert memory.store(key="k", value={"n": 1})["success"]
    print(type(memory).__name__)
"""
    assert run(code, installed, tmp_path).split() == ["TheirBackend"]
    assert (tmp_path / "theirs.db").is_file()


def test_settings_hand_its_catalog_the_options_they_do_not_know(
    installed: Path, tmp_path: Path
) -> None:
    code = """
from pathlib import Path

from ltm import create_ltm_from_settings

text = "ltm: {backend: theirs, catalog: {type: theirs, place: .}, storage: ./data/}"
Path("agent.yaml").write_text(text)
with create_ltm_from_settings("agent.yaml") as memory:
    assert memory.store(key="k", value={"n": 1})["success"]
    print(type(memory).__name__)
"""
    assert run(code, installed, tmp_path).split() == ["TheirBackend"]
    assert (tmp_path / "theirs.db").is_file()


def test_its_names_are_among_those_that_an_error_lists(installed: Path, tmp_path: Path) -> None:
    code = """
from ltm import ValidationError, create_catalog_backend, create_ltm_backend

for make in (create_ltm_backend, create_catalog_backend):
    try:
        make("thiers")
    except ValidationError as error:
        print(error)
try:
    create_catalog_backend("theirs", plaice=".")
except ValidationError as error:
    print(error)
"""
    backends, catalogs, option = run(code, installed, tmp_path).splitlines()
    assert backends == "unknown backend 'thiers': known are duckdb, ducklake, theirs"
    assert catalogs.startswith("unknown catalog 'thiers': known are firestore, postgres")
    assert catalogs.endswith(", theirs")
    assert option.startswith("catalog 'theirs': ")
    assert "place" in option


def test_what_nobody_asks_for_is_not_imported(installed: Path, tmp_path: Path) -> None:
    code = """
import sys
from ltm import create_ltm_backend

with create_ltm_backend() as memory:
    memory.store(key="k", value=1)
print("their_memory" in sys.modules)
"""
    assert run(code, installed, tmp_path).split() == ["False"]
