"""What keeps tenants apart in a project's database is looked at, and what is missing is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from findings import Findings

from tests.services.postgres import PASSWORDS, PostgresServer
from tests.services.tokens import SECRET, make_token

Examine = Callable[..., Findings]
Spoil = Callable[[str], None]

CHECK = "row_level_security"


@pytest.fixture
def spoil(postgres_url: str) -> Spoil:
    """Run a statement as the owner of the tables."""

    def run(statement: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(statement)

    return run


@pytest.fixture
def project(postgres_server: PostgresServer, postgres_url: str) -> Callable[..., dict[str, Any]]:
    """Return the settings of a Supabase catalog with a token of *role*, None for no token."""
    name = postgres_url.rpartition("/")[2]
    login = postgres_server.url(name, "authenticator", PASSWORDS["authenticator"])

    def settings(role: str | None = "authenticated", **more: Any) -> dict[str, Any]:
        if role is None:
            return {"type": "supabase", "connection_string": postgres_url, **more}
        token = {"access_token": make_token("tenant-1", role=role), "jwt_secret": SECRET}
        return {"type": "supabase", "connection_string": login, **token, **more}

    return settings


@pytest.fixture
def auditor(postgres_server: PostgresServer, spoil: Spoil) -> Iterator[str]:
    """The name of a role that no policy binds."""
    postgres_server.execute("CREATE ROLE auditor NOLOGIN BYPASSRLS")
    postgres_server.execute("GRANT auditor TO authenticator")
    spoil("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO auditor")
    yield "auditor"
    spoil("DROP OWNED BY auditor")
    postgres_server.execute("DROP ROLE auditor")


def test_a_healthy_tenant_has_neither_problems_nor_warnings(examine: Examine, project: Any) -> None:
    settings = project()
    found = examine(settings)
    assert (found.problems, found.warnings) == ([], [])
    assert found.states(CHECK) == ["ok", "ok"]
    assert "binds role authenticated" in found.of(CHECK)[1].message
    assert found.states("round_trip") == ["ok", "ok"]
    for secret in (settings["access_token"], SECRET, PASSWORDS["authenticator"] + "@"):
        assert secret not in found.text


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER TABLE ltm_entries DISABLE ROW LEVEL SECURITY", "off for ltm_entries:"),
        ("DROP POLICY ltm_tenant ON ltm_snapshots", "missing on ltm_snapshots"),
        ("GRANT SELECT ON ltm_entries TO anon", "anon has SELECT on ltm_entries"),
        ("GRANT TRUNCATE ON ltm_tables TO PUBLIC", "authenticated has TRUNCATE on ltm_tables"),
        ("GRANT UPDATE ON ltm_tables TO authenticated", "has UPDATE on ltm_tables"),
        ("REVOKE SELECT ON ltm_snapshots FROM authenticated", "may not read ltm_snapshots"),
    ],
)
def test_what_is_not_as_the_migration_makes_it_is_a_problem(
    examine: Examine, project: Any, spoil: Spoil, statement: str, words: str
) -> None:
    spoil(statement)
    found = examine(project())
    assert set(found.problems) == {CHECK}
    assert any(words in each.message for each in found.of(CHECK))
    assert {each.error_type for each in found.of(CHECK)} <= {"schema_out_of_date", None}


def test_the_remedy_for_security_that_is_off_puts_it_on(
    examine: Examine, project: Any, spoil: Spoil
) -> None:
    spoil("ALTER TABLE ltm_entries DISABLE ROW LEVEL SECURITY")
    spoil("ALTER TABLE ltm_snapshots DISABLE ROW LEVEL SECURITY")
    spoil(str(examine(project()).of(CHECK)[0].remedy))
    assert examine(project()).problems == []


def test_a_policy_of_somebody_elses_that_lets_more_through_is_a_warning(
    examine: Examine, project: Any, spoil: Spoil
) -> None:
    spoil("CREATE POLICY everybody ON ltm_entries USING (true)")
    spoil("CREATE POLICY nobody ON ltm_entries AS RESTRICTIVE USING (true)")
    found = examine(project())
    assert (found.problems, found.warnings) == ([], [CHECK])
    assert "'everybody' on ltm_entries" in found.of(CHECK)[0].message
    assert "nobody" not in found.text


def test_a_token_whose_role_no_policy_binds_is_a_problem(
    examine: Examine, project: Any, auditor: str
) -> None:
    found = examine(project(auditor))
    assert found.problems == [CHECK]
    assert "does not bind role auditor" in found.of(CHECK)[1].message


def test_the_service_role_is_meant_to_see_all_tenants(examine: Examine, project: Any) -> None:
    assert examine(project("service_role")).problems == []


def test_a_tenant_without_a_token_is_kept_apart_by_the_library_alone(
    examine: Examine, project: Any
) -> None:
    found = examine(project(None, tenant="acme"))
    assert (found.problems, found.warnings) == ([], [CHECK])
    assert "the library alone" in found.of(CHECK)[1].message
    assert examine(project(None)).warnings == []


def test_tables_in_a_schema_of_their_own_are_those_that_are_looked_at(
    examine: Examine, project: Any, spoil: Spoil
) -> None:
    assert "schema" in examine(project(None, schema="Agents")).problems
    examine_once = project(None, schema="Agents", auto_migrate=True)
    from ltm import create_catalog_backend

    kind = examine_once.pop("type")
    with create_catalog_backend(kind, **examine_once) as catalog:
        catalog.table()
    spoil("ALTER TABLE ltm_entries DISABLE ROW LEVEL SECURITY")  # in public: somebody else's
    assert examine(project(None, schema="Agents")).problems == []
    spoil('ALTER TABLE "Agents".ltm_entries DISABLE ROW LEVEL SECURITY')
    assert set(examine(project(None, schema="Agents")).problems) == {CHECK}


def test_a_token_that_has_expired_is_a_fault_of_the_settings(
    examine: Examine, project: Any
) -> None:
    settings = project() | {"access_token": make_token("tenant-1", exp=1_000_000_000)}
    found = examine(settings)
    assert found.problems == ["settings"]
    assert "expired" in found.of("settings")[1].message
    assert settings["access_token"] not in found.text
