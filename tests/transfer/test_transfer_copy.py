"""Copying a memory: everything arrives, nothing newer is lost, and doing it again does nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import killed_copy
import pytest
from memories import AWKWARD, NOW, Memory

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.commit import Put
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import (
    CatalogUnavailableError,
    ClosedError,
    IntegrityError,
    PayloadError,
    PayloadNotFoundError,
    SnapshotNotFoundError,
    ValidationError,
)
from ltm.hashing import canonical_json, hash_text
from ltm.payload.local import LocalPayloadStore
from ltm.testing.catalog_faults import FailingCatalog
from ltm.testing.clock import FakeClock
from ltm.testing.payload_faults import FailingPayloadStore
from ltm.transfer import CopyReport, copy_memory

LARGE = "x" * 2000


def only_file(memory: Memory) -> Path:
    (path,) = [path for path in memory.storage.rglob("*.json") if path.is_file()]
    return path


@pytest.mark.parametrize("batch_size", [1, 4, 500])
def test_everything_arrives_type_for_type_with_metadata_expiry_and_times(
    here: Memory, there: Memory, clock: FakeClock, batch_size: int
) -> None:
    here.fill()
    clock.advance(10)
    here.backend.store("a/int", 2)
    clock.advance(10)
    report = copy_memory(here.backend, there.backend, batch_size=batch_size)
    count = len(AWKWARD)
    assert report == CopyReport(total=count, copied=count, unchanged=0, kept=0, verified=count)
    assert there.carried() == here.carried()
    assert there.backend.verify()["problems"] == []


def test_what_was_copied_can_be_found_by_its_words(here: Memory, there: Memory) -> None:
    here.fill()
    copy_memory(here.backend, there.backend)
    assert there.backend.search("payload")["results"][0]["key"] == "a/large"


def test_copied_again_not_a_row_and_not_a_file_changes(
    here: Memory, there: Memory, clock: FakeClock
) -> None:
    here.fill()
    copy_memory(here.backend, there.backend)
    clock.advance(100)
    before = there.dump()
    report = copy_memory(here.backend, there.backend)
    assert (report.unchanged, report.copied, report.verified) == (len(AWKWARD), 0, len(AWKWARD))
    assert there.dump() == before


def test_the_source_is_only_read(here: Memory, there: Memory) -> None:
    here.fill()
    before = here.dump()
    copy_memory(here.backend, there.backend)
    assert here.dump() == before


def test_an_entry_that_is_newer_in_the_target_is_kept(
    here: Memory, there: Memory, clock: FakeClock
) -> None:
    here.fill({"old": 1, "new": 1})
    clock.advance(1)
    there.backend.store("old", 2)
    report = copy_memory(here.backend, there.backend)
    assert (report.total, report.copied, report.kept, report.verified) == (2, 1, 1, 1)
    assert there.backend.retrieve("old")["value"] == 2


def test_an_entry_that_is_older_in_the_target_is_replaced(
    here: Memory, there: Memory, clock: FakeClock
) -> None:
    there.backend.store("k", 2)
    clock.advance(1)
    here.fill({"k": 1})
    assert copy_memory(here.backend, there.backend).copied == 1
    assert there.backend.retrieve("k")["value"] == 1
    assert there.rows()["k"].updated_at == here.rows()["k"].updated_at


def test_an_entry_that_differs_only_in_metadata_or_expiry_is_carried(
    here: Memory, there: Memory
) -> None:
    here.backend.store("m", 1, {"n": 1})
    here.backend.store("e", 1, ttl=60)
    there.backend.store("m", 1, {"n": 1.0})
    there.backend.store("e", 1)
    assert copy_memory(here.backend, there.backend).copied == 2
    assert there.carried() == here.carried()


def test_what_has_expired_is_not_copied(here: Memory, there: Memory, clock: FakeClock) -> None:
    here.backend.store("k/1", LARGE, ttl=1)
    here.backend.store("k/2", 2)
    clock.advance(1)
    assert copy_memory(here.backend, there.backend).total == 1
    assert list(there.rows()) == ["k/2"]


def test_an_expired_entry_of_the_target_does_not_stand_in_the_way(
    here: Memory, there: Memory, clock: FakeClock
) -> None:
    here.backend.store("k", 1)
    clock.advance(1)
    there.backend.store("k", 2, ttl=1)
    clock.advance(1)
    assert copy_memory(here.backend, there.backend).copied == 1
    assert there.backend.retrieve("k")["value"] == 1


def test_expired_and_cleaned_up_meanwhile_is_no_mismatch(
    here: Memory, there: Memory, clock: FakeClock
) -> None:
    here.backend.store("k/1", 1, ttl=1)
    here.backend.store("k/2", 1)

    def clean_up(_: int, __: int | None) -> None:
        clock.advance(1)
        assert there.backend.cleanup_expired()["deleted"] == 1

    report = copy_memory(here.backend, there.backend, progress=clean_up)
    assert (report.copied, report.verified) == (2, 1)


def test_no_expiry_stays_no_expiry_whatever_the_metadata_say(here: Memory, there: Memory) -> None:
    for key, metadata in (("k/1", {"ttl": 5}), ("k/2", {"expires_at": "tomorrow"})):
        text = canonical_json("v")
        put = Put(
            id=here.catalog.entry_id(key),
            key=key,
            content_hash=hash_text(text),
            byte_size=len(text),
            metadata=metadata,
            inlined_text=text,
        )
        here.backend.catalog.write([put], NOW)
    assert copy_memory(here.backend, there.backend).verified == 2
    assert [row.expires_at for row in there.rows().values()] == [None, None]
    assert copy_memory(here.backend, there.backend).unchanged == 2


def test_an_expiry_of_its_own_counts_over_the_metadata(here: Memory, there: Memory) -> None:
    here.backend.store("k", 1, {"ttl": 5, "expires_at": "tomorrow"}, ttl=60)
    copy_memory(here.backend, there.backend)
    assert there.rows()["k"].expires_at == NOW + timedelta(seconds=60)


def test_a_prefix_limits_what_is_copied(here: Memory, there: Memory) -> None:
    here.fill({"a": 1, "a/1": 1, "A/1": 1, "b": 1})
    assert copy_memory(here.backend, there.backend, prefix="a/").total == 1
    assert list(there.rows()) == ["a/1"]


def test_a_snapshot_is_copied_as_it_was(here: Memory, there: Memory, clock: FakeClock) -> None:
    here.backend.store("changed", LARGE, {"v": 1})
    here.backend.store("deleted", LARGE + "y")
    here.backend.store("expires", 1, ttl=5)
    before = here.carried()
    here.backend.create_snapshot("s")
    clock.advance(10)
    here.backend.store("changed", "other")
    here.backend.delete("deleted")
    here.backend.store("later", 1)
    assert copy_memory(here.backend, there.backend, snapshot="s").verified == 2
    assert there.carried() == {key: before[key] for key in ("changed", "deleted")}


def test_a_snapshot_that_is_not_there_is_said_before_anything_is_written(
    here: Memory, there: Memory
) -> None:
    with pytest.raises(SnapshotNotFoundError):
        copy_memory(here.backend, there.backend, snapshot="nowhere")


def test_progress_is_told_after_every_batch(here: Memory, there: Memory) -> None:
    here.fill({f"k/{n}": n for n in range(10)})
    told: list[tuple[int, int | None]] = []
    copy_memory(here.backend, there.backend, batch_size=4, progress=lambda *now: told.append(now))
    assert told == [(4, 10), (8, 10), (10, 10)]
    told.clear()
    copy_memory(here.backend, there.backend, prefix="k/1", progress=lambda *now: told.append(now))
    assert told == [(1, None)]


def test_large_values_end_a_batch_early(
    here: Memory, there: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltm.transfer.source.PAGE_BYTES", 5000)
    here.fill({f"k/{n}": LARGE for n in range(7)})
    told: list[int] = []
    copy_memory(here.backend, there.backend, progress=lambda done, _: told.append(done))
    assert told == [3, 6, 7]


def test_a_copy_joins_an_open_transaction_of_the_target(here: Memory, there: Memory) -> None:
    here.fill()
    with there.backend.transaction() as transaction:
        assert copy_memory(here.backend, there.backend).verified == len(AWKWARD)
        assert copy_memory(transaction, here.backend).unchanged == len(AWKWARD)
    assert there.carried() == here.carried()


def test_a_transaction_that_rolls_back_undoes_the_copy(here: Memory, there: Memory) -> None:
    here.fill()

    def copy_and_fail() -> None:
        with there.backend.transaction():
            copy_memory(here.backend, there.backend)
            raise KeyError("undo")

    with pytest.raises(KeyError, match="undo"):
        copy_and_fail()
    assert there.rows() == {}
    assert not [path for path in there.storage.rglob("*.json") if path.is_file()]


@pytest.mark.parametrize("count", [1, 2, 4, 7])
@pytest.mark.parametrize("kind", ["batch", "file"])
def test_killed_on_the_way_it_goes_on_and_ends_the_same(
    here: Memory, tmp_path: Path, clock: FakeClock, kind: str, count: int
) -> None:
    here.fill({f"k/{n:02}": LARGE + str(n) if n % 4 == 0 else n for n in range(64)})
    there = tmp_path / "there"
    arguments = [str(here.path.parent), str(there), kind, str(count)]
    done = subprocess.run(
        [sys.executable, killed_copy.__file__, *arguments], capture_output=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    target = Memory(there, clock)
    before = target.rows()
    report = copy_memory(here.backend, target.backend)
    assert 0 < report.copied == 64 - len(before)
    assert report.unchanged == len(before)
    if kind == "batch":
        assert len(before) == count * killed_copy.BATCH_SIZE
    assert target.carried() == here.carried()
    target.close()


def test_a_damaged_value_of_the_source_is_not_copied(here: Memory, there: Memory) -> None:
    here.backend.store("k", LARGE)
    only_file(here).write_text('"' + "y" * 2000 + '"')
    # Not even by a backend that doesn't verify what it reads.
    careless = DuckDBLTMBackend(here.catalog, str(here.storage), verify_reads=False)
    for source in (here.backend, careless):
        with pytest.raises(IntegrityError, match=r"'k' in .*: expected sha256"):
            copy_memory(source, there.backend)
    assert there.rows() == {}
    careless.close()


def test_a_payload_that_the_source_has_lost_is_said(here: Memory, there: Memory) -> None:
    here.backend.store("k", LARGE)
    only_file(here).unlink()
    with pytest.raises(PayloadNotFoundError):
        copy_memory(here.backend, there.backend)


def test_a_value_that_is_damaged_in_the_target_is_found_at_the_end(
    here: Memory, there: Memory
) -> None:
    here.backend.store("k", LARGE)
    copy_memory(here.backend, there.backend)
    only_file(there).write_text('"' + "y" * 2000 + '"')
    with pytest.raises(IntegrityError, match="'k' was carried"):
        copy_memory(here.backend, there.backend)
    only_file(there).unlink()
    with pytest.raises(IntegrityError, match="'k' was carried"):
        copy_memory(here.backend, there.backend)


@pytest.mark.parametrize(
    "change",
    [
        lambda memory: memory.delete("k/1"),
        lambda memory: memory.store("k/1", 2),
        lambda memory: memory.store("k/1", 1, {"n": 1}),
        lambda memory: memory.store("k/1", 1, ttl=60),
    ],
)
def test_what_is_not_there_at_the_end_as_it_was_carried_is_an_integrity_error(
    here: Memory, there: Memory, change
) -> None:
    here.backend.store("k/1", 1)
    here.backend.store("k/2", 1)
    with pytest.raises(IntegrityError, match="'k/1' was carried"):
        copy_memory(here.backend, there.backend, progress=lambda *_: change(there.backend))


@pytest.mark.parametrize("raises", [False, True], ids=["answering", "raising"])
def test_an_outage_is_raised_and_the_next_run_goes_on(
    here: Memory, tmp_path: Path, clock: FakeClock, raises: bool
) -> None:
    here.fill({f"k/{n:02}": n for n in range(40)})
    catalog = FailingCatalog(SQLiteCatalog(str(tmp_path / "there.db"), clock=clock))
    with DuckDBLTMBackend(catalog, str(tmp_path / "data"), raise_errors=raises) as target:

        def cut(done: int, _: int | None) -> None:
            if done == 20:
                catalog.fail("write")

        with pytest.raises(CatalogUnavailableError):
            copy_memory(here.backend, target, batch_size=10, progress=cut)
        catalog.heal()
        report = copy_memory(here.backend, target, batch_size=10)
        assert (report.unchanged, report.copied, report.verified) == (20, 20, 40)
    catalog.close()


def test_a_store_that_fails_is_a_payload_error_and_no_mismatch(
    here: Memory, tmp_path: Path, clock: FakeClock
) -> None:
    here.backend.store("k", LARGE)
    store = FailingPayloadStore(LocalPayloadStore(str(tmp_path / "data")))
    catalog = SQLiteCatalog(str(tmp_path / "there.db"), clock=clock)
    target = DuckDBLTMBackend(catalog, store=store, owns_catalog=True)
    store.fail("write")
    with pytest.raises(PayloadError):
        copy_memory(here.backend, target)
    store.heal()
    copy_memory(here.backend, target)
    store.fail("read")
    with pytest.raises(PayloadError):
        copy_memory(here.backend, target)
    target.close()


def test_bad_arguments_are_refused(here: Memory, there: Memory) -> None:
    for wrong in (None, here.catalog):
        with pytest.raises(ValidationError, match="source: expected a backend"):
            copy_memory(wrong, there.backend)  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="target: expected a backend"):
            copy_memory(here.backend, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="batch_size"):
        copy_memory(here.backend, there.backend, batch_size=0)
    with pytest.raises(ValidationError, match="prefix"):
        copy_memory(here.backend, there.backend, prefix="\0")
    there.backend.close()
    with pytest.raises(ClosedError):
        copy_memory(here.backend, there.backend)


def test_more_entries_than_fit_the_notes_in_memory_are_verified(
    here: Memory, there: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltm.transfer.delivery._SPOOLED_BYTES", 1000)
    here.fill({f"k/{n:04}": n for n in range(1200)})
    assert copy_memory(here.backend, there.backend).verified == 1200


def test_a_report_can_not_be_changed() -> None:
    report = CopyReport(total=1, copied=1, unchanged=0, kept=0, verified=1)
    with pytest.raises(AttributeError):
        report.total = 2  # type: ignore[misc]
    assert replace(report, total=2).total == 2


def test_a_zero_without_its_sign_is_unchanged_and_a_number_of_another_type_is_not(
    here: Memory, there: Memory
) -> None:
    here.backend.store("k", 1, {"large": 1e16, "minus": -0.0, "half": 1.5e-7})
    there.backend.store("k", 1, {"large": 1e16, "minus": 0.0, "half": 1.5e-7})
    assert copy_memory(here.backend, there.backend).unchanged == 1
    there.backend.store("k", 1, {"large": 10**16, "minus": 0.0, "half": 1.5e-7})
    assert copy_memory(here.backend, there.backend).unchanged == 0
