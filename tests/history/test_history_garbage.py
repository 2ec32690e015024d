"""Garbage collection deletes what nothing names, and nothing at all where it can't be sure."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
from history_killing import LARGE, prepare_garbage
from place import Place

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.clock import utc_now
from ltm.errors import ValidationError
from ltm.hashing import compute_content_hash
from ltm.payload.base import payload_path
from ltm.payload.local import LocalPayloadStore
from ltm.testing.catalog_faults import CatalogOperation, FailingCatalog
from ltm.testing.payload_faults import FailingPayloadStore

USED = ["table", "scheduled_deletions", "deletable_payloads", "named_payloads"]
"""What a collection asks of the catalog before it deletes."""


def open_failing(place: Place) -> tuple[DuckDBLTMBackend, FailingCatalog, FailingPayloadStore]:
    """Open a memory, with garbage in it, that fails on command."""
    with place.open() as memory:
        prepare_garbage(memory)
    catalog = FailingCatalog(SQLiteCatalog(place.catalog))
    store = FailingPayloadStore(LocalPayloadStore(str(place.storage)))
    return DuckDBLTMBackend(catalog, store=store, owns_catalog=True), catalog, store


def stray(memory: DuckDBLTMBackend, prefix: str | None = None) -> str:
    """Write an object that nothing names, and return its path."""
    catalog = memory.catalog
    identity = catalog.entry_id("stray"), compute_content_hash("stray")
    path = payload_path(prefix or catalog.table().storage_prefix, *identity, "json")
    memory.payloads.write(path, b"stray")
    return path


@pytest.mark.parametrize("operation", USED)
def test_nothing_is_deleted_where_the_catalog_cannot_be_read(
    place: Place, operation: CatalogOperation
) -> None:
    memory, catalog, store = open_failing(place)
    with memory:
        files = place.files()
        assert place.scheduled() & files
        del catalog.calls[:], store.calls[:]
        catalog.fail(operation)
        answer = memory.gc(grace=0)
        assert operation in catalog.calls
        assert (answer["success"], answer["error_type"]) == (False, "catalog_unavailable")
        assert "delete" not in {call for call, _ in store.calls}
        assert place.files() == files
        catalog.heal()
        assert memory.gc(grace=0)["success"]
        assert place.files() < files


def test_a_collection_reads_nothing_else_of_the_catalog(place: Place) -> None:
    memory, catalog, store = open_failing(place)
    with memory:
        del catalog.calls[:]
        assert memory.gc(dry_run=True, grace=0)["success"]
        assert set(catalog.calls) == set(USED)
        assert "delete" not in {call for call, _ in store.calls}


@pytest.mark.parametrize("operation", get_args(CatalogOperation))
def test_a_catalog_that_fails_in_between_costs_nothing_that_is_named(
    place: Place, operation: CatalogOperation
) -> None:
    memory, catalog, _ = open_failing(place)
    with memory:
        del catalog.calls[:]
        catalog.fail(operation, after_effect=True)
        answer = memory.gc(grace=0)
        assert answer["success"] == (operation not in catalog.calls)
        catalog.heal()
        assert memory.verify()["success"]
        assert memory.gc(grace=0)["success"]
        assert place.scheduled() == set()
        assert memory.verify()["unreferenced"] == 0


@pytest.mark.parametrize("after_effect", [False, True], ids=["at once", "after its last object"])
def test_nothing_is_deleted_where_the_store_cannot_be_listed(
    place: Place, after_effect: bool
) -> None:
    memory, _, store = open_failing(place)
    with memory:
        files, scheduled = place.files(), place.scheduled()
        store.fail("list", after_effect=after_effect)
        answer = memory.gc(grace=0)
        assert (answer["success"], answer["error_type"]) == (False, "storage_error")
        assert (place.files(), place.scheduled()) == (files, scheduled)


def test_what_cannot_be_deleted_stays_scheduled(place: Place) -> None:
    memory, _, store = open_failing(place)
    with memory:
        files, scheduled = place.files(), place.scheduled()
        store.fail("delete")
        answer = memory.gc(grace=0)
        assert (answer["success"], answer["error_type"]) == (False, "storage_error")
        assert len(answer["errors"]) == answer["scheduled"] + answer["unreferenced"]
        assert (place.files(), place.scheduled()) == (files, scheduled)
        store.heal()
        assert memory.gc(grace=0)["success"]
        assert memory.verify()["unreferenced"] == 0


def test_a_dry_run_says_what_would_go_and_deletes_nothing(
    memory: DuckDBLTMBackend, place: Place
) -> None:
    prepare_garbage(memory)
    files, scheduled = place.files(), place.scheduled()
    told = memory.gc(dry_run=True, grace=0)
    assert (place.files(), place.scheduled()) == (files, scheduled)
    done = memory.gc(grace=0)
    assert told == {**done, "dry_run": True}
    assert told["scheduled"] + told["unreferenced"] == len(files - place.files()) > 3
    assert told["freed_bytes"] == told["unreferenced"] * len(b"stray")


def test_foreign_files_and_those_of_other_tables_stay(place: Place) -> None:
    with place.open() as memory, place.open(table="other") as other:
        memory.store("k", LARGE)
        other.store("k", LARGE)
        prefix = memory.catalog.table().storage_prefix
        theirs = stray(other)
        directory = place.storage / prefix
        (directory / "notes.json").write_text("mine")
        (directory / "00").mkdir(exist_ok=True)
        (directory / "00" / "00-not-ours.json").write_text("mine")
        (place.storage / f"{prefix}-neighbour.json").write_text("mine")
        files = place.files()
        answer = memory.gc(grace=0)
        assert (answer["unreferenced"], answer["foreign"]) == (0, 2)
        assert place.files() == files
        assert other.gc(grace=0)["unreferenced"] == 1
        assert place.files() == files - {theirs}


def test_what_is_younger_than_the_grace_period_is_spared(place: Place) -> None:
    with place.open() as memory:
        young, old = stray(memory), stray(memory)
        an_hour_ago = utc_now().timestamp() - 3600
        os.utime(place.storage / old, (an_hour_ago, an_hour_ago))
        assert memory.gc()["spared"] == 2
        answer = memory.gc(grace=1800)
        assert (answer["unreferenced"], answer["spared"]) == (1, 1)
        assert place.files() == {young}


def test_temporary_files_of_killed_writers_go(place: Place) -> None:
    with place.open() as memory:
        path = Path(stray(memory))
        temporary = path.with_name(f".{path.name}.{'0' * 16}.tmp")
        memory.payloads.write(temporary.as_posix(), b"half of")
        assert memory.gc(grace=0)["unreferenced"] == 2
        assert place.files() == set()


@pytest.mark.parametrize("how", ["block", "backend", "using"])
def test_a_collection_in_a_transaction_deletes_nothing_that_may_come_back(
    place: Place, how: str
) -> None:
    class RolledBackError(Exception):
        pass

    with place.open() as memory:
        memory.store("k", LARGE)
        if how == "using":
            with memory.catalog.engine.connect() as connection:
                bound: Any = memory.using(connection)
                bound.delete("k")
                bound.gc()
                connection.rollback()
        else:
            with suppress(RolledBackError, ValidationError), memory.transaction() as block:
                block.delete("k")
                (block if how == "block" else memory).gc()
                raise RolledBackError
        assert memory.retrieve("k")["success"], "the value is lost"
