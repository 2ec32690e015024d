"""What is wrong with a SQLite catalog is told apart, and looking makes and changes nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from findings import Findings

from ltm import create_ltm_backend
from ltm.catalog.sqlite_diagnosis import NETWORK_FILE_SYSTEMS, file_system_of
from ltm.sql import migrate
from ltm.sql.engines import open_engine
from ltm.sql.sqlite_checks import find_damage

Examine = Callable[..., Findings]


def fill(path: Path) -> None:
    """Make a catalog with a few hundred kilobytes in it."""
    storage = str(path.parent / "payloads")
    with create_ltm_backend(catalog_config={"path": str(path)}, storage_uri=storage) as memory:
        for number in range(500):
            assert memory.store(f"key/{number}", f"some words {number} " * 20)["success"]


def sqlite(path: Path | str) -> dict[str, str]:
    return {"type": "sqlite", "path": str(path)}


def test_a_healthy_catalog_has_neither_problems_nor_warnings(
    examine: Examine, tmp_path: Path
) -> None:
    fill(tmp_path / "c.db")
    found = examine(sqlite(tmp_path / "c.db"))
    assert (found.problems, found.warnings) == ([], [])
    for check in ("extension", "catalog", "integrity", "schema", "writable"):
        assert "ok" in found.states(check), check
    assert found.states("round_trip") == ["ok", "ok"]


def test_a_file_that_is_not_there_is_not_made(examine: Examine, tmp_path: Path) -> None:
    found = examine(sqlite(tmp_path / "deep" / "c.db"))
    assert (found.problems, found.warnings) == ([], [])
    assert found.states("schema") == found.states("round_trip") == ["skipped"]
    assert [path.name for path in tmp_path.iterdir()] == ["payloads"]


def test_looking_leaves_nothing_beside_the_file(examine: Examine, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with closing(sqlite3.connect(place / "c.db")) as connection:
        connection.execute("CREATE TABLE somebody (elses)")
    before = (place / "c.db").read_bytes()
    found = examine(sqlite(place / "c.db"))
    assert found.states("schema") == ["skipped"]
    assert [path.name for path in place.iterdir()] == ["c.db"]
    assert (place / "c.db").read_bytes() == before


def test_a_schema_that_is_behind_is_upgraded_by_use_and_not_by_looking(
    examine: Examine, tmp_path: Path
) -> None:
    path = tmp_path / "c.db"
    engine = open_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        migrate.upgrade(connection, "0001")
    engine.dispose()
    for _ in range(2):
        found = examine(sqlite(path))
        assert (found.problems, found.warnings) == ([], ["schema"])
        assert "at revision '0001', behind" in found.only("schema").message
        assert f"ltm --catalog {path} db upgrade" in str(found.only("schema").remedy)


def test_a_schema_ahead_of_the_library_is_a_problem(examine: Examine, tmp_path: Path) -> None:
    fill(tmp_path / "c.db")
    with closing(sqlite3.connect(tmp_path / "c.db")) as connection:
        connection.execute("UPDATE ltm_alembic_version SET version_num = '9999'")
        connection.commit()
    found = examine(sqlite(tmp_path / "c.db"))
    assert found.problems == ["schema"]


def test_a_damaged_file_is_told(examine: Examine, tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    fill(path)
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xa5" * 65536)
    found = examine(sqlite(path))
    assert "integrity" in found.problems
    assert found.only("integrity").error_type == "integrity_error"
    assert found.states("round_trip") == ["skipped"]


def test_reading_through_a_file_ends_in_time(tmp_path: Path) -> None:
    fill(tmp_path / "c.db")
    with closing(sqlite3.connect(tmp_path / "c.db")) as connection:
        assert find_damage(connection, 60) == []
        assert find_damage(connection, 0) is None
        assert find_damage(connection, 60) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("no database, but a text of some length " * 100), "else"),
        (lambda path: path.mkdir(), "is a directory"),
    ],
)
def test_a_path_that_is_no_database_is_told(
    examine: Examine, tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path / "c.db")
    found = examine(sqlite(tmp_path / "c.db"))
    assert "catalog" in found.problems
    assert words in found.only("catalog").message
    assert found.states("storage") == ["ok"]


EXAMINE_AS_SOMEBODY = """
import json, os, sys
from dataclasses import asdict
from ltm.doctor import diagnose
from ltm import create_ltm_backend
path, storage = sys.argv[1:]
with create_ltm_backend(catalog_config={"path": path}, storage_uri=storage) as memory:
    assert memory.store("k", "x" * 5000)["success"]
settings = {"catalog": {"type": "sqlite", "path": path}, "storage": storage}
diagnose(settings)  # all is imported while it can be read
for directory, _, names in os.walk(os.path.dirname(path)):
    for name in names:
        os.chmod(os.path.join(directory, name), 0o444)
    os.chmod(directory, 0o555)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
found = diagnose(settings)
print(json.dumps([asdict(each) for each in found]))
"""


def test_a_place_that_this_user_may_not_write_is_told_of_catalog_and_storage(
    tmp_path: Path,
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    for above in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(above, 0o755)
    arguments = [str(place / "c.db"), str(place / "payloads")]
    done = subprocess.run(
        [sys.executable, "-c", EXAMINE_AS_SOMEBODY, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    for directory, _, _ in os.walk(place):
        os.chmod(directory, 0o755)
    assert done.returncode == 0, done.stderr
    found = {each["check"]: each for each in json.loads(done.stdout) if each["state"] == "problem"}
    assert set(found) == {"writable", "storage"}
    assert "nothing can be written" in found["writable"]["message"]
    assert "this user may not write there" in found["storage"]["message"]


def test_a_network_file_system_is_known_by_its_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/vda / ext4 rw 0 0\nserver:/x /data\\040store nfs4 rw 0 0\ntmpfs /data tmpfs rw 0 0\n"
    )
    assert file_system_of("/data store/agents", str(mounts)) == "nfs4"
    assert "nfs4" in NETWORK_FILE_SYSTEMS
    assert file_system_of("/data/agents", str(mounts)) == "tmpfs"
    assert file_system_of("/elsewhere", str(mounts)) == "ext4"
    assert file_system_of("/elsewhere", str(tmp_path / "none")) is None


def test_a_database_in_memory_is_well(examine: Examine) -> None:
    found = examine(sqlite(":memory:"))
    assert found.problems == []
    assert "ends with the process" in found.only("catalog").message
    assert found.states("round_trip") == ["ok", "ok"]
