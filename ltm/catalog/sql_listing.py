"""Lists of entries in SQL: by key, and newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ltm.catalog.database import Database
from ltm.entry import AnyRow, EntryRow, ValueRow
from ltm.keys import prefix_upper_bound
from ltm.sql.execution import Row

if TYPE_CHECKING:
    from ltm.search.filters import Filter

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_ABOVE_ALL_IDS = "g"


def page_bounds(prefix: str, after: str) -> dict[str, str | None]:
    """Return the parameters of what begins with *prefix* above *after*; see ``is_next``."""
    end = prefix_upper_bound(prefix)
    return {"start": max(prefix, after), "prefix_end": end, "after": after}


def list_by_key(
    database: Database,
    prefix: str,
    after: str,
    limit: int,
    condition: Filter | None,
    scope: Mapping[str, Any],
) -> list[EntryRow]:
    """Return up to *limit* live entries that begin with *prefix*, above *after*, in key order.

    Args:
        database: Where they are.
        prefix: Bytewise.
        after: A key.
        limit: At most this many, counted after *condition*.
        condition: What the metadata must fulfil, or None.
        scope: The parameters ``tenant``, ``table`` and ``now``.
    """
    statements, parameters = database.statements, {**scope, **page_bounds(prefix, after)}
    bounded = parameters["prefix_end"] is not None
    if condition is None:
        statement = statements.select_between if bounded else statements.select_from
    else:
        from ltm.catalog.conditions import compile_filter

        compiled = compile_filter(condition, database.idiom)
        parameters |= compiled.parameters
        statement = statements.select_by_key(compiled.condition, bounded=bounded)
    found: list[EntryRow] = []
    while len(found) < limit:
        wanted = limit - len(found)
        page = database.rows(statement, parameters | {"limit": wanted})
        found += _confirm(page, condition)
        if len(page) < wanted:
            break
        parameters |= page_bounds(prefix, page[-1][1])
    return found


def list_newest(
    database: Database, limit: int, condition: Filter | None, scope: Mapping[str, Any]
) -> list[EntryRow]:
    """Return up to *limit* live entries by ``updated_at``, then id, both descending.

    The arguments are those of :func:`list_by_key`.
    """
    statements, parameters = database.statements, {**scope, "limit": limit}
    if condition is None:
        return [*map(EntryRow._make, database.rows(statements.select_latest, parameters))]
    equality = _equality(condition)
    if equality is not None:
        parameters |= equality
        return [*map(EntryRow._make, database.rows(statements.select_equal, parameters))]
    from ltm.catalog.conditions import compile_driven

    compiled = compile_driven(condition, database.idiom)
    parameters |= {"before_at": _END_OF_TIME, "before_id": _ABOVE_ALL_IDS, **compiled.parameters}
    statement = statements.select_newest(compiled.condition, compiled.driver)
    found: list[EntryRow] = []
    while len(found) < limit:
        parameters["limit"] = limit - len(found)
        page = database.rows(statement, parameters)
        found += _confirm(page, condition)
        if len(page) < parameters["limit"]:
            break
        last = EntryRow._make(page[-1])
        parameters |= {"before_at": last.updated_at, "before_id": last.id}
    return found


def list_newest_values(
    database: Database, limit: int, condition: Filter | None, scope: Mapping[str, Any]
) -> Sequence[AnyRow]:
    """Return what :func:`list_newest` does, or as much of it as a read of the values needs."""
    statements, parameters = database.statements, {**scope, "limit": limit}
    if condition is None:
        statement = statements.select_latest_values
    else:
        equality = _equality(condition)
        if equality is None:
            return list_newest(database, limit, condition, scope)
        parameters |= equality
        statement = statements.select_equal_values
    return [*map(ValueRow._make, database.rows(statement, parameters))]


def _equality(condition: Filter) -> dict[str, str] | None:
    """Return the metadata row that *condition* asks for, if that is all it does.

    It is by far the most frequent filter; its statement has a fixed text.
    """
    from ltm.search.conditions import Equals

    if isinstance(condition, Equals):
        return {"path": condition.path, "code": condition.code}
    return None


def _confirm(page: Sequence[Row], condition: Filter | None) -> list[EntryRow]:
    """Return the rows of *page* that fulfil *condition*, where SQL could not decide all of it."""
    rows = [EntryRow._make(row) for row in page]
    if condition is None or condition.is_exact:
        return rows
    from ltm.search.filters import matches

    return [row for row in rows if matches(condition, row.metadata)]
