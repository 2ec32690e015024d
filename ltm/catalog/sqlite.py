"""The SQLite catalog: a file beside the agent, or a database in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ltm.catalog.database import Database
from ltm.catalog.sql import SQLCatalog
from ltm.clock import Clock, utc_now
from ltm.errors import ValidationError
from ltm.keys import DEFAULT_TABLE
from ltm.sql.dialects import SQLiteDialect
from ltm.sql.pools import DriverPool
from ltm.sql.sqlite import BUSY_TIMEOUT, Durability, SharedMemoryPool, SQLitePool
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ltm.finding import Finding
else:
    Engine = Finding = object


class SQLiteCatalog(SQLCatalog):
    """A catalog in one SQLite file; it makes and upgrades its own schema."""

    def __init__(
        self,
        path: str | os.PathLike[str] = "ltm_catalog.db",
        *,
        durability: Durability = "normal",
        busy_timeout: float = BUSY_TIMEOUT,
        engine: Engine | None = None,
        table: str = DEFAULT_TABLE,
        tenant: str = "",
        inline_threshold: int = 1024,
        language: str = "english",
        clock: Clock = utc_now,
    ) -> None:
        """Name the file; it is opened, and made if it isn't there, on first use.

        Args:
            path: The file; directories on the way are made. ``:memory:`` is a database of this
                object alone, which all threads share.
            durability: ``normal`` loses no commit when the process dies; ``full`` none when the
                machine does either, for one fsync a commit.
            busy_timeout: Seconds to wait for other processes' writes, above 0; of ``:memory:``,
                for other threads' transactions.
            engine: A SQLAlchemy engine to use instead of a file; it stays as it is set up, and
                open when the catalog is closed. The other arguments do not count then.
            table: Logical table, made on first use.
            tenant: Name of the tenant, empty for none.
            inline_threshold: For a table that is made: values below this many bytes are inlined.
            language: For a table that is made: the language of its search words.
            clock: Tells the time.

        Raises:
            ValidationError: A bad argument.
        """
        location = os.fspath(path)
        if not isinstance(location, str) or not location or "\0" in location:
            raise ValidationError(f"path: expected a file name, got {path!r}")
        if durability not in ("normal", "full"):
            raise ValidationError(f"durability: expected 'normal' or 'full', got {durability!r}")
        if isinstance(busy_timeout, bool) or not isinstance(busy_timeout, int | float):
            raise ValidationError(f"busy_timeout: expected seconds, got {busy_timeout!r}")
        if not 0 < busy_timeout < 2**31 / 1000:
            raise ValidationError(f"busy_timeout: expected seconds above 0, got {busy_timeout!r}")
        self.path = location if location == ":memory:" else os.path.abspath(location)
        self._durability: Durability = durability
        self._is_given = engine is not None
        pool: DriverPool
        if engine is not None:
            from ltm.sql.engines import EnginePool

            pool = EnginePool(engine)
        elif self.path == ":memory:":
            pool = SharedMemoryPool(busy_timeout=busy_timeout)
        else:
            pool = SQLitePool(self.path, durability=durability, busy_timeout=busy_timeout)
        super().__init__(
            Database(pool, SQLiteDialect.name),
            table=table,
            tenant=tenant,
            inline_threshold=inline_threshold,
            language=language,
            clock=clock,
        )

    def diagnose(self) -> Iterator[Finding]:
        from ltm.catalog.sqlite_diagnosis import diagnose_sqlite
        from ltm.finding import skipped

        if self._is_given:
            return iter(
                [skipped("catalog", "the engine was handed in, and only it knows its file")]
            )
        return diagnose_sqlite(self.database, self.path, self._durability)
