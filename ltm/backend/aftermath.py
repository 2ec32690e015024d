"""What becomes of payloads once a catalog transaction has ended."""

from __future__ import annotations

from collections.abc import Sequence

from ltm.catalog.base import Catalog
from ltm.errors import LTMError
from ltm.payload.base import PayloadStore
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class Aftermath(Protocol):
        """Sees to payloads after a catalog transaction."""

        def wrote(self, paths: Sequence[str]) -> None:
            """Take note of payloads that were written for a commit to come."""

        def free(self, paths: Sequence[str]) -> list[tuple[str, LTMError]]:
            """Delete payloads that the catalog has scheduled; return those that stay, and why."""


class ImmediateAftermath:
    """Frees payloads at once: the catalog commits every write by itself."""

    def __init__(self, catalog: Catalog, store: PayloadStore) -> None:
        self._catalog = catalog
        self._store = store

    def wrote(self, paths: Sequence[str]) -> None:
        """Nothing to remember: whoever wrote them knows what became of the commit."""

    def free(self, paths: Sequence[str]) -> list[tuple[str, LTMError]]:
        """Delete scheduled payloads now, best effort."""
        if not paths:
            return []
        from ltm.garbage import delete_scheduled

        return delete_scheduled(self._catalog, self._store, paths)


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
        from ltm.garbage import delete_scheduled

        delete_scheduled(self._catalog, self._store, self._freed)

    def undo(self) -> None:
        """Delete what was written for a transaction that is known to be rolled back."""
        drop_written(self._store, self._written)


class LeftToGarbageCollection:
    """Leaves payloads alone: somebody else decides, later, whether the transaction commits."""

    def wrote(self, paths: Sequence[str]) -> None:
        """After a rollback nothing names them, and ``gc`` finds them when they are old enough."""

    def free(self, paths: Sequence[str]) -> list[tuple[str, LTMError]]:  # noqa: ARG002 -- of a protocol
        """After a commit they are on the schedule, and ``gc`` deletes them."""
        return []


def drop_written(store: PayloadStore, paths: Sequence[str]) -> None:
    """Delete what was written for a commit that is known not to have happened, best effort."""
    if paths:
        from ltm.garbage import drop_unreferenced

        drop_unreferenced(store, paths)
