"""A payload store in one file of DuckDB, which any DuckDB attaches and reads.

DuckDB is imported at the first operation that needs it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ltm.duckdb_memory import require_packages
from ltm.errors import PayloadError, PayloadNotFoundError, ValidationError
from ltm.fork_gate import forks_wait
from ltm.payload.base import (
    DEFAULT_TIMEOUT,
    LOCAL_PROTOCOLS,
    MAX_WORKERS,
    Contents,
    Outcomes,
    PayloadStore,
    split_uri,
    validate_path,
    validate_timeout,
)
from ltm.payload.native_file import POLL_SECONDS, NativeFile
from ltm.payload.objects import PayloadObject

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SUFFIX = ".duckdb"
"""What the path of such a file ends in."""

_PAGE_ROWS = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# No PRIMARY KEY: with one, a commit reads the contents of up to 2,048 older rows, and the space of
# deleted rows is never used again. As writers come one by one, a look before the insert does it.
_SCHEMA = """
    CREATE TABLE payloads (path VARCHAR NOT NULL, content BLOB NOT NULL, byte_size BIGINT NOT NULL,
        written_at TIMESTAMPTZ NOT NULL);
    CREATE VIEW payload_values AS SELECT path, TRY(decode(content)) AS value FROM payloads
"""
_INSERT = "INSERT INTO store.main.payloads VALUES (?, ?, ?, now())"
_DELETE = """
    DELETE FROM store.main.payloads WHERE path IN (SELECT unnest(from_json(?, '["VARCHAR"]')))
"""
_SELECT_ROWS = """
    SELECT path, rowid FROM store.main.payloads
    WHERE path IN (SELECT unnest(from_json(?, '["VARCHAR"]')))
"""
_SELECT_CONTENT = "SELECT content FROM store.main.payloads WHERE rowid = ?"
_SELECT_PAGE = """
    SELECT path, byte_size, epoch_us(written_at) FROM store.main.payloads
    WHERE path > ? AND path < ? ORDER BY path LIMIT ?
