"""Reading the database of the older ``SQLiteBackend`` without changing anything about it.

The statements here are for that one foreign table; they have nothing in common with the catalogs.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from ltm.clock import BEGINNING, parse_instant
from ltm.entry import JSONValue, Metadata, validate_metadata
from ltm.errors import (
    CatalogUnavailableError,
    IntegrityError,
    LTMError,
    SerializationError,
    ValidationError,
)
from ltm.hashing import canonical_json, compute_content_hash
from ltm.keys import validate_key

BUSY_TIMEOUT = 30.0
"""Seconds to wait for a transaction of the old program."""

PAGE_BYTES = 16 * 1024 * 1024
"""A page ends early once its values hold this much text."""

NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""The expiry of rows whose metadata says ``ttl`` or ``expires_at``. The old backend gave these no
meaning, whereas a write without an expiry would read one in them."""

_COLUMNS = ("key", "value", "metadata", "created_at", "updated_at")
_STORE_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'ltm_store'"
_STORE_COLUMNS = "SELECT name FROM pragma_table_info('ltm_store')"
_EXTENT = "SELECT count(*), min(rowid) FROM ltm_store"
_PAGE = f"""
    SELECT rowid, {", ".join(_COLUMNS)} FROM ltm_store
    WHERE rowid >= ? ORDER BY rowid LIMIT ?
"""  # noqa: S608 -- constant names
_PLAIN = "mode=ro"
_IMMUTABLE = "mode=ro&immutable=1"
_SHARED = "mode=ro&readonly_shm=1"
_LAST_ROWID = 2**63 - 1


class UndecodableText(bytes):
    """Text of the database that is not UTF-8."""


RawValue = str | UndecodableText | bytes | int | float | None
"""What a column holds: a type cannot be relied on in SQLite."""


class SourceRow(NamedTuple):
    """A row as it stands in the old database."""

    rowid: int
    key: RawValue
    value: RawValue
    metadata: RawValue
    created_at: RawValue
    updated_at: RawValue


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEntry:
    """What a row means, validated so that any backend can store it."""

    rowid: int
    key: str
    value: JSONValue
    content_hash: str
    metadata: Metadata
    expires_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None
    """When the row was written last; None where it doesn't say."""


class LegacySource:
    """One state of the old database, read in pages."""

    def __init__(self, name: str, connection: sqlite3.Connection) -> None:
        """Check the schema.

        Raises:
            ValidationError: It is not the old backend's; the message names what is missing.
        """
        self.name = name
        self._connection = connection
        with _translating(name):
            if connection.execute(_STORE_TABLE).fetchone() is None:
                raise ValidationError(f"{name}: not a SQLiteBackend database: no table ltm_store")
            present = {column for (column,) in connection.execute(_STORE_COLUMNS)}
            missing = [column for column in _COLUMNS if column not in present]
            if missing:
                raise ValidationError(
                    f"{name}: not a SQLiteBackend database: "
                    f"table ltm_store has no column {', '.join(missing)}"
                )
            self.total, self._first = connection.execute(_EXTENT).fetchone()

    def pages(self, size: int) -> Iterator[list[SourceRow]]:
        """Yield all rows by rowid, up to *size* in a page."""
        position = self._first
        while position is not None:
            page = self._read_page(position, size)
            if page:
                yield page
            is_last = not page or page[-1].rowid == _LAST_ROWID
            position = None if is_last else page[-1].rowid + 1

    def _read_page(self, position: int, size: int) -> list[SourceRow]:
        page: list[SourceRow] = []
        byte_size = 0
        with (
            _translating(self.name),
            closing(self._connection.execute(_PAGE, (position, size))) as cursor,
        ):
            for found in cursor:
                row = SourceRow._make(found)
                page.append(row)
                byte_size += len(row.value) if isinstance(row.value, str | bytes) else 0
                if byte_size >= PAGE_BYTES:
                    break
        return page


@contextmanager
def open_source(path: str | os.PathLike[str]) -> Iterator[LegacySource]:
    """Open the old database for reading, in one read transaction until the end.

    Nothing is written to the file, and no file is made beside it:

    * In WAL mode with a log, log and shared-memory file are only read. Connections that are opened
      to the file in this process meanwhile cannot write.
    * In WAL mode without one there is nothing but the file, which is opened as immutable: SQLite
      would otherwise make an empty log and a shared-memory file, even for a reader. It takes no
      lock then, so whether the file was written to meanwhile is found out at the end.
    * Where a crash left a log without its shared-memory file, or a transaction half done, SQLite
      can't read without writing: a copy in a temporary directory is recovered and read.

    Raises:
        ValidationError: There is no such file, or it is not a database of the old backend.
        CatalogUnavailableError: Another program keeps it locked.
        IntegrityError: It was written to while it was read, or it is damaged.
    """
    name = os.fsdecode(path)
    location = os.path.realpath(name)
    if not os.path.isfile(location):
        raise ValidationError(f"{name}: no such file")
    with ExitStack() as stack:
        with _translating(name):
            before = _fingerprint(location)
            options = _choose_options(location)
            connection = _connect(location, options, stack)
        yield LegacySource(name, connection)
        if options == _IMMUTABLE and _fingerprint(location) != before:
            raise IntegrityError(
                f"{name}: was written to while it was read: "
                "stop the program that uses it and run again"
            )


