"""Databases in memory that make full-text indexes in files, by DuckDB's extension ``fts``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ltm.duckdb_memory import connect as connect_memory
from ltm.duckdb_memory import load_extension, quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_EXTRA = "firestore"


def connect() -> DuckDBPyConnection:
    """Return a database in memory that can make full-text indexes.

    Raises:
        MissingDependencyError: DuckDB or its extension is not installed.
    """
    connection = connect_memory(_EXTRA)
    load_extension(connection, "fts", _EXTRA, from_network=True)
    return connection


def attach(connection: DuckDBPyConnection, path: str, mode: str = "READ_WRITE") -> None:
    """Attach the file at *path* as ``base``; read-only, any number of processes may."""
    connection.execute(f"ATTACH {quote(path)} AS base (TYPE duckdb, {mode})")
