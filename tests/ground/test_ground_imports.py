"""What importing and using ``ltm`` loads, and that every public name is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ltm

HEAVY = {
    *("sqlalchemy", "alembic", "fsspec", "duckdb", "google", "yaml", "click", "rich", "msgspec"),
    "opentelemetry",
}


def modules_after(script: str, *arguments: str) -> set[str]:
    """Return the top-level modules that are loaded when *script* has run."""
    report = "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script + report, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_ltm_loads_nothing_heavy() -> None:
    assert modules_after("import ltm") & HEAVY == set()


def test_the_errors_and_hashes_load_nothing_heavy() -> None:
    script = (
        "import ltm; ltm.compute_content_hash(1); ltm.ConflictError; ltm.generate_entry_id('k')"
    )
    assert modules_after(script) & HEAVY == set()


def test_an_inlined_value_is_kept_without_payload_drivers_or_migrations(tmp_path: Path) -> None:
    script = """
import sys
from ltm import create_ltm_backend
for _ in range(2):
    with create_ltm_backend(
        catalog_config={"path": sys.argv[1] + "/c.db"}, storage_uri=sys.argv[1] + "/data"
    ) as memory:
        assert memory.store("k", "x" * 5000)["success"]
        assert memory.retrieve("k")["found"]
"""
    loaded = modules_after(script, str(tmp_path))
    assert loaded & (HEAVY - {"sqlalchemy"}) == set()
    assert "tenacity" not in loaded


def test_a_catalog_in_firestore_is_made_without_googles_libraries_and_duckdb() -> None:
    script = "import ltm; ltm.create_catalog_backend('firestore', project='p').close()"
    assert modules_after(script) & (HEAVY | {"grpc"}) == set()


@pytest.mark.parametrize("name", ltm.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(ltm, name).__doc__
    assert name in dir(ltm)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ltm.nothing  # noqa: B018 -- the access is the test
