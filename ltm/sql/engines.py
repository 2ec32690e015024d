"""Driver connections: how they are opened, kept and given back.

A pool hands out connections in autocommit mode, outside of any transaction. Pools notice a fork: a
child opens connections of its own and leaves its parent's alone. On SQLite a process must not fork
while another of its threads is in the middle of a verb.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool, Pool, PoolProxiedConnection, StaticPool

from ltm.errors import CatalogUnavailableError, ClosedError

Durability = Literal["normal", "full"]

BUSY_TIMEOUT = 30.0
"""Seconds that a SQLite connection waits for another one's transaction, unless told otherwise."""

MAX_IDLE = 16
"""How many SQLite connections are kept open while nobody uses them."""


class DriverPool(ABC):
    """Hands out driver connections; every method may be called from any thread."""

    error: type[Exception]
    """The driver's base class of database errors."""
    where: str
    """Names the database in messages, without secrets."""

    @abstractmethod
    def acquire(self) -> Any:
        """Return a connection for the caller alone.

        Raises:
            ClosedError: After :meth:`close`.
            CatalogUnavailableError: No connection could be made.
        """

    @abstractmethod
    def release(self, connection: Any) -> None:
        """Take back a *connection* that is outside of any transaction."""

    @abstractmethod
    def discard(self, connection: Any) -> None:
        """Take back a *connection* in an unknown state; what it has begun is rolled back."""

    def make_durable(self) -> None:  # noqa: B027 -- most databases have done it at the commit
        """Let every commit so far survive a crash of the machine."""

    @abstractmethod
    def engine(self) -> Engine:
        """Return a SQLAlchemy engine over the same database, for migrations and the ORM."""

    @abstractmethod
    def close(self) -> None:
        """Close what this pool opened; idempotent."""


class SQLitePool(DriverPool):
    """Connections to one SQLite file, as many as are used at once; reused last in, first out."""

    error = sqlite3.Error

    def __init__(self, path: str, *, durability: Durability, busy_timeout: float) -> None:
        self.where = path
        self._path = path
        self._durability = durability
        self._busy_timeout = busy_timeout
        self._idle: list[sqlite3.Connection] = []
        self._process = os.getpid()
        self._closed = False
        _POOLS.add(self)

    def acquire(self) -> sqlite3.Connection:
        if self._closed:
            raise ClosedError(f"catalog {self.where} is closed")
        if self._process != os.getpid():
            # SQLite's locks belong to the process that took them: using or even closing a parent's
            # connection here would break the parent's.
            _ABANDONED.extend(self._idle)
            self._idle, self._process = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    def release(self, connection: sqlite3.Connection) -> None:
        if len(self._idle) >= MAX_IDLE:
            connection.close()
        else:
            self._idle.append(connection)
        if self._closed:
            self.close()

    def discard(self, connection: sqlite3.Connection) -> None:
        connection.close()

    def engine(self) -> Engine:
        return _autocommit_engine(self._open, NullPool)

    def close(self) -> None:
        self._closed = True
        self.close_idle()

    def close_idle(self) -> None:
        """Close the connections that nobody uses at the moment."""
        if self._process == os.getpid():
            while self._idle:
                with suppress(IndexError):  # another thread took the last one
                    self._idle.pop().close()

    def make_durable(self) -> None:
        if self._durability == "normal":
            _sync_log(self._path)

    def _open(self) -> sqlite3.Connection:
        try:
            directory = os.path.dirname(self._path)
            if directory:
                os.makedirs(directory, exist_ok=True)
            return connect_sqlite(
                self._path, durability=self._durability, busy_timeout=self._busy_timeout
            )
        except (OSError, sqlite3.Error) as error:
            raise CatalogUnavailableError(f"catalog {self.where}: {error}") from error


