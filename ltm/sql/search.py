"""The statements of full-text search: the candidates, and what the ranker must know of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select

from ltm.sql.clauses import ENTRIES, SEARCH, Condition, has_expired, in_scope, is_live
from ltm.sql.dialect import SQLDialect
from ltm.sql.execution import CompiledOnce, CompiledStatement, ShapedStatements


class SearchStatements:
    """Every statement of full-text search, each compiled once for one dialect."""

    def __init__(self, dialect: SQLDialect, schema: str | None) -> None:
        self.dialect = dialect
        self.schema = schema
        self._shaped = ShapedStatements(dialect.sqlalchemy(), schema)

    @CompiledOnce
    def select_collection_size(self) -> Select[Any]:
        """How many documents the table has, and their words in all, expired ones included."""
        return select(func.count(), func.coalesce(func.sum(SEARCH.c.length), 0)).where(
            in_scope(SEARCH)
        )

    @CompiledOnce
    def select_expired_size(self) -> Select[Any]:
        """The same for those documents whose entry has expired."""
        return (
            select(func.count(), func.coalesce(func.sum(SEARCH.c.length), 0))
            .select_from(ENTRIES)
            .join(SEARCH, SEARCH.c.entry_id == ENTRIES.c.id)
            .where(in_scope(ENTRIES), has_expired())
        )

    @CompiledOnce
    def select_postings(self) -> Select[Any]:
        """Term, entry id, length and frequency of the words ``terms`` in live entries."""
        expired = select(ENTRIES.c.id).where(in_scope(ENTRIES), has_expired())
        return self.dialect.postings().where(in_scope(SEARCH), SEARCH.c.entry_id.not_in(expired))

    def select_allowed(
        self, condition: Condition | None, *, phrases: bool, exclusions: bool
    ) -> CompiledStatement:
        """Ids of live entries that hold every one of ``phrases`` and none of ``exclusions``."""

        def build() -> Select[Any]:
            statement = (
                select(ENTRIES.c.id)
                .select_from(SEARCH)
                .join(ENTRIES, ENTRIES.c.id == SEARCH.c.entry_id)
                .where(in_scope(SEARCH), is_live())
            )
            if phrases:
                statement = statement.where(self.dialect.holds_words("phrases", every=True))
            if exclusions:
                statement = statement.where(~self.dialect.holds_words("exclusions", every=False))
            return statement if condition is None else statement.where(condition.clause)

        shape = ("allowed", phrases, exclusions, condition and condition.shape)
        return self._shaped.get(shape, build)
