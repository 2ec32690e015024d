"""Row-level security on PostgreSQL: a tenant sees and changes its own rows alone."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OF_TENANTS = (
    "ltm_entries",
    "ltm_entry_versions",
    "ltm_snapshots",
    "ltm_payload_deletions",
    "ltm_entry_metadata",
    "ltm_entry_search",
)
OF_ALL = ("ltm_tables", "ltm_alembic_version")

FUNCTIONS = (
    # The same claims in the same order as in an access token that the library is given.
    """
    CREATE FUNCTION ltm_tenant() RETURNS text LANGUAGE sql STABLE SET search_path = '' AS $$
        SELECT nullif(
            coalesce(
                claims -> 'app_metadata' ->> 'tenant_id', claims ->> 'tenant_id', claims ->> 'sub'
            ),
            ''
        )
        FROM (
            SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb AS claims
        ) AS token
    $$
    """,
    # Supabase's roles for people are tenants, and so is whoever brings claims. Others, such as a
    # role of the database's own for an application, see what their privileges let them see.
    """
    CREATE FUNCTION ltm_sees_all_tenants() RETURNS boolean LANGUAGE sql STABLE
    SET search_path = '' AS $$
        SELECT current_user = 'service_role' OR (
            current_user NOT IN ('anon', 'authenticated')
            AND coalesce(current_setting('request.jwt.claims', true), '') = ''
        )
    $$
    """,
    # Tables are shared by tenants, and the numbers of snapshots with them: none may go back.
    """
    CREATE FUNCTION ltm_tables_guard() RETURNS trigger LANGUAGE plpgsql
    SET search_path = '' AS $$
    BEGIN
        IF NEW.snapshot_seq NOT IN (OLD.snapshot_seq, OLD.snapshot_seq + 1) THEN
            RAISE EXCEPTION 'ltm_tables.snapshot_seq goes up one by one'
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END
    $$
    """,
    "CREATE TRIGGER ltm_tables_guard BEFORE UPDATE ON ltm_tables "
    "FOR EACH ROW EXECUTE FUNCTION ltm_tables_guard()",
)

MAY_SEE = "(SELECT ltm_sees_all_tenants()) OR tenant_id = (SELECT ltm_tenant())"

# Without it a tenant could take the id of a key that another one is still to write.
OWN_ID = """
    (SELECT ltm_sees_all_tenants()) OR (
        tenant_id = (SELECT ltm_tenant())
        AND id = encode(
            sha256(
                '\\x00'::bytea || convert_to(tenant_id, 'UTF8')
                || '\\x00'::bytea || convert_to(table_name, 'UTF8')
                || '\\x00'::bytea || convert_to(key, 'UTF8')
            ),
            'hex'
        )
    )
"""

# Privileges that a role may have by default go first: TRUNCATE knows no policies.
GRANTS = """
DO $$
DECLARE
    each_role text;
BEGIN
    FOR each_role IN
        SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')
    LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), each_role);
        EXECUTE format('REVOKE ALL ON {all_tables} FROM %I', each_role);
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON {tenant_tables} TO %I', each_role
        );
        EXECUTE format('GRANT SELECT ON ltm_tables, ltm_alembic_version TO %I', each_role);
        EXECUTE format('GRANT INSERT ON ltm_tables TO %I', each_role);
        EXECUTE format('GRANT UPDATE (snapshot_seq) ON ltm_tables TO %I', each_role);
        EXECUTE format('GRANT USAGE ON SEQUENCE ltm_entry_search_document_id_seq TO %I', each_role);
    END LOOP;
END
$$
"""

REVOCATIONS = """
DO $$
DECLARE
    each_role text;
BEGIN
    FOR each_role IN
        SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')
    LOOP
        EXECUTE format('REVOKE ALL ON {all_tables} FROM %I', each_role);
        EXECUTE format(
            'REVOKE ALL ON SEQUENCE ltm_entry_search_document_id_seq FROM %I', each_role
        );
    END LOOP;
END
$$
"""


def for_roles(block: str) -> str:
    """Return *block* with the names of the tables in it."""
    tenant_tables = ", ".join(OF_TENANTS)
    return block.format(
        tenant_tables=tenant_tables, all_tables=", ".join((tenant_tables, *OF_ALL))
    )


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    for function in FUNCTIONS:
        op.execute(function)
    for table in OF_TENANTS:
        allowed = OWN_ID if table in ("ltm_entries", "ltm_entry_versions") else MAY_SEE
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY ltm_tenant ON {table} USING ({MAY_SEE}) WITH CHECK ({allowed})")
    for table in OF_ALL:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY ltm_all ON {table} USING (true) WITH CHECK (true)")
    op.execute(for_roles(GRANTS))


def downgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute(for_roles(REVOCATIONS))
    for table, policy in [(name, "ltm_tenant") for name in OF_TENANTS] + [
        (name, "ltm_all") for name in OF_ALL
    ]:
        op.execute(f"DROP POLICY {policy} ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute("DROP TRIGGER ltm_tables_guard ON ltm_tables")
    for function in ("ltm_tables_guard", "ltm_sees_all_tenants", "ltm_tenant"):
        op.execute(f"DROP FUNCTION {function}()")
