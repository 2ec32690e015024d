"""Connections to SQLite: to a file, as many as are used at once, and to a database in memory.

A process must not fork while another of its threads is in the middle of a verb.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable

from ltm.errors import CatalogUnavailableError, ClosedError
from ltm.sql.pools import DriverPool
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

    from sqlalchemy import Connection, Engine
    from sqlalchemy.pool import Pool

    Durability = Literal["normal", "full"]
else:
    Durability = str

BUSY_TIMEOUT = 30.0
"""Seconds that a connection waits for another one's transaction, unless told otherwise."""

_BRIEF_TIMEOUT = 33
"""Milliseconds that SQLite itself waits; then it is asked again.

It looks whether it may go on after 1, 2, 5, 10 and 15 ms, and then ever more seldom: who has waited
longest would look every 100 ms, and again and again find others there. To look more often costs all
of them time: whoever gets its turn has to read what the others have written.
"""

MAX_IDLE = 16
"""How many connections are kept open while nobody uses them."""


_IDLE: dict[int, list[sqlite3.Connection]] = {}
"""The connections that nobody uses at the moment, of every pool there is, by its identity."""


class SQLitePool(DriverPool):
    """Connections to one SQLite file, as many as are used at once; reused last in, first out."""

    error = (sqlite3.Error,)

    def __init__(self, path: str, *, durability: Durability, busy_timeout: float) -> None:
        self.where = path
        self._path = path
        self._durability = durability
        # About as long as a commit waits for the disk; where none does, they had better let the one
        # that writes get on.
        self.pause = 0.001 if durability == "full" else 0.003
        self._busy_timeout = busy_timeout
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        _IDLE[id(self)] = self._idle

    # The registry is bound here: a pool may outlive the names of this module.
    def __del__(self, _registry: dict[int, list[sqlite3.Connection]] = _IDLE) -> None:
        _registry.pop(id(self), None)

    def acquire(self) -> sqlite3.Connection:
        if self._closed:
            raise ClosedError(f"catalog {self.where} is closed")
        try:
            return self._idle.pop()
        except IndexError:
            return self._open_for_turns()

    def release(self, connection: sqlite3.Connection) -> None:
        if len(self._idle) >= MAX_IDLE:
            connection.close()
        else:
            self._idle.append(connection)
        if self._closed:
            self.close()

    def discard(self, connection: sqlite3.Connection) -> None:
        connection.close()

    def reset(self, connection: sqlite3.Connection) -> None:
        # Mostly it has waited to begin, in vain.
        if connection.in_transaction:
            self.discard(connection)
        else:
            self.release(connection)

    def engine(self) -> Engine:
        from sqlalchemy.pool import NullPool

        return _autocommit_engine(lambda: self._open()[0], NullPool)

    def close(self) -> None:
        self._closed = True
        _close(self._idle)

    def make_durable(self) -> None:
        if self._durability == "normal":
            sync_log(self._path)

    def _open_for_turns(self) -> sqlite3.Connection:
        connection, mode = self._open()
        # Elsewhere a commit waits, too, for all who read.
        if mode == "wal" and self._busy_timeout > _BRIEF_TIMEOUT / 1000:
            connection.execute(f"PRAGMA busy_timeout={_BRIEF_TIMEOUT}")
            self.patience = self._busy_timeout
        return connection

    def _open(self) -> tuple[sqlite3.Connection, str]:
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

    error = (sqlite3.Error,)
    where = ":memory:"
    # The thread that has it in a transaction has no other one for a statement beside it.
    commits_each = False

    def __init__(self, *, busy_timeout: float) -> None:
        """Describe the pool; nothing is opened.

        Args:
            busy_timeout: Seconds to wait for other threads' transactions.
        """
        self._busy_timeout = busy_timeout
        from threading import RLock

        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    def acquire(self) -> sqlite3.Connection:
        self._take_turn()
        if self._closed:
            self._lock.release()
            raise ClosedError("catalog :memory: is closed")
        if self._connection is None:
            self._connection, _ = connect_sqlite(":memory:", durability="normal", busy_timeout=0)
        return self._connection

    def release(self, connection: sqlite3.Connection) -> None:  # noqa: ARG002 -- there is one
        self._lock.release()

    def discard(self, connection: sqlite3.Connection) -> None:
        # Closing it would forget everything.
        connection.rollback()
        self._lock.release()

    def engine(self) -> Engine:
        from sqlalchemy import event
        from sqlalchemy.pool import StaticPool

        connection = self.acquire()
        try:
            engine = _autocommit_engine(lambda: connection, StaticPool)
            # Whoever has the connection by the engine has it alone, too.
            event.listen(engine, "checkout", lambda *_: self._take_turn())
            event.listen(engine, "checkin", lambda *_: self._lock.release())
            # Now, in this turn: what SQLAlchemy asks a first connection, it asks before a checkout.
            engine.connect().close()
        finally:
            self.release(connection)
        return engine

    def close(self) -> None:
        self._closed = True
        if not self._lock.acquire(timeout=self._busy_timeout):
            return  # to whom it is lent; it goes with the last who knows it
        try:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        finally:
            self._lock.release()

    def _take_turn(self) -> None:
        if not self._lock.acquire(timeout=self._busy_timeout):
            message = f"another thread has had it for {self._busy_timeout:g} seconds"
            raise CatalogUnavailableError(f"catalog {self.where}: {message}")


def connect_sqlite(
    path: str, *, durability: Durability, busy_timeout: float
) -> tuple[sqlite3.Connection, str]:
    """Open *path* in autocommit mode with the pragmas that ``ltm`` relies on.

    Args:
        path: A file, or ``:memory:``.
        durability: ``normal`` keeps every commit when the process dies, and all but the last ones
            when the machine does; ``full`` keeps every commit in both cases, for one fsync each.
        busy_timeout: Seconds to wait for another process's transaction.

    Returns:
        The connection and the journal mode of the database.
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
        connection.execute("PRAGMA synchronous=FULL" if full else "PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection, mode


def sync_log(path: str) -> None:
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
            from random import uniform

            time.sleep(uniform(0.001, 0.01))
        else:
            return mode


def _autocommit_engine(creator: Callable[[], sqlite3.Connection], pool: type[Pool]) -> Engine:
    from sqlalchemy import create_engine, event

    engine = create_engine("sqlite://", creator=creator, poolclass=pool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # The driver is in autocommit mode and begins nothing by itself.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


_ABANDONED: list[sqlite3.Connection] = []
"""Connections of a parent process, kept so that nothing finalises them."""


def _close(idle: list[sqlite3.Connection]) -> None:
    while idle:
        try:
            connection = idle.pop()
        except IndexError:
            break  # another thread took the last one
        connection.close()


def _close_idle_connections() -> None:
    for idle in list(_IDLE.values()):
        _close(idle)


def _leave_to_parent() -> None:
    # SQLite's locks belong to the process that took them: to use or even close a parent's
    # connection in a child would break the parent's.
    for idle in _IDLE.values():
        _ABANDONED.extend(idle)
        idle.clear()


if hasattr(os, "register_at_fork"):
    # Within a process SQLite remembers which locks it has taken on a file. A child would inherit
    # the memory without the locks, and its own connections would rely on them.
    os.register_at_fork(before=_close_idle_connections, after_in_child=_leave_to_parent)
