"""Commands for points in time: ``snapshot``, ``changes``, ``diff``, ``restore``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from ltm.cli.commands_base import Command, Group, Run, require_catalog
from ltm.cli.exits import FailedAnswerError, require_success
from ltm.cli.listing import entries_as_of, show_entries, time_shown
from ltm.cli.output import Column, Output
from ltm.cli.text import readable_instant, readable_size

if TYPE_CHECKING:
    from ltm.catalog.history import EntryChange

_SNAPSHOT_COLUMNS = (
    Column("name"),
    Column("id", 32),
    Column("taken", 10),
    Column("entries", 10, is_number=True),
    Column("size", 9, is_number=True),
)
_CHANGE_COLUMNS = (Column("op", 8), Column("key", share=2), Column("hash", is_cut=True))

_reference = click.argument("snapshot", metavar="ID|NAME")


@click.group("snapshot", cls=Group)
def snapshots() -> None:
    """Take snapshots, to which reads can go back, and look at them.

    Where one is asked for by name, the newest with that name counts.
    """


@snapshots.command("create")
@click.argument("name")
@click.pass_obj
def create_snapshot(run: Run, *, name: str) -> None:
    """Take a snapshot.

    Its cost does not grow with what is remembered.
    """
    with run.open() as memory:
        answer = memory.create_snapshot(name)
    require_success(answer)
    run.output.document(answer)
    run.output.line(
        f"snapshot {answer['name']} {answer['snapshot_id']}: "
        f"{answer['entry_count']:,} entries, {readable_size(answer['total_bytes'])}"
    )


@snapshots.command("ls")
@click.pass_obj
def list_snapshots(run: Run) -> None:
    """List snapshots in the order in which they were taken."""
    with run.open() as memory:
        answer = memory.list_snapshots()
    require_success(answer)
    run.output.document(answer)
    shown = time_shown(run.output)
    rows = (
        (
            each["name"],
            each["snapshot_id"],
            shown(each["created_at"]),
            f"{each['entry_count']:,}",
            readable_size(each["total_bytes"]),
        )
        for each in answer["snapshots"]
    )
    run.output.table(_SNAPSHOT_COLUMNS, rows)


@snapshots.command("show")
@_reference
@click.argument("prefix", default="")
@click.pass_obj
def show_snapshot(run: Run, *, snapshot: str, prefix: str) -> None:
    """List the entries of a snapshot, as ls does those of the present.

    Those whose key begins with PREFIX; with --json each is a document on its own line.
    """
    with run.open() as memory:
        show_entries(run.output, entries_as_of(memory, snapshot, prefix))


@snapshots.command("expire")
@_reference
@click.pass_obj
def expire_snapshot(run: Run, *, snapshot: str) -> None:
    """Forget a snapshot, and the values that only it still saw."""
    with run.open() as memory:
        answer = memory.expire_snapshot(snapshot)
    require_success(answer)
    run.output.document(answer)
    for failure in answer["errors"]:
        run.output.warn(f"not deleted yet: {failure['key']}: {failure['error']}")
    run.output.line(f"expired {answer['snapshot_id']}")


@click.command(cls=Command)
@click.argument("since", metavar="[ID|NAME]", required=False)
@click.pass_obj
def changes(run: Run, *, since: str | None) -> None:
    """List what has changed since a snapshot, in key order.

    Without one, everything is added. With --json each change is a document on its own line.
    """
    with run.open() as memory:
        _show_changes(run.output, memory.changes(since))


@click.command(cls=Command)
@click.argument("a", metavar="ID|NAME")
@click.argument("b", metavar="ID|NAME")
@click.pass_obj
def diff(run: Run, *, a: str, b: str) -> None:
    """List how the second snapshot differs from the first, in key order.

    With --json each change is a document on its own line.
    """
    with run.open() as memory:
        _show_changes(run.output, memory.diff(a, b))


@click.command(cls=Command)
@_reference
@click.option("--yes", is_flag=True, help="Don't ask, not even on a terminal.")
@click.pass_obj
def restore(run: Run, *, snapshot: str, yes: bool) -> None:
    """Make the present equal to a snapshot.

    What was written since is replaced or removed; what has expired since stays gone.
    """
    with run.open() as memory:
        found = require_catalog(memory).history.find(snapshot)
        taken = f"snapshot {found.name} of {readable_instant(found.created_at)}"
        if not yes and not run.output.confirm(f"make the present equal to {taken}?"):
            raise FailedAnswerError(_REFUSED)
        answer = memory.restore(found.id)
    require_success(answer)
    run.output.document({"snapshot_id": found.id, **answer})
    run.output.line(
        f"restored {taken}: {answer['restored']:,} entries as they were then, "
        f"{answer['deleted']:,} removed"
    )


_REFUSED: dict[str, Any] = {
    "success": False,
    "error": "restore: not confirmed, nothing was done",
    "error_type": "error",
}


def _show_changes(output: Output, found: Iterable[EntryChange]) -> None:
    if output.as_json:
        for change in found:
            output.document(change)
        return
    rows = ((change["op"], change["key"], change["content_hash"]) for change in found)
    output.table(_CHANGE_COLUMNS, rows)
