"""Databases in memory that DuckDB opens files in, and its full-text extension.

The extension is loaded from the package ``duckdb-extension-fts`` where that is installed, else from
where DuckDB keeps what it has installed, else from the network.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


FORK_SECONDS = 10.0
"""For which a fork waits for other threads to leave DuckDB."""


class _Gate:
    """Keeps forks and other threads' use of DuckDB apart.

    DuckDB has locks of the whole process, those of its allocator and of its list of open files
    among them. A child forked while another thread holds one would wait for it for ever.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._users = 0
        self._is_forking = False
        self._depth = threading.local()

    def enter(self) -> None:
        depth: int = getattr(self._depth, "value", 0)
        if depth == 0:
            with self._condition:
                self._condition.wait_for(lambda: not self._is_forking)
                self._users += 1
        self._depth.value = depth + 1

    def leave(self) -> None:
        self._depth.value -= 1
        if self._depth.value == 0:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    def begin_fork(self) -> None:
        own = 1 if getattr(self._depth, "value", 0) else 0
        self._condition.acquire()
        self._condition.wait_for(lambda: not self._is_forking)
        self._is_forking = True
        self._condition.wait_for(lambda: self._users <= own, FORK_SECONDS)

    def end_fork(self) -> None:
        self._is_forking = False
        self._condition.notify_all()
        self._condition.release()


_gate = _Gate()


@contextmanager
def in_duckdb() -> Iterator[None]:
    """Note that this thread uses DuckDB, for the length of a block; no fork happens meanwhile."""
    gate = _gate
    gate.enter()
    try:
        yield
    finally:
        gate.leave()


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


def abandon(connection: DuckDBPyConnection) -> None:
    """Let nothing ever finalise *connection*, which a forked child has from its parent.

    Finalising joins the threads of the database, which the child doesn't have: it would crash, at
    the latest when the interpreter clears its modules. So a reference is taken that has no owner.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _begin_child() -> None:
    global _gate
    _gate = _Gate()
    duckdb = sys.modules.get("duckdb")
    if duckdb is not None:
        # Made when duckdb is imported, with threads of its own, whether anybody uses it or not.
        abandon(duckdb.default_connection())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _gate.begin_fork(),
        after_in_parent=lambda: _gate.end_fork(),
        after_in_child=_begin_child,
    )
