"""Random histories of a whole backend on Firestore, against a plain model of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.firestore import FirestoreCatalog
from ltm.testing.clock import FakeClock
from ltm.testing.state_machine import MemoryMachine, machine_settings


# A failure takes minutes to be made short.
@pytest.mark.timeout(900)
def test_every_answer_is_the_models(firestore_project: str) -> None:
    with FirestoreCatalog(firestore_project) as catalog:

        class Machine(MemoryMachine):
            def make_backend(
                self, directory: Path, clock: FakeClock, **options: Any
            ) -> DuckDBLTMBackend:
                # Each memory has a table of its own in the one database.
                table, uri = directory.name, f"{directory}/data"
                return DuckDBLTMBackend(catalog, uri, table=table, clock=clock, **options)

        few = settings(machine_settings, max_examples=10, stateful_step_count=25)
        run_state_machine_as_test(Machine, settings=few)
