"""A database on disk for as long as a block lasts, for lists that may not fit into memory.

SQLite has it in a file without a name, in the directory for temporary files, and some 2 MB of it in
memory. It is gone with the process, however that ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ltm.errors import LTMError


@contextmanager
def scratch_database(*schema: str) -> Iterator[sqlite3.Connection]:
    """Give an empty database of the caller's alone, for the thread that opens it.

    Args:
        schema: The statements that make its tables.

    Raises:
        LTMError: It could not be read or written; most likely the disk is full.
    """
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as connection:
            # Nothing is ever rolled back, and one transaction is faster than thousands.
            connection.execute("PRAGMA journal_mode=OFF")
            for statement in schema:
                connection.execute(statement)
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise LTMError(f"temporary database: {error}") from error
