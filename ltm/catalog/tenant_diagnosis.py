"""What keeps tenants apart in a Supabase project's database, and what of it is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ltm.catalog.database import Database
from ltm.errors import LTMError
from ltm.finding import Finding, ok, problem, warning
from ltm.sql.execution import Row, Session
from ltm.sql.postgres_questions import OUR_TABLES, PRIVILEGES, PostgresQuestions
from ltm.sql.revision import VERSION_TABLE

CHECK = "row_level_security"

_ERROR_TYPE = "schema_out_of_date"
_POLICY = "ltm_tenant"
_SERVICE_ROLE = "service_role"
_AS_MADE = "make policies and grants anew: 'alembic downgrade 0001', then 'alembic upgrade head'"

_ALL = frozenset(PRIVILEGES)
# They know no policies: see the grants of revision 0002.
_NEVER = frozenset({"TRUNCATE", "REFERENCES", "TRIGGER"})
_TOO_MUCH = {
    "ltm_tables": _NEVER | {"UPDATE", "DELETE"},
    "ltm_entry_search": _NEVER | {"INSERT", "UPDATE"},
    VERSION_TABLE: _NEVER | {"INSERT", "UPDATE", "DELETE"},
}
"""What ``authenticated`` must not have on a whole table; elsewhere it is ``_NEVER``."""


def diagnose_tenants(database: Database, tenant: str, token_role: str | None) -> Iterator[Finding]:
    """Yield what holds one tenant back from another's rows, in a schema at its newest revision.

    Args:
        database: The project's, with the identity that its transactions take on.
        tenant: The one that is worked for, empty for none.
        token_role: The role of the access token, None where there is none.
    """
    questions = PostgresQuestions(database.idiom, database.schema)
    names = {"names": database.dialect.bind_list(OUR_TABLES)}
    roles = {"roles": database.dialect.bind_list(["anon", "authenticated"])}

    def look(session: Session) -> Sequence[list[Row]]:
        return (
            session.rows(questions.tables, names),
            session.rows(questions.policies, names),
            session.rows(questions.privileges, names | roles),
            session.rows(questions.role, {}),
        )

    try:
        tables, policies, privileges, ((role,),) = database.read(look)
    except LTMError as error:
        yield problem(CHECK, f"can't be looked at: {error}", "look again", error.error_type)
        return
    faults = [*_without_security(tables), *_wrong_policies(tables, policies)]
    faults += _wrong_grants(privileges)
    yield from faults
    if not faults:
        yield ok(CHECK, f"on for all {len(tables)} tables, with the policies of the migration")
    yield _who_is_bound(tables, role, tenant, token_role)


def _without_security(tables: Iterable[Row]) -> Iterator[Finding]:
    off = sorted(name for name, is_on, _ in tables if not is_on)
    if off:
        yield problem(
            CHECK,
            f"off for {', '.join(off)}: every role with rights there sees the rows of all tenants",
            "; ".join(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY" for name in off),
            _ERROR_TYPE,
        )


def _wrong_policies(tables: Iterable[Row], policies: Iterable[Row]) -> Iterator[Finding]:
    policies = list(policies)
    made = {table for table, name, _ in policies if name == _POLICY}
    missing = sorted(name for name, *_ in tables if name not in made)
    if missing:
        message = f"policy {_POLICY} is missing on {', '.join(missing)}"
        yield problem(CHECK, message, _AS_MADE, _ERROR_TYPE)
    others = sorted(
        f"{name!r} on {table}"
        for table, name, is_permissive in policies
        if is_permissive and name != _POLICY
    )
    if others:
        yield warning(
            CHECK,
            f"policies that the migration did not make let more rows through: {', '.join(others)}",
            "DROP POLICY ... ON ..., unless they are meant to",
        )


def _wrong_grants(privileges: Iterable[Row]) -> Iterator[Finding]:
    excessive: list[str] = []
    missing: list[str] = []
    for role, table, *has in privileges:
        granted = {name for name, is_granted in zip(PRIVILEGES, has, strict=True) if is_granted}
        refused = _ALL if role == "anon" else _TOO_MUCH.get(table, _NEVER)
        if granted & refused:
            excessive.append(f"{role} has {', '.join(sorted(granted & refused))} on {table}")
        if role != "anon" and "SELECT" not in granted:
            missing.append(table)
    if excessive:
        message = f"more is granted than the migration grants: {'; '.join(sorted(excessive))}"
        yield problem(CHECK, message, f"REVOKE it, or {_AS_MADE}", _ERROR_TYPE)
    if missing:
        yield problem(
            CHECK,
            f"role authenticated may not read {', '.join(sorted(missing))}: it was made after the "
            "schema, or its grants were taken away",
            _AS_MADE,
            _ERROR_TYPE,
        )


def _who_is_bound(tables: Iterable[Row], role: str, tenant: str, token_role: str | None) -> Finding:
    """Return whether the policies bind the role that statements run as, and are meant to."""
    is_bound = all(is_active for _, _, is_active in tables)
    if token_role is not None and token_role != _SERVICE_ROLE:
        if is_bound:
            return ok(CHECK, f"binds role {role}, which the access token names")
        return problem(
            CHECK,
            f"does not bind role {role}, which the access token names: it sees all tenants",
            f"ALTER ROLE {role} NOBYPASSRLS NOSUPERUSER, and let it own none of the tables",
            _ERROR_TYPE,
        )
    if tenant and not is_bound:
        return warning(
            CHECK,
            f"does not bind role {role}: the library alone keeps to its tenant",
            "give an access_token of role authenticated where the database is to see to it",
        )
    return ok(CHECK, f"{'binds' if is_bound else 'does not bind'} role {role}, for no tenant")
