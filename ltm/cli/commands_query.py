"""The command that asks in SQL: ``query``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from math import isfinite
from typing import Any

import click

from ltm.cli.commands_base import Command, Run
from ltm.cli.options import snapshot_option
from ltm.cli.output import Column
from ltm.cli.text import readable_json


@click.command(cls=Command)
@click.argument("sql")
@snapshot_option
@click.pass_obj
def query(run: Run, *, sql: str, snapshot: str | None) -> None:
    """Ask in SQL: one SELECT statement, as DuckDB understands it.

    It sees entries(key, value, metadata, content_hash, byte_size, expires_at, created_at,
    updated_at), where value and metadata are JSON, and snapshots(snapshot_id, name, entry_count,
    total_bytes, created_at). With --json each row is a document on its own line.
    """
    with run.open() as memory:
        found = memory.query(sql, snapshot=snapshot)
    rows = [_plain(row) for row in found]
    for row in rows:
        run.output.document(row)
    columns = [Column(name) for name in (rows[0] if rows else ())]
    run.output.table(columns, ([_cell(value) for value in row.values()] for row in rows))


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else readable_json(value)


def _plain(value: Any) -> Any:
    """Return *value*, of any type that DuckDB has, as JSON can hold it."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if isfinite(value) else str(value)
        case Mapping():
            return {_name(name): _plain(member) for name, member in value.items()}
        case list() | tuple():
            return [_plain(member) for member in value]
        case bytes():
            return value.hex()
        case datetime() | date() | time():
            return value.isoformat()
    return str(value)


def _name(name: Any) -> str:
    return _cell(_plain(name))
