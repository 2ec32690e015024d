"""How entries are searched for: by conditions on their metadata, and by words.

The statements of full-text search give the candidates, and what the ranker must know of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    String,
    any_,
    bindparam,
    cast,
    func,
    null,
    select,
    type_coerce,
    union_all,
)

from ltm.sql.clauses import ENTRIES, SEARCH, has_expired, in_scope, is_live
from ltm.sql.compiling import CompiledOnce, ShapedStatements
from ltm.sql.execution import Statement
from ltm.sql.idiom import LIMIT, Idiom, Rows

FEW = 1000
"""So many entries are looked up and sorted sooner than all others are walked past."""


class FilterCondition(NamedTuple):
    """A condition, and how the entries that fulfil it are found where they are few."""

    shape: Hashable
    clause: ColumnElement[bool]
    sources: Sequence[ColumnElement[Any]] = ()
    """Arrays of ids. One with no more than ``FEW`` has every entry that fulfils the condition."""


def walk_unless_few(
    walk: Select[Any],
    found: Select[Any],
    condition: FilterCondition,
    order: Callable[[Any], list[ColumnElement[Any]]],
) -> Rows:
    """Return *walk*, or where those that fulfil *condition* are few, *found* among them alone.

    Which of them is run is decided when it is: by counting, not by what the planner expects.

    Args:
        walk: Entries along an index, up to ``limit``.
        found: The same entries in no order.
        condition: It is in both.
        order: Gives the order of the walk for the columns of a row.
    """
    if not condition.sources:
        return walk
    count, is_rare = _find_rarest(condition)
    few = found.where(count <= FEW, is_rare).order_by(*order(ENTRIES.c)).limit(LIMIT)
    rows = union_all(few, walk.where(count > FEW))
    return rows.order_by(*order(rows.selected_columns)).limit(LIMIT)


def _find_rarest(
    condition: FilterCondition,
) -> tuple[ColumnElement[int], ColumnElement[bool]]:
    """Return how many ids the shortest source has, and whether an entry is among them."""
    counted = union_all(*(select(source.label("ids")) for source in condition.sources)).subquery()
    shortest = select(counted.c.ids).order_by(func.cardinality(counted.c.ids)).limit(1)
    rarest = shortest.cte("rarest")
    ids = select(rarest.c.ids).scalar_subquery()
    count = select(func.cardinality(rarest.c.ids)).scalar_subquery()
    return count, ENTRIES.c.id == any_(cast(ids, ARRAY(String)))


class SearchStatements:
    """Every statement of full-text search, each compiled once for one dialect."""

    def __init__(self, idiom: Idiom, schema: str | None) -> None:
        self.idiom = idiom
        self.schema = schema
        self._shaped = ShapedStatements(idiom, schema)

    @CompiledOnce
    def select_occurrences(self) -> Rows:
        """Where ``terms`` occur, and in what collection, in one round trip.

        For each term, documents and how often it may occur in them, as of
        :meth:`~ltm.sql.idiom.Idiom.occurrences`; then five times NULL. And one row that begins with
        three times NULL: how many documents there are, their length in all, of the shortest one and
        of the longest one, and whether entries have expired, whose documents are counted, too.
        """
        # Not EXISTS: where PostgreSQL does not know ``now`` it expects to meet one by walking.
        first = select(func.min(ENTRIES.c.expires_at)).where(
            in_scope(ENTRIES), ENTRIES.c.expires_at.is_not(None)
        )
        collection = select(
            *(null(), null(), null(), func.count(), func.coalesce(func.sum(SEARCH.c.length), 0)),
            *(
                select(extreme(SEARCH.c.length)).where(in_scope(SEARCH)).scalar_subquery()
                for extreme in (func.min, func.max)
            ),
            type_coerce(first.scalar_subquery() <= bindparam("now"), Integer),
        ).where(in_scope(SEARCH))
        nothing = (null().label(f"nothing_{number}") for number in range(5))
        return union_all(collection, self.idiom.occurrences().add_columns(*nothing))

    @CompiledOnce
    def select_expired(self) -> Select[Any]:
        """The documents of entries that have expired, and their length in all."""
        words: FromClause = SEARCH
        if self.idiom.counts_first:
            # With OFFSET the planner has no other way than a look-up for each expired entry: where
            # it does not know ``now`` it expects a third of all, and would read all documents.
            of_entry = select(*SEARCH.c).where(SEARCH.c.entry_id == ENTRIES.c.id)
            words = of_entry.offset(0).lateral("words")
        length = func.coalesce(func.sum(words.c.length), 0)
        return (
            select(self.idiom.listed(words.c.document_id), length)
            .select_from(ENTRIES)
            .join(words, words.c.entry_id == ENTRIES.c.id)
            .where(in_scope(ENTRIES), has_expired())
        )

    @CompiledOnce
    def select_documents(self) -> Select[Any]:
        """Document, entry id, length and text of ``documents``, in no order."""
        columns = SEARCH.c.document_id, SEARCH.c.entry_id, SEARCH.c.length, SEARCH.c.text
        return select(*columns).where(self.idiom.is_among(SEARCH.c.document_id, "documents"))

    def select_allowed(
        self, condition: FilterCondition | None, *, phrases: bool, exclusions: bool
    ) -> Statement:
        """Document and id of live entries with all of ``phrases`` and none of ``exclusions``.

        Only of those that hold any of the words ``candidates``, among which those of the phrases
        are: whatever a filter lets through besides is of no use.
        """

        def build() -> Rows:
            statement = (
                select(SEARCH.c.document_id, ENTRIES.c.id)
                .select_from(SEARCH)
                .join(ENTRIES, ENTRIES.c.id == SEARCH.c.entry_id)
                .where(in_scope(SEARCH), is_live())
            )
            if phrases:
                statement = statement.where(self.idiom.holds_words("phrases", every=True))
            else:
                statement = statement.where(self.idiom.holds_any("candidates"))
            if exclusions:
                statement = statement.where(~self.idiom.holds_words("exclusions", every=False))
            if condition is None:
                return statement
            statement = statement.where(condition.clause)
            if not condition.sources:
                return statement
            count, is_rare = _find_rarest(condition)
            return union_all(statement.where(count <= FEW, is_rare), statement.where(count > FEW))

        shape = ("allowed", phrases, exclusions, condition and condition.shape)
        return self._shaped.get(shape, build)
