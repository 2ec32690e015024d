"""Statements about leases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Delete, Select, Update, and_, bindparam, delete, select, update
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.dml import Insert

from ltm.sql.clauses import LEASES, in_scope
from ltm.sql.columns import UTCDateTime
from ltm.sql.compiling import CompiledOnce
from ltm.sql.idiom import Idiom

_LEASE_COLUMNS = LEASES.c.id, LEASES.c.key, LEASES.c.owner, LEASES.c.expires_at


class LeaseStatements:
    """The statements of a SQL catalog about leases."""

    idiom: Idiom

    @CompiledOnce
    def select_lease(self) -> Select[Any]:
        """The lease ``id``, expired or not."""
        return select(*_LEASE_COLUMNS).where(LEASES.c.id == bindparam("id"))

    @CompiledOnce
    def select_leases(self) -> Select[Any]:
        """All leases of the tenant and logical table."""
        return select(*_LEASE_COLUMNS).where(in_scope(LEASES))

    @CompiledOnce
    def take_lease(self) -> Insert:
        """Write a lease, over another one only if that had expired at ``acquired_at``."""
        columns = [column.name for column in LEASES.c]
        statement = self.idiom.insert(LEASES, columns)
        changed = ("owner", "acquired_at", "renewed_at", "expires_at")
        return statement.on_conflict_do_update(
            index_elements=["id"],
            set_={name: statement.excluded[name] for name in changed},
            where=LEASES.c.expires_at <= statement.excluded.acquired_at,
        )

    @CompiledOnce
    def renew_lease(self) -> Update:
        """Put off the expiry of the lease ``lease_id`` of ``holder`` to ``until``."""
        # Not the names of the columns: of those SQLAlchemy would make values to be set.
        return (
            update(LEASES)
            .where(_is_held())
            .values(
                renewed_at=bindparam("now", type_=UTCDateTime),
                expires_at=bindparam("until", type_=UTCDateTime),
            )
        )

    @CompiledOnce
    def end_lease(self) -> Delete:
        """Delete the lease ``lease_id`` if it is that of ``holder``."""
        return delete(LEASES).where(_is_held())


def _is_held() -> ColumnElement[bool]:
    return and_(LEASES.c.id == bindparam("lease_id"), LEASES.c.owner == bindparam("holder"))
