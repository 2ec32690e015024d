"""Whether DuckDB has the extensions that settings need, or that a command would need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from ltm.config import FirestoreSettings, Settings
from ltm.duckdb_memory import connect, load_extension
from ltm.errors import MissingDependencyError
from ltm.finding import Finding, ok, warning

CHECK = "extension"


def diagnose_extensions(settings: Settings) -> Iterator[Finding]:
    """Yield how DuckDB's extensions are; nothing where there is no DuckDB."""
    needed = {"ducklake": ("duckdb", "'ltm export --format ducklake' needs it")}
    if isinstance(settings.catalog, FirestoreSettings) and settings.enable_fts:
        # Not a problem: the first question has DuckDB fetch it, where there is a network.
        needed["fts"] = ("firestore", "a search for words fetches it, or fails")
    for name, (extra, purpose) in sorted(needed.items()):
        found = _describe_extension(name, extra, purpose)
        if found is not None:
            yield found


def _describe_extension(name: str, extra: str, purpose: str) -> Finding | None:
    try:
        connection = connect(extra)
    except MissingDependencyError:
        return None
    with closing(connection):
        try:
            load_extension(connection, name, extra)
        except MissingDependencyError:
            return warning(
                CHECK,
                f"DuckDB's extension {name} is not installed for this version: {purpose}",
                f"pip install 'ltm[{extra}]'",
            )
    return ok(CHECK, f"DuckDB has its extension {name}")
