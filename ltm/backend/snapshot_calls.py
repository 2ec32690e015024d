"""The calls on points in time: snapshots, what changed, and going back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ltm.backend.answering import answering
from ltm.backend.base import (
    EntryChange,
    ExpireAnswer,
    RestoreAnswer,
    SnapshotAnswer,
    SnapshotsAnswer,
)
from ltm.backend.parts import BackendCalls
from ltm.catalog.base import Catalog
from ltm.catalog.commit import Outcome, Put, Removal
from ltm.entry import EntryRow
from ltm.keys import validate_name
from ltm.typed import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ltm.backend.results import SnapshotInfo
    from ltm.catalog.history import RowChange, Snapshot

CHANGES_PER_WRITE = 200


class SnapshotCalls(BackendCalls):
    """Snapshots of the logical table."""

    @answering
    def create_snapshot(self, name: str) -> SnapshotAnswer:
        self.require_open()
        snapshot = self.catalog.history.create(validate_name(name, "name"), self.clock())
        return cast("SnapshotAnswer", {"success": True, **_describe(snapshot)})

    @answering
    def list_snapshots(self) -> SnapshotsAnswer:
        self.require_open()
        found = [_describe(each) for each in self.catalog.history.snapshots()]
        return {"success": True, "snapshots": found, "count": len(found)}

    @answering
    def expire_snapshot(self, snapshot: str) -> ExpireAnswer:
        from ltm.backend.health import describe_failure

        self.require_open()
        history = self.catalog.history
        found = history.find(snapshot)
        failures = self.parts.aftermath.free(history.expire(found, self.clock()))
        return {
            "success": True,
            "snapshot_id": found.id,
            "errors": [describe_failure(uri, error) for uri, error in failures],
        }

    @answering
    def restore(self, snapshot: str) -> RestoreAnswer:
        from ltm.catalog.pages import in_pages

        self.require_open()
        outcomes: list[Outcome] = []
        keys: list[str] = []
        try:
            with self.catalog.transaction() as catalog:
                found = catalog.history.find(snapshot)
                changes = catalog.history.changes(found, None, self.clock())
                for page in in_pages(changes, CHANGES_PER_WRITE):
                    keys += [change.key for change in page]
                    outcomes += self._undo(catalog, found, page)
        finally:
            self.parts.attempted(keys)
        self.parts.free(outcomes)
        return {
            "success": True,
            "restored": sum(outcome.stored for outcome in outcomes),
            "deleted": sum(outcome.deleted for outcome in outcomes),
        }

    def diff(self, a: str, b: str) -> Iterator[EntryChange]:
        backend = self.active()
        backend.require_open()
        with backend.outage.watching():
            history = backend.catalog.history
            found = history.changes(history.find(a), history.find(b), backend.clock())
        return backend._described(found)

    def changes(self, since: str | None) -> Iterator[EntryChange]:
        backend = self.active()
        backend.require_open()
        point = None
        if since is not None:
            with backend.outage.watching():
                point = backend.catalog.history.find(since)
        return backend._described(backend.catalog.history.changes(point, None, backend.clock()))

    def _described(self, changes: Iterator[RowChange]) -> Iterator[EntryChange]:
        self.require_open()
        with self.outage.watching():
            for change in changes:
                yield change.describe()
                self.require_open()

    def _undo(
        self, catalog: Catalog, snapshot: Snapshot, changes: Sequence[RowChange]
    ) -> list[Outcome]:
        """Write back the earlier rows of *changes* and remove what had no earlier row."""
        now = self.clock()
        back: list[EntryRow] = []
        undone: list[Put | Removal] = []
        for earlier, later in changes:
            if earlier is not None and (earlier.expires_at is None or earlier.expires_at > now):
                back.append(earlier)
            elif later is not None:
                undone.append(Removal(id=later.id, key=later.key))
        undone += [
            self.parts.writer.put_back(entry.row, entry.value)
            for entry in self.parts.reader_as_of(snapshot).stream(back)
        ]
        return catalog.write(undone, now)


def _describe(snapshot: Snapshot) -> SnapshotInfo:
    return {
        "snapshot_id": snapshot.id,
        "name": snapshot.name,
        "entry_count": snapshot.entry_count,
        "total_bytes": snapshot.total_bytes,
        "created_at": snapshot.created_at,
    }
