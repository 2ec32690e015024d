"""Connections to PostgreSQL: psycopg, noticing forks and silence."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import QueryCanceled

from ltm.sql.addresses import PostgresAddress, scrub

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.pool import Pool

CANCEL_SECONDS = 1.0
"""For so long a server that has not answered in time is asked to give up."""

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
            # Prepared when it is run again: to plan a statement may take longer than to run it.
            connection = BoundedConnection.connect(
                autocommit=autocommit, prepare_threshold=1 if prepares else None, **arguments
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


_CONNECTIONS: weakref.WeakSet[BoundedConnection] = weakref.WeakSet()


def _let_go() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for connection in list(_CONNECTIONS):
        connection.let_go(null)
    os.close(null)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
