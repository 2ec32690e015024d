"""The Supabase catalog: the PostgreSQL of a project, by any of its ways in, tenant by tenant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from ltm.catalog.postgres import (
    CONNECT_TIMEOUT,
    POOL_TIMEOUT,
    RECYCLE_SECONDS,
    STATEMENT_TIMEOUT,
    database_on,
    open_pool,
    pool_of,
)
from ltm.catalog.schema import Identity
from ltm.catalog.sql import SQLCatalog
from ltm.catalog.tokens import AccessToken, read_access_token
from ltm.clock import Clock, utc_now
from ltm.errors import ValidationError
from ltm.finding import Finding
from ltm.keys import DEFAULT_TABLE
from ltm.sql.addresses import PoolerMode, PostgresAddress, parse_address, supabase_mode

if TYPE_CHECKING:
    from sqlalchemy import Engine
else:
    Engine = object

_ENCRYPTED = ("require", "verify-ca", "verify-full")

_WHERE_TO_FIND = (
    "copy the connection string from 'Connect' in the dashboard of the project and put in the "
    "database password"
)


class SupabaseCatalog(SQLCatalog):
    """A catalog in the PostgreSQL of a Supabase project; its schema is made by ``ltm db upgrade``.

    With an access token every transaction takes on the token's role and claims, and row-level
    security keeps tenants apart. Without one the login's own privileges count.
    """

    def __init__(
        self,
        connection_string: str | None = None,
        *,
        access_token: str | None = None,
        jwt_secret: str | None = None,
        tenant: str = "",
        url: str | None = None,
        anon_key: str | None = None,
        schema: str | None = None,
        pool_min: int = 1,
        pool_max: int = 10,
        pool_timeout: float = POOL_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        statement_timeout: float = STATEMENT_TIMEOUT,
        recycle_seconds: float = RECYCLE_SECONDS,
        pool_mode: PoolerMode | None = None,
        auto_migrate: bool = False,
        engine: Engine | None = None,
        table: str = DEFAULT_TABLE,
        inline_threshold: int = 1024,
        language: str = "english",
        clock: Clock = utc_now,
    ) -> None:
        """Name the project's database; nothing is connected until first use.

        Args:
            connection_string: Of the direct connection (port 5432), the session pooler, or the
                transaction pooler (port 6543), with the database password. Through the transaction
                pooler nothing is prepared and no connection is kept. TLS is required unless the
                host is local.
            access_token: A JWT, without ``Bearer``. Its role and claims are those of every
                transaction; its tenant is ``app_metadata.tenant_id``, ``tenant_id`` or ``sub``.
            jwt_secret: The project's secret, to verify the token by. Without it whoever hands in
                a token is trusted.
            tenant: Without a token, or with one of ``service_role``: the tenant to work for,
                empty for none.
            url: The project's URL; it may stand beside, PostgreSQL is not reached by it.
            anon_key: The project's public key; likewise.
            schema: See :class:`~ltm.catalog.postgres.PostgresCatalog`, as for those that follow.
            pool_min: How many connections are kept while there is little to do.
            pool_max: How many there are at most, 1 or more.
            pool_timeout: Seconds.
            connect_timeout: Seconds.
            statement_timeout: Seconds.
            recycle_seconds: Seconds.
            pool_mode: Seen from *connection_string* where it is None: port 6543 is the pooler in
                ``transaction`` mode, another port of a pooler's host the one in ``session`` mode.
            auto_migrate: Whether the schema is made or upgraded at first use.
            engine: A SQLAlchemy engine on psycopg to use instead of a connection string.
            table: Logical table, made on first use.
            inline_threshold: For a table that is made: values below this many bytes are inlined.
            language: For a table that is made: the language of its search words.
            clock: Tells the time.

        Raises:
            ValidationError: A bad argument, a token that is not valid, or no way to PostgreSQL.
            MissingDependencyError: psycopg or PyJWT is not installed.
        """
        identity: Identity | None = None
        self.token_role: str | None = None
        self.pool_mode: PoolerMode | None = None
        if access_token is not None:
            token = read_access_token(access_token, jwt_secret=jwt_secret, now=clock())
            tenant = _tenant_of(token, tenant)
            identity = _identity_of(token, clock)
            self.token_role = token.role
        if engine is not None:
            pool = pool_of(engine)
        else:
            if connection_string is None:
                raise ValidationError(_missing(url, anon_key))
            address = _require_tls(parse_address(connection_string))
            self.pool_mode = supabase_mode(address) if pool_mode is None else pool_mode
            pool = open_pool(
                address,
                pool_min=pool_min,
                pool_max=pool_max,
                pool_timeout=pool_timeout,
                connect_timeout=connect_timeout,
                statement_timeout=statement_timeout,
                recycle_seconds=recycle_seconds,
                pool_mode=self.pool_mode,
            )
        super().__init__(
            database_on(pool, schema=schema, auto_migrate=auto_migrate, identity=identity),
            table=table,
            tenant=tenant,
            inline_threshold=inline_threshold,
            language=language,
            clock=clock,
        )

    def diagnose(self) -> Iterator[Finding]:
        from ltm.catalog.postgres_diagnosis import diagnose_postgres
        from ltm.catalog.tenant_diagnosis import diagnose_tenants

        is_newest = False
        for finding in diagnose_postgres(self.database, self.clock, self.pool_mode):
            yield finding
            is_newest = finding.check == "schema" and finding.state == "ok"
        if is_newest:
            yield from diagnose_tenants(self.database, self.tenant, self.token_role)


def _tenant_of(token: AccessToken, tenant: str) -> str:
    """Return the tenant to work for; only a token without one of its own leaves a choice."""
    if tenant and token.tenant and tenant != token.tenant:
        raise ValidationError(f"tenant: {tenant!r} is not the tenant of access_token")
    return token.tenant or tenant


def _identity_of(token: AccessToken, clock: Clock) -> Identity:
    """Return what each transaction takes on, refused once the token has expired."""
    settings = {"role": token.role, "claims": token.claims_text}
    expires_at: datetime | None = token.expires_at

    def identity() -> Mapping[str, str]:
        if expires_at is not None and expires_at <= clock():
            raise ValidationError(f"access_token: expired at {expires_at.isoformat()}")
        return settings

    return identity


def _require_tls(address: PostgresAddress) -> PostgresAddress:
    if "[YOUR-PASSWORD]" in (address.password or ""):
        raise ValidationError("connection_string: [YOUR-PASSWORD] stands for the password")
    if address.host is None and "hostaddr" not in address.parameters:
        # What PGHOST says would be unknown here, and so whether it is local.
        raise ValidationError("connection_string: names no host")
    if address.is_local:
        return address
    sslmode = address.parameters.get("sslmode", "require")
    if sslmode not in _ENCRYPTED:
        raise ValidationError(
            f"connection_string: sslmode={sslmode} lets a connection go unencrypted: "
            f"expected {', '.join(_ENCRYPTED)}"
        )
    return replace(address, parameters={**address.parameters, "sslmode": sslmode})


def _missing(url: str | None, anon_key: str | None) -> str:
    given = [name for name, value in (("url", url), ("anon_key", anon_key)) if value is not None]
    if not given:
        return f"connection_string: is missing: {_WHERE_TO_FIND}"
    reach = "reach" if len(given) > 1 else "reaches"
    return (
        f"connection_string: is missing: {' and '.join(given)} {reach} the project's REST API, "
        f"not its PostgreSQL: {_WHERE_TO_FIND}"
    )
