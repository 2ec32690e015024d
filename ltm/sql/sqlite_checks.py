"""What SQLite says of itself and of a file, asked without making or changing the file."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

OLDEST = (3, 35, 0)
"""The first release that has RETURNING and what else the statements need."""

BUSY_SECONDS = 2.0

Fault = Literal["damaged", "foreign", "closed"]

_FAULTS: dict[int, Fault] = {
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "foreign",
}

_OPCODES_PER_LOOK = 10_000


def missing_features() -> list[str]:
    """Return what the SQLite of this Python lacks that the catalog needs."""
    lacking = []
    if sqlite3.sqlite_version_info < OLDEST:
        lacking.append(f"version {'.'.join(map(str, OLDEST))} or newer")
    connection = sqlite3.connect(":memory:")
    try:
        for name, statement in (
            ("FTS5", "CREATE VIRTUAL TABLE words USING fts5(text)"),
            ("JSON", "SELECT json_each.value FROM json_each('[1]')"),
        ):
            try:
                connection.execute(statement)
            except sqlite3.Error:
                lacking.append(name)
    finally:
        connection.close()
    return lacking


@contextmanager
def opened_to_read(path: str) -> Iterator[sqlite3.Connection]:
    """Give a connection to the file at *path* that writes nothing.

    Raises:
        sqlite3.Error: It can't be opened.
    """
    connection = sqlite3.connect(
        f"{Path(path).as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )
    try:
        yield connection
    finally:
        connection.close()


def fault_of(error: sqlite3.Error) -> Fault:
    """Return what *error* of an attempt to read a file says of it."""
    return _FAULTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "closed")


def find_damage(connection: sqlite3.Connection, seconds: float) -> list[str] | None:
    """Return the first things that are wrong with the file; None where the time was too short.

    Args:
        connection: To the file.
        seconds: What it may take.

    Raises:
        sqlite3.Error: The file can't be read at all.
    """
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _OPCODES_PER_LOOK)
    try:
        found = [text for (text,) in connection.execute("PRAGMA quick_check(3)")]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_INTERRUPT:
            return None
        raise
    finally:
        connection.set_progress_handler(None, 0)
    return [] if found == ["ok"] else found


def try_directory(directory: str) -> str:
    """Make a database in *directory*, write to it, delete it, and return its journal's mode.

    Raises:
        sqlite3.Error: Nothing can be written there.
    """
    path = os.path.join(directory, f".ltm-doctor-{secrets.token_hex(8)}.db")
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            mode: str = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            connection.execute("CREATE TABLE probe (value INTEGER)")
            connection.execute("INSERT INTO probe VALUES (1)")
        finally:
            connection.close()
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                os.unlink(path + end)
    return mode
