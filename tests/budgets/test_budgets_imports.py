"""What a new process imports up to its first answer, and how many instructions that takes.

Seconds are not measured: instructions are counted, as ratios to a bare interpreter and to a script
that does the same with sqlite3 alone. A change that raises a budget has to say why, and one that
takes much from it lowers it here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ltm.catalog.sqlite import SQLiteCatalog

ROOT = Path(__file__).parents[2]

STORE_AND_RETRIEVE = """
import sys
from ltm import create_ltm_backend
catalog = {CATALOG}
with create_ltm_backend(catalog_config=catalog, storage_uri=sys.argv[2]) as memory:
    assert memory.store(sys.argv[3], {"note": "first"})["stored"]
    assert memory.retrieve(sys.argv[3])["found"]
"""
ON_SQLITE = STORE_AND_RETRIEVE.replace("{CATALOG}", '{"path": sys.argv[1]}')
ON_POSTGRES = STORE_AND_RETRIEVE.replace(
    "{CATALOG}", '{"type": "postgres", "connection_string": sys.argv[1]}'
)
FILTER_SEARCH = """
import sys
from ltm import create_ltm_backend
with create_ltm_backend(catalog_config={"path": sys.argv[1]}, storage_uri=sys.argv[2]) as memory:
    assert memory.search(metadata_filter={"type": "note"})["success"]
"""
RAW_SQLITE = """
import hashlib, json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA synchronous=NORMAL")
connection.execute(
    "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT, hash TEXT)"
)
key, text = sys.argv[3], json.dumps({"note": "first"}, sort_keys=True)
digest = hashlib.sha256(text.encode()).hexdigest()
connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (key, text, digest))
text, digest = connection.execute(
    "SELECT value, hash FROM entries WHERE key = ?", (key,)
).fetchone()
assert hashlib.sha256(text.encode()).hexdigest() == digest and json.loads(text)
connection.close()
"""

SLOW = frozenset(
    """
    ast asyncio concurrent contextlib contextvars copy dataclasses dis email heapq http
    importlib.metadata importlib.resources inspect ipaddress logging multiprocessing pathlib
    pickle random secrets selectors shutil socket ssl statistics string subprocess tempfile
    textwrap threading traceback typing unicodedata urllib uuid weakref xml zipfile
    """.split()  # noqa: SIM905
)
"""Modules of the standard library that a store and a retrieve on SQLite do without."""

BUDGETS: dict[str, tuple[set[str], int]] = {
    "import ltm": ({"ltm"}, 1),
    "SQLite": ({"ltm", "Stemmer"}, 56),
    "PostgreSQL": ({"ltm", "Stemmer", "psycopg", "psycopg_binary", "typing_extensions"}, 59),
    "filter search": ({"ltm", "Stemmer"}, 59),
}
"""Packages that are not of the standard library, and how many modules of ``ltm`` are loaded."""

IMPORT_RATIO = 1.05
"""Instructions of ``import ltm`` to those of the bare interpreter, byte code compiled."""

SQLITE_RATIO = 1.66
"""Of a store and a retrieve on SQLite to those of the raw script."""


def run(script: str, *arguments: object, wrapper: tuple[str, ...] = ()) -> str:
    """Return what *script* prints in a new interpreter that may keep its byte code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", script, *map(str, arguments)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def modules_after(script: str, *arguments: object) -> set[str]:
    """Return the names of what *script* imports; what the interpreter starts with is not there."""
    before = "import sys; started = {*sys.modules}\n"
    report = """
import json
print(json.dumps([name for name in found if getattr(sys.modules[name], "__spec__", None)]))
"""
    after = "\nfound = {*sys.modules} - started\n"
    loaded: list[str] = json.loads(
        run(before + script + after + report, *arguments).splitlines()[-1]
    )
    return set(loaded)


def check(name: str, loaded: set[str]) -> None:
    """Compare what was *loaded* with the budget *name*."""
    packages, count = BUDGETS[name]
    own = {each for each in loaded if each.partition(".")[0] == "ltm"}
    found = {each.partition(".")[0] for each in loaded} - sys.stdlib_module_names
    # What the standard library makes when it is built has a name that begins so.
    assert {each for each in found if not each.startswith("_")} == packages
    assert len(own) <= count, sorted(own)


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    """A SQLite file whose schema and table are there, and a directory for payloads."""
    with SQLiteCatalog(tmp_path / "catalog.db") as catalog:
        catalog.table()
    return tmp_path / "catalog.db", tmp_path / "data"


def test_importing_ltm_imports_nothing_else() -> None:
    loaded = modules_after("import ltm")
    check("import ltm", loaded)
    assert loaded <= {"ltm", "__future__"}


def test_a_start_on_sqlite_imports_no_more_than_its_budget(place: tuple[Path, Path]) -> None:
    loaded = modules_after(ON_SQLITE, *place, "k")
    check("SQLite", loaded)
    assert loaded & SLOW == set()


def test_a_start_on_postgres_imports_no_more_than_its_budget(
    postgres_url: str, tmp_path: Path
) -> None:
    check("PostgreSQL", modules_after(ON_POSTGRES, postgres_url, tmp_path, "k"))


def test_a_search_by_metadata_imports_no_more_than_its_budget(place: tuple[Path, Path]) -> None:
    check("filter search", modules_after(FILTER_SEARCH, *place))


@pytest.fixture(scope="session")
def instructions() -> Callable[..., int]:
    """Counts the instructions of a script, whose modules have run once: their byte code is there.

    Valgrind makes OpenSSL choose other code for a hash, in the same way for all scripts.
    """
    valgrind = shutil.which("valgrind")
    if sys.version_info[:2] != (3, 11) or sys.implementation.name != "cpython":
        pytest.skip("the ratios are recorded with CPython 3.11")
    if valgrind is None:
        reason = "there is no valgrind: install the package of that name"
        if os.environ.get("LTM_REQUIRE_SERVICES") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    wrapper = (
        valgrind,
        "--tool=cachegrind",
        "--cache-sim=no",
        f"--cachegrind-out-file={os.devnull}",
    )

    def count(script: str, *arguments: object) -> int:
        told = run(script, *arguments, wrapper=wrapper)
        found = re.search(r"I +refs: +([\d,]+)", told)
        assert found is not None, told
        return int(found[1].replace(",", ""))

    return count


def test_importing_ltm_takes_hardly_more_than_the_interpreter(
    instructions: Callable[..., int],
) -> None:
    run("import ltm")
    assert instructions("import ltm") / instructions("pass") < IMPORT_RATIO


def test_a_start_on_sqlite_takes_no_more_instructions_than_its_budget(
    instructions: Callable[..., int], place: tuple[Path, Path]
) -> None:
    raw = place[0].with_name("raw.db")
    run(ON_SQLITE, *place, "first")
    run(RAW_SQLITE, raw, "", "first")
    ours = instructions(ON_SQLITE, *place, "second")
    assert ours / instructions(RAW_SQLITE, raw, "", "second") < SQLITE_RATIO
