"""The PostgreSQL catalog: a server that many agents share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from ltm.catalog.database import Database
from ltm.catalog.schema import Identity
from ltm.catalog.sql import SQLCatalog
from ltm.clock import Clock, utc_now
from ltm.errors import MissingDependencyError, ValidationError
from ltm.finding import Finding
from ltm.keys import DEFAULT_TABLE, validate_name
from ltm.sql.addresses import PoolerMode, PostgresAddress, parse_address
from ltm.sql.dialects import PostgreSQLDialect
from ltm.sql.pools import DriverPool

if TYPE_CHECKING:
    from sqlalchemy import Engine
else:
    Engine = object

CONNECT_TIMEOUT = 10.0
STATEMENT_TIMEOUT = 30.0
POOL_TIMEOUT = 30.0
RECYCLE_SECONDS = 1800.0


class PostgresCatalog(SQLCatalog):
    """A catalog in PostgreSQL 12 or newer; its schema is made by ``ltm db upgrade``."""

    def __init__(
        self,
        connection_string: str | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        database: str | None = None,
        user: str | None = None,
        password: str | None = None,
        sslmode: str | None = None,
        schema: str | None = None,
        pool_min: int = 1,
        pool_max: int = 10,
        pool_timeout: float = POOL_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        statement_timeout: float = STATEMENT_TIMEOUT,
        recycle_seconds: float = RECYCLE_SECONDS,
        pool_mode: PoolerMode = "direct",
        auto_migrate: bool = False,
        engine: Engine | None = None,
        table: str = DEFAULT_TABLE,
        tenant: str = "",
        inline_threshold: int = 1024,
        language: str = "english",
        clock: Clock = utc_now,
    ) -> None:
        """Name the server; nothing is connected until first use.

        Args:
            connection_string: ``postgresql://user:password@host:port/database``, also with
                ``postgres://`` or ``postgresql+psycopg://``, or libpq's ``key=value`` pairs.
            host: Or its parts, one by one. What is given nowhere is libpq's default, such as the
                environment variable ``PGHOST``.
            port: 1 to 65,535.
            database: Name of the database.
            user: Name of the role.
            password: Its password.
            sslmode: As libpq's, from ``disable`` to ``verify-full``.
            schema: Where the tables are; by default where the role looks first.
            pool_min: How many connections are kept while there is little to do.
            pool_max: How many there are at most, 1 or more.
            pool_timeout: Seconds to wait for a connection while all are in use.
            connect_timeout: Seconds that connecting may take; whole ones, 2 or more.
            statement_timeout: Seconds that the answer to one statement may take.
            recycle_seconds: After how long a connection is replaced.
            pool_mode: What stands before the server: nothing, or a pooler in ``session`` or
                ``transaction`` mode. Through the latter nothing is prepared, and each verb has a
                connection of its own: the pooler keeps them.
            auto_migrate: Whether a schema that is missing or old is made or upgraded at first use,
                under a lock, rather than refused.
            engine: A SQLAlchemy engine on psycopg to use instead; it stays as it is set up, and
                open when the catalog is closed; in a forked child its pool begins empty. The
                arguments of address and pool do not count.
            table: Logical table, made on first use.
            tenant: Name of the tenant, empty for none.
            inline_threshold: For a table that is made: values below this many bytes are inlined.
            language: For a table that is made: the language of its search words.
            clock: Tells the time.

        Raises:
            ValidationError: A bad argument.
            MissingDependencyError: psycopg is not installed.
        """
        self.pool_mode = pool_mode if engine is None else None
        pool: DriverPool
        if engine is not None:
            pool = pool_of(engine)
        else:
            address = parse_address(
                connection_string,
                host=host,
                port=port,
                database=database,
                user=user,
                password=password,
                sslmode=sslmode,
            )
            pool = open_pool(
                address,
                pool_min=pool_min,
                pool_max=pool_max,
                pool_timeout=pool_timeout,
                connect_timeout=connect_timeout,
                statement_timeout=statement_timeout,
                recycle_seconds=recycle_seconds,
                pool_mode=pool_mode,
            )
        super().__init__(
            database_on(pool, schema=schema, auto_migrate=auto_migrate),
            table=table,
            tenant=tenant,
            inline_threshold=inline_threshold,
            language=language,
            clock=clock,
        )

    def diagnose(self) -> Iterator[Finding]:
        from ltm.catalog.postgres_diagnosis import diagnose_postgres

        return diagnose_postgres(self.database, self.clock, self.pool_mode)


def database_on(
    pool: DriverPool, *, schema: str | None, auto_migrate: bool, identity: Identity | None = None
) -> Database:
    """Return the PostgreSQL database that *pool* connects to; see :class:`Database`.

    Raises:
        ValidationError: *schema* cannot be the name of one.
    """
    return Database(
        pool,
        PostgreSQLDialect.name,
        schema=None if schema is None else validate_name(schema, "schema"),
        auto_migrate=auto_migrate,
        identity=identity,
    )


def pool_of(engine: Engine) -> DriverPool:
    """Return a pool over an *engine* that somebody handed in.

    Raises:
        ValidationError: The engine is of another database, or another driver.
    """
    if (engine.dialect.name, engine.dialect.driver) != (PostgreSQLDialect.name, "psycopg"):
        found = f"{engine.dialect.name}+{engine.dialect.driver}"
        raise ValidationError(f"engine: expected postgresql+psycopg, got {found}")
    from ltm.sql.engines import EnginePool

    return EnginePool(engine)


def open_pool(
    address: PostgresAddress,
    *,
    pool_min: int,
    pool_max: int,
    pool_timeout: float,
    connect_timeout: float,
    statement_timeout: float,
    recycle_seconds: float,
    pool_mode: PoolerMode,
) -> DriverPool:
    """Return a pool of connections to *address*; nothing is connected.

    Args:
        address: Where to.
        pool_min: See :class:`PostgresCatalog`, as for those that follow.
        pool_max: How many there are at most.
        pool_timeout: Seconds.
        connect_timeout: Seconds.
        statement_timeout: Seconds.
        recycle_seconds: Seconds.
        pool_mode: What stands before the server.

    Raises:
        ValidationError: A bad argument.
        MissingDependencyError: psycopg is not installed.
    """
    _require_count("pool_min", pool_min, 0)
    _require_count("pool_max", pool_max, 1)
    if pool_min > pool_max:
        raise ValidationError(f"pool_min: {pool_min} is above pool_max, {pool_max}")
    if pool_mode not in get_args(PoolerMode):
        expected = ", ".join(map(repr, get_args(PoolerMode)))
        raise ValidationError(f"pool_mode: expected one of {expected}, got {pool_mode!r}")
    seconds: dict[str, Any] = {
        "pool_timeout": pool_timeout,
        "connect_timeout": connect_timeout,
        "statement_timeout": statement_timeout,
        "recycle_seconds": recycle_seconds,
    }
    for name, value in seconds.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**31:
            raise ValidationError(f"{name}: expected seconds above 0, got {value!r}")
    try:
        from ltm.sql.postgres import connector
        from ltm.sql.postgres_pool import PostgresPool
    except ImportError as error:
        raise MissingDependencyError("psycopg", "postgres") from error
    connect = connector(
        address,
        connect_timeout=connect_timeout,
        statement_timeout=statement_timeout,
        prepares=pool_mode != "transaction",
    )
    return PostgresPool(
        address,
        connect,
        pool_min=pool_min,
        pool_max=0 if pool_mode == "transaction" else pool_max,
        pool_timeout=pool_timeout,
        recycle_seconds=recycle_seconds,
    )


def _require_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValidationError(f"{name}: expected int, {least} or more, got {value!r}")
