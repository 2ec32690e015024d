"""Rows on their way into a table of DuckDB, with little memory.

They are handed over as JSON in parameters. Arrow tables would be faster, but the libraries that
DuckDB reads them with take 50 MB before the first row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ltm.transfer.dataset_rows import COLUMNS, DatasetRow

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_LIMIT = 32 * 2**20
"""Bytes of memory that DuckDB uses; what needs more goes through temporary files."""

VECTOR_ROWS = 2_048
"""So many rows DuckDB works on at once; all their values have to be in memory."""

BATCH_ROWS = 500
BATCH_BYTES = 512 * 1024
"""What rows take in memory that are inserted together; a larger one is inserted alone."""

_SHAPE = json.dumps([COLUMNS])


class DuckDBTable:
    """Takes rows in the order in which readers are to find them."""

    def __init__(self, connection: DuckDBPyConnection, name: str) -> None:
        """Create the table *name*; see to :data:`MEMORY_LIMIT` before."""
        self._connection = connection
        self._room = _Room(connection)
        self._batch: list[DatasetRow] = []
        self._weight = 0
        self.rows = 0
        create_table(connection, name)
        rows = f"SELECT unnest(from_json($1, '{_SHAPE}'), max_depth := 2)"
        places = ", ".join(f"${number}" for number, _ in enumerate(COLUMNS, 1))
        self._insert = f"INSERT INTO {name} {rows}"
        self._insert_one = f"INSERT INTO {name} VALUES ({places})"  # noqa: S608 -- constants

    def add(self, row: DatasetRow) -> None:
        """Take *row*; it is in the table after :meth:`flush`, if not before."""
        self._room.make(row)
        self.rows += 1
        if row.weight >= BATCH_BYTES:
            self.flush()
            self._connection.execute(self._insert_one, row)
            return
        self._batch.append(row)
        self._weight += row.weight
        if len(self._batch) >= BATCH_ROWS or self._weight >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Insert the rows that wait."""
        if self._batch:
            self._connection.execute(self._insert, (_as_json(self._batch),))
            self._batch, self._weight = [], 0


def create_table(connection: DuckDBPyConnection, name: str) -> None:
    """Create the table *name* for :data:`~ltm.transfer.dataset_rows.COLUMNS`."""
    columns = ", ".join(
        f"{column} {kind}{'' if column == 'expires_at' else ' NOT NULL'}"
        for column, kind in COLUMNS.items()
    )
    connection.execute(f"CREATE TABLE {name} ({columns})")


class _Room:
    """Gives DuckDB more memory where values are so large that a vector of them needs it."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self._connection = connection
        self._limit = MEMORY_LIMIT
        self._rows = 0
        self._weight = 0

    def make(self, row: DatasetRow) -> None:
        """Allow for *row*, which comes next."""
        if self._rows % VECTOR_ROWS == 0:
            self._weight = 0
        self._rows += 1
        self._weight += row.weight
        # Measured: 1.0 times a vector is too little where it is all there is, 1.5 times enough.
        limit = MEMORY_LIMIT // 2 + self._weight * 3 // 2
        if limit > self._limit:
            # Some more at once, so that it isn't for every row.
            self._limit = limit + limit // 8
            self._connection.execute(f"SET memory_limit = '{self._limit}B'")


def _as_json(rows: Sequence[DatasetRow]) -> str:
    return json.dumps([dict(zip(COLUMNS, map(_plain, row), strict=True)) for row in rows])


def _plain(value: str | int | datetime | None) -> str | int | None:
    return value.isoformat() if isinstance(value, datetime) else value
