"""Which revision of the schema a database is at, and what that means."""

from __future__ import annotations

import os

from ltm.errors import SchemaOutOfDateError
from ltm.sql.prepared import HEAD

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
