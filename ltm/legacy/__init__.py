"""Moving from the older ``SQLiteBackend``."""

from ltm.legacy.migration import MigrationReport, migrate_sqlite_backend
from ltm.legacy.rejected import RejectedRow

__all__ = ["MigrationReport", "RejectedRow", "migrate_sqlite_backend"]
