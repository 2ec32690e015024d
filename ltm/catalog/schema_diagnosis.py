"""How the schema of a SQL catalog stands to what the library needs."""

from __future__ import annotations

from ltm.finding import Finding, ok, problem, skipped, warning
from ltm.sql.prepared import HEAD
from ltm.sql.revision import is_known

_OUT_OF_DATE = "schema_out_of_date"


def describe_schema(revision: str | None, *, migrates: bool, command: str) -> Finding:
    """Return how a schema at *revision* is; None is the revision where there is none.

    Args:
        revision: What the database says.
        migrates: Whether the first use makes or upgrades it.
        command: What does so by hand.
    """
    if revision == HEAD:
        return ok("schema", f"at revision {HEAD}, the newest")
    if revision is None:
        message = "there is no schema yet"
        if migrates:
            return skipped("schema", f"{message}; the first use makes it")
        return problem("schema", message, f"run '{command}'", _OUT_OF_DATE)
    if not is_known(revision):
        return problem(
            "schema",
            f"at revision {revision!r}, which is ahead of this library: it knows {HEAD!r}",
            "upgrade ltm itself: pip install --upgrade ltm",
            _OUT_OF_DATE,
        )
    message = f"at revision {revision!r}, behind {HEAD!r}, which this library needs"
    if migrates:
        more = "the first use upgrades it, and older versions of ltm can't use it then"
        return warning("schema", f"{message}; {more}", f"upgrade all that use it, or '{command}'")
    return problem("schema", message, f"run '{command}'", _OUT_OF_DATE)
