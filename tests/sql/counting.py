"""Counting what is sent to a database, and what SQLite does about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from ltm.sql.pools import DriverPool

STEPS = 10
"""How precisely steps are counted."""


@contextmanager
def counted_steps(connection: sqlite3.Connection) -> Iterator[list[int]]:
    """Give a list that has, after the block, the steps SQLite's machine took for *connection*."""
    calls = 0
    counted: list[int] = []

    def count() -> int:
        nonlocal calls
        calls += 1
        return 0

    connection.set_progress_handler(count, STEPS)
    try:
        yield counted
    finally:
        connection.set_progress_handler(None, 0)
    counted.append(calls * STEPS)


class CountingCursor:
    def __init__(self, cursor: Any, calls: list[str]) -> None:
        self._cursor = cursor
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, arguments: Any) -> Any:
        self._calls.append(sql)
        return self._cursor.execute(sql, arguments)

    def executemany(self, sql: str, arguments: Any) -> Any:
        self._calls.append(sql)
        return self._cursor.executemany(sql, arguments)


class CountingConnection:
    def __init__(self, connection: Any, calls: list[str]) -> None:
        self.connection = connection
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def execute(self, sql: str, *arguments: Any, **options: Any) -> Any:
        self._calls.append(sql)
        return self.connection.execute(sql, *arguments, **options)

    def executemany(self, sql: str, arguments: Any) -> Any:
        self._calls.append(sql)
        return self.connection.executemany(sql, arguments)

    def cursor(self) -> CountingCursor:
        return CountingCursor(self.connection.cursor(), self._calls)


class CountingPool(DriverPool):
    """Delegates to a real pool; ``calls`` are the statements in the order they were sent."""

    def __init__(self, pool: DriverPool) -> None:
        self._pool = pool
        self.error, self.where = pool.error, pool.where
        self.commits_each = pool.commits_each
        self.calls: list[str] = []

    def acquire(self) -> CountingConnection:
        return CountingConnection(self._pool.acquire(), self.calls)

    def release(self, connection: CountingConnection) -> None:
        self._pool.release(connection.connection)

    def discard(self, connection: CountingConnection) -> None:
        self._pool.discard(connection.connection)

    def reset(self, connection: CountingConnection) -> None:
        self._pool.reset(connection.connection)

    @property
    def patience(self) -> float:
        return self._pool.patience

    def deadline(self, connection: CountingConnection) -> datetime | None:
        return self._pool.deadline(connection.connection)

    def engine(self) -> Engine:
        return self._pool.engine()

    def close(self) -> None:
        self._pool.close()
