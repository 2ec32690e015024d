"""Engines of SQLAlchemy's: those that are handed in, and those that run migrations."""

from __future__ import annotations

import os
import weakref
from math import inf
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool, PoolProxiedConnection

from ltm.errors import CatalogUnavailableError, ClosedError
from ltm.sql.pools import DriverPool


class EnginePool(DriverPool):
    """The pool of a SQLAlchemy engine that somebody handed in; closing leaves the engine alone.

    After a fork the child's engine begins with an empty pool, as SQLAlchemy asks of whoever forks.
    """

    def __init__(self, engine: Engine) -> None:
        self.error = (engine.dialect.loaded_dbapi.Error, SQLAlchemyError)
        # Without its query, which may hold a password, too.
        self.where = engine.url.set(query={}).render_as_string(hide_password=True)
        self._engine = engine
        # sqlite3 begins only before a write, and so leaves our own BEGIN alone.
        self._begins_by_itself = engine.dialect.name != "sqlite"
        self.commits_each = self._begins_by_itself
        self._closed = False
        self._generation = 0
        _ENGINE_POOLS.add(self)

    def acquire(self) -> PoolProxiedConnection:
        while True:
            if self._closed:
                raise ClosedError(f"catalog {self.where} is closed")
            try:
                connection = self._engine.raw_connection()
            except self.error as error:
                # A first connection's errors come wrapped: SQLAlchemy asks it for its version.
                reason = getattr(error, "orig", None) or error
                raise CatalogUnavailableError(f"catalog {self.where}: {reason}") from error
            if not self._begins_by_itself or self._is_ready(connection):
                return connection
            connection.invalidate()

    def release(self, connection: PoolProxiedConnection) -> None:
        if self._begins_by_itself:
            connection.driver_connection.autocommit = connection.info["ltm_autocommit"]  # type: ignore[union-attr]  # the driver's
        connection.close()

    def discard(self, connection: PoolProxiedConnection) -> None:
        if self._begins_by_itself and getattr(connection.driver_connection, "broken", False):
            self._suspect_others(connection)
        connection.invalidate()

    def take_out(self) -> Any:
        connection = self.acquire()
        driver = connection.driver_connection
        connection.detach()
        return driver

    def has_failed(self, connection: PoolProxiedConnection) -> bool:
        driver: Any = connection.driver_connection
        return self._begins_by_itself and driver.info.transaction_status.name == "INERROR"

    def make_durable(self) -> None:
        if self._engine.dialect.name == "sqlite" and self._engine.url.database:
            from ltm.sql.sqlite import sync_log

            sync_log(self._engine.url.database)

    def engine(self) -> Engine:
        return self._engine

    def close(self) -> None:
        self._closed = True

    def leave_to_parent(self) -> None:
        """Begin with an empty pool in a forked child, and leave alone what the parent uses."""
        if self._begins_by_itself:
            _ABANDONED.append(self._engine.pool)
            self._engine.dispose(close=False)

    def _is_ready(self, connection: PoolProxiedConnection) -> bool:
        """Put *connection* in autocommit mode; return whether it is fit for use."""
        driver: Any = connection.driver_connection
        if driver.closed or not self._is_alive(connection):
            return False
        was = driver.autocommit
        try:
            driver.autocommit = True
        except self.error as error:
            connection.close()
            raise CatalogUnavailableError(f"catalog {self.where}: {error}") from error
        connection.info["ltm_autocommit"] = was
        return True

    def _is_alive(self, connection: PoolProxiedConnection) -> bool:
        """Return whether *connection* has not gone the way of one that was found broken."""
        if connection.info.get("ltm_generation", 0) != self._generation:
            if not self._answers(connection):
                return False
            connection.info["ltm_generation"] = self._generation
        return True

    def _answers(self, connection: PoolProxiedConnection) -> bool:
        driver: Any = connection.driver_connection
        was = driver.autocommit
        try:
            driver.autocommit = True  # or the question would begin a transaction
            driver.execute("")
            driver.autocommit = was
        except self.error:
            return False
        return True

    def _suspect_others(self, connection: PoolProxiedConnection) -> None:
        """Take note that *connection* is broken: what is as old may be so, too."""
        if connection.info.get("ltm_generation", 0) == self._generation:
            self._generation += 1


def open_engine(url: str) -> Engine:
    """Return an engine for *url* with the settings that ``ltm`` relies on, to run migrations.

    Raises:
        ValidationError: *url* is neither SQLite's nor PostgreSQL's.
    """
    if url.startswith("sqlite:"):
        from ltm.sql.sqlite import BUSY_TIMEOUT, SQLitePool

        path = make_url(url).database or ":memory:"
        return SQLitePool(path, durability="normal", busy_timeout=BUSY_TIMEOUT).engine()
    from ltm.sql.addresses import parse_address
    from ltm.sql.postgres import connector, open_postgres

    address = parse_address(url)
    # A migration may wait long for others to finish theirs.
    connect = connector(address, connect_timeout=10, statement_timeout=inf, prepares=False)
    return open_postgres(NullPool(connect))


_ABANDONED: list[Any] = []
"""Pools of a parent process, kept so that nothing finalises their connections."""

_ENGINE_POOLS: weakref.WeakSet[EnginePool] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for pool in list(_ENGINE_POOLS):
        pool.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
