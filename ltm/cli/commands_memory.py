"""Commands that remember, recall and find: ``store``, ``get``, ``rm``, ``ls``, ``search``."""

from __future__ import annotations

import sys

import click

from ltm.cli.commands_base import Command, Run
from ltm.cli.exits import NEGATIVE, require_success
from ltm.cli.listing import entries, entries_as_of, show_entries
from ltm.cli.options import snapshot_option
from ltm.cli.output import Column
from ltm.cli.text import excerpt, readable_size
from ltm.cli.values import build_filter, parse_object, read_value
from ltm.errors import ValidationError

_RESULT_COLUMNS = (
    Column("key"),
    Column("score", 7, is_number=True),
    Column("snippet", share=2),
)

_where = click.option(
    "--where",
    "conditions",
    metavar="KEY=VALUE",
    multiple=True,
    help="Metadata that must hold; VALUE is JSON, or else a string. May be given again.",
)
_filter = click.option(
    "--filter", "filter_text", metavar="JSON", help='Metadata filter: {"score": {"$gt": 3}}.'
)


@click.command(cls=Command)
@click.argument("key")
@click.argument("value", required=False)
@click.option("--text", "as_text", is_flag=True, help="VALUE is a plain string, not JSON.")
@click.option("--file", "path", metavar="PATH", help="Read VALUE from a file.")
@click.option("--metadata", metavar="JSON", help="A JSON object to find it by.")
@click.option("--ttl", type=float, metavar="SECONDS", help="Forget it after so many seconds.")
@click.option("--if-match", metavar="HASH", help="Only if the entry has this content hash.")
@click.option("--if-absent", is_flag=True, help="Only if there is no such entry.")
@click.pass_obj
def store(
    run: Run,
    *,
    key: str,
    value: str | None,
    as_text: bool,
    path: str | None,
    metadata: str | None,
    ttl: float | None,
    if_match: str | None,
    if_absent: bool,
) -> None:
    """Remember VALUE under KEY.

    Without VALUE, or with -, it is read from standard input.
    """
    remembered = read_value(value, path=path, as_text=as_text, read_input=_piped)
    with run.open() as memory:
        answer = memory.store(
            key,
            remembered,
            parse_object(metadata, "metadata"),
            ttl=ttl,
            if_match=if_match,
            if_absent=if_absent,
        )
    require_success(answer)
    run.output.document(answer)
    verb = "stored" if answer["stored"] else "unchanged"
    place = "inline" if answer["inlined"] else "payload"
    size = readable_size(answer["byte_size"])
    run.output.line(f"{verb} {key} ({size}, {place}) {answer['content_hash']}")


@click.command("get", cls=Command)
@click.argument("key")
@click.option("--raw", is_flag=True, help="Print a string as it is, without quotes.")
@click.option("--full", is_flag=True, help="Print metadata and content hash too.")
@snapshot_option
@click.pass_obj
def get_value(run: Run, *, key: str, raw: bool, full: bool, snapshot: str | None) -> int:
    """Print the value of KEY as JSON.

    Its content hash is verified. Exit status 1 where there is no such entry.
    """
    if raw and (full or run.output.as_json):
        raise ValidationError("--raw: goes with neither --full nor --json")
    with run.open() as memory:
        answer = memory.retrieve(key, snapshot=snapshot)
    require_success(answer)
    run.output.document({"key": key, **answer})
    if not answer["found"]:
        run.output.warn(f"not found: {key}")
        return NEGATIVE
    value = answer["value"]
    if run.output.as_json:
        return 0
    if full:
        left_out = ("success", "found")
        shown = {name: part for name, part in answer.items() if name not in left_out}
        run.output.value({"key": key, **shown})
    elif raw and isinstance(value, str):
        run.output.raw(value)
    else:
        run.output.value(value)
    return 0


@click.command("rm", cls=Command)
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option("--if-match", metavar="HASH", help="Only if the one entry has this content hash.")
@click.pass_obj
def remove(run: Run, *, keys: tuple[str, ...], if_match: str | None) -> int:
    """Forget each KEY.

    Exit status 1 if one of them was not there; the others are forgotten all the same.
    """
    wanted = list(dict.fromkeys(keys))
    if if_match is not None and len(wanted) > 1:
        raise ValidationError("--if-match: takes one KEY")
    found: dict[bool, list[str]] = {True: [], False: []}
    with run.open() as memory:
        for key in wanted:
            answer = memory.delete(key, if_match=if_match)
            require_success({**answer, "deleted": found[True], "missing": found[False]})
            found[answer["deleted"]].append(key)
    run.output.document({"success": True, "deleted": found[True], "missing": found[False]})
    for key in found[True]:
        run.output.line(f"removed {key}")
    for key in found[False]:
        run.output.warn(f"not found: {key}")
    return NEGATIVE if found[False] else 0


@click.command("ls", cls=Command)
@click.argument("prefix", default="")
@_where
@_filter
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many. [all]")
@click.option("--after", metavar="KEY", help="Only keys above this one.")
@snapshot_option
@click.pass_obj
def list_entries(
    run: Run,
    *,
    prefix: str,
    conditions: tuple[str, ...],
    filter_text: str | None,
    limit: int | None,
    after: str | None,
    snapshot: str | None,
) -> None:
    """List entries in key order.

    Those whose key begins with PREFIX; with --json each is a document on its own line.
    """
    condition = build_filter(filter_text, conditions)
    with run.open() as memory:
        if snapshot is None:
            found = entries(memory, prefix, condition, limit, after)
        else:
            found = entries_as_of(memory, snapshot, prefix, condition, limit, after)
        show_entries(run.output, found)


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("words", metavar="QUERY...", nargs=-1)
@_where
@_filter
@click.option("--limit", type=click.IntRange(min=1), default=10, metavar="N", help="[10]")
@click.pass_obj
def search(
    run: Run,
    *,
    words: tuple[str, ...],
    conditions: tuple[str, ...],
    filter_text: str | None,
    limit: int,
) -> None:
    """Ask in plain words, best answer first.

    Any word of QUERY may occur; '"a phrase"' must, -word must not. With a filter and no QUERY it
    lists what matches, newest first.
    """
    # Unknown options are let through for the sake of -word; a mistyped one is no word.
    mistyped = next((word for word in words if word.startswith("--")), None)
    if mistyped is not None:
        raise ValidationError(f"no such option: {mistyped}; see 'ltm search --help'")
    condition = build_filter(filter_text, conditions)
    if not words and condition is None:
        raise ValidationError("QUERY: is missing: give words, --where or --filter")
    query = " ".join(words)
    with run.open() as memory:
        answer = memory.search(query, condition, limit)
    if answer["success"]:
        run.output.document(answer)
    rows = (
        (each["key"], f"{each['score']:.3f}", excerpt(each["value"], query))
        for each in answer.get("results", ())
    )
    run.output.table(_RESULT_COLUMNS, rows)
    require_success(answer)


def _piped() -> bytes | None:
    # Python leaves None where a process was started with its standard input closed.
    if sys.stdin is None or sys.stdin.isatty():
        return None
    return sys.stdin.buffer.read()
