"""Connections to PostgreSQL: psycopg behind a pool that notices forks, lost servers and silence."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator
from typing import Any

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import QueryCanceled
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool, PoolProxiedConnection, QueuePool

from ltm.sql.addresses import PostgresAddress, scrub
from ltm.sql.engines import EnginePool

IDLE_SECONDS = 1.0
"""A connection that has lain idle for longer is asked for a sign of life before it is used."""

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
    """A connection on which no statement waits for ever.

    Keepalives don't notice a server that is silent behind a living network stack.
    """

    statement_timeout = math.inf
    """Seconds that an answer may take."""

    def wait(self, gen: PQGen[Any], *arguments: Any, **options: Any) -> Any:
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        deadline = time.monotonic() + self.statement_timeout
        try:
            wanted = next(generator)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise StatementTimeoutError(f"no answer within {self.statement_timeout:g} s")
                wanted = generator.send(ready)
        except StopIteration as end:
            return end.value


def connector(
    address: PostgresAddress,
    *,
    connect_timeout: float,
    statement_timeout: float,
    prepares: bool = True,
) -> Callable[[], BoundedConnection]:
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

    def connect() -> BoundedConnection:
        try:
            connection = BoundedConnection.connect(
                prepare_threshold=5 if prepares else None, **arguments
            )
        except psycopg.Error as error:
            # Not chained: whatever the driver has to say, it is said here without the password.
            message = scrub(str(error), address)
            raise type(error)(message) from None
        connection.statement_timeout = statement_timeout
        return connection

    return connect


def open_postgres(connect: Callable[[], BoundedConnection], **pool: Any) -> Engine:
    """Return an engine whose connections *connect* opens; *pool* are arguments of its pool."""
    return create_engine(
        "postgresql+psycopg://",
        creator=connect,
        # Nothing of ours is of that type, and looking for it costs every engine a round trip.
        use_native_hstore=False,
        **pool,
    )


class PostgresPool(EnginePool):
    """Up to *pool_max* connections to one server, reused last in, first out."""

    def __init__(
        self,
        address: PostgresAddress,
        connect: Callable[[], BoundedConnection],
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
        options: dict[str, Any] = {"poolclass": NullPool}
        if pool_max:
            options = {
                "poolclass": QueuePool,
                "pool_size": pool_max,
                "max_overflow": 0,
                "pool_timeout": pool_timeout,
                "pool_recycle": math.ceil(recycle_seconds),
                "pool_use_lifo": True,
            }
        super().__init__(open_postgres(connect, **options), where=address.where)
        self._pool_min = pool_min
        self._process = os.getpid()
        self._generation = 0
        self._peak = 0
        self._peak_since = time.monotonic()

    def acquire(self) -> PoolProxiedConnection:
        if self._process != os.getpid():
            # A child's connections are its own: it neither uses nor closes its parent's.
            _ABANDONED.append(self._engine.pool)
            self._engine.dispose(close=False)
            self._process = os.getpid()
        while True:
            connection = super().acquire()
            if self._is_alive(connection):
                return connection
            connection.invalidate()

    def release(self, connection: PoolProxiedConnection) -> None:
        connection.info["used_at"] = time.monotonic()
        if self._is_surplus():
            self.discard(connection)
        else:
            super().release(connection)

    def discard(self, connection: PoolProxiedConnection) -> None:
        driver = connection.driver_connection
        if driver is not None and driver.broken:
            # The server went away: what the pool holds from before is as dead.
            self._generation += 1
        super().discard(connection)

    def close(self) -> None:
        super().close()
        if self._process == os.getpid():
            self._engine.dispose()

    def _is_alive(self, connection: PoolProxiedConnection) -> bool:
        info = connection.info
        if info.setdefault("generation", self._generation) != self._generation:
            return False
        used_at = info.get("used_at")
        if used_at is None or time.monotonic() - used_at < IDLE_SECONDS:
            return True
        try:
            connection.execute("")
        except psycopg.Error:
            return False
        return True

    def _is_surplus(self) -> bool:
        """Return whether there are more connections than the last minute had use for."""
        pool = self._engine.pool
        if not isinstance(pool, QueuePool):
            return False
        busy = pool.checkedout()
        self._peak = max(self._peak, busy)
        if time.monotonic() - self._peak_since < SURPLUS_SECONDS:
            return False
        needed = max(self._peak, self._pool_min)
        if busy + pool.checkedin() > needed:
            return True
        self._peak, self._peak_since = busy, time.monotonic()
        return False


_ABANDONED: list[Any] = []
"""Pools of a parent process, kept so that nothing finalises their connections."""
