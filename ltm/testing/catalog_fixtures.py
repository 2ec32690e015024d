"""What the catalog suites share: fixtures and short ways to write entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from ltm.catalog.base import Catalog
from ltm.entry import JSONValue
from ltm.hashing import canonical_json, compute_content_hash
from ltm.testing.clock import FakeClock

CatalogMaker = Callable[..., Catalog]

HOSTILE_TEXTS = (
    "'; DROP TABLE ltm_entries; --",
    '"quoted"',
    "100%",
    "a_b",
    "$.path",
    "$gt ",
    "a.b",
    "back\\slash",
    "new\nline",
    "{}",
    "%s",
    ":name",
    "?1",
    "日本 🧠",
)

relaxed = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        # A suite is there to be subclassed: its tests run with a catalog of each subclass.
        HealthCheck.differing_executors,
    ],
)
"""For property tests on one catalog, which its examples share."""


class CatalogFixtures:
    """The fixtures of the catalog suites."""

    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> Catalog:
        """Return a catalog of the one database of this test, empty at first.

        Called more than once in a test, it is the same database each time. *binding* are keyword
        arguments of :class:`~ltm.catalog.base.Catalog`. The suite closes what it returns.
        """
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def make(self, tmp_path: Path, clock: FakeClock) -> Iterator[CatalogMaker]:
        made: list[Catalog] = []

        def make(**binding: Any) -> Catalog:
            made.append(self.make_catalog(tmp_path, clock, **binding))
            return made[-1]

        yield make
        for catalog in made:
            catalog.close()

    @pytest.fixture
    def catalog(self, make: CatalogMaker) -> Catalog:
        return make()


def track(catalog: Catalog, key: str, value: JSONValue = 1, **fields: Any) -> bool:
    """Track an inlined *value* and return whether the entry was created."""
    metadata = fields.pop("metadata", None)
    answer = catalog.track_entry(
        key,
        compute_content_hash(value),
        None,
        len(canonical_json(value)),
        metadata,
        value,
        **fields,
    )
    return answer["created"]


def keys_of(entries: Any) -> list[str]:
    """Return the keys of *entries* in their order."""
    return [entry["key"] for entry in entries]
