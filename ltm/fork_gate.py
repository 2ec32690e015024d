"""Which threads are in libraries that a fork would break in the child: it waits until they left."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

FORK_SECONDS = 10.0
"""For which a fork waits for other threads to leave DuckDB and gRPC."""


class _Gate:
    """Keeps forks apart from other threads' use of DuckDB and gRPC.

    Both have locks of the whole process, those of DuckDB's allocator and of its list of open files
    among them. A child forked while another thread holds one would wait for it for ever. And gRPC
    prepares itself for a fork only while no thread calls it: a child would else crash or hang. They
    share one gate, so that who is in the one may enter the other while a fork waits.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._users = 0
        self._forker: int | None = None
        """The thread that forks or is about to. What it runs on the way passes: handlers that an
        application has for forks, and what the collector of garbage finalises."""
        self._depth = threading.local()

    def enter(self) -> None:
        depth: int = getattr(self._depth, "value", 0)
        if depth == 0:
            with self._condition:
                self._condition.wait_for(lambda: self._forker in (None, threading.get_ident()))
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
        self._condition.wait_for(lambda: self._forker is None)
        self._forker = threading.get_ident()
        self._condition.wait_for(lambda: self._users <= own, FORK_SECONDS)

    def end_fork(self) -> None:
        self._forker = None
        self._condition.notify_all()
        self._condition.release()


_gate = _Gate()


@contextmanager
def forks_wait() -> Iterator[None]:
    """Let this thread use DuckDB or gRPC for the length of a block; no fork happens meanwhile."""
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
