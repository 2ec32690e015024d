"""Leases: who computes what a key is to hold, and until when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")
KEY = sa.String(1024).with_variant(postgresql.VARCHAR(1024, collation="C"), "postgresql")
ID = sa.String(64).with_variant(postgresql.VARCHAR(64, collation="C"), "postgresql")
NAME = sa.String(200).with_variant(postgresql.VARCHAR(200, collation="C"), "postgresql")

SEES_ALL = "(SELECT ltm_sees_all_tenants())"
IS_OWN = "tenant_id = (SELECT ltm_tenant())"

# Without it a tenant could hold the lease of a key of another one.
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

# As for the other tables: what a role has by default goes first, and anon gets nothing.
GRANTS = """
DO $$
DECLARE
    each_role text;
BEGIN
    REVOKE TRUNCATE, REFERENCES, TRIGGER ON ltm_leases FROM PUBLIC;
    FOR each_role IN
        SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')
    LOOP
        EXECUTE format('REVOKE ALL ON ltm_leases FROM %I', each_role);
        CONTINUE WHEN each_role = 'anon';
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ltm_leases TO %I', each_role);
    END LOOP;
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "ltm_leases",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", NAME, nullable=False),
        sa.Column("table_name", NAME, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("acquired_at", INSTANT, nullable=False),
        sa.Column("renewed_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ltm_leases"),
        sa.ForeignKeyConstraint(
            ["table_name"], ["ltm_tables.name"], name="fk_ltm_leases_table_name"
        ),
    )
    op.create_index("ix_ltm_leases_table", "ltm_leases", ["tenant_id", "table_name"])
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE ltm_leases ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY ltm_tenant ON ltm_leases USING ({SEES_ALL} OR {IS_OWN}) "
            f"WITH CHECK ({SEES_ALL} OR ({IS_OWN} AND {HAS_OWN_ID}))"
        )
        op.execute(GRANTS)


def downgrade() -> None:
    op.drop_table("ltm_leases")
