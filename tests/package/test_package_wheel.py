"""The wheel: built, installed into an empty environment, and used from there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(
    command: list[str], directory: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=directory,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(directory)]
    built = run([*command, str(ROOT)], directory)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = directory.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_its_migrations_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "ltm/_migrations/versions/0001_first_schema.py" in names
    assert {"ltm/catalog/firestore.indexes.json", "ltm/settings.schema.json"} <= set(names)
    assert {"ltm/_migrations/env.py", "ltm/py.typed", "ltm/cli/__init__.py"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"ltm", "ltm-0.1.0.dist-info"}


def test_the_source_distribution_holds_what_the_wheel_is_made_of(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", str(tmp_path)]
    built = run([*command, str(ROOT)], tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"ltm/settings.schema.json", "ltm/py.typed", "migrations/env.py", "Makefile"} <= names


@pytest.mark.timeout(300)
def test_an_installed_wheel_upgrades_a_catalog_and_remembers(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env/bin/python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    installed = run([*install, f"{wheel}[cli]"], tmp_path)
    if installed.returncode != 0 and not os.environ.get("LTM_REQUIRE_SERVICES"):
        pytest.skip(f"no package index to install from: {installed.stderr[-200:]}")
    assert installed.returncode == 0, installed.stderr
    ltm = str(tmp_path / "env/bin/ltm")
    catalog = f"sqlite:///{tmp_path}/catalog.db"

    def call(*arguments: str) -> str:
        done = run([ltm, *arguments], tmp_path, LTM_CATALOG_URL=catalog)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    indexes = call("--catalog", "firestore://nowhere", "db", "indexes")
    assert "ltm_entries" in indexes
    printed = run([python, "-m", "ltm.settings_schema"], tmp_path).stdout
    assert printed == (ROOT / "ltm/settings.schema.json").read_text("utf-8")
    call("db", "upgrade")
    assert "0004" in call("db", "current")
    call("db", "check")
    call("store", "greeting", '"Hello from a wheel"')
    assert "Hello from a wheel" in call("get", "greeting")
    assert "greeting" in call("search", "wheel")
