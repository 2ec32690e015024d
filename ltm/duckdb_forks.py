"""DuckDB and forks, which it doesn't survive by itself.

Imported long before DuckDB is, which only those load who use it: what is done here at a fork counts
for an application's own use of it too.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

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
_has_inherited = False


@contextmanager
def in_duckdb() -> Iterator[None]:
    """Note that this thread uses DuckDB, for the length of a block; no fork happens meanwhile."""
    gate = _gate
    gate.enter()
    try:
        yield
    finally:
        gate.leave()


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
    global _gate, _has_inherited
    _gate = _Gate()
    duckdb = sys.modules.get("duckdb")
    if duckdb is not None:
        # Made when duckdb is imported, with threads of its own, whether anybody uses it or not.
        abandon(duckdb.default_connection())
        _has_inherited = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _gate.begin_fork(),
        after_in_parent=lambda: _gate.end_fork(),
        after_in_child=_begin_child,
    )
