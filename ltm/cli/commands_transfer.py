"""Commands that move memories: ``copy``, ``export``, ``import``."""

from __future__ import annotations

from dataclasses import asdict, replace

import click

from ltm.cli.commands_base import Command, Run
from ltm.cli.connection import Target
from ltm.cli.files import STANDARD, read_from, written_whole
from ltm.cli.options import snapshot_option
from ltm.cli.text import readable_size
from ltm.errors import ValidationError


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
@click.argument("path", metavar="FILE|-")
@click.argument("prefix", default="")
@snapshot_option
@click.pass_obj
def export_entries(run: Run, *, path: str, prefix: str, snapshot: str | None) -> None:
    """Write entries to a bundle, one file of JSON Lines.

    Those whose key begins with PREFIX. FILE is replaced when the bundle is whole; - is standard
    output.
    """
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


def _copy_target(run: Run, target: Target) -> Target:
    """Return the memory to copy to; what its flags leave out is as in the source."""
    if target.config is not None:
        return target
    if target.catalog is None or target.storage is None:
        raise ValidationError("copy: give --to and --to-storage, or --to-config")
    table = run.settings().table if target.table is None else target.table
    return replace(target, config=run.target.config, table=table)
