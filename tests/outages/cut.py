"""A memory on SQLite whose catalog can be cut off, and what it answers then."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.payload.base import PayloadStore
from ltm.payload.local import LocalPayloadStore
from ltm.testing.catalog_faults import CatalogOperation, FailingCatalog
from ltm.testing.clock import FakeClock

LARGE = "large " * 1000
READS: tuple[CatalogOperation, ...] = ("read", "read_many")
CALLS: tuple[CatalogOperation, ...] = (
    *READS,
    "write",
    "rows_by_key",
    "rows_newest",
    "rows_found",
    "remove_expired",
    "count_expired",
    "statistics",
    "probe",
    "history",
    "transaction",
)


class Cut:
    """A memory with stale reads; ``fail`` begins an outage of its catalog, and ``heal`` ends it."""

    def __init__(
        self, directory: Path, *, store: PayloadStore | None = None, **options: Any
    ) -> None:
        self.clock = FakeClock()
        self.sqlite = SQLiteCatalog(directory / "catalog.db", clock=self.clock)
        self.catalog = FailingCatalog(self.sqlite)
        self.store = store or LocalPayloadStore(directory / "payloads")
        self.memory = DuckDBLTMBackend(
            self.catalog, store=self.store, **{"stale_reads": True, **options}
        )
        self.elsewhere = DuckDBLTMBackend(self.sqlite, store=self.store)
        """Another memory over the same catalog, which is never cut off."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.memory.close()
        self.elsewhere.close()
        self.catalog.close()
        self.store.close()

    def fail(self) -> None:
        for operation in CALLS:
            self.catalog.fail(operation)

    def heal(self) -> None:
        self.catalog.heal()

    def remember(self, key: str, value: Any, **options: Any) -> None:
        """Store and read, so that it is kept."""
        assert self.memory.store(key, value, **options)["success"]
        assert self.memory.retrieve(key)["found"]

    def stale(self, key: str) -> Any:
        """Return what is answered for *key* in an outage."""
        self.fail()
        answer = self.memory.retrieve(key)
        self.heal()
        return answer


def is_stale(answer: Any, value: Any) -> bool:
    """Return whether *answer* is *value* from memory."""
    return bool(
        answer["success"] and answer["found"] and answer["stale"] and answer["value"] == value
    )


def is_outage(answer: Any) -> bool:
    """Return whether *answer* says that the catalog is unavailable, and nothing else."""
    is_failure = answer["success"] is False and answer["error_type"] == "catalog_unavailable"
    return is_failure and not {"found", "value", "stale", "deleted", "stored"} & answer.keys()
