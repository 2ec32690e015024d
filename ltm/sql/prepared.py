"""Statements by their names, compiled when the library was built.

They are written as SQLAlchemy's expressions, see :mod:`ltm.sql.statements`. To import it costs many
times what a short-lived program does with its memory, so what it makes of them is kept in a module
for each dialect, which ``make statements`` writes and a test holds equal to what the expressions
compile to. SQLAlchemy is imported for what has no fixed text: filters of more than one equality.
"""

from __future__ import annotations

from ltm.sql.dialects import SQLDialect
from ltm.sql.execution import SCHEMA_MARK, Statement
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

    Text: TypeAlias = tuple[
        str, str, tuple[str, ...], Mapping[int, str], Mapping[int, str], Mapping[str, Any]
    ]

HEAD = "0004"
"""The revision of the schema that they are for, the newest in the migrations; a test holds both
equal."""


def put_in_schema(text: Text, schema: str | None) -> Statement:
    """Return the statement on the tables in *schema*; None for where the connection looks first.

    Args:
        text: The arguments of :class:`~ltm.sql.execution.Statement`, in no schema yet.
        schema: Its name.
    """
    name = "" if schema is None else '"{}".'.format(schema.replace('"', '""').replace("%", "%%"))
    return Statement(text[0], text[1].replace(SCHEMA_MARK, name), *text[2:])


def schema_of(dialect: SQLDialect) -> tuple[str, ...]:
    """Return what makes the whole schema in an empty database of a dialect that makes its own.

    The result equals that of all migrations in turn; a test reflects both and compares them.
    """
    ddl: tuple[str, ...] = _load(dialect).SCHEMA
    return ddl


class PreparedStatements:
    """A group of statements: those with a fixed text as they were compiled, others made anew."""

    def __init__(self, group: str, dialect: SQLDialect, schema: str | None) -> None:
        """Name the statements; nothing is loaded.

        Args:
            group: Name of the class that builds them.
            dialect: Whose statements.
            schema: Where the tables are; None for where the connections look first.
        """
        self._group = group
        self._dialect = dialect
        self._schema = schema
        self._builder: Any = None

    def __getattr__(self, name: str) -> Any:
        """Return what the group has under *name*; asked for each of them once."""
        text = _load(self._dialect).TEXTS.get(f"{self._group}.{name}")
        if text is not None:
            found: Any = put_in_schema(text, self._schema)
        else:
            found = getattr(self._build(), name)
        setattr(self, name, found)
        return found

    def _build(self) -> Any:
        if self._builder is None:
            from ltm.sql.building import GROUPS
            from ltm.sql.idioms import IDIOMS

            self._builder = GROUPS[self._group](IDIOMS[self._dialect.name], self._schema)
        return self._builder


def _load(dialect: SQLDialect) -> Any:
    return __import__(f"ltm.sql.compiled_{dialect.name}", fromlist=["TEXTS"])
