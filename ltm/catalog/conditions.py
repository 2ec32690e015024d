"""From a metadata filter to a SQL condition over the indexed metadata rows."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, String, and_, bindparam, exists, false, not_, or_, true

from ltm.search.filters import (
    And,
    ContainsElement,
    ContainsText,
    Equals,
    Exists,
    Filter,
    In,
    Not,
    Or,
    Range,
    leading_equality,
)
from ltm.sql.clauses import ENTRIES, METADATA, Condition
from ltm.sql.dialect import SQLDialect


class CompiledFilter(NamedTuple):
    """A filter as SQL with its parameters."""

    condition: Condition | None
    parameters: dict[str, Any]
    driver: Condition | None = None
    """An equality that *condition* leaves to the walk along the metadata index."""


def compile_filter(
    wanted: Filter | None, dialect: SQLDialect, *, driven: bool = False
) -> CompiledFilter:
    """Return *wanted* as a condition on entries.

    The condition is exact where ``wanted.is_exact``; otherwise it lets through more than the
    filter, and what it lets through is to be checked with ``matches``.

    Args:
        wanted: The filter, or None for no condition.
        dialect: The database.
        driven: Whether an equality may be taken out as ``driver``.
    """
    if wanted is None:
        return CompiledFilter(None, {})
    writer = _ConditionWriter(dialect)
    leading = leading_equality(wanted) if driven else None
    if leading is None:
        shape, clause = writer.write(wanted)
        return CompiledFilter(Condition(shape, clause), writer.parameters)
    path, code = writer.bind(leading.path), writer.bind(leading.code)
    equality = and_(METADATA.c.path == path, METADATA.c.value == code)
    driver = Condition(("equals",), equality)
    rest = _without(wanted, leading)
    if rest is None:
        return CompiledFilter(None, writer.parameters, driver)
    shape, clause = writer.write(rest)
    return CompiledFilter(Condition(shape, clause), writer.parameters, driver)


def _without(wanted: Filter, leading: Equals) -> Filter | None:
    if wanted is leading:
        return None
    if isinstance(wanted, And) and leading in wanted.children:
        rest = tuple(child for child in wanted.children if child is not leading)
        return And(rest) if rest else None
    return wanted


class _ConditionWriter:
    """Writes clauses and numbers their parameters in the order of writing."""

    def __init__(self, dialect: SQLDialect) -> None:
        self._dialect = dialect
        self.parameters: dict[str, Any] = {}

    def write(self, wanted: Filter) -> tuple[Hashable, ColumnElement[bool]]:
        """Return the shape and the clause of *wanted*."""
        if isinstance(wanted, And | Or):
            parts = [self.write(child) for child in wanted.children]
            joined: Hashable = type(wanted).__name__, *(part[0] for part in parts)
            if isinstance(wanted, And):
                return joined, and_(true(), *(part[1] for part in parts))
            return joined, or_(false(), *(part[1] for part in parts))
        if isinstance(wanted, Not):
            if not wanted.is_exact:
                # The inverse of a superset leaves out matches: let everything through.
                return "anything", true()
            shape, clause = self.write(wanted.child)
            return ("Not", shape), not_(clause)
        return self._write_leaf(wanted)

    def _write_leaf(
        self, leaf: Equals | In | Exists | Range | ContainsElement | ContainsText
    ) -> tuple[Hashable, ColumnElement[bool]]:
        if isinstance(leaf, ContainsText):
            return self._write_leaf(leaf.candidates)
        row = METADATA.alias()
        clauses = [row.c.entry_id == ENTRIES.c.id, row.c.path == self.bind(leaf.path)]
        shape: Hashable = type(leaf).__name__
        if isinstance(leaf, Equals | ContainsElement):
            clauses.append(row.c.value == self.bind(leaf.code))
        elif isinstance(leaf, In):
            name = self.bind(self._dialect.bind_list(leaf.codes)).key
            clauses.append(self._dialect.is_among(row.c.value, name))
        elif isinstance(leaf, Range):
            low, high = self.bind(leaf.low), self.bind(leaf.high)
            clauses.append(row.c.value >= low if leaf.low_inclusive else row.c.value > low)
            clauses.append(row.c.value <= high if leaf.high_inclusive else row.c.value < high)
            shape = shape, leaf.low_inclusive, leaf.high_inclusive
        return shape, exists().where(*clauses)

    def bind(self, value: Any) -> Any:
        """Return a parameter of its own for *value*."""
        name = f"filter_{len(self.parameters)}"
        self.parameters[name] = value
        return bindparam(name, type_=String)
