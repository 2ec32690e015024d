"""An application's own SQLAlchemy engine under a SQLite catalog."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sqlalchemy import create_engine, text

from ltm.catalog.sqlite import SQLiteCatalog

FIRST_USE = """
import sys
from sqlalchemy import create_engine
from ltm.catalog.sqlite import SQLiteCatalog
engine = create_engine(f"sqlite:///{sys.argv[1]}", connect_args={"timeout": 30})
catalog = SQLiteCatalog(engine=engine)
for n in range(20):
    catalog.track_entry(f"{sys.argv[2]}:{n}", "sha256:0", None, 1, None, n)
catalog.close()
engine.dispose()
"""


def test_processes_that_start_at_once_make_the_schema_once(tmp_path: Path) -> None:
    path = str(tmp_path / "catalog.db")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_USE, path, str(number)], stderr=subprocess.PIPE, text=True
        )
        for number in range(6)
    ]
    errors = [child.communicate(timeout=100)[1] for child in children]
    assert [child.returncode for child in children] == [0] * 6, errors
    with SQLiteCatalog(path) as catalog:
        assert len(catalog.list_entries(limit=1000)) == 120


def test_an_engine_that_was_handed_in_stays_open_and_as_it_is(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/application.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE application (id INTEGER)"))
    with SQLiteCatalog(engine=engine) as catalog:
        catalog.track_entry("k", "sha256:0", None, 1, {"type": "x"}, "some words")
        catalog.delete_entry("k")
        assert catalog.engine is engine
    with engine.begin() as connection:
        assert connection.scalar(text("PRAGMA foreign_keys")) == 0, "its own setting"
        for table in ("ltm_entries", "ltm_entry_search", "ltm_entry_metadata"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0
        connection.execute(text("INSERT INTO application VALUES (1)"))
    engine.dispose()
