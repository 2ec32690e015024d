"""Commands for the schema of a catalog: ``db upgrade`` and its like, and ``db indexes``."""

from __future__ import annotations

import click

from ltm.cli.commands_base import Group, Run
from ltm.cli.exits import NEGATIVE
from ltm.cli.schema import DIALECT_NAMES, newest_revision, schema_indexes, schema_of, schema_sql


@click.group("db", cls=Group)
def database() -> None:
    """Look at the schema of the catalog, and upgrade it."""


@database.command()
@click.pass_obj
def upgrade(run: Run) -> None:
    """Make the schema, or bring it to the newest revision."""
    schema = schema_of(run.settings().catalog)
    before, revision = schema.read_revision(), newest_revision()
    schema.upgrade()
    run.output.document({"success": True, "revision": revision, "previous": before})
    verb = "is at" if before == revision else "brought to"
    run.output.line(f"{schema.where}: {verb} revision {revision}")


@database.command()
@click.pass_obj
def current(run: Run) -> None:
    """Print the revision that the catalog is at."""
    revision = schema_of(run.settings().catalog).read_revision()
    run.output.document({"success": True, "revision": revision})
    run.output.line("none" if revision is None else revision)


@database.command()
@click.pass_obj
def check(run: Run) -> int:
    """Exit with status 1 unless the catalog is at the newest revision."""
    schema = schema_of(run.settings().catalog)
    revision, newest = schema.read_revision(), newest_revision()
    is_newest = revision == newest
    answer = {"success": True, "up_to_date": is_newest, "revision": revision, "newest": newest}
    run.output.document(answer)
    if is_newest:
        run.output.line(f"{schema.where}: at the newest revision, {newest}")
        return 0
    found = "without a schema" if revision is None else f"at revision {revision}"
    run.output.warn(f"{schema.where}: {found}, not at {newest}: {schema.remedy(revision)}")
    return NEGATIVE


@database.command("sql")
@click.option(
    "--dialect", type=click.Choice(DIALECT_NAMES), help="For this database. [the catalog's]"
)
@click.option(
    "--schema", metavar="NAME", help="PostgreSQL's schema for the tables. [the catalog's]"
)
@click.pass_obj
def print_sql(run: Run, *, dialect: str | None, schema: str | None) -> None:
    """Print the SQL of all migrations, for whoever must run them by hand."""
    text = schema_sql(run.settings().catalog, dialect, schema)
    run.output.document({"success": True, "sql": text})
    if not run.output.as_json:
        run.output.lines(text)


@database.command("indexes")
@click.option("--ttl", is_flag=True, help="Let Firestore delete expired entries by itself as well.")
@click.pass_obj
def print_indexes(run: Run, *, ttl: bool) -> None:
    """Print the indexes that a Firestore catalog needs, for 'firebase deploy'."""
    definitions = schema_indexes(run.settings().catalog, expire_entries=ttl)
    run.output.document({"success": True, **definitions})
    if not run.output.as_json:
        run.output.value(definitions)
