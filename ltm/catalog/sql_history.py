"""Snapshots in SQL."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ltm.catalog.database import IDS_PER_STATEMENT, in_chunks
from ltm.catalog.history import History, Snapshot
from ltm.catalog.sql_listing import page_bounds
from ltm.entry import EntryRow
from ltm.sql.dialects import Gate
from ltm.sql.execution import Session

if TYPE_CHECKING:
    from ltm.catalog.sql import SQLCatalog


class SQLHistory(History):
    """The snapshots of a SQL catalog's table."""

    # Each time, all that have changed are looked at.
    keys_at_once = 10_000

    def __init__(self, catalog: SQLCatalog) -> None:
        self._catalog = catalog
        self._database = catalog.database
        self._statements = catalog.database.history
        self._scope = {"tenant": catalog.tenant, "table": catalog.table_name}
        self._gate = Gate(catalog.table_name, is_exclusive=True)

    def create(self, name: str, now: datetime) -> Snapshot:
        self._catalog.table()

        def create(session: Session) -> Snapshot:
            row = session.row(self._statements.lock_table, self._scope)
            assert row is not None  # noqa: S101 -- the table was made above
            counts = session.rows(
                self._database.statements.select_statistics, self._scope | {"now": now}
            )[0]
            snapshot = Snapshot(
                id=secrets.token_hex(16),
                name=name,
                seq=row[0],
                entry_count=int(counts[0]),
                total_bytes=int(counts[2]),
                created_at=now,
            )
            names = {"tenant_id": self._catalog.tenant, "table_name": self._catalog.table_name}
            session.run(self._statements.insert_snapshot, snapshot._asdict() | names)
            session.run(self._statements.advance, self._scope)
            return snapshot

        return self._database.write(create, self._gate)

    def snapshots(self) -> list[Snapshot]:
        rows = self._database.rows(self._statements.select_snapshots, self._scope)
        return [Snapshot._make(row) for row in rows]

    def expire(self, snapshot: Snapshot, now: datetime) -> list[str]:
        def expire(session: Session) -> list[str]:
            freed: list[str] = []
            session.row(self._statements.lock_table, self._scope)
            session.run(self._statements.delete_snapshot, {"id": snapshot.id})
            unseen = self._scope | {"limit": IDS_PER_STATEMENT}
            while versions := session.rows(self._statements.select_unseen_versions, unseen):
                session.run_many(
                    self._statements.delete_version,
                    [{"id": identity, "begin_seq": begin} for identity, begin, _ in versions],
                )
                uris = self._unnamed(session, [uri for _, _, uri in versions if uri is not None])
                deletion = {"tenant_id": self._catalog.tenant, "scheduled_at": now}
                session.write_rows(
                    self._database.statements.schedule_deletion,
                    {"storage_uri": uris},
                    deletion,
                )
                freed += uris
            return freed

        return self._database.write(expire, self._gate)

    def rows_as_of(
        self, snapshot: Snapshot, prefix: str, after: str, limit: int, *, superseded: bool = False
    ) -> list[EntryRow]:
        bound = self._at(snapshot) | page_bounds(prefix, after)
        if superseded:
            return self._rows("select_superseded", bound, limit)
        # One walk along two tables begins with the first row that each of them shows, which may be
        # far where most is hidden. So it is told where to end, and if that was too near, goes on.
        rows: list[EntryRow] = []
        last, count = bound["prefix_end"], limit
        while True:
            (ends,) = self._database.rows(self._statements.select_ends, bound | {"count": count})
            known = [end for end in (*ends, last) if end is not None]
            bound["prefix_end"] = end = min(known, default=None)
            rows += self._rows("select_as_of", bound, limit - len(rows))
            if len(rows) == limit or end == last:
                return rows
            bound |= {"start": end, "after": ""}
            count *= 4

    def _rows(self, name: str, bound: dict[str, Any], limit: int) -> list[EntryRow]:
        """Return the first rows of a statement, or of the one of those below ``prefix_end``."""
        suffix = "" if bound["prefix_end"] is None else "_between"
        statement = getattr(self._statements, name + suffix)
        return [*map(EntryRow._make, self._database.rows(statement, bound | {"limit": limit}))]

    def read_as_of(self, snapshot: Snapshot, keys: Sequence[str]) -> dict[str, EntryRow]:
        found: dict[str, EntryRow] = {}
        for chunk in in_chunks(keys):
            ids = self._database.dialect.bind_list([self._catalog.entry_id(key) for key in chunk])
            bound = self._at(snapshot) | {"ids": ids}
            for row in self._database.rows(self._statements.select_as_of_ids, bound):
                found[row[1]] = EntryRow._make(row)
        return found

    def read_live(self, keys: Sequence[str], now: datetime) -> dict[str, EntryRow]:
        return self._catalog.read_many(keys, now)

    def rows_live(self, prefix: str, after: str, limit: int, now: datetime) -> list[EntryRow]:
        return self._catalog.rows_by_key(prefix, after, limit, None, now)

    def keys_changed(self, snapshot: Snapshot, after: str, limit: int, now: datetime) -> list[str]:
        bound = self._at(snapshot) | {"after": after, "limit": limit, "now": now}
        return [key for (key,) in self._database.rows(self._statements.select_changed_keys, bound)]

    def _unnamed(self, session: Session, uris: Sequence[str]) -> list[str]:
        """Return those *uris* that no row names: a write of new terms keeps its payload."""
        bound = {"uris": self._database.dialect.bind_list(uris)}
        named = session.rows(self._database.statements.select_named, bound) if uris else []
        return sorted(set(uris) - {uri for (uri,) in named})

    def _at(self, snapshot: Snapshot) -> dict[str, Any]:
        return self._scope | {"seq": snapshot.seq, "at": snapshot.created_at}
