"""Commands that look after a memory.

They are ``stats``, ``cleanup``, ``gc``, ``verify``, ``health``, ``migrate`` and ``demo``.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from ltm.cli.commands_base import Command, Group, Run
from ltm.cli.exits import NEGATIVE, require_success
from ltm.cli.output import Column
from ltm.cli.text import readable_size

if TYPE_CHECKING:
    from ltm.backend.base import LTMBackend
    from ltm.cli.output import Progress
    from ltm.legacy import MigrationReport

EXPIRED_PER_CALL = 1000
REJECTED_SHOWN = 20

_STATISTIC_COLUMNS = (Column("", 16), Column("", 20))
_PROBLEM_COLUMNS = (
    Column("kind", 16),
    Column("key"),
    Column("state", 8),
    Column("detail", share=2),
)
_HEALTH_COLUMNS = (Column("part", 8), Column("state", 8), Column("reason"))
_REJECTED_COLUMNS = (Column("row", 8, is_number=True), Column("rejected key"), Column("reason"))


@click.command(cls=Command)
@click.pass_obj
def stats(run: Run) -> None:
    """Count entries and bytes."""
    with run.open() as memory:
        answer = memory.stats()
    require_success(answer)
    run.output.document(answer)
    rows = [
        ("table", answer["table"]),
        ("entries", f"{answer['entries']:,}"),
        ("inline", f"{answer['inlined']:,}"),
        ("payloads", f"{answer['payloads']:,}"),
        ("size", readable_size(answer["total_bytes"])),
        ("size inline", readable_size(answer["inlined_bytes"])),
        ("size payloads", readable_size(answer["payload_bytes"])),
        ("expired", f"{answer['expired']:,}"),
    ]
    run.output.table(_STATISTIC_COLUMNS, rows)


@click.command(cls=Command)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many. [all]")
@click.pass_obj
def cleanup(run: Run, *, limit: int | None) -> None:
    """Remove expired entries and their payloads.

    Nobody sees them any more, whether they are removed or not.
    """
    with run.open() as memory, run.output.progress("cleaning up") as progress:
        answer = _clean_up(memory, limit, progress)
    require_success(answer)
    run.output.document(answer)
    for failure in answer["errors"]:
        run.output.warn(f"not deleted yet: {failure['key']}: {failure['error']}")
    run.output.line(f"removed {answer['deleted']:,} expired, {answer['remaining']:,} remain")


@click.command("gc", cls=Command)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option(
    "--grace",
    type=float,
    default=86_400,
    metavar="SECONDS",
    help="Spare what is younger, which a write may be about to name. [86400, a day]",
)
@click.option(
    "--compact", is_flag=True, help="Rewrite objects that many values shared and few still do."
)
@click.pass_obj
def collect_garbage(run: Run, *, dry_run: bool, grace: float, compact: bool) -> None:
    """Delete payloads that nothing names: those scheduled, then what crashes have left."""
    with run.open() as memory:
        answer = memory.gc(dry_run, grace=grace, compact=compact)
    if "scheduled" in answer:
        verb = "would delete" if dry_run else "deleted"
        run.output.line(
            f"{verb} {answer['scheduled']:,} scheduled and {answer['unreferenced']:,} unreferenced "
            f"payloads ({readable_size(answer['freed_bytes'])}); spared {answer['spared']:,}, "
            f"foreign {answer['foreign']:,}"
        )
        if compact:
            verb = "would rewrite" if dry_run else "rewrote"
            run.output.line(f"{verb} {answer['compacted']:,} objects of which little was alive")
        for failure in answer["errors"]:
            run.output.warn(f"not deleted yet: {failure['key']}: {failure['error']}")
    require_success(answer)
    run.output.document(answer)


@click.command(cls=Command)
@click.option("--repair", is_flag=True, help="Index anew what is not indexed right.")
@click.pass_obj
def verify(run: Run, *, repair: bool) -> None:
    """Check every entry against its payload, its hash and the indexes.

    Exit status 6 if there are problems that are not repaired.
    """
    with run.open() as memory:
        answer = memory.verify(repair)
    if answer["success"]:
        run.output.document(answer)
    if "problems" in answer:
        rows = [
            (
                problem["kind"],
                "-" if problem["key"] is None else problem["key"],
                "repaired" if problem["repaired"] else "open",
                problem["detail"],
            )
            for problem in answer["problems"]
        ]
        run.output.table(_PROBLEM_COLUMNS, rows)
        repaired = sum(problem["repaired"] for problem in answer["problems"])
        run.output.line(
            f"checked {answer['checked']:,}: {len(rows) - repaired:,} open problems, "
            f"{repaired:,} repaired, {answer['unreferenced']:,} unreferenced payloads"
        )
    require_success(answer)


@click.command(cls=Command)
@click.pass_obj
def health(run: Run) -> None:
    """Prove that catalog and storage work.

    Writes, reads and deletes a probe in each. The exit status is that of what failed.
    """
    with run.open() as memory:
        answer = memory.health_check()
    if answer["success"]:
        run.output.document(answer)
    parts = [(name, answer.get(name)) for name in ("catalog", "storage")]
    rows = [
        (name, "ok" if part["healthy"] else "failing", part["error"] or "-")
        for name, part in parts
        if isinstance(part, dict)
    ]
    run.output.table(_HEALTH_COLUMNS, rows)
    require_success(answer)


@click.group(cls=Group)
def migrate() -> None:
    """Bring entries here from another store."""


@migrate.command("sqlite-backend")
@click.argument("source", metavar="OLD.db")
@click.option("--to", "catalog", metavar="URL", help="Catalog to bring them to. [--catalog]")
@click.option("--storage", metavar="URI", help="Where its payloads go. [--storage]")
@click.option("--dry-run", is_flag=True, help="Read and check everything, write nothing.")
@click.option(
    "--report",
    metavar="FILE",
    help="Side file, JSON Lines, for the rows that can't be carried. [OLD.rejected.jsonl]",
)
@click.pass_obj
def migrate_sqlite(
    run: Run,
    *,
    source: str,
    catalog: str | None,
    storage: str | None,
    dry_run: bool,
    report: str | None,
) -> int:
    """Copy every row of an older SQLiteBackend.

    OLD.db is only read. It may be stopped and run again: what is there already stays as it is.
    Exit status 1 if there are rows that can't be carried.
    """
    from ltm.legacy import migrate_sqlite_backend

    run.redirect(catalog=catalog, storage=storage)
    with run.open() as memory, run.output.progress("migrating") as progress:
        outcome = migrate_sqlite_backend(
            source, memory, dry_run=dry_run, rejected_path=report, progress=progress
        )
    _report_migration(run, outcome)
    return NEGATIVE if outcome.rejected else 0


@click.command(cls=Command)
@click.option("--keep", metavar="DIR", help="Leave the demo's memory in this empty directory.")
@click.pass_obj
def demo(run: Run, *, keep: str | None) -> None:
    """Show memory at work in a few seconds.

    It remembers the topics of Python's own help, and checks every claim that it makes.
    """
    from ltm.demo import present

    facts: dict[str, Any] = {}
    with closing(present(keep)) as steps:
        for step in steps:
            facts[step.name] = step.facts
            run.output.line(step.title, style="bold")
            for line in step.text:
                run.output.line(f"  {line}")
            run.output.line("")
    run.output.document({"success": True, "steps": facts})


def _clean_up(memory: LTMBackend, limit: int | None, progress: Progress) -> dict[str, Any]:
    """Remove up to *limit* expired entries, call by call; answer the sum of it."""
    expired = memory.stats()
    require_success(expired)
    total = expired["expired"] if limit is None else min(limit, expired["expired"])
    deleted, failures = 0, []
    progress(0, total)
    while True:
        size = EXPIRED_PER_CALL if limit is None else min(EXPIRED_PER_CALL, limit - deleted)
        answer = memory.cleanup_expired(size)
        if not answer["success"]:
            return {**answer, "deleted": deleted}
        deleted += answer["deleted"]
        failures += answer["errors"]
        progress(deleted, max(total, deleted))
        if answer["deleted"] < size or deleted == limit:
            return {**answer, "deleted": deleted, "errors": failures}


def _report_migration(run: Run, report: MigrationReport) -> None:
    from dataclasses import asdict

    run.output.document({"success": True, **asdict(report)})
    verb = "would be migrated" if report.dry_run else "migrated"
    kept = f"{report.kept:,} kept as newer here, " if report.kept else ""
    run.output.line(
        f"{report.total:,} rows: {report.migrated:,} {verb}, {report.unchanged:,} unchanged, "
        f"{kept}{len(report.rejected):,} rejected"
    )
    if not report.dry_run:
        run.output.line(f"{report.verified:,} were read back and are equal")
    shown = report.rejected[:REJECTED_SHOWN]
    run.output.table(
        _REJECTED_COLUMNS,
        [(str(row.rowid), "-" if row.key is None else row.key, row.reason) for row in shown],
    )
    if len(report.rejected) > len(shown):
        run.output.line(f"and {len(report.rejected) - len(shown):,} more")
    if report.rejected_path is not None:
        run.output.line(f"rejected rows are in {report.rejected_path}")
