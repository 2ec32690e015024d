"""Several calls that commit together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ltm.backend.entry_calls import EntryCalls
from ltm.backend.many_calls import ManyCalls
from ltm.backend.parts import Parts
from ltm.backend.query_calls import QueryCalls
from ltm.backend.snapshot_calls import SnapshotCalls
from ltm.backend.upkeep_calls import UpkeepCalls
from ltm.errors import ClosedError, LTMError


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
