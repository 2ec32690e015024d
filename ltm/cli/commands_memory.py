"""Commands that remember, recall and find: ``store``, ``get``, ``rm``, ``ls``, ``search``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ltm.cli.commands_base import Command, Run
from ltm.cli.exits import NEGATIVE, require_success
from ltm.cli.output import PAGE_ROWS, Column, Output
from ltm.cli.text import excerpt, readable_instant, readable_json, readable_size, relative_time
from ltm.cli.values import build_filter, parse_object, read_value
from ltm.clock import utc_now
from ltm.errors import ValidationError

if TYPE_CHECKING:
    from ltm.backend.base import LTMBackend
    from ltm.entry import Entry

_ENTRY_COLUMNS = (
    Column("key", share=2),
    Column("size", 9, is_number=True),
    Column("updated", 10),
    Column("expires", 10),
    Column("metadata", is_cut=True),
)
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
@click.pass_obj
def get_value(run: Run, *, key: str, raw: bool, full: bool) -> int:
    """Print the value of KEY as JSON.

    Its content hash is verified. Exit status 1 where there is no such entry.
    """
    if raw and (full or run.output.as_json):
        raise ValidationError("--raw: goes with neither --full nor --json")
    with run.open() as memory:
        answer = memory.retrieve(key)
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
@click.pass_obj
def list_entries(
    run: Run,
    *,
    prefix: str,
    conditions: tuple[str, ...],
    filter_text: str | None,
    limit: int | None,
    after: str | None,
) -> None:
    """List entries in key order.

    Those whose key begins with PREFIX; with --json each is a document on its own line.
    """
    condition = build_filter(filter_text, conditions)
    with run.open() as memory:
        found = _entries(memory, prefix, condition, limit, after)
        if run.output.as_json:
            for entry in found:
                run.output.document(_described(entry))
        else:
            shown = _time_shown(run.output)
            rows = (_entry_row(entry, shown) for entry in found)
            run.output.table(_ENTRY_COLUMNS, rows)


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


def _entries(
    memory: LTMBackend,
    prefix: str,
    condition: Mapping[str, Any] | None,
    limit: int | None,
    after: str | None,
) -> Iterator[Entry]:
    """Yield entries page by page, so that a long list is never whole in memory."""
    from ltm.catalog.base import Catalog

    catalog = getattr(memory, "catalog", None)
    if not isinstance(catalog, Catalog):
        raise ValidationError(f"{type(memory).__name__} has no catalog to list")
    remaining = limit
    while remaining is None or remaining > 0:
        size = PAGE_ROWS if remaining is None else min(remaining, PAGE_ROWS)
        page = catalog.list_entries(prefix, condition, size, after)
        yield from page
        if len(page) < size:
            return
        after = page[-1]["key"]
        remaining = None if remaining is None else remaining - size


def _described(entry: Entry) -> dict[str, Any]:
    names = ("key", "content_hash", "byte_size", "storage_uri", "metadata")
    instants = ("created_at", "updated_at", "expires_at")
    return {name: entry[name] for name in (*names, *instants)}  # type: ignore[literal-required]


def _time_shown(output: Output) -> Callable[[datetime | None], str]:
    """Return how to show an instant: to a person its distance, to a program itself."""
    if not output.is_terminal:
        return readable_instant
    now = utc_now()
    return lambda instant: relative_time(instant, now)


def _entry_row(entry: Entry, time_shown: Callable[[datetime | None], str]) -> tuple[str, ...]:
    return (
        entry["key"],
        readable_size(entry["byte_size"]),
        time_shown(entry["updated_at"]),
        time_shown(entry["expires_at"]),
        readable_json(entry["metadata"]) if entry["metadata"] else "",
    )
