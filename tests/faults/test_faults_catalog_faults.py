"""The catalog that fails on command fails as commanded and no more."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import get_args

import pytest

from ltm.catalog.base import Catalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import CatalogUnavailableError
from ltm.hashing import compute_content_hash
from ltm.testing.catalog_faults import CatalogOperation, FailingCatalog


@pytest.fixture
def sound() -> Iterator[Catalog]:
    catalog = SQLiteCatalog(":memory:")
    track(catalog, "old")
    yield catalog
    catalog.close()


@pytest.fixture
def catalog(sound: Catalog) -> FailingCatalog:
    return FailingCatalog(sound)


def track(catalog: Catalog, key: str) -> None:
    catalog.track_entry(key, compute_content_hash(1), None, 1, None, inlined_value=1)


def track_in_transaction(catalog: Catalog) -> None:
    with catalog.transaction() as within:
        track(within, "new")


def every_call(catalog: Catalog) -> dict[CatalogOperation, Callable[[], object]]:
    now = catalog.clock()
    return {
        "table": catalog.table,
        "read": lambda: catalog.get_entry("old"),
        "read_many": lambda: catalog.retrieve_batch(["old"]),
        "write": lambda: track(catalog, "new"),
        "rows_by_key": catalog.list_entries,
        "rows_newest": catalog.search,
        "rows_found": lambda: catalog.search("old"),
        "remove_expired": catalog.cleanup_expired,
        "count_expired": lambda: catalog.count_expired(now),
        "statistics": lambda: catalog.statistics(now),
        "make_durable": catalog.make_durable,
        "deletable_payloads": lambda: catalog.deletable_payloads(["a"]),
        "forget_deletions": lambda: catalog.forget_deletions(["a"]),
        "scheduled_deletions": lambda: catalog.scheduled_deletions("", 10),
        "probe": lambda: catalog.probe(now),
        "move_payloads": lambda: catalog.move_payloads({"a": "b"}, now),
        "named_payloads": lambda: catalog.named_payloads(["a"]),
        "indexed": lambda: catalog.indexed([]),
        "index_again": lambda: catalog.index_again([]),
        "check_search_index": lambda: catalog.check_search_index(repair=False),
        "history": lambda: catalog.history,
        "leases": lambda: catalog.leases,
        "transaction": lambda: track_in_transaction(catalog),
        "commit": lambda: track_in_transaction(catalog),
    }


def test_every_primitive_of_a_catalog_can_fail() -> None:
    primitives = {
        name
        for name, member in inspect.getmembers(Catalog)
        if hasattr(member, "__isabstractmethod__")
    }
    assert primitives - {"bind", "close"} <= set(get_args(CatalogOperation))


@pytest.mark.parametrize("operation", get_args(CatalogOperation))
def test_a_failure_hits_its_operation_and_healing_ends_it(
    sound: Catalog, catalog: FailingCatalog, operation: CatalogOperation
) -> None:
    call = every_call(catalog)[operation]
    catalog.fail(operation)
    for _ in range(2):
        with pytest.raises(CatalogUnavailableError, match=f"{operation} failed on command"):
            call()
    assert sound.get_entry("new") is None
    catalog.heal()
    call()
    assert operation in catalog.calls


def test_a_failure_after_the_effect_leaves_it(sound: Catalog, catalog: FailingCatalog) -> None:
    catalog.fail("write", after_effect=True)
    with pytest.raises(CatalogUnavailableError):
        track(catalog, "new")
    assert sound.get_entry("new") is not None


def test_a_commit_that_fails_rolls_back_unless_only_its_answer_is_lost(
    sound: Catalog, catalog: FailingCatalog
) -> None:
    for after_effect in (False, True):
        catalog.fail("commit", after_effect=after_effect)
        with pytest.raises(CatalogUnavailableError):
            track_in_transaction(catalog)
        assert (sound.get_entry("new") is not None) is after_effect


def test_failures_end_after_as_many_as_were_asked_for(catalog: FailingCatalog) -> None:
    catalog.fail("read", times=2)
    outcomes = []
    for _ in range(4):
        try:
            outcomes.append(catalog.get_entry("old") is not None)
        except CatalogUnavailableError:
            outcomes.append(None)
    assert outcomes == [None, None, True, True]
    assert catalog.calls == ["read"] * 4


def test_a_bound_catalog_shares_faults_and_calls(catalog: FailingCatalog) -> None:
    bound = catalog.bind("other", inline_threshold=10, language="english")
    assert bound.table().name == "other"
    catalog.fail("read", times=1)
    with pytest.raises(CatalogUnavailableError):
        bound.get_entry("old")
    assert catalog.get_entry("old") is not None
    assert catalog.calls == bound.calls == ["table", "read", "read"]
