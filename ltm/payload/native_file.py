"""One DuckDB file that threads and processes share by turns.

DuckDB lets a single process open a file to write. So a file is open only while somebody works on
it, and locks of the operating system, on two empty files beside it, say whose turn it is.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from ltm.duckdb_memory import Setting, connect, quote
from ltm.payload.durable import sync_directory, sync_file

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

HOLD_SECONDS = 0.1
"""So long after it was opened, the file lets no more threads in before it is closed."""

WAL_BYTES = 64 << 20
"""A write-ahead log that has grown to it is merged into the file when that is closed."""

COMMITS_PER_CHECKPOINT = 64
"""On average. To apply a commit from the log, at every opening, takes DuckDB 0.2 ms."""

POLL_SECONDS = 0.002
_SLICE_SECONDS = 0.5

_SETTINGS: dict[str, Setting] = {
    "checkpoint_threshold": "1TB",  # when to checkpoint is decided here
    "threads": 1,
}


class NativeFile:
    """A DuckDB file as the threads of one process see it, attached as ``store``.

    Every method but the constructor is called inside of :func:`~ltm.fork_gate.forks_wait`.

    Args:
        path: Absolute.
        schema: The statements that make an empty file, run in it.

    Attributes:
        obstacle: What was last in the way of opening it.
    """

    def __init__(self, path: str, schema: str) -> None:
        self.path = path
        self.obstacle = "other threads have it open"
        self._schema = schema
        self._turn = _Turn(path)
        self._mutex = threading.Lock()
        self._writing = threading.Lock()
        self._connection: DuckDBPyConnection | None = None
        self._users = 0
        self._closes_at = 0.0
        self._is_logged = False
        self._is_due = False

    @contextmanager
    def transaction(
        self, deadline: float, *, is_writing: bool
    ) -> Iterator[DuckDBPyConnection | None]:
        """Give a cursor in a transaction, committed durably as the block ends without an error.

        Give None where the file can't be had yet, after at most half a second. Transactions that
        write, and may make the file, come one after the other.

        Args:
            deadline: An instant of :func:`time.monotonic` by which to give None.
            is_writing: Whether something is to be changed.

        Raises:
            duckdb.Error: DuckDB could not open the file, or write it.
            OSError: The system could not.
        """
        connection = self._enter(min(deadline, time.monotonic() + _SLICE_SECONDS), is_writing)
        if connection is None:
            yield None
            return
        try:
            order = self._writing if is_writing else nullcontext()
            # A connection serves one thread at a time; its cursors are connections.
            with order, closing(connection.cursor()) as cursor:
                cursor.execute("BEGIN TRANSACTION")
                yield cursor
                cursor.execute("COMMIT")
                if is_writing:
                    self._settle()
        finally:
            self._leave()

    def _enter(self, until: float, is_writing: bool) -> DuckDBPyConnection | None:
        if not self._mutex.acquire(timeout=max(0.0, until - time.monotonic())):
            return None
        try:
            if self._connection is None:
                self._connection = self._open(until, is_writing)
                self._closes_at = time.monotonic() + HOLD_SECONDS
            elif time.monotonic() >= self._closes_at:
                return None  # threads that overlap must not keep other processes out
            if self._connection is not None:
                self._users += 1
            return self._connection
        finally:
            self._mutex.release()

    def _leave(self) -> None:
        with self._mutex:
            self._users -= 1
            if self._users:
                return
            connection, self._connection = self._connection, None
            try:
                if connection is not None:
                    self._close(connection)
            finally:
                self._turn.end()

    def _open(self, until: float, is_writing: bool) -> DuckDBPyConnection | None:
        import duckdb

        if is_writing:
            _make_directory(os.path.dirname(self.path))
        if not self._turn.begin(until):
            self.obstacle = "other processes have it open"
            return None
        try:
            if is_writing and not os.path.exists(self.path):
                self._make()
            os.stat(self.path)  # where there is none, DuckDB would make a file
            self._is_logged = os.path.exists(f"{self.path}.wal")
            return _connect(self.path)
        except duckdb.Error as error:
            self._turn.end()
            message = str(error)
            if "onflicting lock" not in message and "file handle conflict" not in message:
                raise
            self.obstacle = message.partition("\n")[0]
            return None
        except BaseException:  # an interrupt, too, would keep other processes out
            self._turn.end()
            raise

    def _make(self) -> None:
        """Make the file under another name and rename it: half of one could never be opened."""
        unpublished = f"{self.path}.new"
        # The log too that is left of a file that is gone: it would be applied to the new one.
        for leftover in (unpublished, f"{unpublished}.wal", f"{self.path}.wal"):
            with suppress(FileNotFoundError):
                os.unlink(leftover)
        with closing(_connect(unpublished)) as connection:
            connection.execute(f"USE store; {self._schema}; CHECKPOINT store")
        sync_file(unpublished)
        os.rename(unpublished, self.path)
        sync_directory(os.path.dirname(self.path))

    def _settle(self) -> None:
        """Make durable what DuckDB's commit leaves open: the name of a new write-ahead log."""
        if not self._is_logged:
            sync_directory(os.path.dirname(self.path))
            self._is_logged = True
        # At random, because a process that writes once can't count the commits of all.
        if random.random() * COMMITS_PER_CHECKPOINT < 1:
            self._is_due = True

    def _close(self, connection: DuckDBPyConnection) -> None:
        import duckdb

        with closing(connection):
            if self._is_due or _byte_size(f"{self.path}.wal") >= WAL_BYTES:
                self._is_due = False
                # What is committed is in the log. Where this fails, the next opening says why.
                with suppress(duckdb.Error):
                    connection.execute("CHECKPOINT store")


class _Turn:
    """The right of one process at a time, given in about the order in which it is asked for.

    Who asks again has to pass the queue, and there the one waits who is next.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def begin(self, until: float) -> bool:
        """Return whether the turn has come before the monotonic instant *until*."""
        queue = _lock(f"{self._path}.queue", until)
        if queue is None:
            return False
        try:
            turn = _lock(f"{self._path}.lock", until)
        finally:
            _unlock(queue)
        if turn is None:
            return False
        self._descriptor = turn
        return True

    def end(self) -> None:
        _unlock(self._descriptor)


def _lock(path: str, until: float) -> int | None:
    """Return a descriptor of the file at *path*, locked; None if others have it till *until*."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        while not _try_lock(descriptor):
            if time.monotonic() >= until:
                os.close(descriptor)
                return None
            time.sleep(POLL_SECONDS)
    except BaseException:  # an interrupt, too, would leave it open
        with suppress(OSError):
            os.close(descriptor)
        raise
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            # Not lockf(): its locks end when the process closes any descriptor of the file.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _unlock(descriptor: int) -> None:
    # Not by closing alone: a child on its way to exec() may have a copy of the descriptor.
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _connect(path: str) -> DuckDBPyConnection:
    connection = connect("duckdb", _SETTINGS)
    try:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        # What a checkpoint writes anew is whole groups of rows; these are the smallest there are.
        connection.execute(f"ATTACH {quote(path)} AS store (TYPE duckdb, ROW_GROUP_SIZE 2048)")
    except BaseException:  # an interrupt, too, would leave it open
        connection.close()
        raise
    return connection


def _make_directory(directory: str) -> None:
    """Make *directory* where it is missing, durably."""
    missing: list[str] = []
    here = directory
    while not os.path.isdir(here):
        missing.append(here)
        above = os.path.dirname(here)
        if above == here:
            break
        here = above
    if missing:
        os.makedirs(directory, exist_ok=True)
        for made in missing:
            sync_directory(os.path.dirname(made))


def _byte_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