"""


class DuckDBFilePayloadStore(PayloadStore):
    """Payloads as rows of the table ``payloads`` in one file, which the first write makes.

    The view ``payload_values`` shows as text what is UTF-8. Every operation, a batch too, opens the
    file for one transaction and closes it; threads that come while it is open share it. As only one
    process may have it open, processes take turns, in about the order in which they came, under
    locks on the files ``.lock`` and ``.queue`` beside it. Such locks need a local disk.

    On two cores and an SSD a payload of 20 kB is read in 13 ms, written in 18, and in 1 as part of
    a batch. A path is looked for among all: 100,000 payloads make that 10 to 25 ms longer.

    One commit in 64 is followed by a checkpoint, which uses the space of deleted payloads again and
    writes the newest, of up to 2,048, anew: 0.15 s for 40 MB. So the place for payloads of many
    megabytes is a directory.

    Args:
        uri: A path or a ``file://`` URL that ends in ``.duckdb``, read as a local directory's is.
        timeout: Seconds to wait for other processes that have the file open.
    """

    keeps_rows = True

    def __init__(
        self,
        uri: str | os.PathLike[str],
        *,
        max_workers: int = MAX_WORKERS,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        protocol, rest = split_uri(uri)
        if protocol not in LOCAL_PROTOCOLS or not rest.endswith(SUFFIX):
            raise ValidationError(f"payload store URI: {rest!r} is not a local path to {SUFFIX}")
        self.file = os.path.abspath(os.path.expanduser(rest))
        root = f"file://{self.file}" if protocol else self.file
        super().__init__(root, max_workers=max_workers)
        self.directory: str = os.path.dirname(self.file)
        self.timeout = validate_timeout(timeout)
        # By process: a forked child would inherit a mutex that another thread held.
        self._files: dict[int, NativeFile] = {}

    def write(self, path: str, content: bytes) -> None:
        (outcome,) = self.write_many([(path, content)])
        if outcome is not None:
            raise outcome

    def read(self, path: str) -> bytes:
        (content,) = self.read_many([path])
        if isinstance(content, PayloadError):
            raise content
        return content

    def delete(self, path: str) -> None:
        (outcome,) = self.delete_many([path])
        if outcome is not None:
            raise outcome

    def list(self, prefix: str) -> Iterator[PayloadObject]:
        self.require_open()
        return self._pages(validate_path(prefix))

    def write_many(self, items: Sequence[tuple[str, bytes]]) -> Outcomes:
        outcomes = self._faults([path for path, _ in items])
        chosen = [item for item, fault in zip(items, outcomes, strict=True) if fault is None]
        if not chosen:
            return outcomes
        paths = json.dumps([path for path, _ in chosen])
        refused: dict[int, PayloadError] = {}
        try:
            with self._session("write", chosen[0][0], is_writing=True) as cursor:
                taken = {path for path, _ in cursor.execute(_SELECT_ROWS, [paths]).fetchall()}
                for number, (path, content) in enumerate(items):
                    if outcomes[number] is not None:
                        continue
                    if path in taken:
                        message = self.failure_message("write", path, "the name is taken")
                        refused[number] = PayloadError(message)
                    else:
                        cursor.execute(_INSERT, [path, content, len(content)])
                        taken.add(path)
        except PayloadError as error:
            return [error if fault is None else fault for fault in outcomes]
        return [refused.get(number, fault) for number, fault in enumerate(outcomes)]

    def read_many(self, paths: Sequence[str]) -> Contents:
        faults = self._faults(paths)
        chosen = [path for path, fault in zip(paths, faults, strict=True) if fault is None]
        found: dict[str, bytes] = {}
        try:
            if chosen and self._exists("read", chosen[0]):
                with self._session("read", chosen[0]) as cursor:
                    rows = cursor.execute(_SELECT_ROWS, [json.dumps(chosen)]).fetchall()
                    # One by one: asked for together, DuckDB reads the contents of all rows.
                    for path, row in rows:
                        ((found[path],),) = cursor.execute(_SELECT_CONTENT, [row]).fetchall()
        except PayloadError as error:
            return [error if fault is None else fault for fault in faults]
        return [
            fault or (found[path] if path in found else self._not_found(path))
            for path, fault in zip(paths, faults, strict=True)
        ]

    def delete_many(self, paths: Sequence[str]) -> Outcomes:
        outcomes = self._faults(paths)
        chosen = [path for path, fault in zip(paths, outcomes, strict=True) if fault is None]
        try:
            if chosen and self._exists("delete", chosen[0]):
                with self._session("delete", chosen[0], is_writing=True) as cursor:
                    cursor.execute(_DELETE, [json.dumps(chosen)])
        except PayloadError as error:
            return [error if fault is None else fault for fault in outcomes]
        return outcomes

    def _pages(self, prefix: str) -> Iterator[PayloadObject]:
        # Bytewise, "0" follows "/". A page at a time, so that the file is closed between.
        last, end = f"{prefix}/", f"{prefix}0"
        while self._exists("list", prefix):
            with self._session("list", prefix) as cursor:
                rows = cursor.execute(_SELECT_PAGE, [last, end, _PAGE_ROWS]).fetchall()
            for path, byte_size, microseconds in rows:
                modified_at = _EPOCH + timedelta(microseconds=microseconds)
                yield PayloadObject(path, byte_size, modified_at)
            if len(rows) < _PAGE_ROWS:
                return
            last = rows[-1][0]

    def _faults(self, paths: Sequence[str]) -> Outcomes:
        """Return for each of *paths* None, or why it is refused."""
        self.require_open()
        faults: Outcomes = []
        for path in paths:
            try:
                validate_path(path)
            except PayloadError as error:
                faults.append(error)
            else:
                faults.append(None)
        return faults

    def _not_found(self, path: str) -> PayloadNotFoundError:
        message = self.failure_message("read", path, "there is no such object")
        return PayloadNotFoundError(message)

    def _exists(self, action: str, path: str) -> bool:
        """Return whether the file is there; only writing makes one."""
        self.require_open()
        try:
            os.stat(self.file)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._failure(action, path, error) from error
        return True

    @contextmanager
    def _session(
        self, action: str, path: str, *, is_writing: bool = False
    ) -> Iterator[DuckDBPyConnection]:
        """Open the file for one transaction, which is durable when the block has ended."""
        self.require_open()
        with forks_wait():
            require_packages("duckdb", "duckdb")
            import duckdb
        process = os.getpid()
        file = self._files.get(process)
        if file is None:
            file = self._files.setdefault(process, NativeFile(self.file, _SCHEMA))
        deadline = time.monotonic() + self.timeout
        try:
            while True:
                # In slices, so that a fork gets through while this waits.
                with forks_wait(), file.transaction(deadline, is_writing=is_writing) as cursor:
                    if cursor is not None:
                        yield cursor
                        return
                if time.monotonic() >= deadline:
                    break
                time.sleep(POLL_SECONDS)
        except PayloadError:
            raise
        except (duckdb.Error, OSError) as error:
            raise self._failure(action, path, error) from error
        reason = f"not done within {self.timeout:g} seconds: {file.obstacle}"
        raise PayloadError(self.failure_message(action, path, reason))

    def _failure(self, action: str, path: str, error: Exception) -> PayloadError:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        return PayloadError(self.failure_message(action, path, reason))
