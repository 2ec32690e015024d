"""Statements compiled once per dialect and run on the driver's connection.

The statements are SQLAlchemy expressions; SQLAlchemy writes their SQL and converts their values.
What it is not asked to do is to run them: on a statement that takes a few microseconds its own
machinery would cost several times the statement.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from sys import modules
from typing import TYPE_CHECKING, Any, Protocol, cast

from sqlalchemy import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import SelectBase

from ltm import telemetry

if TYPE_CHECKING:
    from ltm.sql.dialect import SQLDialect

Processor = Callable[[Any], Any]
Row = tuple[Any, ...]

MAX_SHAPES = 256
"""How many statements of varying shape are kept compiled."""


class CompiledStatement:
    """The SQL text of a statement, the order of its parameters and how values are converted.

    ``operation`` is SELECT, INSERT, UPDATE or DELETE.
    """

    __slots__ = ("_binders", "_constants", "_readers", "operation", "text")

    def __init__(
        self, statement: ClauseElement, dialect: Dialect, schema: str | None = None
    ) -> None:
        options: dict[str, Any] = {"compile_kwargs": {"render_postcompile": True}}
        if schema is not None:
            options |= {"schema_translate_map": {None: schema}, "render_schema_translate": True}
        compiled = cast(SQLCompiler, statement.compile(dialect=dialect, **options))
        self.text = str(compiled)
        self.operation = _operation(compiled)
        names = compiled.positiontup if compiled.positional else list(compiled.binds)
        self._constants: Mapping[str, Any] = {
            name: value for name, value in compiled.params.items() if value is not None
        }
        self._binders: list[tuple[str, Processor | None]] = [
            (
                name,
                compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect),
            )
            for name in names or ()
        ]
        columns = statement.selected_columns if isinstance(statement, SelectBase) else ()
        self._readers: list[tuple[int, Processor]] = []
        for index, column in enumerate(columns):
            reader = column.type.dialect_impl(dialect).result_processor(dialect, None)
            if reader is not None:
                self._readers.append((index, reader))

    def bind(self, parameters: Mapping[str, Any]) -> Row:
        """Return the driver's positional arguments for named *parameters*."""
        if self._constants:
            parameters = {**self._constants, **parameters}
        return tuple(
            [
                parameters[name] if binder is None else binder(parameters[name])
                for name, binder in self._binders
            ]
        )

    def read(self, row: Row) -> Row:
        """Return a driver's *row* with its values converted to Python's."""
        values = list(row)
        for index, reader in self._readers:
            values[index] = reader(values[index])
        return tuple(values)


class HasDialect(Protocol):
    """What :class:`CompiledOnce` needs to know of its owner."""

    dialect: SQLDialect
    schema: str | None


class CompiledOnce:
    """Decorates a method that builds a statement: it is compiled when it is first asked for."""

    def __init__(self, build: Callable[[Any], ClauseElement]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: HasDialect, owner: type) -> CompiledStatement:
        statement = self._build(instance)
        compiled = CompiledStatement(statement, instance.dialect.sqlalchemy(), instance.schema)
        instance.__dict__[self._name] = compiled
        return compiled


class ShapedStatements:
    """Statements that come in many shapes, the latest of them kept compiled."""

    def __init__(self, dialect: Dialect, schema: str | None) -> None:
        self._dialect = dialect
        self._schema = schema
        self._compiled: dict[Hashable, CompiledStatement] = {}

    def get(self, shape: Hashable, build: Callable[[], ClauseElement]) -> CompiledStatement:
        """Return the statement of this *shape*, which *build* makes if it is new."""
        found = self._compiled.get(shape)
        if found is None:
            if len(self._compiled) >= MAX_SHAPES:
                self._compiled.clear()
            found = CompiledStatement(build(), self._dialect, self._schema)
            self._compiled[shape] = found
        return found


class Session:
    """One driver connection for the length of a verb; it neither begins nor ends a transaction.

    The connection is one of sqlite3 or psycopg, which run statements without a cursor of one's own.
    """

    __slots__ = ("_connection", "dialect")

    def __init__(self, connection: Any, dialect: SQLDialect) -> None:
        self._connection = connection
        self.dialect = dialect
        # Its class rather than a question in each of its methods, which are the hottest path.
        if telemetry.API in modules and telemetry.notice():
            self.__class__ = ObservedSession

    def rows(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> list[Row]:
        """Return every row that *statement* answers."""
        cursor = self._connection.execute(statement.text, statement.bind(parameters))
        return [statement.read(row) for row in cursor.fetchall()]

    def row(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> Row | None:
        """Return the first row that *statement* answers, or None."""
        cursor = self._connection.execute(statement.text, statement.bind(parameters))
        row = cursor.fetchone()
        return None if row is None else statement.read(row)

    def run(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> int:
        """Run a *statement* that changes rows and return how many."""
        cursor = self._connection.execute(statement.text, statement.bind(parameters))
        return int(cursor.rowcount)

    def write_rows(self, statement: CompiledStatement, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run an INSERT of the dialect's with all of *rows* and return how many it wrote."""
        return self.run_many(statement, self.dialect.bind_rows(rows))

    def run_many(
        self, statement: CompiledStatement, parameters: Iterable[Mapping[str, Any]]
    ) -> int:
        """Run *statement* once for each of *parameters*, in one call of the driver."""
        arguments = [statement.bind(each) for each in parameters]
        if not arguments:
            return 0
        cursor = self._connection.cursor()
        cursor.executemany(statement.text, arguments)
        return int(cursor.rowcount)

    def command(self, text: str) -> None:
        """Run transaction control such as ``BEGIN``."""
        self.dialect.command(self._connection, text)


class ObservedSession(Session):
    """A session whose statements are spans."""

    __slots__ = ()

    def rows(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> list[Row]:
        with self._span(statement.operation, statement.text):
            return super().rows(statement, parameters)

    def row(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> Row | None:
        with self._span(statement.operation, statement.text):
            return super().row(statement, parameters)

    def run(self, statement: CompiledStatement, parameters: Mapping[str, Any]) -> int:
        with self._span(statement.operation, statement.text):
            return super().run(statement, parameters)

    def run_many(
        self, statement: CompiledStatement, parameters: Iterable[Mapping[str, Any]]
    ) -> int:
        rows = list(parameters)
        if not rows:
            return 0  # nothing is sent
        with self._span(statement.operation, statement.text):
            return super().run_many(statement, rows)

    def command(self, text: str) -> None:
        with self._span(text.split(None, 1)[0], text):
            super().command(text)

    def _span(self, operation: str, text: str) -> telemetry.Span:
        return telemetry.statement(self.dialect.name, operation, text)


def _operation(compiled: SQLCompiler) -> str:
    """Return what a statement does, which its first word may not tell: WITH."""
    for operation in ("insert", "update", "delete"):
        if getattr(compiled, f"is{operation}"):
            return operation.upper()
    return "SELECT"
