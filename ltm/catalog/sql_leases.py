"""Leases in a SQL database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ltm.catalog.database import Database
from ltm.catalog.leases import Lease, LeaseLostError, Leases
from ltm.sql.dialects import ContentionError
from ltm.sql.execution import Session

if TYPE_CHECKING:
    from ltm.catalog.sql import SQLCatalog


class SQLLeases(Leases):
    """The leases of the logical table that a SQL catalog is bound to."""

    def __init__(self, catalog: SQLCatalog) -> None:
        self._catalog = catalog
        self._database = catalog.database
        self._statements = catalog.database.statements

    def take(self, lease: Lease, now: datetime) -> Lease:
        found = self._database.row(self._statements.select_lease, {"id": lease.id})
        if found is not None:
            held = Lease._make(found)
            if held.expires_at > now:
                return held
        self._catalog.table()
        row = {**lease._asdict(), **self._catalog.scope, "acquired_at": now, "renewed_at": now}

        def take(session: Session) -> Lease:
            if session.write_rows(self._statements.take_lease, {"id": [lease.id]}, row):
                return lease
            found = session.row(self._statements.select_lease, {"id": lease.id})
            if found is None:
                raise ContentionError(f"the lease of key {lease.key!r} ended meanwhile")
            return Lease._make(found)

        return self._database.write(take)

    def renew(self, lease: Lease, now: datetime) -> bool:
        bound = _held(lease) | {"now": now, "until": lease.expires_at}
        renew = self._statements.renew_lease
        return self._database.write(lambda session: session.run(renew, bound)) > 0

    def end(self, leases: Sequence[Lease]) -> None:
        held = [_held(lease) for lease in sorted(leases)]
        end = self._statements.end_lease
        if held:
            self._database.write(lambda session: session.run_many(end, held))

    def under(self, prefix: str) -> list[Lease]:
        scope = {"tenant": self._catalog.tenant, "table": self._catalog.table_name}
        rows = self._database.rows(self._statements.select_leases, scope)
        return [lease for lease in map(Lease._make, rows) if lease.key.startswith(prefix)]


def end_leases(session: Session, database: Database, leases: Sequence[Lease]) -> None:
    """End the *leases* that the changes of a transaction are bound to.

    Raises:
        LeaseLostError: One of them is not there any more.
    """
    for lease in leases:
        if session.run(database.statements.end_lease, _held(lease)) == 0:
            raise LeaseLostError(lease)


def _held(lease: Lease) -> dict[str, Any]:
    return {"lease_id": lease.id, "holder": lease.owner}
