"""Connections to PostgreSQL: psycopg behind a pool that notices forks, lost servers and silence."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Callable, Generator
from typing import Any

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import QueryCanceled
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import (
    ConnectionPoolEntry,
    NullPool,
    Pool,
    PoolProxiedConnection,
    QueuePool,
)

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
    """A connection on which no statement waits for ever, and which a forked child lets go.

    Keepalives don't notice a server that is silent behind a living network stack.
    """

    statement_timeout = math.inf
    """Seconds that an answer may take."""
    process: int | None = None
    """The process that opened it; None for this one."""

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


Connect = Callable[[], Any]
"""Opens a :class:`BoundedConnection`; SQLAlchemy knows its kind by another name."""


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

    def connect() -> BoundedConnection:
        try:
            connection = BoundedConnection.connect(
                prepare_threshold=5 if prepares else None, **arguments
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
    # Nothing of ours is of the type hstore, and looking for it costs every engine a round trip.
    return create_engine("postgresql+psycopg://", pool=pool, use_native_hstore=False)


class ShrinkingPool(QueuePool):
    """Keeps as many connections as the last minute had use for."""

    minimum = 0
    """So many are kept while there is little to do."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._peak = 0
        self._peak_since = time.monotonic()

    def recreate(self) -> QueuePool:
        recreated = super().recreate()
        assert isinstance(recreated, ShrinkingPool)  # noqa: S101 -- it makes one of its own class
        recreated.minimum = self.minimum
        return recreated

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if self._is_surplus():
            # Not merely its connection: an empty place would be the next to be filled.
            record.close()
            self._dec_overflow()
        else:
            super()._do_return_conn(record)

    def _is_surplus(self) -> bool:
        """Return whether there are more connections than are needed, and nobody waits for one."""
        busy, idle = self.checkedout(), self.checkedin()
        self._peak = max(self._peak, busy)
        if time.monotonic() - self._peak_since < SURPLUS_SECONDS:
            return False
        if idle and busy + idle > max(self._peak, self.minimum):
            return True
        self._peak, self._peak_since = busy, time.monotonic()
        return False


class PostgresPool(EnginePool):
    """Up to *pool_max* connections to one server, reused last in, first out."""

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
        pool: Pool = NullPool(connect)
        if pool_max:
            pool = ShrinkingPool(
                connect,
                pool_size=pool_max,
                max_overflow=0,
                timeout=pool_timeout,
                recycle=math.ceil(recycle_seconds),
                use_lifo=True,
            )
            pool.minimum = pool_min
        super().__init__(open_postgres(pool), where=address.where)

    def release(self, connection: PoolProxiedConnection) -> None:
        connection.info["ltm_used_at"] = time.monotonic()
        if self._closed:
            self.discard(connection)
        else:
            super().release(connection)

    def close(self) -> None:
        super().close()
        self._engine.dispose()

    def _is_alive(self, connection: PoolProxiedConnection) -> bool:
        info = connection.info
        if info.setdefault("ltm_generation", self._generation) != self._generation:
            # Not asked: a server that is silent would take its time with each of them.
            return False
        used_at = info.get("ltm_used_at")
        if used_at is None or time.monotonic() - used_at < IDLE_SECONDS:
            return True
        if self._answers(connection):
            return True
        self._suspect_others(connection)
        return False


_CONNECTIONS: weakref.WeakSet[BoundedConnection] = weakref.WeakSet()


def _let_go() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for connection in list(_CONNECTIONS):
        connection.let_go(null)
    os.close(null)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
