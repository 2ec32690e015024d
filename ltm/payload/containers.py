"""Payloads in database files of DuckDB that never change, for ``ATTACH … (READ_ONLY)``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ltm.duckdb_memory import connect, quote, require_packages
from ltm.errors import IntegrityError
from ltm.fork_gate import forks_wait
from ltm.hashing import write_json
from ltm.payload.codecs import Codec, Encoded, Record

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Texts, for DuckDB's own JSON refuses lone surrogates, which JSON may have.
_CREATE = """
    CREATE TABLE base.entries (
        row BIGINT NOT NULL, key VARCHAR NOT NULL, value VARCHAR NOT NULL,
        metadata VARCHAR NOT NULL, content_hash VARCHAR NOT NULL
    )
"""
_BLOCK_BYTES = 16_384
"""The smallest that DuckDB has: a file has a dozen at least."""


class DuckDBCodec(Codec):
    """A table ``entries``: row, key, value and metadata as JSON text, content hash.

    A value is read by reading the whole file, so files are kept small.
    """

    name = "duckdb"
    extension = "duckdb"
    max_records = 1_000
    object_overhead = 40 * _BLOCK_BYTES
    record_overhead = 512

    def encode(self, records: Sequence[Record]) -> Encoded:
        require_packages("duckdb", "pyarrow")
        import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

        # One by one, a row would take a millisecond.
        rows = pa.table(
            {
                "row": range(len(records)),
                "key": [each.key for each in records],
                "value": [each.text for each in records],
                "metadata": [write_json(each.metadata) for each in records],
                "content_hash": [each.content_hash for each in records],
            }
        )
        with _temporary_path() as path:
            with _attached(path, f"BLOCK_SIZE {_BLOCK_BYTES}") as connection:
                connection.execute(_CREATE)
                connection.register("records", rows)
                connection.execute("INSERT INTO base.entries FROM records")
            with open(path, "rb") as file:
                content = file.read()
        return Encoded(content, [f"#{row}" for row in range(len(records))])

    def decode(self, content: bytes, rows: Sequence[int | None], *, where: str) -> list[str]:
        require_packages("duckdb", "duckdb")
        import duckdb

        with _temporary_path() as path:
            with open(path, "wb") as file:
                file.write(content)
            try:
                with _attached(path, "READ_ONLY") as connection:
                    found = connection.execute(
                        "SELECT row, value FROM base.entries WHERE list_contains($1, row)", [rows]
                    ).fetchall()
            except duckdb.Error as error:
                reason = str(error).splitlines()[0].replace(path, "it")
                raise IntegrityError(f"{where}: is no file of DuckDB: {reason}") from error
        texts: dict[int | None, str] = dict(found)
        missing = [row for row in rows if row not in texts]
        if missing:
            raise IntegrityError(f"{where}: has no row {missing[0]}")
        return [texts[row] for row in rows]


@contextmanager
def _temporary_path() -> Iterator[str]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="ltm-payload-") as directory:
        yield os.path.join(directory, "payload.duckdb")


@contextmanager
def _attached(path: str, options: str) -> Iterator[DuckDBPyConnection]:
    """Attach the file at *path* as ``base``; after the block all is in the file."""
    with forks_wait(), connect("duckdb", {"threads": 1}) as connection:
        connection.execute(f"ATTACH {quote(path)} AS base (TYPE duckdb, {options})")
        yield connection
        connection.execute("DETACH base")
