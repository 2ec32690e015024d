"""Commands that move memories: ``copy``, ``export``, ``import``."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, cast

import click

from ltm.cli.commands_base import Command, Run
from ltm.cli.connection import Target, protocol_of
from ltm.cli.files import STANDARD, read_from, written_whole
from ltm.cli.options import snapshot_option
from ltm.cli.text import readable_size
from ltm.cli.values import parse_object
from ltm.errors import ValidationError

if TYPE_CHECKING:
    from ltm.transfer.dataset import DatasetFormat

BUNDLE = "bundle"


@click.command(cls=Command)
@click.argument("prefix", default="")
@click.option("--to", "catalog", metavar="CATALOG", help="Catalog to copy to, as for --catalog.")
@click.option("--to-storage", "storage", metavar="URI", help="Where its payloads go.")
@click.option("--to-table", "table", metavar="NAME", help="Its logical table. [the same]")
@click.option("--to-config", "config", metavar="FILE", help="Settings of the memory to copy to.")
@snapshot_option
@click.pass_obj
def copy(
    run: Run,
    *,
    prefix: str,
    catalog: str | None,
    storage: str | None,
    table: str | None,
    config: str | None,
    snapshot: str | None,
) -> None:
    """Copy entries to another memory, and read them back.

    Those whose key begins with PREFIX. Times are kept, nothing is deleted, and what is newer there
    stays. It may be stopped and run again.
    """
    from ltm.transfer import copy_memory

    target = _copy_target(run, Target(config=config, catalog=catalog, storage=storage, table=table))
    with (
        run.open() as source,
        run.open_other(target) as memory,
        run.output.progress("copying") as progress,
    ):
        report = copy_memory(source, memory, snapshot=snapshot, prefix=prefix, progress=progress)
    run.output.document({"success": True, **asdict(report)})
    run.output.line(
        f"{report.total:,} entries: {report.copied:,} copied, {report.unchanged:,} unchanged, "
        f"{report.kept:,} kept as newer there"
    )
    run.output.line(f"{report.verified:,} were read back and are equal")


@click.command("export", cls=Command)
@click.argument("path", metavar="FILE|DESTINATION|-")
@click.argument("prefix", default="")
@click.option(
    "--format",
    "form",
    type=click.Choice([BUNDLE, "parquet", "duckdb", "ducklake"]),
    default=BUNDLE,
    help="What to write. [bundle]",
)
@click.option(
    "--partition-by",
    "fields",
    metavar="FIELD",
    multiple=True,
    help="For parquet: a field of the metadata to make directories of; repeatable. [the month]",
)
@click.option(
    "--storage-options",
    metavar="JSON",
    help="For a URL: what its fsspec driver takes. [those of a storage of the same kind]",
)
@snapshot_option
@click.pass_obj
def export_entries(
    run: Run,
    *,
    path: str,
    prefix: str,
    form: str,
    fields: tuple[str, ...],
    storage_options: str | None,
    snapshot: str | None,
) -> None:
    """Write entries to a bundle, or publish them as a dataset.

    Those whose key begins with PREFIX. A bundle is one file of JSON Lines; FILE is replaced when it
    is whole, and - is standard output. A dataset is read by other tools as it is: Parquet files in
    directories, a DuckDB file or a DuckLake. DESTINATION is a path or any fsspec URL, where nothing
    may be yet.
    """
    if form != BUNDLE:
        _export_dataset(run, path, prefix, form, fields, storage_options, snapshot)
        return
    for name, given in (("--partition-by", fields), ("--storage-options", storage_options)):
        if given:
            raise ValidationError(f"{name}: is for datasets, not for a bundle")
    _export_bundle(run, path, prefix, snapshot)


@click.command("import", cls=Command)
@click.argument("path", metavar="FILE|-")
@click.pass_obj
def import_entries(run: Run, *, path: str) -> None:
    """Store the entries of a bundle, and read them back.

    Each is verified before it is stored. What is newer here stays. It may be stopped and run again.
    """
    from ltm.transfer import import_bundle

    with (
        read_from(path) as file,
        run.open() as memory,
        run.output.progress("importing") as progress,
    ):
        report = import_bundle(memory, file, progress=progress)
    run.output.document({"success": True, **asdict(report)})
    run.output.line(
        f"{report.total:,} entries: {report.imported:,} imported, {report.unchanged:,} unchanged, "
        f"{report.kept:,} kept as newer here, {report.expired:,} expired"
    )
    run.output.line(f"{report.verified:,} were read back and are equal")


def _export_bundle(run: Run, path: str, prefix: str, snapshot: str | None) -> None:
    from ltm.transfer import export_bundle

    if path == STANDARD and run.output.as_json:
        raise ValidationError("--json: does not go with -, where the bundle is the output")
    with (
        run.open() as memory,
        run.output.progress("exporting") as progress,
        written_whole(path) as file,
    ):
        report = export_bundle(memory, file, snapshot=snapshot, prefix=prefix, progress=progress)
    if path == STANDARD:
        return
    run.output.document({"success": True, "path": path, **asdict(report)})
    run.output.line(
        f"{report.total:,} entries exported to {path} ({readable_size(report.byte_size)})"
    )


def _export_dataset(
    run: Run,
    path: str,
    prefix: str,
    form: str,
    fields: tuple[str, ...],
    storage_options: str | None,
    snapshot: str | None,
) -> None:
    from ltm.transfer import export_dataset

    if path == STANDARD:
        raise ValidationError(f"-: is for a bundle, not for {form}")
    options = parse_object(storage_options, "storage-options")
    if options is None:
        storage = run.settings().storage
        options = storage.options if protocol_of(path) == protocol_of(storage.uri) else {}
    with run.open() as memory, run.output.progress("exporting") as progress:
        report = export_dataset(
            memory,
            path,
            format=cast("DatasetFormat", form),
            snapshot=snapshot,
            partition_by=fields,
            prefix=prefix,
            storage_options=options,
            progress=progress,
        )
    run.output.document({"success": True, "format": form, **asdict(report)})
    run.output.line(
        f"{report.total:,} entries exported to {report.destination} "
        f"({report.files:,} files, {readable_size(report.byte_size)})"
    )


def _copy_target(run: Run, target: Target) -> Target:
    """Return the memory to copy to; what its flags leave out is as in the source."""
    if target.config is not None:
        return target
    if target.catalog is None or target.storage is None:
        raise ValidationError("copy: give --to and --to-storage, or --to-config")
    table = run.settings().table if target.table is None else target.table
    return replace(target, config=run.target.config, table=table)
