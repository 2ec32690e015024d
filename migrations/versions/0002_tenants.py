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
ALL_TABLES = (*OF_TENANTS, "ltm_tables", "ltm_alembic_version")

# Each with a path: temporary objects are looked for first wherever it doesn't say otherwise, and
# somebody's own pg_temp.jsonb, with casts of his own, would read any claims he likes. In PL/pgSQL,
# whose plans are kept for the session: in SQL they would double the time of reading an entry.
FUNCTIONS = (
    # The same claims in the same order as in an access token that the library is given; one that is
    # there and unfit is not passed over.
    """
    CREATE FUNCTION ltm_tenant() RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        claims jsonb = CAST(nullif(current_setting('request.jwt.claims', true), '') AS jsonb);
        claim jsonb = claims -> 'sub';
    BEGIN
        IF jsonb_typeof(claims -> 'app_metadata') = 'object'
            AND claims -> 'app_metadata' ? 'tenant_id'
        THEN
            claim = claims -> 'app_metadata' -> 'tenant_id';
        ELSIF claims ? 'tenant_id' THEN
            claim = claims -> 'tenant_id';
        END IF;
        RETURN CASE WHEN jsonb_typeof(claim) = 'string' THEN nullif(claim #>> '{}', '') END;
    END
    $$
    """,
    # Supabase's roles for people are tenants, with those that inherit from them, and so is whoever
    # brings claims. Others, such as a role of the database's own for an application, see what their
    # privileges let them see.
    """
    CREATE FUNCTION ltm_sees_all_tenants() RETURNS boolean LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        RETURN current_user = 'service_role' OR (
            coalesce(current_setting('request.jwt.claims', true), '') = ''
            AND NOT coalesce(pg_has_role(to_regrole('anon'), 'USAGE'), false)
            AND NOT coalesce(pg_has_role(to_regrole('authenticated'), 'USAGE'), false)
        );
    END
    $$
    """,
    # Tables are shared by tenants, and the numbers of snapshots with them: none may go back. Nor
    # does whoever is under the policies choose where the payloads of others will lie.
    """
    CREATE FUNCTION ltm_tables_guard() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            IF NEW.snapshot_seq NOT IN (OLD.snapshot_seq, OLD.snapshot_seq + 1) THEN
                RAISE EXCEPTION 'ltm_tables.snapshot_seq goes up one by one'
                    USING ERRCODE = 'check_violation';
            END IF;
        ELSIF row_security_active(TG_RELID) THEN
            NEW.snapshot_seq = 0;
            NEW.storage_prefix = left(regexp_replace(NEW.name, '[^A-Za-z0-9_-]', '_', 'g'), 64)
                || '-' || left(encode(sha256(convert_to(
                    concat_ws(' ', random(), clock_timestamp(), pg_backend_pid(), NEW.name), 'UTF8'
                )), 'hex'), 12);
        END IF;
        RETURN NEW;
    END
    $$
    """,
    "CREATE TRIGGER ltm_tables_guard BEFORE INSERT OR UPDATE ON ltm_tables "
    "FOR EACH ROW EXECUTE FUNCTION ltm_tables_guard()",
)

SEES_ALL = "(SELECT ltm_sees_all_tenants())"
IS_OWN = "tenant_id = (SELECT ltm_tenant())"
DIRECTORY = "(SELECT left(encode(sha256(convert_to(ltm_tenant(), 'UTF8')), 'hex'), 32))"
"""Where the payloads of a tenant lie, below the storage prefix of each table."""

# Without it a tenant could take the id of a key that another one is still to write.
HAS_OWN_ID = """
    id = encode(
        sha256(
            '\\x00'::bytea || convert_to(tenant_id, 'UTF8')
            || '\\x00'::bytea || convert_to(table_name, 'UTF8')
            || '\\x00'::bytea || convert_to(key, 'UTF8')
        ),
        'hex'
    )
"""

# Without it a tenant could name a payload of another one: the library, as that tenant, reads what a
# row names. Other paths than those of the library's making are free.
NAMES_OWN_PAYLOAD = rf"""
    (
        storage_uri IS NULL
        OR split_part(storage_uri, '/', 2) = {DIRECTORY}
        OR storage_uri !~* '(^|/)[.]?[0-9a-f]{{64}}-[^/]*$'
    )
"""

# Without it a tenant could write index rows of another one's entry, which then cannot write them.
# Those that a tenant sees are its own: the policy of ltm_entries holds here too.
IS_OF_OWN_ENTRY = "EXISTS (SELECT FROM ltm_entries AS entry WHERE entry.id = entry_id)"

