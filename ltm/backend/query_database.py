"""DuckDB, through SQLAlchemy: a database in memory for one statement, shut off from all else.

It has the tables ``entries`` and ``snapshots``, empty at first. A statement is parsed and planned
over them before anything is read, then they are filled with what it needs, then it runs. DuckDB
reads no file but its own temporary ones, no network, no variable of Python and no extension that
isn't built in; the first statement that is the caller's finds all this locked.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from shutil import rmtree
from typing import TYPE_CHECKING, Any, NamedTuple

from ltm.backend.query_plan import ENTRIES, SNAPSHOTS, Tree, require_harmless
from ltm.duckdb_forks import has_inherited
from ltm.duckdb_memory import SETTINGS, THREADS, require_packages
from ltm.errors import LTMError, ValidationError
from ltm.keys import require_storable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_EXTRA = "duckdb"
_PACKAGES = ("duckdb", "sqlalchemy", "duckdb_engine", "pyarrow", "pytz")

MEMORY_LIMIT = "1GiB"
"""What DuckDB uses of memory for one statement; what needs more goes through temporary files."""

_INTERRUPT_SECONDS = 0.05

_TABLES = {
    ENTRIES: {
        "key": "VARCHAR",
        "value": "JSON",
        "metadata": "JSON",
        "content_hash": "VARCHAR",
        "byte_size": "BIGINT",
        "expires_at": "TIMESTAMPTZ",
        "created_at": "TIMESTAMPTZ",
        "updated_at": "TIMESTAMPTZ",
    },
    SNAPSHOTS: {
        "snapshot_id": "VARCHAR",
        "name": "VARCHAR",
        "entry_count": "BIGINT",
        "total_bytes": "BIGINT",
        "created_at": "TIMESTAMPTZ",
    },
}
_BATCH = "_batch"

# All others would move columns and conditions about, or count on the tables being empty.
_PLANNING = {"unused_columns", "cte_inlining"}

# A line of its own, so that places in the caller's lines stay where they are.
_EXPLAIN = "EXPLAIN (FORMAT json)\n"
_LINE = re.compile(r"^LINE (\d+):", re.MULTILINE)

Parameters = Sequence[Any] | Mapping[str, Any] | None


class Statement(NamedTuple):
    """One SELECT, checked."""

    sql: str
    parameters: tuple[Any, ...] | dict[str, Any] | None
    tree: Tree
    """Its syntax tree."""
    plan: Sequence[Tree]
    """How DuckDB would run it, unoptimized but for columns that are not used."""


class QueryDatabase:
    """A database in memory for one statement, with the tables empty."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def prepare(self, sql: str, parameters: Parameters = None) -> Statement:
        """Parse, check and plan a statement, which then is the only one to run.

        Raises:
            ValidationError: It is not one SELECT statement, DuckDB does not understand it, or it
                reaches for something outside of the database.
        """
        bound = _bound(parameters)
        tree = self._parse(require_storable(sql, "sql"))
        require_harmless(tree)
        with _translated():
            found = self._connection.exec_driver_sql("SELECT name FROM duckdb_optimizers()")
            unwanted = ",".join(name for (name,) in found if name not in _PLANNING)
            self._set("disabled_optimizers", unwanted)
        with _translated(lines_before=1):
            ((_, plan),) = self._connection.exec_driver_sql(_EXPLAIN + sql, bound).fetchall()
        with _translated():
            self._set("disabled_optimizers", "")
        return Statement(sql, bound, tree, json.loads(plan))

    def fill(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Append *rows*, of those *columns*, to a table.

        Texts of JSON are taken as they are. Instants are in UTC.
        """
        import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

        types = {
            "BIGINT": (pa.int64(), None),
            # Cast from text it would be parsed, and a lone surrogate refused.
            "JSON": (pa.string(), {"ARROW:extension:name": "arrow.json"}),
            "TIMESTAMPTZ": (pa.timestamp("us", "UTC"), None),
            "VARCHAR": (pa.string(), None),
        }
        fields = [
            pa.field(name, types[_TABLES[table][name]][0], metadata=types[_TABLES[table][name]][1])
            for name in columns
        ]
        arrays = [
            pa.array(values, field.type)
            for values, field in zip(zip(*rows, strict=True), fields, strict=True)
        ]
        batch = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
        driver: Any = self._connection.connection.driver_connection
        names = ", ".join(columns)
        with _translated():
            driver.register(_BATCH, batch)
            self._connection.exec_driver_sql(f"INSERT INTO {table} ({names}) FROM {_BATCH}")
            driver.unregister(_BATCH)

    def run(self, statement: Statement) -> list[dict[str, Any]]:
        """Return the rows of the result by the names of their columns.

        JSON is parsed, instants are in UTC. A name that stood before gets a number.
        """
        with self._result(statement) as result:
            names = _distinct([column[0] for column in result.cursor.description])
            try:
                rows = result.fetchall()
            except (ValueError, OverflowError, RecursionError) as error:
                raise ValidationError(
                    f"sql: a value of the result can't be read: {error}"
                ) from error
        return [dict(zip(names, map(_in_utc, row), strict=True)) for row in rows]

    def run_to_arrow(self, statement: Statement) -> Any:
        """Return the result as a ``pyarrow.Table``, in which JSON is text."""
        with self._result(statement) as result:
            # DuckDB before 1.5 has the one, later ones warn of it.
            cursor = result.cursor
            read = getattr(cursor, "to_arrow_table", None) or cursor.fetch_arrow_table
            table = read()
        return table.rename_columns(_distinct(table.column_names))

    @contextmanager
    def _result(self, statement: Statement) -> Iterator[Any]:
        with _translated():
            self._set("lock_configuration", "true")
            yield self._connection.exec_driver_sql(statement.sql, statement.parameters)

    @contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        """Break off what is run in a block when it takes longer than *seconds*; None for never.

        Raises:
            LTMError: It was broken off.
        """
        if seconds is None:
            yield
            return
        driver: Any = self._connection.connection.driver_connection
        done, late = threading.Event(), threading.Event()

        def watch() -> None:
            if done.wait(seconds):
                return
            late.set()
            # Again and again: what is interrupted before it has begun runs all the same.
            while not done.wait(_INTERRUPT_SECONDS):
                driver.interrupt()

        watcher = threading.Thread(target=watch, name="ltm-query-timeout", daemon=True)
        watcher.start()
        try:
            yield
        except LTMError as error:
            if late.is_set():
                raise LTMError(f"query: not done within {seconds:g} seconds") from error
            raise
        finally:
            done.set()
            watcher.join()

    def _parse(self, sql: str) -> Tree:
        driver: Any = self._connection.connection.driver_connection
        with _translated():
            kinds = [statement.type.name for statement in driver.extract_statements(sql)]
            if kinds != ["SELECT"]:
                found = ", ".join(kinds) or "nothing"
                raise ValidationError(f"sql: expected one SELECT statement, found {found}")
            serialize = "SELECT CAST(json_serialize_sql(CAST($1 AS VARCHAR)) AS VARCHAR)"
            ((text,),) = self._connection.exec_driver_sql(serialize, (sql,)).fetchall()
        try:
            parsed = json.loads(text)
        except RecursionError as error:
            raise ValidationError("sql: is nested too deeply") from error
        if parsed["error"] or len(parsed["statements"]) != 1:
            # A PRAGMA that is a SELECT at heart comes so far.
            reason = parsed.get("error_message", "there are several")
            raise ValidationError(f"sql: expected one SELECT statement: {reason}")
        tree: Tree = parsed["statements"][0]
        return tree

    def _set(self, name: str, value: str) -> None:
        self._connection.exec_driver_sql(f"SET {name} = $1", (value,))


@contextmanager
def open_database(memory_limit: str = MEMORY_LIMIT) -> Iterator[QueryDatabase]:
    """Open a database for one statement; 15 to 25 ms.

    Its temporary files are in a directory of its own, for this user only, that goes with it.

    Args:
        memory_limit: A number with a unit, such as ``1GiB``.

    Raises:
        MissingDependencyError: A package is not installed.
    """
    require_packages(_EXTRA, *_PACKAGES)
    with ExitStack() as stack:
        directory = stack.enter_context(_temporary_directory())
        connection = stack.enter_context(_engine().connect())
        database = QueryDatabase(connection)
        with _translated():
            connection.exec_driver_sql("SET memory_limit = $1", (memory_limit,))
            connection.exec_driver_sql("SET temp_directory = $1", (directory,))
            # What it allows is settled now: the temporary directory, and nothing else.
            connection.exec_driver_sql("SET enable_external_access = false")
            connection.exec_driver_sql("SET TimeZone = 'UTC'")
            for table, columns in _TABLES.items():
                described = ", ".join(f"{name} {kind}" for name, kind in columns.items())
                connection.exec_driver_sql(f"CREATE TABLE {table} ({described})")
        yield database


@lru_cache(maxsize=1)
def _engine() -> Engine:
    """Return the engine of this process, which holds no connection; making it costs 5 ms more."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    settings = {"config": SETTINGS | THREADS}
    with _usable_default_connection():
        return create_engine("duckdb:///:memory:", poolclass=NullPool, connect_args=settings)


@contextmanager
def _usable_default_connection() -> Iterator[None]:
    """Give DuckDB a default connection that works, for the length of a block.

    duckdb-engine asks the default one for the reserved words, in a forked child in vain.
    """
    import duckdb

    if not has_inherited():
        yield
        return
    inherited = duckdb.default_connection()
    with duckdb.connect(":memory:") as fresh:
        duckdb.set_default_connection(fresh)
        try:
            yield
        finally:
            duckdb.set_default_connection(inherited)


@contextmanager
def _temporary_directory() -> Iterator[str]:
    """Give a directory of its own; where none can be made, the empty name, for no such files."""
    try:
        path = tempfile.mkdtemp(prefix="ltm-query-")
    except OSError:
        yield ""
        return
    try:
        yield path
    finally:
        # Not a TemporaryDirectory: a forked child would remove it as it ends.
        rmtree(path, ignore_errors=True)


@contextmanager
def _translated(lines_before: int = 0) -> Iterator[None]:
    """Raise what DuckDB raises as our own, with its words.

    Args:
        lines_before: How many lines stand before the caller's in what is run.
    """
    import duckdb
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        raise _failure(error.orig, lines_before) from error
    except (duckdb.Error, RuntimeError) as error:
        if str(error) == "Query interrupted":
            # This is how it passes on Ctrl-C.
            raise KeyboardInterrupt from error
        # A parameter that can't be passed is no error of DuckDB's but one of its binding.
        raise _failure(error, lines_before) from error


def _failure(error: BaseException | None, lines_before: int) -> LTMError:
    import duckdb

    message = _LINE.sub(lambda found: f"LINE {int(found[1]) - lines_before}:", str(error).strip())
    beyond = (
        duckdb.OutOfMemoryException,
        duckdb.IOException,
        duckdb.InternalException,
        duckdb.FatalException,
    )
    if isinstance(error, beyond):
        return LTMError(f"query: {message}")
    return ValidationError(f"sql: {message}")


def _bound(parameters: Parameters) -> tuple[Any, ...] | dict[str, Any] | None:
    if isinstance(parameters, Mapping):
        return dict(parameters) or None
    if parameters is None:
        return None
    if isinstance(parameters, str | bytes) or not isinstance(parameters, Sequence):
        raise ValidationError(
            f"parameters: expected a list or an object, got {type(parameters).__name__}"
        )
    return tuple(parameters) or None


def _distinct(names: Sequence[str]) -> list[str]:
    """Return *names* with ``_1``, ``_2`` and so on after those that stood before."""
    distinct: dict[str, None] = {}
    for name in names:
        number, unique = 0, name
        while unique in distinct or (number and unique in names):
            number += 1
            unique = f"{name}_{number}"
        distinct[unique] = None
    return list(distinct)


def _in_utc(value: Any) -> Any:
    # DuckDB gives them in a time zone of pytz.
    is_aware = isinstance(value, datetime) and value.tzinfo is not None
    return value.astimezone(UTC) if is_aware else value
