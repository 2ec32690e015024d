"""Running statements that are compiled: their text and their values, on a driver's connection.

SQLAlchemy writes the text and says how values are converted, see :mod:`ltm.sql.compiling`. What it
is not asked to do is to run statements: on one that takes a few microseconds its own machinery
would cost several times the statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from sys import modules

from ltm import telemetry
from ltm.sql.conversions import CONVERSIONS
from ltm.sql.dialects import SQLDialect
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, TypeAlias

Row: TypeAlias = "tuple[Any, ...]"

Columns: TypeAlias = "Mapping[str, Sequence[Any]]"
"""Values of rows, by the name of their column."""

ROW_COLUMNS = (
    "id",
    "key",
    "content_hash",
    "storage_uri",
    "byte_size",
    "inlined_value",
    "metadata",
    "expires_at",
    "begin_seq",
    "created_at",
    "updated_at",
)
"""The order in which entries are read everywhere, and have their fields."""

SCHEMA_MARK = "ltm_schema_here."
"""Stands before the name of each table in the text of a statement that is still in no schema."""


class Statement:
    """The SQL text of a statement, the order of its parameters and how values are converted."""

    __slots__ = (
        "_binders",
        "_constants",
        "_pick",
        "_readers",
        "operation",
        "parameters",
        "text",
    )

    def __init__(
        self,
        operation: str,
        text: str,
        parameters: Sequence[str] = (),
        binders: Mapping[int, str] | None = None,
        readers: Mapping[int, str] | None = None,
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        """Put together what SQLAlchemy has said of a statement.

        Args:
            operation: SELECT, INSERT, UPDATE or DELETE.
            text: The SQL, with the driver's marks for parameters.
            parameters: Their names in the order of the marks.
            binders: The name of a conversion by the position of a parameter that needs one.
            readers: The same by the position of a column of the answer.
            constants: Values of parameters that are always the same.
        """
        self.operation = operation
        self.text = text
        self.parameters = parameters
        given = constants or {}
        self._pick = _picker([name for name in parameters if name not in given])
        self._constants = [
            (place, given[name]) for place, name in enumerate(parameters) if name in given
        ]
        self._binders = [(place, CONVERSIONS[name]) for place, name in (binders or {}).items()]
        self._readers = [(place, CONVERSIONS[name]) for place, name in (readers or {}).items()]

    def bind(self, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """Return the driver's positional arguments for named *parameters*."""
        if not (self._binders or self._constants):
            return self._pick(parameters)
        values = list(self._pick(parameters))
        for place, value in self._constants:  # from left to right, so each comes to its place
            values.insert(place, value)
        for place, convert in self._binders:
            value = values[place]
            if value is not None:
                values[place] = convert(value)
        return values

    def named(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return *values* in the order of the parameters by their names."""
        return dict(zip(self.parameters, values, strict=True))

    def bind_rows(self, columns: Columns, shared: Mapping[str, Any]) -> Iterable[Row]:
        """Return the driver's arguments row by row; see :meth:`Session.write_rows`."""
        converters, count = dict(self._binders), len(next(iter(columns.values())))
        values: list[Iterable[Any]] = []
        for place, name in enumerate(self.parameters):
            convert = converters.get(place)
            if name in columns:
                column = columns[name]
                values.append(_convert_all(convert, column) if convert else column)
            else:
                value = shared[name]
                if convert is not None and value is not None:
                    value = convert(value)
                values.append(repeat(value, count))
        # Each row is made when the driver takes it: no more than one is there at a time.
        return zip(*values, strict=True)

    def read(self, row: Row) -> Row:
        """Return a driver's *row* with its values converted to Python's."""
        if not self._readers:
            return row
        values = list(row)
        for place, convert in self._readers:
            value = values[place]
            if value is not None:
                values[place] = convert(value)
        return tuple(values)

    def read_all(self, rows: list[Row]) -> list[Row]:
        """Do the same with many rows, one column after the other: that takes half as long."""
        if not self._readers or not rows:
            return rows
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for place, convert in self._readers:
            columns[place] = [None if each is None else convert(each) for each in columns[place]]
        return list(zip(*columns, strict=True))


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """Return what takes the values of *names* out of a mapping, in their order."""
    if not names:
        return lambda parameters: ()  # noqa: ARG005 -- there are none
    if len(names) == 1:
        (name,) = names
        return lambda parameters: (parameters[name],)
    return itemgetter(*names)


def _convert_all(convert: Callable[[Any], Any], values: Sequence[Any]) -> Sequence[Any]:
    """Return *values* converted; rows that are written together mostly share their instants."""
    if len({*map(id, values)}) == 1:
        value = values[0]
        return [None if value is None else convert(value)] * len(values)
    return [None if value is None else convert(value) for value in values]


class Session:
    """One driver connection for the length of a verb; it neither begins nor ends a transaction.

    The connection is one of sqlite3 or psycopg, which run statements without a cursor of one's own.
    """

    __slots__ = ("connection", "dialect")

    def __init__(self, connection: Any, dialect: SQLDialect) -> None:
        self.connection = connection
        self.dialect = dialect
        # Its class rather than a question in each of its methods, which are the hottest path.
        if telemetry.API in modules and telemetry.notice():
            self.__class__ = ObservedSession

    def rows(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        """Return every row that *statement* answers."""
        cursor = self.connection.execute(statement.text, statement.bind(parameters))
        return statement.read_all(cursor.fetchall())

    def row(self, statement: Statement, parameters: Mapping[str, Any]) -> Row | None:
        """Return the first row that *statement* answers, or None."""
        cursor = self.connection.execute(statement.text, statement.bind(parameters))
        row = cursor.fetchone()
        return None if row is None else statement.read(row)

    def run(self, statement: Statement, parameters: Mapping[str, Any]) -> int:
        """Run a *statement* that changes rows and return how many."""
        return int(self.send(statement, statement.bind(parameters)).rowcount)

    def send(self, statement: Statement, arguments: Sequence[Any]) -> Any:
        """Do the same with the driver's own *arguments*, and return the cursor."""
        return self.connection.execute(statement.text, arguments)

    def write_rows(self, statement: Statement, columns: Columns, shared: Mapping[str, Any]) -> int:
        """Run an INSERT of the dialect's, if there is a row for it.

        Args:
            statement: Made by ``Idiom.insert`` or ``Idiom.upsert``.
            columns: The values in which rows may differ, one column at least.
            shared: Values that are the same in all rows; more of them than needed does no harm.

        Returns:
            How many rows were written; within :meth:`pipeline` that isn't known yet.
        """
        if not next(iter(columns.values())):
            return 0
        return int(self.send_rows(statement, columns, shared).rowcount)

    def send_rows(self, statement: Statement, columns: Columns, shared: Mapping[str, Any]) -> Any:
        """Do the same with a row at least, and return the cursor."""
        return self.dialect.write_rows(self.connection, statement, columns, shared)

    def pipeline(self) -> AbstractContextManager[object]:
        """Return a block within which the database works on what is sent while more is made."""
        return self.dialect.pipeline(self.connection)

    def run_many(self, statement: Statement, parameters: Iterable[Mapping[str, Any]]) -> int:
        """Run *statement* once for each of *parameters*, in one call of the driver."""
        arguments = [statement.bind(each) for each in parameters]
        return int(self.send_many(statement, arguments).rowcount) if arguments else 0

    def send_many(self, statement: Statement, arguments: Sequence[Sequence[Any]]) -> Any:
        """Do the same with the driver's own *arguments*, and return the cursor."""
        cursor = self.connection.cursor()
        cursor.executemany(statement.text, arguments)
        return cursor

    def command(self, text: str) -> None:
        """Run transaction control such as ``BEGIN``."""
        self.connection.execute(text, **self.dialect.command_options)


class ObservedSession(Session):
    """A session whose statements are spans."""

    __slots__ = ()

    def rows(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        with self._span(statement.operation, statement.text):
            return super().rows(statement, parameters)

    def row(self, statement: Statement, parameters: Mapping[str, Any]) -> Row | None:
        with self._span(statement.operation, statement.text):
            return super().row(statement, parameters)

    def send(self, statement: Statement, arguments: Sequence[Any]) -> Any:
        with self._span(statement.operation, statement.text):
            return super().send(statement, arguments)

    def send_rows(self, statement: Statement, columns: Columns, shared: Mapping[str, Any]) -> Any:
        with self._span(statement.operation, statement.text):
            return super().send_rows(statement, columns, shared)

    def send_many(self, statement: Statement, arguments: Sequence[Sequence[Any]]) -> Any:
        with self._span(statement.operation, statement.text):
            return super().send_many(statement, arguments)

    def command(self, text: str) -> None:
        with self._span(text.split(None, 1)[0], text):
            super().command(text)

    def _span(self, operation: str, text: str) -> telemetry.Span:
        return telemetry.statement(self.dialect.name, operation, text)
