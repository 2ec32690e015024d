"""Entries one below the other, as ``ls`` and ``snapshot show`` list them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from ltm.cli.commands_base import require_catalog
from ltm.cli.output import PAGE_ROWS, Column, Output
from ltm.cli.text import readable_instant, readable_json, readable_size, relative_time
from ltm.clock import utc_now

if TYPE_CHECKING:
    from ltm.backend.base import LTMBackend
    from ltm.catalog.protocol import Entry

_COLUMNS = (
    Column("key", share=2),
    Column("size", 9, is_number=True),
    Column("updated", 10),
    Column("expires", 10),
    Column("metadata", is_cut=True),
)


def show_entries(output: Output, found: Iterable[Entry]) -> None:
    """Write *found* as a table; with ``--json`` each as a document on its own line."""
    if output.as_json:
        for entry in found:
            output.document(_described(entry))
        return
    shown = time_shown(output)
    output.table(_COLUMNS, (_row(entry, shown) for entry in found))


def entries(
    memory: LTMBackend,
    prefix: str,
    condition: Mapping[str, Any] | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Iterator[Entry]:
    """Yield live entries page by page, so that a long list is never whole in memory."""
    catalog = require_catalog(memory)
    remaining = limit
    while remaining is None or remaining > 0:
        size = PAGE_ROWS if remaining is None else min(remaining, PAGE_ROWS)
        page = catalog.list_entries(prefix, condition, size, after)
        yield from page
        if len(page) < size:
            return
        after = page[-1]["key"]
        remaining = None if remaining is None else remaining - size


def entries_as_of(
    memory: LTMBackend,
    snapshot: str,
    prefix: str,
    condition: Mapping[str, Any] | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Iterator[Entry]:
    """Yield the entries of the snapshot with this id or name, page by page.

    Raises:
        SnapshotNotFoundError: There is none, or it was expired meanwhile.
    """
    from ltm.catalog.base import as_entry
    from ltm.keys import validate_prefix
    from ltm.search.filters import matches, parse_filter

    history = require_catalog(memory).history
    point = history.find(snapshot)
    parsed, above = parse_filter(condition), validate_prefix(after)
    rows = history.iterate_as_of(point, validate_prefix(prefix))
    chosen = (row for row in rows if row.key > above and matches(parsed, row.metadata))
    return (as_entry(row) for row in islice(chosen, limit))


def time_shown(output: Output) -> Callable[[datetime | None], str]:
    """Return how to show an instant: to a person its distance, to a program itself."""
    if not output.is_terminal:
        return readable_instant
    now = utc_now()
    return lambda instant: relative_time(instant, now)


def _described(entry: Entry) -> dict[str, Any]:
    names = ("key", "content_hash", "byte_size", "storage_uri", "metadata")
    instants = ("created_at", "updated_at", "expires_at")
    return {name: entry[name] for name in (*names, *instants)}  # type: ignore[literal-required]


def _row(entry: Entry, shown: Callable[[datetime | None], str]) -> tuple[str, ...]:
    return (
        entry["key"],
        readable_size(entry["byte_size"]),
        shown(entry["updated_at"]),
        shown(entry["expires_at"]),
        readable_json(entry["metadata"]) if entry["metadata"] else "",
    )
