"""Databases of DuckDB in memory, which do nothing unasked, and what has to be installed for them.

An extension is loaded from the package that brings it where that is installed, else from where
DuckDB keeps what it has installed.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from ltm.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from duckdb import DuckDBPyConnection

Setting = str | bool | int | float | list[str]

# Nothing is fetched from the network unasked, no variable of Python is read as a table, and nothing
# spills into the working directory.
SETTINGS: dict[str, Setting] = {
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}
"""How each of these databases is set up."""

MAX_THREADS = 4

THREADS: dict[str, Setting] = {"threads": min(MAX_THREADS, os.cpu_count() or 1)}
"""The setting for work that gains by several threads."""


def require_packages(extra: str, *packages: str) -> None:
    """Do nothing, if *packages* can be imported, by the names they have in Python.

    Raises:
        MissingDependencyError: One can't; it names *extra*.
    """
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise MissingDependencyError(package.replace("_", "-"), extra) from error


def connect(extra: str, settings: dict[str, Setting] | None = None) -> DuckDBPyConnection:
    """Return a database in memory.

    Args:
        extra: The extra of ``ltm`` that brings DuckDB for the purpose.
        settings: More of them.

    Raises:
        MissingDependencyError: DuckDB is not installed.
    """
    require_packages(extra, "duckdb")
    import duckdb

    return duckdb.connect(":memory:", config=SETTINGS | (settings or {}))


def load_extension(
    connection: DuckDBPyConnection, name: str, extra: str, *, from_network: bool = False
) -> None:
    """Load an extension of DuckDB.

    Args:
        name: Of the extension, as in ``LOAD``.
        extra: The extra of ``ltm`` that brings it.
        from_network: Whether it may be fetched where it is not there.

    Raises:
        MissingDependencyError: It is not installed for this version of DuckDB.
    """
    import duckdb

    ways: dict[str, Callable[[], object]] = {
        f"package duckdb-extension-{name}": lambda: _load_packaged(connection, name),
        f"LOAD {name}": lambda: connection.execute(f"LOAD {name}"),
    }
    if from_network:
        ways[f"INSTALL {name}"] = lambda: connection.execute(f"INSTALL {name}; LOAD {name}")
    tried: list[str] = []
    for way, load in ways.items():
        try:
            load()
        except (duckdb.Error, ImportError, OSError) as error:
            tried.append(f"{way}: {str(error).splitlines()[0]}")
        else:
            return
    package = f"DuckDB's extension {name} for version {duckdb.__version__} ({'; '.join(tried)})"
    raise MissingDependencyError(package, extra)


def quote(text: str) -> str:
    """Return *text* as a literal, for statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def _load_packaged(connection: DuckDBPyConnection, name: str) -> None:
    # From where it lies: INSTALL would copy it into the home directory, which there may not be.
    ((version,),) = connection.execute("SELECT library_version FROM pragma_version()").fetchall()
    directory = import_module(f"duckdb_extension_{name}").__path__[0]
    path = os.path.join(directory, "extensions", version, f"{name}.duckdb_extension")
    connection.execute(f"LOAD {quote(path)}")