def parse_row(row: SourceRow) -> SourceEntry:
    """Return what *row* means.

    Raises:
        ValidationError: It can't be carried to a backend; the message begins with the column.
    """
    value = _parse_json(_require_text(row.value, "value"), "value")
    try:
        content_hash = compute_content_hash(value)
    except SerializationError as error:
        raise ValidationError(f"value: {error}") from error
    metadata: Metadata = {}
    if row.metadata is not None:
        parsed = _parse_json(_require_text(row.metadata, "metadata"), "metadata")
        metadata = validate_metadata(parsed)
    created_at = _parse_time(row.created_at, "created_at")
    updated_at = _parse_time(row.updated_at, "updated_at")
    return SourceEntry(
        rowid=row.rowid,
        key=validate_key(_require_text(row.key, "key")),
        value=value,
        content_hash=content_hash,
        metadata=metadata,
        expires_at=_find_expiry(metadata),
        created_at=created_at or updated_at,
        updated_at=updated_at or created_at,
    )


def _choose_options(location: str) -> str | None:
    """Return how SQLite can read the file as it is, None where it can't."""
    log, shared_memory = location + "-wal", location + "-shm"
    has_log = os.path.exists(log)
    if has_log and os.path.exists(shared_memory):
        return _SHARED
    if has_log and os.path.getsize(log):
        return None
    return _IMMUTABLE if _is_in_wal_mode(location) else _PLAIN


def _connect(location: str, options: str | None, stack: ExitStack) -> sqlite3.Connection:
    if options is None:
        return _open_copy(location, stack)
    try:
        return _open(location, options, stack)
    except sqlite3.Error as error:
        code = _code(error)
        if code == "SQLITE_READONLY_ROLLBACK":
            return _open_copy(location, stack)
        if options == _SHARED and code.startswith("SQLITE_READONLY"):
            # No reader has left a mark to share: this one has to set its own.
            return _open(location, _PLAIN, stack)
        raise


def _open(location: str, options: str, stack: ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{Path(location).as_uri()}?{options}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
    )
    stack.callback(connection.close)
    connection.text_factory = _decode
    connection.execute("BEGIN")
    # A transaction begins with its first read.
    connection.execute(_STORE_TABLE).fetchone()
    return connection


def _open_copy(location: str, stack: ExitStack) -> sqlite3.Connection:
    """Open a copy of the file with its log or journal. No program has it open: all are left over.

    The price is as much room in the temporary directory as the files take.
    """
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ltm-migration-"))
    copy = os.path.join(directory, "source.db")
    for suffix in ("", "-wal", "-journal"):
        if os.path.exists(location + suffix):
            shutil.copyfile(location + suffix, copy + suffix)
    return _open(copy, "mode=rw", stack)


def _is_in_wal_mode(location: str) -> bool:
    # Closing a file drops the locks that SQLite holds on it in this process. This one is read only
    # where there is no log, so that no connection in WAL mode, which keeps a lock, is open.
    with open(location, "rb") as file:
        return file.read(20)[18:] == b"\x02\x02"


def _fingerprint(location: str) -> tuple[int, int]:
    status = os.stat(location)
    return status.st_mtime_ns, status.st_size


def _decode(text: bytes) -> str | UndecodableText:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return UndecodableText(text)


@contextmanager
def _translating(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValidationError(f"{name}: cannot be read: {error}") from error
    except sqlite3.Error as error:
        raise _translate(error, name) from error


def _translate(error: sqlite3.Error, name: str) -> LTMError:
    code = _code(error)
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return CatalogUnavailableError(f"{name}: is locked by another program: {error}")
    if code == "SQLITE_NOTADB":
        return ValidationError(f"{name}: not a SQLite database")
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_IOERR")):
        return IntegrityError(f"{name}: is damaged: {error}")
    return ValidationError(f"{name}: not a SQLiteBackend database: {error}")


def _code(error: sqlite3.Error) -> str:
    # Errors that the driver finds by itself have none.
    return getattr(error, "sqlite_errorname", "")


def _require_text(raw: RawValue, column: str) -> str:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, UndecodableText):
        raise ValidationError(f"{column}: is not UTF-8")
    kinds = {bytes: "a BLOB", int: "an INTEGER", float: "a REAL", type(None): "NULL"}
    raise ValidationError(f"{column}: is {kinds[type(raw)]}, not text")


def _parse_json(text: str, column: str) -> JSONValue:
    """Return what the old backend read in *text*; of equal keys in an object the last counts."""

    def refuse(constant: str) -> None:
        raise ValidationError(f"{column}: holds {constant}, which is not JSON")

    try:
        value = json.loads(text, parse_constant=refuse)
    except ValidationError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"{column}: is not JSON: {error}") from error
    try:
        canonical_json(value)
    except SerializationError as error:
        raise ValidationError(f"{column}: {error}") from error
    return value


def _parse_time(raw: RawValue, column: str) -> datetime | None:
    return (
        None
        if raw is None
        else parse_instant(_require_text(raw, column), column, naive_is_utc=True)
    )


def _find_expiry(metadata: Mapping[str, Any]) -> datetime | None:
    found = metadata.get("_cache_expires_at")
    if found is not None:
        instant = parse_instant(found, "metadata._cache_expires_at", naive_is_utc=True)
        return max(instant, BEGINNING + timedelta(microseconds=1))
    if metadata.get("expires_at") is not None or metadata.get("ttl") is not None:
        return NEVER
    return None
