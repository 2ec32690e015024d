"""Datasets that DuckDB writes: one database file, or a DuckLake.

DuckDB works on the files of the workspace, and is shut off from all others and from the network
before it is given any entry.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from ltm.duckdb_memory import connect, load_extension, quote
from ltm.errors import IntegrityError, LTMError, PayloadError
from ltm.fork_gate import forks_wait
from ltm.transfer.dataset_rows import EXTRA, DatasetPage, DatasetRow
from ltm.transfer.destination import Destination
from ltm.transfer.duckdb_parquet import DuckDBParquetFile
from ltm.transfer.duckdb_table import MEMORY_LIMIT, DuckDBTable, create_table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TABLE = "entries"

CATALOG = "catalog.ducklake"
DATA = "data"
"""The directory of a DuckLake's Parquet files, beside its catalog."""

_DIRECTORY = f"{DATA}/main/{TABLE}"
"""Where DuckLake itself puts the files of a table in its first schema."""

_METADATA = "__ducklake_metadata_lake"
"""The name that DuckLake attaches the catalog of ``lake`` under."""


def write_duckdb(pages: Iterable[DatasetPage], place: Destination) -> int:
    """Write *pages* as a DuckDB file to *place*, and return how many rows there are."""
    name = f"{TABLE}.duckdb"
    with forks_wait(), _connection(place, lake=False) as connection:
        connection.execute(f"ATTACH {quote(os.path.join(place.workspace, name))} AS base")
        _shut_off(connection, place)
        # In one transaction, so that row groups are written as they are full, and only once.
        connection.execute("BEGIN")
        table = DuckDBTable(connection, f"base.{TABLE}")
        for page in pages:
            for row in page.rows:
                table.add(row)
        table.flush()
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT base")
        _require_total(connection, f"SELECT count(*) FROM base.{TABLE}", table.rows)  # noqa: S608
        connection.execute("DETACH base")
    place.add(name, table.rows)
    return table.rows


def write_ducklake(pages: Iterable[DatasetPage], place: Destination) -> int:
    """Write *pages* as a DuckLake to *place*, and return how many rows there are.

    Its Parquet files are made known to its catalog one by one.
    """
    with forks_wait(), _connection(place, lake=True) as connection:
        catalog = os.path.join(place.workspace, CATALOG)
        data = os.path.join(place.workspace, DATA)
        os.makedirs(os.path.join(place.workspace, *_DIRECTORY.split("/")))
        connection.execute(
            f"ATTACH {quote(f'ducklake:{catalog}')} AS lake "
            f"(DATA_PATH {quote(f'{data}/')}, DATA_INLINING_ROW_LIMIT 0)"
        )
        _shut_off(connection, place)

        connection.execute("BEGIN")
        create_table(connection, f"lake.{TABLE}")
        total = _write_files(connection, (row for page in pages for row in page.rows), place)
        connection.execute("COMMIT")
        _require_found(connection, total)
        # Not relative: that would be to the working directory of whoever reads it.
        connection.execute(
            f"UPDATE {_METADATA}.ducklake_metadata SET value = $1 WHERE key = 'data_path'",  # noqa: S608
            (f"{place.shown}/{DATA}/",),
        )
        connection.execute("DETACH lake")
    place.add(CATALOG, None)
    return total


def _write_files(
    connection: DuckDBPyConnection, rows: Iterable[DatasetRow], place: Destination
) -> int:
    """Write *rows* as Parquet files that the catalog knows, and return how many there are."""
    total = number = 0
    coming = iter(rows)
    while True:
        path = f"{_DIRECTORY}/part-{number:05}.parquet"
        location = os.path.join(place.workspace, *path.split("/"))
        with closing(DuckDBParquetFile(connection, location, place.scratch)) as file:
            while not file.is_full and (row := next(coming, None)) is not None:
                file.add(row)
            if not file.rows:
                return total
            file.complete()
        # Before it is handed over: an uploaded file isn't there any more.
        connection.execute(f"CALL ducklake_add_data_files('lake', '{TABLE}', $1)", (location,))
        place.add(path, file.rows)
        total += file.rows
        number += 1


@contextmanager
def _connection(place: Destination, *, lake: bool) -> Iterator[DuckDBPyConnection]:
    """Give a database in memory, with *lake* one that has the extension."""
    # Each thread has buffers of its own, and there is little that more than one could do.
    with _translated(place), connect(EXTRA, {"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}B'")
        if lake:
            load_extension(connection, "ducklake", EXTRA)
        yield connection


def require_ducklake() -> None:
    """Do nothing, if DuckDB's extension ducklake can be loaded.

    Raises:
        MissingDependencyError: It is not installed for this version of DuckDB.
    """
    with forks_wait(), connect(EXTRA) as connection:
        load_extension(connection, "ducklake", EXTRA)


def _shut_off(connection: DuckDBPyConnection, place: Destination) -> None:
    """Leave *connection* the files of *place*, and nothing else."""
    connection.execute("SET temp_directory = $1", (os.path.join(place.scratch, "spilled"),))
    allowed = ", ".join(quote(f"{each}/") for each in (place.workspace, place.scratch))
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false")


def _require_total(connection: DuckDBPyConnection, question: str, total: int) -> None:
    ((found,),) = _ask(connection, question)
    if found != total:
        raise IntegrityError(f"dataset: expected {total} rows, DuckDB has {found}")


def _require_found(connection: DuckDBPyConnection, total: int) -> None:
    """Do nothing, if the catalog has *total* rows in files relative to its data path.

    Raises:
        IntegrityError: It has more or fewer.
        LTMError: Its files would not be found at their destination.
    """
    connection.execute(f"USE {_METADATA}")
    counted = "SELECT coalesce(sum(record_count), 0) FROM ducklake_data_file"
    _require_total(connection, counted, total)
    for table in ("ducklake_schema", "ducklake_table", "ducklake_data_file"):
        ((others,),) = _ask(connection, f"SELECT count(*) FROM {table} WHERE NOT path_is_relative")  # noqa: S608
        if others:
            raise LTMError(f"dataset: DuckLake has a path in {table} that is not relative")
    connection.execute("USE memory")


def _ask(connection: DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


@contextmanager
def _translated(place: Destination) -> Iterator[None]:
    """Raise what DuckDB raises as our own, with its words."""
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException) as error:
        # Where a commit can't be written it is the transaction that fails, and then all else.
        raise PayloadError(f"dataset {place.shown!r}: {error}") from error
    except (duckdb.Error, RuntimeError) as error:
        if str(error) == "Query interrupted":
            # This is how it passes on Ctrl-C.
            raise KeyboardInterrupt from error
        raise LTMError(f"dataset {place.shown!r}: {error}") from error
