"""Tenants in a database of a project, and ways for one of them to send SQL of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from ltm.catalog.leases import Lease
from ltm.catalog.supabase import SupabaseCatalog
from ltm.testing.catalog_fixtures import track
from ltm.testing.clock import FakeClock
from tests.services.tokens import SECRET, make_token

KEYED = {
    "ltm_entries": "content_hash",
    "ltm_entry_versions": "content_hash",
    "ltm_snapshots": "name",
    "ltm_payload_deletions": "scheduled_at",
    "ltm_leases": "expires_at",
    "ltm_entry_metadata": "updated_at",
    "ltm_entry_search": "length",
}
"""The tables with rows of tenants, and a column of each that a tenant may change."""

ENTRY = {
    "tenant_id": "a",
    "table_name": "default",
    "key": "new",
    "content_hash": "sha256:0",
    "byte_size": 1,
    "metadata": "{}",
    "begin_seq": 0,
    "created_at": "2030-01-01",
    "updated_at": "2030-01-01",
}
LEASE = {
    "tenant_id": "a",
    "table_name": "default",
    "key": "new",
    "owner": "a",
    "acquired_at": "2030-01-01",
    "renewed_at": "2030-01-01",
    "expires_at": "2030-01-01",
}
HASH_OF = {tenant: hashlib.sha256(tenant.encode()).hexdigest()[:32] for tenant in "ab"}

Connection = psycopg.Connection[Any]


def claims_of(tenant: str) -> str:
    return json.dumps({"role": "authenticated", "app_metadata": {"tenant_id": tenant}})


@contextmanager
def acting(url: str, claims: str | None, role: str = "authenticated") -> Iterator[Connection]:
    """Give a connection in a transaction that has the role and the claims of one at PostgREST."""
    with psycopg.connect(url.replace("postgres@", "authenticator:secret@")) as connection:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        if claims is not None:
            connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [claims])
        yield connection


def fill(url: str) -> None:
    """Let tenants a and b write rows of all kinds under the same keys."""
    clock = FakeClock()
    login = url.replace("postgres@", "authenticator:secret@")
    for tenant in "ab":
        token = make_token(tenant)
        with SupabaseCatalog(login, access_token=token, jwt_secret=SECRET, clock=clock) as catalog:
            path = f"{catalog.table().storage_prefix}/{tenant}"
            catalog.track_entry("large", "sha256:1", f"{path}-old.json", 5000, {})
            catalog.track_entry("large", "sha256:2", f"{path}-new.json", 5000, {})
            track(catalog, "k", f"words of {tenant}", metadata={"type": "note"})
            catalog.create_snapshot("same name")
            track(catalog, "k", f"new words of {tenant}", metadata={"type": "note"})
            catalog.leases.take(Lease(catalog.entry_id("k"), "k", tenant, clock.now), clock.now)


def everything_of(url: str, tenant: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of *tenant*, as a superuser sees them."""
    with closing(psycopg.connect(url)) as connection:
        return {
            table: sorted(
                connection.execute(
                    f"SELECT * FROM {table} WHERE tenant_id = %s", [tenant]
                ).fetchall(),
                key=repr,
            )
            for table in KEYED
        }


def value(connection: Connection, question: str, *parameters: Any) -> Any:
    row = connection.execute(question, parameters).fetchone()
    assert row is not None
    return row[0]


def insert(connection: Connection, table: str, row: dict[str, Any], more: str = "") -> None:
    names = ", ".join(row)
    marks = ", ".join(["%s"] * len(row))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks}) {more}", [*row.values()])


def refused(connection: Connection, statement: str, *parameters: Any) -> str:
    """Require that *statement* is refused for want of rights, and return why."""
    with pytest.raises(errors.InsufficientPrivilege) as caught, connection.transaction():
        connection.execute(statement, parameters)
    return str(caught.value)


def insert_refused(connection: Connection, table: str, row: dict[str, Any], more: str = "") -> str:
    with pytest.raises(errors.InsufficientPrivilege) as caught, connection.transaction():
        insert(connection, table, row, more)
    return str(caught.value)
