"""Commands for the schema of a catalog: ``db upgrade``, ``current``, ``check``, ``sql``."""

from __future__ import annotations

import click

from ltm.cli.commands_base import Group, Run
from ltm.cli.connection import catalog_path
from ltm.cli.exits import NEGATIVE


@click.group("db", cls=Group)
def database() -> None:
    """Look at the schema of the catalog, and upgrade it."""


@database.command()
@click.pass_obj
def upgrade(run: Run) -> None:
    """Make the schema, or bring it to the newest revision."""
    from ltm.cli.schema import read_revision, upgrade_schema

    path = catalog_path(run.settings())
    before = read_revision(path)
    revision = upgrade_schema(path)
    run.output.document({"success": True, "revision": revision, "previous": before})
    verb = "is at" if before == revision else "brought to"
    run.output.line(f"{path}: {verb} revision {revision}")


@database.command()
@click.pass_obj
def current(run: Run) -> None:
    """Print the revision that the catalog is at."""
    from ltm.cli.schema import read_revision

    revision = read_revision(catalog_path(run.settings()))
    run.output.document({"success": True, "revision": revision})
    run.output.line("none" if revision is None else revision)


@database.command()
@click.pass_obj
def check(run: Run) -> int:
    """Exit with status 1 unless the catalog is at the newest revision."""
    from ltm.cli.schema import newest_revision, read_revision

    path = catalog_path(run.settings())
    revision, newest = read_revision(path), newest_revision()
    is_newest = revision == newest
    answer = {"success": True, "up_to_date": is_newest, "revision": revision, "newest": newest}
    run.output.document(answer)
    if is_newest:
        run.output.line(f"{path}: at the newest revision, {newest}")
        return 0
    found = "without a schema" if revision is None else f"at revision {revision}"
    run.output.warn(f"{path}: {found}, not at {newest}: run 'ltm --catalog {path} db upgrade'")
    return NEGATIVE


@database.command("sql")
@click.pass_obj
def print_sql(run: Run) -> None:
    """Print the SQL of all migrations, for whoever must run them by hand."""
    from ltm.cli.schema import schema_sql

    text = schema_sql(run.settings().catalog.type)
    run.output.document({"success": True, "sql": text})
    if not run.output.as_json:
        run.output.lines(text)
