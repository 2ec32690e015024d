"""Payloads as Parquet: an ordinary file for everybody else, ranges of bytes for a catalog.

A value is stored as it is, uncompressed and in a row group of its own, so its bytes lie together.
One request for that range reads it, and nothing that knows Parquet is needed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from ltm.duckdb_memory import require_packages
from ltm.errors import ValidationError
from ltm.hashing import write_json
from ltm.payload.codecs import Codec, Encoded, Record, decode_text

MAX_TEXT_BYTES = 2**31 - 2**16
"""Of one value: a page of Parquet has at most 2 GiB."""

_COLUMNS = ("key", "value", "metadata", "content_hash")
_VALUE = _COLUMNS.index("value")


class ParquetCodec(Codec):
    """Required text columns ``key``, ``value``, ``metadata`` (both JSON) and ``content_hash``."""

    name = "parquet"
    extension = "parquet"
    max_records = 1_000
    object_overhead = 4_096
    record_overhead = 1_024

    def encode(self, records: Sequence[Record]) -> Encoded:
        require_packages("duckdb", "pyarrow")
        import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
        from pyarrow import parquet

        for record in records:
            if len(record.text) > MAX_TEXT_BYTES:
                raise ValidationError(
                    f"entry {record.key!r}: {len(record.text)} bytes, at most {MAX_TEXT_BYTES} fit "
                    "into Parquet"
                )
        schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in _COLUMNS])
        file = io.BytesIO()
        # Neither compressed nor in a dictionary, and without statistics, which repeat a value.
        with parquet.ParquetWriter(
            file, schema, compression="NONE", use_dictionary=False, write_statistics=False
        ) as writer:
            for record in records:
                metadata = write_json(record.metadata)
                values = record.key, record.text, metadata, record.content_hash
                row = pa.Table.from_arrays([pa.array([value]) for value in values], schema=schema)
                writer.write_table(row)
        content = file.getvalue()
        written = parquet.read_metadata(io.BytesIO(content))
        parts: list[str] = []
        for index, record in enumerate(records):
            column = written.row_group(index).column(_VALUE)
            length = len(record.text)
            # The one page of the column ends with its one value.
            start = column.data_page_offset + column.total_compressed_size - length
            parts.append(f"#{start}+{length}")
        return Encoded(content, parts)

    def decode(self, content: bytes, rows: Sequence[int | None], *, where: str) -> list[str]:
        return [decode_text(content, where) for _ in rows]
