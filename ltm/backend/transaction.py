"""Several calls that commit together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ltm.backend.entry_calls import EntryCalls
from ltm.backend.many_calls import ManyCalls
from ltm.backend.parts import Parts
from ltm.backend.query_calls import QueryCalls
from ltm.backend.snapshot_calls import SnapshotCalls
from ltm.backend.upkeep_calls import UpkeepCalls
from ltm.catalog.base import Catalog
from ltm.errors import ClosedError, LTMError
from ltm.garbage import delete_scheduled, drop_unreferenced
from ltm.payload.base import PayloadStore


class DeferredAftermath:
    """Collects what is to be done about payloads until the transaction has ended."""

    def __init__(self, catalog: Catalog, store: PayloadStore) -> None:
        self._catalog = catalog
        self._store = store
        self._written: list[str] = []
        self._freed: list[str] = []

    def wrote(self, paths: Sequence[str]) -> None:
        """Remember payloads that go if the transaction rolls back."""
        self._written += paths

    def free(self, paths: Sequence[str]) -> list[tuple[str, LTMError]]:
        """Remember payloads that go if the transaction commits."""
        self._freed += paths
        return []

    def settle(self) -> None:
        """Delete what the committed transaction freed, best effort."""
        delete_scheduled(self._catalog, self._store, self._freed)

    def undo(self) -> None:
        """Delete what was written for a transaction that is known to be rolled back."""
        drop_unreferenced(self._store, self._written)


class LeftToGarbageCollection:
    """Leaves payloads alone: somebody else decides, later, whether the transaction commits."""

    def wrote(self, paths: Sequence[str]) -> None:
        """After a rollback nothing names them, and ``gc`` finds them when they are old enough."""

    def free(self, paths: Sequence[str]) -> list[tuple[str, LTMError]]:  # noqa: ARG002 -- of a protocol
        """After a commit they are on the schedule, and ``gc`` deletes them."""
        return []


class BoundBackend(EntryCalls, ManyCalls, QueryCalls, SnapshotCalls, UpkeepCalls):
    """A backend whose calls run in one transaction of its catalog."""

    is_bound = True

    def __init__(self, parts: Parts, *, raise_errors: bool) -> None:
        self.parts = parts
        self.raise_errors = raise_errors
        self.doomed: LTMError | None = None
        """The first failure that was answered rather than raised."""
        self._is_closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.catalog!r}, {self.payloads!r})"

    @contextmanager
    def transaction(self) -> Iterator[BoundBackend]:
        with self.catalog.transaction():
            yield self

    def doom(self, error: LTMError) -> None:
        self.doomed = self.doomed or error

    def close(self) -> None:
        self._is_closed = True

    def require_open(self) -> None:
        if self._is_closed:
            raise ClosedError("the transaction has ended")
