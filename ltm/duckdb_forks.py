"""DuckDB and forks, which it doesn't survive by itself.

Imported long before DuckDB is, which only those load who use it: what is done here at a fork counts
for an application's own use of it too.
"""

from __future__ import annotations

import os
import sys

from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_has_inherited = False


def has_inherited() -> bool:
    """Return whether this process was forked off one that had loaded DuckDB.

    Its default connection waits for ever there, for threads that only the parent has.
    """
    return _has_inherited


def abandon(connection: DuckDBPyConnection) -> None:
    """Let nothing ever finalise *connection*, which a forked child has from its parent.

    Finalising joins the threads of the database, which the child doesn't have: it would crash, at
    the latest when the interpreter clears its modules. So a reference is taken that has no owner.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _begin_child() -> None:
    global _has_inherited
    duckdb = sys.modules.get("duckdb")
    if duckdb is not None:
        # Made when duckdb is imported, with threads of its own, whether anybody uses it or not.
        abandon(duckdb.default_connection())
        _has_inherited = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
