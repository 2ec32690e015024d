"""Which revision of the schema this library needs."""

from __future__ import annotations

import os

from ltm.errors import SchemaOutOfDateError

HEAD = "0004"
"""The newest revision in the migrations; a test holds it equal to what Alembic finds there."""

VERSION_TABLE = "ltm_alembic_version"


def migrations_directory() -> str:
    """Return where the migrations lie: inside an installed package, beside it in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = os.path.join(package, "_migrations")
    return (
        installed
        if os.path.isdir(installed)
        else os.path.join(os.path.dirname(package), "migrations")
    )


def is_known(revision: str) -> bool:
    """Return whether *revision* is one of the migrations, and so no newer than this library."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(migrations_directory())
    return any(each.revision == revision for each in script.walk_revisions())


def out_of_date(revision: str | None) -> SchemaOutOfDateError:
    """Return the error for a database that is at *revision* and stays there."""
    if revision is None or is_known(revision):
        remedy = "run 'ltm db upgrade' or 'alembic upgrade head', or set auto_migrate"
    else:
        remedy = "the database is newer: upgrade ltm itself"
    return SchemaOutOfDateError(revision, HEAD, remedy)
