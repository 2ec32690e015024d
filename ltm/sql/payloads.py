"""Statements about payloads: which of them rows name, and which are to be deleted.

A location is that of a payload object, or that of a part of it: the path of the object, ``#`` and
more. Whatever begins with the path of an object up to ``$``, the character after ``#``, counts as
one of the two: payload objects are named so that nothing else does.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Delete,
    Select,
    Update,
    bindparam,
    delete,
    false,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.dml import Insert

from ltm.locations import PARTS_END
from ltm.sql.clauses import DELETIONS, ENTRIES, VERSIONS, is_next
from ltm.sql.compiling import CompiledOnce
from ltm.sql.idiom import LIMIT, Idiom

_scheduled = DELETIONS.c.storage_uri


class PayloadStatements:
    """The statements of a SQL catalog about payloads."""

    idiom: Idiom

    @CompiledOnce
    def schedule_deletion(self) -> Insert:
        """Remember that a payload is to be deleted."""
        return self.idiom.insert_new(DELETIONS, [column.name for column in DELETIONS.c])

    @CompiledOnce
    def select_deletable(self) -> Select[Any]:
        """The scheduled ones among ``uris`` whose object no entry and no version names."""
        whole = self.idiom.before(_scheduled, "#")
        return select(_scheduled).where(
            self.idiom.is_among(_scheduled, "uris"), ~self._is_named(whole)
        )

    @CompiledOnce
    def select_named(self) -> Select[Any]:
        """The locations among ``uris`` that an entry or a version names, whole or in part."""
        uri = self.idiom.items("uris")
        return select(uri).where(self._is_named(uri))

    @CompiledOnce
    def select_deletions(self) -> Select[Any]:
        """Up to ``limit`` scheduled payloads from ``start`` to ``prefix_end``, not ``after``."""
        return (
            select(_scheduled)
            .where(
                DELETIONS.c.tenant_id == bindparam("tenant"),
                is_next(_scheduled),
                _scheduled < bindparam("prefix_end"),
            )
            .order_by(_scheduled)
            .limit(LIMIT)
        )

    @CompiledOnce
    def forget_deletions(self) -> Delete:
        """Strike an object, from ``uri`` up to ``uri_end``, off the schedule with all its parts."""
        return delete(DELETIONS).where(
            _scheduled >= bindparam("uri"), _scheduled < bindparam("uri_end")
        )

    @CompiledOnce
    def move_entry_payload(self) -> Update:
        """Let the entry that names ``old_uri`` name ``new_uri``."""
        return _move(ENTRIES)

    @CompiledOnce
    def move_version_payload(self) -> Update:
        """Let the versions that name ``old_uri`` name ``new_uri``."""
        return _move(VERSIONS)

    def _is_named(self, uri: ColumnElement[str]) -> ColumnElement[bool]:
        # Asked whether there is one in between, PostgreSQL expects so many that it reads the table.
        following = (self.idiom.first_from(of.c.storage_uri, uri) for of in (ENTRIES, VERSIONS))
        return or_(*(func.coalesce(each < uri + PARTS_END, false()) for each in following))


def _move(table: Any) -> Update:
    change = update(table).where(table.c.storage_uri == bindparam("old_uri"))
    return change.values(storage_uri=bindparam("new_uri"))
