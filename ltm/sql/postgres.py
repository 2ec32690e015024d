"""Connections to PostgreSQL: psycopg behind a pool that notices forks, lost servers and silence."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import QueryCanceled
from psycopg.pq import TransactionStatus

from ltm.errors import CatalogUnavailableError, ClosedError
from ltm.sql.addresses import PostgresAddress, scrub
from ltm.sql.pools import DriverPool, has_news

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.pool import Pool

IDLE_SECONDS = 1.0
"""A connection that has lain idle for longer is asked for a sign of life before it is used."""

CANCEL_SECONDS = 1.0
"""For so long a server that has not answered in time is asked to give up."""

SURPLUS_SECONDS = 60.0
"""Connections that were not needed for so long are closed, down to the pool's minimum."""

_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "application_name": "ltm",
}


class StatementTimeoutError(QueryCanceled):
    """The server has not answered in time; the connection is closed."""


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which no statement waits for ever, and which a forked child lets go.

    Keepalives don't notice a server that is silent behind a living network stack.
    """

    statement_timeout = math.inf
    """Seconds that an answer may take."""
    process: int | None = None
    """The process that opened it; None for this one."""
    opened_at = used_at = 0.0
    """By the monotonic clock."""
    _cursor: psycopg.Cursor[Any] | None = None
    _began: datetime | None = None
    """The time by the server's clock when the monotonic clock began."""
    generation = 0
    """How many times its pool had found a connection broken when it was opened."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> psycopg.Cursor[Any]:
        """Run a statement; whoever ran the one before must have fetched its rows.

        The cursor is the same each time: to make one costs as much as a fast statement.
        """
        if self._cursor is None:
            self._cursor = self.cursor()
        return self._cursor.execute(query, params, **options)

    def server_time(self) -> datetime:
        """Return the time by the server's clock, which is asked for it once; late at the most."""
        if self._began is None:
            row = self.execute("SELECT clock_timestamp()").fetchone()
            assert row is not None  # noqa: S101 -- it answers one
            self._began = row[0].astimezone(UTC) - timedelta(seconds=time.monotonic())
        return self._began + timedelta(seconds=time.monotonic())

    def wait(self, gen: PQGen[Any], *arguments: Any, **options: Any) -> Any:
        return super().wait(self._bounded(gen), *arguments, **options)

    def let_go(self, null: int) -> None:
        """Put the open descriptor *null* in the place of a parent's socket.

        What this process says from now on doesn't reach the server, and the server sees the
        parent's end: its locks would otherwise outlive it.
        """
        self.process = os.getppid()
        if not self.closed:
            os.dup2(null, self.fileno(), inheritable=False)

    def __del__(self, *arguments: Any) -> None:
        # A parent's connections are not this process's to close, or to warn of.
        if self.process is None:
            super().__del__(*arguments)

    def _give_up(self) -> None:
        """Close, and ask the server to give up what it is at, too; or it would do so yet."""
        with suppress(psycopg.Error):
            self.cancel_safe(timeout=CANCEL_SECONDS)
        self.pgconn.finish()

    def _bounded(self, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        deadline = time.monotonic() + self.statement_timeout
        try:
            wanted = next(generator)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self._give_up()
                    raise StatementTimeoutError(f"no answer within {self.statement_timeout:g} s")
                wanted = generator.send(ready)
        except StopIteration as end:
            return end.value


Connect = Callable[..., Any]
"""Opens a :class:`BoundedConnection`, with ``autocommit=True`` in that mode."""


def connector(
    address: PostgresAddress,
    *,
    connect_timeout: float,
    statement_timeout: float,
    prepares: bool = True,
) -> Connect:
    """Return what opens a connection to *address*.

    Args:
        address: What it says itself wins over what is set here.
        connect_timeout: Seconds.
        statement_timeout: Seconds that the answer to any one statement may take.
        prepares: Whether statements may be prepared on the server.
    """
    arguments: dict[str, Any] = {**_KEEPALIVES}
    arguments["connect_timeout"] = max(2, math.ceil(connect_timeout))
    arguments |= address.connect_arguments()

    def connect(*, autocommit: bool = False) -> BoundedConnection:
        try:
            connection = BoundedConnection.connect(
                autocommit=autocommit, prepare_threshold=5 if prepares else None, **arguments
            )
        except psycopg.Error as error:
            # What the driver has to say, said here without the password.
            failure = type(error)(scrub(str(error), address))
        else:
            connection.statement_timeout = statement_timeout
            _CONNECTIONS.add(connection)
            return connection
        # Out here, so that the driver's own error isn't in the context of this one.
        raise failure

    return connect


def open_postgres(pool: Pool) -> Engine:
    """Return an engine on a *pool* of connections."""
    from sqlalchemy import create_engine

    # Nothing of ours is of the type hstore, and looking for it costs every engine a round trip.
    return create_engine("postgresql+psycopg://", pool=pool, use_native_hstore=False)


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
            if self._is_fit(connection):
                return connection
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
                if self._max and not self._changed.wait_for(self._has_room, self._timeout):
                    message = f"all {self._max} connections were in use for {self._timeout:g} s"
                    raise CatalogUnavailableError(f"catalog {self.where}: {message}")
                if self._closed:
                    raise ClosedError(f"catalog {self.where} is closed")
                with suppress(IndexError):
                    return self._idle.pop()
                self._count += 1
                return None
            finally:
                self._waiting -= 1

    def _is_closed(self) -> bool:
        return self._closed  # perhaps since it was asked before, by another thread

    def _has_room(self) -> bool:
        return bool(self._idle) or self._count < self._max or self._closed

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
        connection.close()
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


_CONNECTIONS: weakref.WeakSet[BoundedConnection] = weakref.WeakSet()


_POOLS: weakref.WeakSet[PostgresPool] = weakref.WeakSet()

_ABANDONED: list[Any] = []
"""Connections of a parent process, kept so that nothing finalises them."""


def _let_go() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for connection in list(_CONNECTIONS):
        connection.let_go(null)
    os.close(null)
    for pool in list(_POOLS):
        pool.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