class SharedMemoryPool(DriverPool):
    """One connection to a database in memory, lent to one thread at a time."""

    error = sqlite3.Error
    where = ":memory:"

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    def acquire(self) -> sqlite3.Connection:
        self._lock.acquire()
        if self._closed:
            self._lock.release()
            raise ClosedError("catalog :memory: is closed")
        if self._connection is None:
            self._connection = connect_sqlite(":memory:", durability="normal", busy_timeout=0)
        return self._connection

    def release(self, connection: sqlite3.Connection) -> None:  # noqa: ARG002 -- there is one
        self._lock.release()

    def discard(self, connection: sqlite3.Connection) -> None:
        # Closing it would forget everything.
        connection.rollback()
        self._lock.release()

    def engine(self) -> Engine:
        # The caller holds the connection while it uses the engine, as with any other use.
        connection = self.acquire()
        self.release(connection)
        return _autocommit_engine(lambda: connection, StaticPool)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class EnginePool(DriverPool):
    """The pool of a SQLAlchemy engine that somebody handed in; closing leaves the engine alone."""

    def __init__(self, engine: Engine, where: str | None = None) -> None:
        self.error = engine.dialect.loaded_dbapi.Error
        self.where = engine.url.render_as_string(hide_password=True) if where is None else where
        self._engine = engine
        # sqlite3 begins only before a write, and so leaves our own BEGIN alone.
        self._begins_by_itself = engine.dialect.name != "sqlite"
        self._closed = False

    def acquire(self) -> PoolProxiedConnection:
        if self._closed:
            raise ClosedError(f"catalog {self.where} is closed")
        try:
            connection = self._engine.raw_connection()
        except (self.error, PoolTimeoutError) as error:
            raise CatalogUnavailableError(f"catalog {self.where}: {error}") from error
        if self._begins_by_itself:
            connection.driver_connection.autocommit = True  # type: ignore[union-attr]  # the driver's
        return connection

    def release(self, connection: PoolProxiedConnection) -> None:
        if self._begins_by_itself:
            connection.driver_connection.autocommit = False  # type: ignore[union-attr]  # the driver's
        connection.close()

    def discard(self, connection: PoolProxiedConnection) -> None:
        connection.invalidate()

    def make_durable(self) -> None:
        if self._engine.dialect.name == "sqlite" and self._engine.url.database:
            _sync_log(self._engine.url.database)

    def engine(self) -> Engine:
        return self._engine

    def close(self) -> None:
        self._closed = True


def connect_sqlite(path: str, *, durability: Durability, busy_timeout: float) -> sqlite3.Connection:
    """Open *path* in autocommit mode with the pragmas that ``ltm`` relies on.

    Args:
        path: A file, or ``:memory:``.
        durability: ``normal`` keeps every commit when the process dies, and all but the last ones
            when the machine does; ``full`` keeps every commit in both cases, for one fsync each.
        busy_timeout: Seconds to wait for another process's transaction.
    """
    connection = sqlite3.connect(
        path,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
    )
    try:
        mode = _enter_log_mode(connection, busy_timeout)
        # Without a write-ahead log (some network file systems) NORMAL may corrupt the file.
        full = durability == "full" or mode not in ("wal", "memory")
        connection.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _sync_log(path: str) -> None:
    """Put what the database at *path* has written to its log on disk."""
    try:
        # SQLite locks other files than this one, so closing it here drops no lock.
        descriptor = os.open(f"{path}-wal", os.O_RDONLY)
    except FileNotFoundError:
        return  # no log: everything is in the file, synced
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _enter_log_mode(connection: sqlite3.Connection, busy_timeout: float) -> str:
    """Switch to the write-ahead log and return the mode that the database is in then."""
    # Whoever writes to a file that is not in this mode yet makes SQLite answer "locked" at once,
    # whatever its timeout: it can't know that it would not wait for itself.
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            mode: str = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.01))
        else:
            return mode


def open_engine(url: str) -> Engine:
    """Return an engine for *url* with the settings that ``ltm`` relies on, to run migrations.

    Raises:
        ValidationError: *url* is neither SQLite's nor PostgreSQL's.
    """
    if url.startswith("sqlite:"):
        path = make_url(url).database or ":memory:"
        return SQLitePool(path, durability="normal", busy_timeout=BUSY_TIMEOUT).engine()
    from ltm.sql.addresses import parse_address
    from ltm.sql.postgres import connector, open_postgres

    address = parse_address(url)
    # A migration may wait long for others to finish theirs.
    connect = connector(address, connect_timeout=10, statement_timeout=inf, prepares=False)
    return open_postgres(connect, poolclass=NullPool)


def _autocommit_engine(creator: Callable[[], sqlite3.Connection], pool: type[Pool]) -> Engine:
    engine = create_engine("sqlite://", creator=creator, poolclass=pool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # The driver is in autocommit mode and begins nothing by itself.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


_ABANDONED: list[sqlite3.Connection] = []
"""Connections of a parent process, kept so that nothing finalises them."""

_POOLS: weakref.WeakSet[SQLitePool] = weakref.WeakSet()


def _close_idle_connections() -> None:
    for pool in list(_POOLS):
        pool.close_idle()


if hasattr(os, "register_at_fork"):
    # Within a process SQLite remembers which locks it has taken on a file. A child would inherit
    # the memory without the locks, and its own connections would rely on them.
    os.register_at_fork(before=_close_idle_connections)
