"""Databases in memory that DuckDB opens files in, and its full-text extension.

The extension is loaded from the package ``duckdb-extension-fts`` where that is installed, else from
where DuckDB keeps what it has installed, else from the network.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from ltm.errors import MissingDependencyError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_EXTRA = "firestore"

# Nothing is fetched from the network unasked, and nothing spills into the working directory.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "temp_directory": "",
}


def connect() -> DuckDBPyConnection:
    """Return a database in memory that can make full-text indexes.

    Raises:
        MissingDependencyError: DuckDB or its extension is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingDependencyError("duckdb", _EXTRA) from error
    connection = duckdb.connect(":memory:", config=_SETTINGS)
    tried: list[str] = []
    for name, load in (
        ("package duckdb-extension-fts", _load_packaged),
        ("LOAD fts", _load_installed),
        ("INSTALL fts", _install),
    ):
        try:
            load(connection)
        except (duckdb.Error, ImportError, OSError) as error:
            tried.append(f"{name}: {str(error).splitlines()[0]}")
        else:
            return connection
    package = f"DuckDB's extension fts for version {duckdb.__version__} ({'; '.join(tried)})"
    raise MissingDependencyError(package, _EXTRA)


def _load_packaged(connection: DuckDBPyConnection) -> None:
    # From where it lies: INSTALL would copy it into the home directory, which there may not be.
    ((version,),) = connection.execute("SELECT library_version FROM pragma_version()").fetchall()
    directory = import_module("duckdb_extension_fts").__path__[0]
    path = os.path.join(directory, "extensions", version, "fts.duckdb_extension")
    connection.execute(f"LOAD {_quote(path)}")


def _load_installed(connection: DuckDBPyConnection) -> None:
    connection.execute("LOAD fts")


def _install(connection: DuckDBPyConnection) -> None:
    connection.execute("INSTALL fts; LOAD fts")


def attach(connection: DuckDBPyConnection, path: str, mode: str = "READ_WRITE") -> None:
    """Attach the file at *path* as ``base``; read-only, any number of processes may."""
    connection.execute(f"ATTACH {_quote(path)} AS base (TYPE duckdb, {mode})")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
