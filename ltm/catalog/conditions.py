"""From a metadata filter to a SQL condition over the indexed metadata rows."""

from __future__ import annotations

from collections.abc import Hashable
from functools import reduce
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    FromClause,
    String,
    and_,
    bindparam,
    false,
    func,
    not_,
    or_,
    select,
    true,
)

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
from ltm.sql.idiom import Idiom
from ltm.sql.search import FEW, FilterCondition

Leaf = Equals | In | Exists | Range | ContainsElement

MAX_SOURCES = 8
"""Of so many conditions the rarest is looked for."""

_SCOPE = ("tenant_id", "tenant"), ("table_name", "table")

_DRIVER = Condition(
    ("equals",),
    and_(
        METADATA.c.path == bindparam("driver_path", type_=String),
        METADATA.c.value == bindparam("driver_code", type_=String),
    ),
)
"""The equality of any filter; to build it anew would take half as long as the whole statement."""


class CompiledFilter(NamedTuple):
    """A filter as SQL with its parameters."""

    condition: FilterCondition
    parameters: dict[str, Any]


class DrivenFilter(NamedTuple):
    """The same, where the walk along the metadata index may take an equality out of it."""

    condition: FilterCondition | None
    parameters: dict[str, Any]
    driver: Condition | None
    """The equality, which *condition* does without."""


def compile_filter(wanted: Filter, idiom: Idiom) -> CompiledFilter:
    """Return *wanted* as a condition on entries.

    The condition is exact where ``wanted.is_exact``; otherwise it lets through more than the
    filter, and what it lets through is to be checked with ``matches``. Beside the parameters here
    it has those of the scope, ``tenant`` and ``table``.
    """
    writer = _ConditionWriter(idiom)
    return CompiledFilter(writer.condition(wanted), writer.parameters)


def compile_driven(wanted: Filter, idiom: Idiom) -> DrivenFilter:
    """Return *wanted* as :func:`compile_filter` does, an equality that all must fulfil apart."""
    writer = _ConditionWriter(idiom)
    leading = leading_equality(wanted)
    if leading is None:
        return DrivenFilter(writer.condition(wanted), writer.parameters, None)
    writer.parameters |= {"driver_path": leading.path, "driver_code": leading.code}
    rest = _without(wanted, leading)
    condition = None if rest is None else writer.condition(rest)
    return DrivenFilter(condition, writer.parameters, _DRIVER)


def _without(wanted: Filter, leading: Equals) -> Filter | None:
    if wanted is leading:
        return None
    if isinstance(wanted, And) and leading in wanted.children:
        rest = tuple(child for child in wanted.children if child is not leading)
        return And(rest) if rest else None
    return wanted


class _ConditionWriter:
    """Writes clauses and numbers their parameters in the order of writing."""

    def __init__(self, idiom: Idiom) -> None:
        self._idiom = idiom
        self.parameters: dict[str, Any] = {}

    def condition(self, wanted: Filter) -> FilterCondition:
        """Return *wanted* as a condition on entries."""
        shape, clause = self.write(wanted)
        sources = self.write_sources(wanted) if self._idiom.counts_first else []
        return FilterCondition(shape, clause, sources)

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

    def write_sources(self, wanted: Filter) -> list[ColumnElement[Any]]:
        """Return arrays of ids: each has every entry that may fulfil *wanted*, unless it is full.

        It is when it has more than ``FEW`` ids.
        """
        if isinstance(wanted, And):
            found = (source for child in wanted.children for source in self.write_sources(child))
            return list(islice(found, MAX_SOURCES))
        if isinstance(wanted, Or):
            parts = [self.write_sources(child)[:1] for child in wanted.children]
            if not parts or [] in parts:
                return []
            return [reduce(func.array_cat, (part[0] for part in parts))]
        if isinstance(wanted, Not):
            return []
        if isinstance(wanted, ContainsText):
            return self.write_sources(wanted.candidates)
        row = METADATA.alias()
        _, clauses = self._narrow(row, wanted)
        scope = (row.c[name] == bindparam(bound) for name, bound in _SCOPE)
        # In the order of their index: a LIMIT alone lets the planner hope to meet them by chance.
        rows = select(row.c.entry_id).where(*scope, *clauses)
        few = rows.order_by(row.c.value, row.c.updated_at, row.c.entry_id).limit(FEW + 1)
        return [func.array(few.scalar_subquery())]

    def _write_leaf(self, leaf: Leaf | ContainsText) -> tuple[Hashable, ColumnElement[bool]]:
        if isinstance(leaf, ContainsText):
            return self._write_leaf(leaf.candidates)
        row = METADATA.alias()
        shape, clauses = self._narrow(row, leaf)
        rows = select(row.c.entry_id).where(row.c.entry_id == ENTRIES.c.id, *clauses)
        # With OFFSET the planner has no other way than a look-up for each entry at hand.
        return shape, (rows.offset(0) if self._idiom.counts_first else rows).exists()

    def _narrow(self, row: FromClause, leaf: Leaf) -> tuple[Hashable, list[ColumnElement[bool]]]:
        """Return the shape of *leaf*, and what it asks of a metadata *row*."""
        clauses = [row.c.path == self.bind(leaf.path)]
        shape: Hashable = type(leaf).__name__
        if isinstance(leaf, Equals | ContainsElement):
            clauses.append(row.c.value == self.bind(leaf.code))
        elif isinstance(leaf, In):
            name = self.bind(self._idiom.dialect.bind_list(leaf.codes)).key
            clauses.append(self._idiom.is_among(row.c.value, name))
        elif isinstance(leaf, Range):
            low, high = self.bind(leaf.low), self.bind(leaf.high)
            clauses.append(row.c.value >= low if leaf.low_inclusive else row.c.value > low)
            clauses.append(row.c.value <= high if leaf.high_inclusive else row.c.value < high)
            shape = shape, leaf.low_inclusive, leaf.high_inclusive
        return shape, clauses

    def bind(self, value: Any) -> Any:
        """Return a parameter of its own for *value*."""
        name = f"filter_{len(self.parameters)}"
        self.parameters[name] = value
        return bindparam(name, type_=String)
