"""Statements that write a small value, where nobody else needs what is there.

Two of each kind: one by itself, and one with words and metadata rows. On PostgreSQL they are in the
statement, and on SQLite they follow it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select
from sqlalchemy.sql.dml import Insert

from ltm.sql.compiling import CompiledOnce
from ltm.sql.idiom import Idiom


class PlainStatements:
    """The statements of a SQL catalog about plain writes."""

    idiom: Idiom

    @CompiledOnce
    def insert_plain(self) -> Insert | Select[Any]:
        """Write an entry unless its id is there; on PostgreSQL the answer is its id, or nothing."""
        return self.idiom.plain_insert(indexes=False)

    @CompiledOnce
    def insert_indexed(self) -> Insert | Select[Any]:
        """The same with words and metadata rows."""
        return self.idiom.plain_insert(indexes=True)

    @CompiledOnce
    def write_plain(self) -> Insert | Select[Any]:
        """Write an entry that is not there, or over one that nobody but its readers needs.

        What it is over has no words. On SQLite it is the row whose columns are ``seen_...``. On
        PostgreSQL it is the row that the statement sees, if that has no metadata either, and the
        answer is that row after whether what was written is a new row: NULL where nothing was.
        """
        return self.idiom.plain_write(indexes=False)

    @CompiledOnce
    def write_indexed(self) -> Insert | Select[Any]:
        """The same with words and metadata rows, and over what has any."""
        return self.idiom.plain_write(indexes=True)
