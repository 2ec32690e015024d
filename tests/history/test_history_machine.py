"""Random histories of a whole backend against a plain model; and the machine against bugs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import text

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.commit import Outcome, Put, Removal
from ltm.catalog.history import Snapshot
from ltm.catalog.sql import SQLCatalog
from ltm.catalog.sql_history import SQLHistory
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.testing.catalog_faults import FailingCatalog
from ltm.testing.clock import FakeClock
from ltm.testing.state_machine import MemoryMachine, machine_settings


class SQLiteMachine(MemoryMachine):
    def make_backend(self, directory: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = SQLiteCatalog(directory / "catalog.db", clock=clock)
        return DuckDBLTMBackend(catalog, f"{directory}/data", owns_catalog=True, **options)


# A failure takes minutes to be made short.
@pytest.mark.timeout(600)
class TestSQLiteMachine(SQLiteMachine.TestCase):
    settings = machine_settings


class ParquetMachine(MemoryMachine):
    shares_objects = True

    def make_backend(self, directory: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = SQLiteCatalog(directory / "catalog.db", clock=clock)
        options["payload_format"] = "parquet"
        return DuckDBLTMBackend(catalog, f"{directory}/data", owns_catalog=True, **options)


@pytest.mark.timeout(600)
class TestParquetMachine(ParquetMachine.TestCase):
    settings = machine_settings


class PlantedCatalog(FailingCatalog):
    """Passes everything on to a SQL catalog, where subclasses do not plant a bug."""

    def __init__(self, inner: SQLCatalog) -> None:
        super().__init__(inner)
        self.inner = inner

    def bind(self, table: str, **defaults: Any) -> PlantedCatalog:
        return type(self)(self.inner.bind(table, **defaults))


class KeepsNoVersions(PlantedCatalog):
    def write(self, changes: Sequence[Put | Removal], now: datetime) -> list[Outcome]:
        outcomes = super().write(changes, now)
        with self.inner.engine.begin() as connection:
            connection.execute(text("DELETE FROM ltm_entry_versions"))
        return outcomes


class MissesChanges(PlantedCatalog):
    @property
    def history(self) -> SQLHistory:
        class History(SQLHistory):
            def keys_changed(
                self, snapshot: Snapshot, after: str, limit: int, now: datetime
            ) -> list[str]:
                # Leaves out what has expired since.
                return super().keys_changed(snapshot, after, limit, snapshot.created_at)

        return History(self.inner)


@pytest.mark.parametrize("planted", [KeepsNoVersions, MissesChanges])
def test_the_machine_finds_a_planted_bug(planted: type[PlantedCatalog]) -> None:
    class Machine(MemoryMachine):
        def make_backend(
            self, directory: Path, clock: FakeClock, **options: Any
        ) -> DuckDBLTMBackend:
            catalog = planted(SQLiteCatalog(directory / "catalog.db", clock=clock))
            return DuckDBLTMBackend(catalog, f"{directory}/data", owns_catalog=True, **options)

    once = settings(
        machine_settings,
        max_examples=200,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=once)