# As of PyStemmer 3.1: any other name would make every call on the table fail, whoever's it is.
HAS_LANGUAGE = """
    language IN (
        'arabic', 'armenian', 'basque', 'catalan', 'czech', 'danish', 'dutch', 'dutch_porter',
        'english', 'esperanto', 'estonian', 'finnish', 'french', 'german', 'greek', 'hindi',
        'hungarian', 'indonesian', 'irish', 'italian', 'lithuanian', 'nepali', 'norwegian',
        'persian', 'polish', 'porter', 'portuguese', 'romanian', 'russian', 'serbian', 'sesotho',
        'spanish', 'swedish', 'tamil', 'turkish', 'yiddish'
    )
"""

CHECKS = {
    "ltm_entries": (HAS_OWN_ID, NAMES_OWN_PAYLOAD),
    "ltm_entry_versions": (HAS_OWN_ID, NAMES_OWN_PAYLOAD),
    "ltm_snapshots": (),
    "ltm_payload_deletions": (NAMES_OWN_PAYLOAD,),
    "ltm_entry_metadata": (IS_OF_OWN_ENTRY,),
    "ltm_entry_search": (IS_OF_OWN_ENTRY,),
}
"""What a row of a tenant must fulfil besides being its own."""

# Privileges that a role may have by default go first: TRUNCATE and REFERENCES know no policies, and
# whoever may set a sequence makes other tenants' writes fail. So would a document_id that is taken
# ahead of the sequence: it is nobody's to give.
GRANTS = """
DO $$
DECLARE
    each_role text;
BEGIN
    REVOKE TRUNCATE, REFERENCES, TRIGGER ON {all_tables} FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION ltm_tenant(), ltm_sees_all_tenants() TO PUBLIC;
    FOR each_role IN
        SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')
    LOOP
        EXECUTE format('REVOKE ALL ON {all_tables} FROM %I', each_role);
        EXECUTE format(
            'REVOKE ALL ON SEQUENCE ltm_entry_search_document_id_seq FROM %I', each_role
        );
        -- Nobody's: its key is public.
        CONTINUE WHEN each_role = 'anon';
        IF NOT has_schema_privilege(each_role, current_schema(), 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), each_role);
        END IF;
        EXECUTE format('GRANT SELECT, DELETE ON {tenant_tables} TO %I', each_role);
        EXECUTE format('GRANT INSERT, UPDATE ON {wholly_written} TO %I', each_role);
        EXECUTE format(
            'GRANT INSERT (entry_id, tenant_id, table_name, length, text), UPDATE (length, text) '
            'ON ltm_entry_search TO %I', each_role
        );
        EXECUTE format('GRANT USAGE ON SEQUENCE ltm_entry_search_document_id_seq TO %I', each_role);
        EXECUTE format('GRANT SELECT ON ltm_tables, ltm_alembic_version TO %I', each_role);
        EXECUTE format('GRANT INSERT, UPDATE (snapshot_seq) ON ltm_tables TO %I', each_role);
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
        -- Whoever else has something there may have granted it, too.
        IF current_schema() <> 'public' AND NOT EXISTS (
            SELECT FROM pg_class
            WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
                AND relkind IN ('r', 'p', 'v', 'm', 'f') AND left(relname, 4) <> 'ltm_'
        ) THEN
            EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM %I', current_schema(), each_role);
        END IF;
    END LOOP;
END
$$
"""


def for_roles(block: str) -> str:
    """Return *block* with the names of the tables in it."""
    return block.format(
        all_tables=", ".join(ALL_TABLES),
        tenant_tables=", ".join(OF_TENANTS),
        wholly_written=", ".join(name for name in OF_TENANTS if name != "ltm_entry_search"),
    )


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    for function in FUNCTIONS:
        op.execute(function)
    for table, checks in CHECKS.items():
        allowed = " AND ".join((IS_OWN, *checks))
        protect(table, f"{SEES_ALL} OR {IS_OWN}", f"{SEES_ALL} OR ({allowed})")
    is_tenant = "(SELECT ltm_tenant()) IS NOT NULL"
    protect(
        "ltm_tables",
        f"{SEES_ALL} OR {is_tenant}",
        f"{SEES_ALL} OR ({is_tenant} AND {HAS_LANGUAGE})",
    )
    # The number of a revision is no secret.
    protect("ltm_alembic_version", "true", "true")
    op.execute(for_roles(GRANTS))


def protect(table: str, visible: str, allowed: str) -> None:
    """Let rows of *table* be seen where *visible* holds, and written where *allowed* does."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY ltm_tenant ON {table} USING ({visible}) WITH CHECK ({allowed})")


def downgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute(for_roles(REVOCATIONS))
    for table in ALL_TABLES:
        op.execute(f"DROP POLICY ltm_tenant ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute("DROP TRIGGER ltm_tables_guard ON ltm_tables")
    for function in ("ltm_tables_guard", "ltm_sees_all_tenants", "ltm_tenant"):
        op.execute(f"DROP FUNCTION {function}()")
