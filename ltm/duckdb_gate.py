"""Which threads are in DuckDB: a fork waits until they have left it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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


def _begin_child() -> None:
    global _gate
    _gate = _Gate()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _gate.begin_fork(),
        after_in_parent=lambda: _gate.end_fork(),
        after_in_child=_begin_child,
    )
