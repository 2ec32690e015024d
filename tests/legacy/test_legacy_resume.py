"""A migration that is killed or cut off goes on when it is run again, and ends the same."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import killed
import pytest
from old_database import NOW, Target, assert_carried, bad_rows, good_rows

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import CatalogUnavailableError, ClosedError, LTMError, PayloadError
from ltm.legacy import migrate_sqlite_backend
from ltm.payload.local import LocalPayloadStore
from ltm.testing.catalog_faults import FailingCatalog
from ltm.testing.clock import FakeClock
from ltm.testing.payload_faults import FailingPayloadStore

PAGES = -(-(len(good_rows()) + len(bad_rows())) // killed.BATCH_SIZE)
CARRIED = len(good_rows())


def run_and_kill(old: Path, directory: Path, kind: str, count: int) -> int:
    directory.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, killed.__file__, str(old), str(directory), kind, str(count)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.parametrize("page", [1, 2, PAGES // 2, PAGES - 1, PAGES])
def test_killed_between_pages_it_goes_on_after_the_last_one(
    old: Path, target: Target, page: int
) -> None:
    assert run_and_kill(old, target.catalog.parent, "page", page) == -signal.SIGKILL
    report = migrate_sqlite_backend(old, target.open())
    assert report.unchanged == min(page * killed.BATCH_SIZE, CARRIED)
    assert report.migrated == CARRIED - report.unchanged
    assert report.verified == CARRIED
    assert_carried(target, good_rows())


# Payloads come page by page: the last event is the side file's.
@pytest.mark.parametrize("count", [1, 5, 9, 12, 18, 19])
def test_killed_within_a_page_it_does_that_page_again(
    old: Path, target: Target, count: int, in_an_empty_directory: Path
) -> None:
    assert run_and_kill(old, target.catalog.parent, "file", count) == -signal.SIGKILL
    assert not (in_an_empty_directory / "memory.rejected.jsonl").exists()
    report = migrate_sqlite_backend(old, target.open())
    assert report.unchanged + report.migrated == report.verified == CARRIED
    assert len(report.rejected) == 3
    assert (in_an_empty_directory / "memory.rejected.jsonl").exists()
    assert_carried(target, good_rows())


def test_killed_again_and_again_it_ends_as_if_it_never_was(
    old: Path, target: Target, tmp_path: Path
) -> None:
    attempts = 0
    while run_and_kill(old, target.catalog.parent, "page", attempts + 3):
        attempts += 3
        assert attempts < PAGES
    assert attempts > 0
    undisturbed = Target(tmp_path / "undisturbed")
    undisturbed.catalog.parent.mkdir()
    migrate_sqlite_backend(old, undisturbed.open())
    undisturbed.close()
    target.close()
    assert without_paths(target) == without_paths(undisturbed)
    assert sorted(target.files().values()) == sorted(undisturbed.files().values())


def without_paths(target: Target) -> list[tuple[object, ...]]:
    return [
        tuple(column for column in found if "-" not in str(column) or "/" not in str(column))
        for found in target.rows()["ltm_entries"]
    ]


@pytest.fixture
def catalog(target: Target) -> FailingCatalog:
    return FailingCatalog(SQLiteCatalog(target.catalog, clock=FakeClock(NOW)))


@pytest.mark.parametrize("raises", [False, True], ids=["answering", "raising"])
@pytest.mark.parametrize("operation", ["write", "read_many"])
def test_an_outage_in_the_middle_is_raised_and_the_next_run_goes_on(
    old: Path, target: Target, catalog: FailingCatalog, operation: str, raises: bool
) -> None:
    memory = DuckDBLTMBackend(catalog, str(target.storage), raise_errors=raises)

    def cut(done: int, _: int) -> None:
        if done == 20:
            catalog.fail(operation)  # type: ignore[arg-type]  # one of its operations

    with pytest.raises(CatalogUnavailableError):
        migrate_sqlite_backend(old, memory, batch_size=10, progress=cut)
    catalog.heal()
    report = migrate_sqlite_backend(old, memory, batch_size=10)
    assert (report.unchanged, report.migrated) == (20, CARRIED - 20)
    memory.close()
    assert_carried(target, good_rows())


def test_an_outage_while_reading_back_is_no_mismatch(
    old: Path, target: Target, catalog: FailingCatalog
) -> None:
    store = FailingPayloadStore(LocalPayloadStore(target.storage))
    memory = DuckDBLTMBackend(catalog, store=store)
    migrate_sqlite_backend(old, memory)
    store.fail("read")
    with pytest.raises(PayloadError):
        migrate_sqlite_backend(old, memory)


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_store_that_cannot_be_written_to_is_a_payload_error(
    old: Path, target: Target, catalog: FailingCatalog, after_effect: bool
) -> None:
    store = FailingPayloadStore(LocalPayloadStore(target.storage))
    memory = DuckDBLTMBackend(catalog, store=store)
    store.fail("write", after_effect=after_effect)
    with pytest.raises(PayloadError):
        migrate_sqlite_backend(old, memory)
    store.heal()
    assert migrate_sqlite_backend(old, memory).verified == CARRIED


def test_a_commit_whose_answer_was_lost_is_found_done(
    old: Path, target: Target, catalog: FailingCatalog
) -> None:
    memory = DuckDBLTMBackend(catalog, str(target.storage))
    catalog.fail("write", after_effect=True)
    with pytest.raises(CatalogUnavailableError):
        migrate_sqlite_backend(old, memory, batch_size=10)
    catalog.heal()
    assert migrate_sqlite_backend(old, memory).unchanged == 10
    memory.close()
    assert_carried(target, good_rows())


def test_a_closed_backend_says_so(old: Path, target: Target) -> None:
    memory = DuckDBLTMBackend(target.open().catalog, str(target.storage))
    memory.close()
    with pytest.raises(ClosedError):
        migrate_sqlite_backend(old, memory)
    assert issubclass(ClosedError, LTMError)


def test_expired_entries_cleaned_up_between_the_passes_are_not_missed(
    old: Path, target: Target
) -> None:
    memory = target.open()

    def clean_up(done: int, total: int) -> None:
        if done == total:
            assert memory.cleanup_expired()["deleted"] == 10

    report = migrate_sqlite_backend(old, memory, progress=clean_up)
    assert (report.migrated, report.verified) == (CARRIED, CARRIED - 10)
