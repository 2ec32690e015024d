"""What PostgreSQL is asked about itself, as SQLAlchemy expressions over its system tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Integer,
    Select,
    String,
    bindparam,
    column,
    func,
    literal,
    or_,
    select,
    table,
    true,
)

from ltm.sql.compiling import CompiledOnce
from ltm.sql.idiom import Idiom
from ltm.sql.models import Base
from ltm.sql.revision import VERSION_TABLE

OUR_TABLES = (*Base.metadata.tables, VERSION_TABLE)
"""The tables of the schema, by their names alone."""

PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
"""Those on a table, in the order in which ``privileges`` answers them."""

_CLASS = table(
    "pg_class",
    column("oid", Integer),
    column("relname", String),
    column("relnamespace", Integer),
    column("relkind", String),
    column("relrowsecurity", Boolean),
    schema="pg_catalog",
)
_NAMESPACE = table(
    "pg_namespace", column("oid", Integer), column("nspname", String), schema="pg_catalog"
)
_POLICY = table(
    "pg_policy",
    column("polrelid", Integer),
    column("polname", String),
    column("polpermissive", Boolean),
    schema="pg_catalog",
)
_ROLES = table("pg_roles", column("rolname", String), schema="pg_catalog")


class PostgresQuestions:
    """The statements, each compiled once; ``names`` is bound to names of tables or roles."""

    def __init__(self, idiom: Idiom, schema: str | None) -> None:
        """Ask about the tables in *schema*; None for where a connection looks first."""
        self.idiom = idiom
        self.schema: str | None = None  # of the statements: the system's tables are named in full
        self._within = schema

    @CompiledOnce
    def server(self) -> Select[Any]:
        """The version as a number and as a text, and whether nothing can be written."""
        return select(
            func.current_setting("server_version_num"),
            func.current_setting("server_version"),
            func.pg_is_in_recovery(),
            func.current_setting("default_transaction_read_only"),
        )

    @CompiledOnce
    def backend(self) -> Select[Any]:
        """The id of the server's process that answers."""
        return select(func.pg_backend_pid())

    @CompiledOnce
    def now(self) -> Select[Any]:
        """What the server's clock shows."""
        return select(func.clock_timestamp(type_=DateTime(timezone=True)))

    @CompiledOnce
    def tables(self) -> Select[Any]:
        """Name of each table, whether it has row-level security, and whether that binds us."""
        return select(
            _CLASS.c.relname, _CLASS.c.relrowsecurity, func.row_security_active(_CLASS.c.oid)
        ).where(self._is_ours())

    @CompiledOnce
    def policies(self) -> Select[Any]:
        """Table and name of each policy, and whether it lets through more than the others do."""
        return (
            select(_CLASS.c.relname, _POLICY.c.polname, _POLICY.c.polpermissive)
            .select_from(_POLICY)
            .join(_CLASS, _CLASS.c.oid == _POLICY.c.polrelid)
            .where(self._is_ours())
        )

    @CompiledOnce
    def privileges(self) -> Select[Any]:
        """Role and table, and for each of ``PRIVILEGES`` whether the role has it there."""
        has = [
            func.has_table_privilege(_ROLES.c.rolname, _CLASS.c.oid, literal(each, String))
            for each in PRIVILEGES
        ]
        return (
            select(_ROLES.c.rolname, _CLASS.c.relname, *has)
            .select_from(_ROLES)
            .join(_CLASS, true())
            .where(self._is_ours(), self.idiom.is_among(_ROLES.c.rolname, "roles"))
        )

    @CompiledOnce
    def role(self) -> Select[Any]:
        """The role that statements run as."""
        return select(func.current_user())

    def _is_ours(self) -> ColumnElement[bool]:
        is_table = or_(_CLASS.c.relkind == "r", _CLASS.c.relkind == "p")
        named = self.idiom.is_among(_CLASS.c.relname, "names")
        if self._within is None:
            return is_table & named & func.pg_table_is_visible(_CLASS.c.oid)
        namespace = select(_NAMESPACE.c.oid).where(
            _NAMESPACE.c.nspname == bindparam("schema", self._within, String)
        )
        return is_table & named & (_CLASS.c.relnamespace == namespace.scalar_subquery())
