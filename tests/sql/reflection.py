"""All that a schema of a PostgreSQL database holds, as text that two of them can be compared by."""

from __future__ import annotations

from typing import Any

import psycopg

_QUESTIONS = {
    "tables": """
        SELECT relname, relkind::text, relrowsecurity, relforcerowsecurity, relpersistence::text
        FROM pg_class WHERE relnamespace = %(schema)s AND relkind IN ('r', 'v', 'm', 'S')
    """,
    "columns": """
        SELECT relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, collname,
            attgenerated::text, attidentity::text, pg_get_expr(adbin, adrelid)
        FROM pg_attribute
        JOIN pg_class ON pg_class.oid = attrelid AND relkind = 'r'
        LEFT JOIN pg_collation ON pg_collation.oid = attcollation
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = %(schema)s AND attnum > 0 AND NOT attisdropped
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = %(schema)s
    """,
    "indexes": """
        SELECT relname, pg_get_indexdef(pg_class.oid), array_agg(opcname::text ORDER BY position)
        FROM pg_index
        JOIN pg_class ON pg_class.oid = indexrelid
        CROSS JOIN unnest(indclass::oid[]) WITH ORDINALITY AS class (id, position)
        JOIN pg_opclass ON pg_opclass.oid = class.id
        WHERE relnamespace = %(schema)s
        GROUP BY pg_class.oid, relname
    """,
    "triggers": """
        SELECT tgname, pg_get_triggerdef(pg_trigger.oid)
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = %(schema)s AND NOT tgisinternal
    """,
    "functions": """
        SELECT proname, pg_get_functiondef(oid), proacl::text
        FROM pg_proc WHERE pronamespace = %(schema)s
    """,
    "policies": """
        SELECT polname, polrelid::regclass::text, polcmd::text, polpermissive,
            pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
        FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid WHERE relnamespace = %(schema)s
    """,
    "types": """
        SELECT typname FROM pg_type
        LEFT JOIN pg_class ON pg_class.oid = typrelid
        WHERE typnamespace = %(schema)s AND typelem = 0 AND coalesce(relkind = 'c', true)
    """,
    "privileges": """
        SELECT relname, NULL, grantee::regrole::text, privilege_type
        FROM pg_class CROSS JOIN aclexplode(relacl) WHERE relnamespace = %(schema)s
        UNION ALL
        SELECT relname, attname, grantee::regrole::text, privilege_type
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid CROSS JOIN aclexplode(attacl)
        WHERE relnamespace = %(schema)s
    """,
}

Contents = dict[str, list[tuple[Any, ...]]]
"""By kind, the objects of that kind, each with all that is known of it, its name first."""


def contents(url: str, schema: str = "public") -> Contents:
    """Return everything in *schema*, which itself is named nowhere in it."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT oid, quote_ident(nspname) FROM pg_namespace WHERE nspname = %s", [schema]
        ).fetchone()
        if row is None:
            return {kind: [] for kind in _QUESTIONS}
        number, quoted = row
        # What is in the path is shown without its schema, save where it is shown with it always.
        connection.execute("SELECT set_config('search_path', %s, true)", [quoted])
        return {
            kind: sorted(
                (
                    tuple(_without(value, quoted) for value in found)
                    for found in connection.execute(question, {"schema": number})
                ),
                key=repr,
            )
            for kind, question in _QUESTIONS.items()
        }


def names(found: Contents) -> set[str]:
    """Return the name of each object that is not a part of another one."""
    whole = ("tables", "indexes", "triggers", "functions", "policies", "types")
    names = {objects[0] for kind in whole for objects in found[kind]}
    return names | {constraint for _, constraint, _ in found["constraints"]}


def _without(value: Any, quoted: str) -> Any:
    return value.replace(f"{quoted}.", "") if isinstance(value, str) else value
