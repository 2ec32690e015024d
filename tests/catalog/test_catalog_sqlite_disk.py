"""A disk that is full, and places where nothing may be written."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from ltm import create_ltm_backend
from ltm.backend.duckdb import DuckDBLTMBackend

FILLING = """
import resource, signal, sys
from ltm import create_ltm_backend

directory = sys.argv[1]
memory = create_ltm_backend(
    catalog_config={"path": f"{directory}/catalog.db"}, storage_uri=f"{directory}/data"
)
assert memory.store("old", "kept")["success"]
assert memory.store("large", ["kept" * 1000])["success"]

# As a full disk: no file of this process may grow past a size.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, resource.RLIM_INFINITY))
kinds = set()
for number in range(400):
    answer = memory.store("old", {"n": number, "text": "x" * 1000}) if number % 2 else (
        memory.store_batch([(f"k{number}:{i}", "y" * 900) for i in range(20)])
    )
    if not answer["success"]:
        kinds.add(answer["error_type"])
        break
    last = number
assert kinds == {"catalog_unavailable"}, kinds
assert memory.store("large", ["z" * 800_000])["error_type"] == "storage_error"
assert memory.retrieve("large")["value"] == ["kept" * 1000]
before = memory.retrieve("old")
assert before["found"]

resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert memory.store("old", "there is room again")["success"]
assert memory.verify()["problems"] == []
print("done")
"""


def test_a_full_disk_is_an_outage_that_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLING, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout.strip() == "done", done.stderr


def test_a_catalog_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    for path in (tmp_path / "file" / "catalog.db", tmp_path):
        with create_ltm_backend(catalog_config={"path": path}) as memory:
            for answer in (memory.store("k", 1), memory.retrieve("k"), memory.search("k")):
                assert (answer["success"], answer["error_type"]) == (False, "catalog_unavailable")


def test_a_payload_directory_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    memory = create_ltm_backend(
        catalog_config={"path": tmp_path / "catalog.db"}, storage_uri=f"{tmp_path}/file/data"
    )
    assert isinstance(memory, DuckDBLTMBackend)
    memory.store("k", "small")
    answer = memory.store("k", "large" * 1000)
    assert (answer["success"], answer["error_type"]) == (False, "storage_error")
    assert memory.retrieve("k")["value"] == "small"
    assert memory.health_check()["storage"]["error_type"] == "storage_error"
    memory.close()


READ_ONLY = """
import os, sys
from ltm import create_ltm_backend

directory = sys.argv[1]

def open_memory(name):
    return create_ltm_backend(
        catalog_config={"path": f"{directory}/{name}/c.db"},
        storage_uri=f"{directory}/{name}/data",
    )

def permit(files, directories):
    for place, _, names in os.walk(f"{directory}/memory"):
        for name in names:
            os.chmod(f"{place}/{name}", files)
        os.chmod(place, directories)

# Everything is imported while it can be read: root must become somebody whom modes bind.
with open_memory("warm") as warm:
    warm.store("k", "x" * 5000)
    warm.store("k", "y" * 5000)
    warm.search("x")
if os.getuid() == 0:
    os.chmod(directory, 0o777)
    os.setgid(65534)
    os.setuid(65534)

memory = open_memory("memory")
memory.store("old", "kept")
memory.store("large", "kept" * 1000)
permit(0o444, 0o555)
assert memory.store("new", "x" * 5000)["error_type"] == "storage_error"
assert memory.retrieve("old")["value"] == "kept"
assert memory.retrieve("large")["value"] == "kept" * 1000
other = open_memory("memory")
assert other.store("new", 1)["error_type"] == "catalog_unavailable"
assert other.delete("old")["error_type"] == "catalog_unavailable"
assert other.retrieve("old")["value"] == "kept"
permit(0o644, 0o755)
other.close()
assert open_memory("memory").store("new", 1)["success"]
print("done")
"""


def test_a_directory_that_becomes_read_only_keeps_what_is_there() -> None:
    # pytest's own directories are for its user alone, and the script may become another.
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, directory],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout.strip() == "done", done.stderr
