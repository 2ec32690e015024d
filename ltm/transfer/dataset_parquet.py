"""Parquet files in directories by partition, written as the entries come.

Rows wait in memory for a row group of their partition to be full. Of the files, only those that
were written to last are open; a partition whose file had to be closed goes on in another.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from ltm.entry import EntryRow
from ltm.transfer.dataset_rows import DatasetPage, DatasetRow, arrow_schema, to_arrow

MAX_OPEN_FILES = 16

WAITING_BYTES = 32 * 2**20
"""What the rows that wait may take in memory, all partitions together."""

GROUP_ROWS = 100_000
GROUP_BYTES = 8 * 2**20
"""What rows take in memory that are one row group; compressed they are smaller."""

FILE_ROWS = 1_000_000
FILE_BYTES = 128 * 2**20
"""A file that has reached either ends with that row group."""


HandOver = Callable[[str, int], object]
"""Called with the path of each file that is complete, and the number of its rows."""


def write_parquet(
    pages: Iterable[DatasetPage],
    workspace: str,
    directory_of: Callable[[EntryRow], str],
    hand_over: HandOver,
    *,
    empty_directory: str | None,
) -> int:
    """Write *pages* as Parquet files below *workspace*, and return how many rows there are.

    Args:
        pages: In key order.
        workspace: A local directory.
        directory_of: Returns the directory of an entry, relative to *workspace*.
        hand_over: Called as soon as a file is complete.
        empty_directory: Where a file goes that tells readers the columns, if there are no rows;
            None for no file.
    """
    total = 0
    with _PartitionedWriter(workspace, hand_over) as writer:
        for page in pages:
            for entry, row in zip(page.entries, page.rows, strict=True):
                writer.add(directory_of(entry), row)
            total += len(page.rows)
        if not total and empty_directory is not None:
            writer.add_nothing(empty_directory)
        writer.finish()
    return total


class _Waiting:
    """The rows of one partition that no file has yet."""

    def __init__(self) -> None:
        self.rows: list[DatasetRow] = []
        self.weight = 0


class _File:
    """One Parquet file under way."""

    def __init__(self, workspace: str, path: str) -> None:
        import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        self.path = path
        self.rows = 0
        location = os.path.join(workspace, *path.split("/"))
        os.makedirs(os.path.dirname(location), exist_ok=True)
        self._sink = open(location, "xb")  # noqa: SIM115 -- closed with the file
        try:
            self._writer: Any = pq.ParquetWriter(
                self._sink,
                arrow_schema(),
                compression="zstd",
                memory_pool=pa.system_memory_pool(),
            )
        except BaseException:
            self._sink.close()
            raise

    @property
    def is_full(self) -> bool:
        return self.rows >= FILE_ROWS or self._sink.tell() >= FILE_BYTES

    def write(self, rows: list[DatasetRow]) -> None:
        self._writer.write_table(to_arrow(rows), row_group_size=max(1, len(rows)))
        self.rows += len(rows)

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            self._sink.close()


class _PartitionedWriter:
    """Writes rows to the files of their partitions."""

    def __init__(self, workspace: str, hand_over: HandOver) -> None:
        self._workspace = workspace
        self._hand_over = hand_over
        self._waiting: dict[str, _Waiting] = {}
        self._weight = 0
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._numbers: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            with suppress(Exception):  # it is about to be removed
                file.close()

    def add(self, directory: str, row: DatasetRow) -> None:
        """Take a row for the partition in *directory*; rows of one come in key order."""
        waiting = self._waiting.get(directory)
        if waiting is None:
            waiting = self._waiting[directory] = _Waiting()
        waiting.rows.append(row)
        waiting.weight += row.weight
        self._weight += row.weight
        if len(waiting.rows) >= GROUP_ROWS or waiting.weight >= GROUP_BYTES:
            self._write(directory)
        elif self._weight >= WAITING_BYTES:
            self._make_room()

    def add_nothing(self, directory: str) -> None:
        """Make a file without rows."""
        self._file(directory).write([])

    def finish(self) -> None:
        """Write what waits, and complete all files."""
        for directory in list(self._waiting):
            self._write(directory)
        while self._files:
            self._complete(next(iter(self._files)))

    def _make_room(self) -> None:
        """Write the largest groups that wait, until half of the room is free."""
        largest = sorted(self._waiting, key=lambda each: self._waiting[each].weight)
        while largest and self._weight > WAITING_BYTES // 2:
            self._write(largest.pop())

    def _write(self, directory: str) -> None:
        waiting = self._waiting.pop(directory)
        self._weight -= waiting.weight
        file = self._file(directory)
        file.write(waiting.rows)
        if file.is_full:
            self._complete(directory)

    def _file(self, directory: str) -> _File:
        """Return the open file of a partition, the next one where there is none."""
        file = self._files.get(directory)
        if file is not None:
            self._files.move_to_end(directory)
            return file
        if len(self._files) >= MAX_OPEN_FILES:
            self._complete(next(iter(self._files)))
        number = self._numbers.get(directory, 0)
        self._numbers[directory] = number + 1
        file = self._files[directory] = _File(
            self._workspace, f"{directory}/part-{number:05}.parquet"
        )
        return file

    def _complete(self, directory: str) -> None:
        file = self._files.pop(directory)
        file.close()
        self._hand_over(file.path, file.rows)
