"""A pool of connections to PostgreSQL that notices forks, lost servers and surplus."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus

from ltm.errors import CatalogUnavailableError, ClosedError
from ltm.sql.addresses import PostgresAddress
from ltm.sql.pools import DriverPool, has_news
from ltm.sql.postgres import BoundedConnection, Connect, open_postgres

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.pool import Pool

IDLE_SECONDS = 1.0
"""A connection that has lain idle for longer is asked for a sign of life before it is used."""

SURPLUS_SECONDS = 60.0
"""Connections that were not needed for so long are closed, down to the pool's minimum."""


class PostgresPool(DriverPool):
    """Up to *pool_max* connections to one server, reused last in, first out.

    It keeps as many as the last minute had use for. Not one of SQLAlchemy's, whose import alone
    costs more than connecting does.
    """

    error = (psycopg.Error,)

    def __init__(
        self,
        address: PostgresAddress,
        connect: Connect,
        *,
        pool_min: int,
        pool_max: int,
        pool_timeout: float,
        recycle_seconds: float,
    ) -> None:
        """Describe the pool; nothing is opened.

        Args:
            address: Names the server in messages.
            connect: Opens a connection.
            pool_min: How many connections are kept while there is little to do.
            pool_max: How many there are at most; 0 for no pool: one connection for each verb.
            pool_timeout: Seconds to wait for a connection while all are in use.
            recycle_seconds: After how long a connection is replaced.
        """
        self.where = address.where
        self._connect = connect
        self._min = pool_min
        self._max = pool_max
        self._timeout = pool_timeout
        self._recycle_seconds = recycle_seconds
        self._engine: Engine | None = None
        self._closed = False
        self._begin_anew()
        _POOLS.add(self)

    def _begin_anew(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._idle: list[BoundedConnection] = []
        self._count = 0
        """How many connections are open, or being opened."""
        self._waiting = 0
        """How many threads may be waiting for one."""
        self._generation = 0
        self._peak = 0
        self._peak_since = time.monotonic()

    def acquire(self) -> BoundedConnection:
        while True:
            connection = self._take()
            if connection is None:
                return self._open()
            try:
                if self._is_fit(connection):
                    return connection
            except BaseException:  # an interrupt
                self._close(connection)
                raise
            self._close(connection)

    def release(self, connection: BoundedConnection) -> None:
        if connection.process is not None:
            return  # a parent's, which is none of ours
        connection.used_at = now = time.monotonic()
        if not self._max or self._closed or self._is_surplus(now):
            self._close(connection)
            return
        self._idle.append(connection)
        # Whoever begins to wait, or to close, from here on finds it.
        if self._waiting or self._is_closed():
            with self._changed:
                self._changed.notify()
            if self._is_closed():
                self.close()

    def discard(self, connection: BoundedConnection) -> None:
        if connection.process is None:
            if connection.broken:
                self._suspect_others(connection)
            self._close(connection)

    def take_out(self) -> BoundedConnection:
        connection = self.acquire()
        self._forget()
        return connection

    def deadline(self, connection: BoundedConnection) -> datetime | None:
        if connection.statement_timeout == math.inf:
            return None
        return connection.server_time() + timedelta(seconds=connection.statement_timeout)

    def has_failed(self, connection: BoundedConnection) -> bool:
        return connection.pgconn.transaction_status == TransactionStatus.INERROR

    def engine(self) -> Engine:
        if self._engine is None:
            from sqlalchemy.pool import NullPool, QueuePool

            pool: Pool = NullPool(self._connect)
            if self._max:
                pool = QueuePool(
                    self._connect,
                    pool_size=self._max,
                    max_overflow=0,
                    timeout=self._timeout,
                    recycle=math.ceil(self._recycle_seconds),
                    use_lifo=True,
                )
            self._engine = open_postgres(pool)
        return self._engine

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while self._idle:
            with suppress(IndexError):  # another thread took the last one
                self._close(self._idle.pop())
        if self._engine is not None:
            self._engine.dispose()

    def leave_to_parent(self) -> None:
        """Begin with an empty pool in a forked child, and leave alone what the parent uses."""
        _ABANDONED.extend(self._idle)
        self._begin_anew()
        if self._engine is not None:
            _ABANDONED.append(self._engine.pool)
            self._engine.dispose(close=False)

    def _take(self) -> BoundedConnection | None:
        """Return an idle connection, or None if one is to be opened, which is counted already."""
        if not self._closed:
            try:  # without the lock, which is for whoever finds none
                return self._idle.pop()
            except IndexError:
                pass
        with self._changed:
            self._waiting += 1
            try:
                found = self._changed.wait_for(self._find, self._timeout)
            except BaseException:
                self._changed.notify()  # an interrupt: another one's turn
                raise
            finally:
                self._waiting -= 1
        if found is None:
            message = f"all {self._max} connections were in use for {self._timeout:g} s"
            raise CatalogUnavailableError(f"catalog {self.where}: {message}")
        return found[0]

    def _find(self) -> tuple[BoundedConnection | None] | None:
        """Return what :meth:`_take` is to, or None as long as there is nothing; with the lock."""
        if self._closed:
            raise ClosedError(f"catalog {self.where} is closed")
        # To look first would not do: others take one without the lock.
        with suppress(IndexError):
            return (self._idle.pop(),)
        if self._max and self._count >= self._max:
            return None
        self._count += 1
        return (None,)

    def _is_closed(self) -> bool:
        return self._closed  # perhaps since it was asked before, by another thread

    def _open(self) -> BoundedConnection:
        try:
            connection: BoundedConnection = self._connect(autocommit=True)
        except BaseException as error:
            self._forget()
            if isinstance(error, psycopg.Error):
                raise CatalogUnavailableError(f"catalog {self.where}: {error}") from error
            raise
        connection.opened_at = connection.used_at = time.monotonic()
        connection.generation = self._generation
        return connection

    def _close(self, connection: BoundedConnection) -> None:
        try:
            connection.close()
        finally:
            self._forget()

    def _forget(self) -> None:
        """Count one connection less."""
        with self._changed:
            self._count -= 1
            self._changed.notify()

    def _is_fit(self, connection: BoundedConnection) -> bool:
        """Return whether *connection* is young, and alive as far as can be told."""
        if connection.closed or connection.generation != self._generation:
            # Not asked: a server that is silent would take its time with each of them.
            return False
        now = time.monotonic()
        if now - connection.opened_at > self._recycle_seconds:
            return False
        return now - connection.used_at < IDLE_SECONDS or self._answers(connection)

    def has_gone(self, connection: BoundedConnection) -> bool:
        return has_news(connection.fileno()) and not self._answers(connection)

    def _answers(self, connection: BoundedConnection) -> bool:
        try:
            connection.execute("")
        except psycopg.Error:
            self._suspect_others(connection)
            return False
        return True

    def _suspect_others(self, connection: BoundedConnection) -> None:
        """Take note that *connection* is broken: what is as old may be so, too."""
        if connection.generation == self._generation:
            self._generation += 1

    def _is_surplus(self, now: float) -> bool:
        """Return whether there are more connections than are needed."""
        idle = len(self._idle)
        self._peak = max(self._peak, self._count - idle)
        if now - self._peak_since < SURPLUS_SECONDS:
            return False
        if idle and self._count > max(self._peak, self._min):
            return True
        self._peak, self._peak_since = self._count - idle, now
        return False


_POOLS: weakref.WeakSet[PostgresPool] = weakref.WeakSet()

_ABANDONED: list[Any] = []
"""Connections of a parent process, kept so that nothing finalises them."""


def _leave_to_parent() -> None:
    for pool in list(_POOLS):
        pool.leave_to_parent()


if hasattr(os, "register_at_fork"):
    # After the connections of all pools have been let go, which was registered before.
    os.register_at_fork(after_in_child=_leave_to_parent)
