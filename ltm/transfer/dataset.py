"""Datasets: a memory as of one point, in files that other tools read as they are.

A dataset holds what a snapshot sees, values verified on the way, as Parquet files in directories by
partition, as a DuckDB file, or as a DuckLake. It appears whole or not at all.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ltm.backend.base import LTMBackend
from ltm.backend.parts import BackendCalls
from ltm.catalog.history import Snapshot
from ltm.duckdb_memory import require_packages
from ltm.errors import LTMError, PayloadError, ValidationError
from ltm.keys import validate_prefix
from ltm.transfer.dataset_rows import COLUMNS, EXTRA, DatasetPage, read_pages
from ltm.transfer.destination import Destination, open_destination
from ltm.transfer.hive import Partitioning
from ltm.transfer.source import Progress, Source, require_calls

logger = logging.getLogger(__name__)

DatasetFormat = Literal["parquet", "duckdb", "ducklake"]

FORMATS: tuple[DatasetFormat, ...] = get_args(DatasetFormat)

MANIFEST_FORMAT = "ltm-dataset"
MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetReport:
    """What a dataset holds."""

    total: int
    """Entries."""
    byte_size: int
    """Bytes of its files."""
    files: int
    """How many there are; the manifest is not counted."""
    destination: str
    """Where it is: an absolute path, or a URL, without credentials."""


def export_dataset(
    memory: LTMBackend,
    destination: str | os.PathLike[str],
    *,
    format: DatasetFormat,  # noqa: A002 -- the word for it, here and on the command line
    snapshot: str | None = None,
    partition_by: Sequence[str] = (),
    prefix: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> DatasetReport:
    """Publish what *memory* held at one point as a dataset at *destination*.

    Without *snapshot* one is taken for the purpose, and expired as soon as all is read. A process
    that is killed leaves it behind, named ``export-`` and the time, and hidden or temporary files;
    on an object store, files without a manifest.

    Args:
        memory: Backend over a catalog and a payload store.
        destination: Path or URL of a directory, for ``duckdb`` of a file; nothing may be there.
        format: ``parquet``, ``duckdb`` or ``ducklake``.
        snapshot: Id or name of a snapshot to export instead of the present. What has expired since
            is in it.
        partition_by: For ``parquet``, up to four fields of the metadata to make directories of; by
            default the month of creation. A dot reaches into an object.
        prefix: Only keys that begin with it.
        storage_options: What the fsspec driver of a URL takes; never shown in a message.
        progress: Called after every page; the total is None with a prefix.

    Raises:
        ValidationError: A bad argument, an open transaction, or something is at *destination*;
            nothing was done.
        MissingDependencyError: A package is not installed; it names the extra.
        SnapshotNotFoundError: There is no such snapshot, or it was expired meanwhile.
        CatalogUnavailableError: The catalog could not be reached.
        PayloadError: A payload could not be read, or the destination not be written to.
        IntegrityError: A value is not what was written.
    """
    calls = require_calls(memory, "memory")
    if calls.is_bound:
        raise ValidationError("memory: what is not committed yet can't be published")
    partitioning = _require_arguments(format, partition_by)
    begins_with = validate_prefix(prefix)
    place = open_destination(
        destination, is_file=format == "duckdb", storage_options=storage_options
    )
    with _failures_named(place), place:
        with _held(calls, snapshot) as point:
            source = Source(memory, snapshot=point.id, prefix=begins_with)
            total = _write(place, read_pages(source, point, progress), format, partitioning)
        manifest = _manifest(place, source, point, format, partitioning, total)
        place.publish(json.dumps(manifest, indent=1).encode("ascii"))
    return DatasetReport(
        total=total,
        byte_size=place.byte_size,
        files=len(place.files),
        destination=place.shown,
    )


def _require_arguments(format_name: object, partition_by: Sequence[str]) -> Partitioning:
    if format_name not in FORMATS:
        raise ValidationError(f"format: expected {', '.join(FORMATS)}, got {format_name!r}")
    partitioning = Partitioning(partition_by, COLUMNS)
    if partitioning.fields and format_name != "parquet":
        raise ValidationError(f"partition_by: is for parquet, not for {format_name}")
    require_packages(EXTRA, "pyarrow" if format_name == "parquet" else "duckdb")
    if format_name == "ducklake":
        from ltm.transfer.dataset_duckdb import require_ducklake

        require_ducklake()
    return partitioning


@contextmanager
def _held(calls: BackendCalls, reference: str | None) -> Iterator[Snapshot]:
    """Give the snapshot to export: the one that is named, or one for as long as the block lasts."""
    history = calls.catalog.history
    if reference is not None:
        yield history.find(reference)
        return
    now = calls.clock()
    name = f"export-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    snapshot = history.create(name, now)
    try:
        yield snapshot
    finally:
        try:
            calls.parts.aftermath.free(history.expire(snapshot, calls.clock()))
        except LTMError as error:
            logger.warning("snapshot %r of an export is left, expire it: %s", name, error)


def _write(
    place: Destination,
    pages: Iterable[DatasetPage],
    format_name: DatasetFormat,
    partitioning: Partitioning,
) -> int:
    """Write all files but the manifest, and return how many entries are in them."""
    if format_name == "parquet":
        from ltm.transfer.dataset_parquet import write_parquet

        return write_parquet(
            pages,
            place.workspace,
            partitioning.directory,
            place.add,
            empty_directory=partitioning.empty_directory,
        )
    from ltm.transfer.dataset_duckdb import write_duckdb, write_ducklake

    write = write_duckdb if format_name == "duckdb" else write_ducklake
    return write(pages, place)


def _manifest(
    place: Destination,
    source: Source,
    point: Snapshot,
    format_name: DatasetFormat,
    partitioning: Partitioning,
    total: int,
) -> dict[str, Any]:
    return {
        "format": MANIFEST_FORMAT,
        "version": MANIFEST_VERSION,
        "dataset": format_name,
        "table": source.catalog.table_name,
        "prefix": source.prefix,
        "snapshot": {
            "id": point.id,
            "name": point.name,
            "created_at": point.created_at.isoformat(),
        },
        "entries": total,
        "columns": COLUMNS,
        "partition_by": list(partitioning.columns) if format_name == "parquet" else [],
        "files": [file._asdict() for file in place.files],
    }


@contextmanager
def _failures_named(place: Destination) -> Iterator[None]:
    """Raise failures of the local file system as our own."""
    try:
        yield
    except LTMError:
        raise
    except OSError as error:
        raise PayloadError(f"dataset {place.shown!r}: cannot be written: {error}") from error
