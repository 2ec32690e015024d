"""Parquet files that DuckDB writes, with little memory.

Rows are written as lines of text first, and DuckDB reads these as a stream. Handed over in
statements, they would be in memory all at once, or in a file for each statement; and Arrow, which
writes the other datasets, takes 60 MB before the first row.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from ltm.duckdb_memory import quote
from ltm.transfer.dataset_rows import COLUMNS, DatasetRow
from ltm.transfer.duckdb_table import VECTOR_ROWS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FILE_ROWS = 1_000_000
FILE_BYTES = 256 * 2**20
"""A file whose lines have reached either is complete. Compressed they are smaller."""

VECTOR_BYTES = 16 * 2**20
"""So is one of whose lines DuckDB would have to work on so many bytes at once."""

GROUP_BYTES = 4 * 2**20
"""What the lines of a row group take, or those that DuckDB works on at once if that is more."""

BUFFER_BYTES = 2 * 2**20
"""So much of the lines is read at once, or twice the longest one if that is more."""

ATTEMPTS = 4
"""So often a file is begun anew, each time with twice the memory, where DuckDB has too little."""

# In JSON there is neither this nor the end of a line: both are escaped.
_BETWEEN = "\x1f"
_TYPES = ", ".join(f"{quote(name)}: {quote(kind)}" for name, kind in COLUMNS.items())


class DuckDBParquetFile:
    """One Parquet file under way."""

    def __init__(self, connection: DuckDBPyConnection, location: str, scratch: str) -> None:
        """Begin a file at *location*; its lines are in the directory *scratch* until it is done."""
        self.rows = 0
        self._connection = connection
        self._location = location
        self._lines = os.path.join(scratch, f"{os.path.basename(location)}.lines")
        self._sink = open(self._lines, "x", encoding="utf-8", newline="\n")  # noqa: SIM115 -- as long as this
        self._bytes = self._longest = 0
        self._vector = self._largest = 0

    @property
    def is_full(self) -> bool:
        """Whether what comes next is to be in another file."""
        return self.rows >= FILE_ROWS or self._bytes >= FILE_BYTES or self._vector >= VECTOR_BYTES

    def add(self, row: DatasetRow) -> None:
        """Take the next *row*."""
        line = _line(row)
        if self.rows % VECTOR_ROWS == 0:
            self._vector = 0
        self.rows += 1
        self._bytes += self._sink.write(line)
        self._vector += len(line)
        self._longest = max(self._longest, len(line))
        self._largest = max(self._largest, self._vector)

    def complete(self) -> None:
        """Make the file of the rows that were added."""
        import duckdb

        self._sink.close()
        vectors = max(1, GROUP_BYTES // max(1, self._largest))
        buffer = max(BUFFER_BYTES, 2 * self._longest)
        lines = (
            f"read_csv({quote(self._lines)}, columns = {{{_TYPES}}}, auto_detect = false, "
            f"header = false, parallel = false, delim = '{_BETWEEN}', quote = '', escape = '', "
            f"nullstr = '', new_line = '\\n', max_line_size = {buffer}, buffer_size = {buffer})"
        )
        rows = f"SELECT * REPLACE (key::JSON ->> '$' AS key) FROM {lines}"  # noqa: S608 -- quoted
        copy = (
            f"COPY ({rows}) TO {quote(self._location)} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {vectors * VECTOR_ROWS})"
        )
        # Measured to be enough for most, and not much more: what is allowed is used.
        limit = 2**22 + 4 * max(GROUP_BYTES, self._largest) + 2 * buffer
        for attempt in range(ATTEMPTS):
            # Not within the transaction of the connection, which would fail with it.
            with self._connection.cursor() as cursor:
                cursor.execute(f"SET memory_limit = '{limit << attempt}B'")
                try:
                    cursor.execute(copy)
                    break
                except duckdb.OutOfMemoryException:
                    if attempt == ATTEMPTS - 1:
                        raise

    def close(self) -> None:
        """Forget the lines, and with them the file if it is not complete."""
        self._sink.close()
        os.unlink(self._lines)


def _line(row: DatasetRow) -> str:
    expires_at = "" if row.expires_at is None else row.expires_at.isoformat()
    parts = (
        *(json.dumps(row.key), row.value, row.metadata, row.content_hash, str(row.byte_size)),
        *(expires_at, row.created_at.isoformat(), row.updated_at.isoformat()),
    )
    return _BETWEEN.join(parts) + "\n"
