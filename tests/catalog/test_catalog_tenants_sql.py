"""Hand-written SQL under the claims of a tenant reaches nothing of another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors
from tenants import (
    ENTRY,
    HASH_OF,
    KEYED,
    LEASE,
    Connection,
    acting,
    claims_of,
    everything_of,
    fill,
    insert,
    insert_refused,
    refused,
    value,
)

from ltm.keys import generate_entry_id


@pytest.fixture
def url(postgres_url: str) -> str:
    fill(postgres_url)
    return postgres_url


@pytest.fixture
def attacker(url: str) -> Iterator[Connection]:
    """A connection of tenant a's, within a transaction."""
    with acting(url, claims_of("a")) as connection:
        yield connection
        connection.rollback()


# What a tenant sees and changes


@pytest.mark.parametrize("table", KEYED)
def test_a_tenant_sees_and_counts_its_own_rows_alone(
    url: str, attacker: Connection, table: str
) -> None:
    assert {row for (row,) in attacker.execute(f"SELECT tenant_id FROM {table}")} == {"a"}
    mine = len(everything_of(url, "a")[table])
    assert value(attacker, f"SELECT count(*) FROM {table}") == mine > 0
    assert attacker.execute(f"SELECT FROM {table} WHERE tenant_id = 'b'").fetchall() == []
    assert everything_of(url, "b")[table]


@pytest.mark.parametrize("table", KEYED)
def test_an_update_or_deletion_of_all_rows_reaches_its_own_alone(url: str, table: str) -> None:
    before, mine = everything_of(url, "b"), len(everything_of(url, "a")[table])
    column = KEYED[table]
    with acting(url, claims_of("a")) as connection:
        updated = connection.execute(f"UPDATE {table} SET {column} = {column}")
        deleted = connection.execute(f"DELETE FROM {table}")
    assert updated.rowcount == deleted.rowcount == mine
    assert everything_of(url, "a")[table] == []
    assert everything_of(url, "b") == before


def test_deleting_an_entry_takes_the_index_rows_of_no_other_along(url: str) -> None:
    before = everything_of(url, "b")
    with acting(url, claims_of("a")) as connection:
        connection.execute("DELETE FROM ltm_entries")
    assert everything_of(url, "a")["ltm_entry_search"] == []
    assert everything_of(url, "b") == before


@pytest.mark.parametrize("table", [name for name in KEYED if name != "ltm_entry_search"])
def test_a_row_cannot_be_given_to_another_tenant(attacker: Connection, table: str) -> None:
    assert "row-level security" in refused(attacker, f"UPDATE {table} SET tenant_id = 'b'")
    assert "row-level security" in refused(attacker, f"UPDATE {table} SET tenant_id = ''")
    row = attacker.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()
    assert row is not None


@pytest.mark.parametrize("tenant", ["b", ""])
@pytest.mark.parametrize("more", ["", "ON CONFLICT DO NOTHING"])
def test_a_row_cannot_be_written_in_the_name_of_another_tenant(
    attacker: Connection, tenant: str, more: str
) -> None:
    entry = ENTRY | {"tenant_id": tenant, "id": generate_entry_id("new", tenant=tenant)}
    insert_refused(attacker, "ltm_entries", entry, more)
    version = entry | {"end_seq": 1}
    insert_refused(attacker, "ltm_entry_versions", version, more)
    snapshot = {"id": "0" * 64, "name": "n", "tenant_id": tenant, "table_name": "default"}
    snapshot |= {"seq": 9, "entry_count": 0, "total_bytes": 0, "created_at": "2030-01-01"}
    insert_refused(attacker, "ltm_snapshots", snapshot, more)
    deletion = {"storage_uri": "x", "tenant_id": tenant, "scheduled_at": "2030-01-01"}
    insert_refused(attacker, "ltm_payload_deletions", deletion, more)
    lease = LEASE | {"tenant_id": tenant, "id": generate_entry_id("new", tenant=tenant)}
    insert_refused(attacker, "ltm_leases", lease, more)
    words = {"entry_id": generate_entry_id("k", tenant="a"), "tenant_id": tenant}
    words |= {"table_name": "default", "length": 1, "text": "x"}
    insert_refused(attacker, "ltm_entry_search", words, more)


# Occupying what another tenant needs


@pytest.mark.parametrize("key", ["k", "not there yet"])
@pytest.mark.parametrize(
    "more",
    ["", "ON CONFLICT DO NOTHING", "ON CONFLICT (id) DO UPDATE SET content_hash = 'sha256:stolen'"],
)
def test_the_id_of_another_tenants_key_cannot_be_taken(
    attacker: Connection, key: str, more: str
) -> None:
    message = insert_refused(
        attacker, "ltm_entries", ENTRY | {"id": generate_entry_id(key, tenant="b")}, more
    )
    # Whether the key is there shows in nothing.
    assert message == 'new row violates row-level security policy for table "ltm_entries"'
    if "UPDATE" not in more:
        version = ENTRY | {"id": generate_entry_id(key, tenant="b"), "end_seq": 9}
        insert_refused(attacker, "ltm_entry_versions", version, more)
        lease = LEASE | {"id": generate_entry_id(key, tenant="b")}
        insert_refused(attacker, "ltm_leases", lease, more)


def test_the_id_of_an_untenanted_key_cannot_be_taken(attacker: Connection) -> None:
    for table in ("default", "other"):
        entry = ENTRY | {"id": generate_entry_id("new", table=table)}
        insert_refused(attacker, "ltm_entries", entry)


@pytest.mark.parametrize("key", ["k", "not there yet"])
@pytest.mark.parametrize("more", ["", "ON CONFLICT DO NOTHING"])
def test_index_rows_of_another_tenants_entry_cannot_be_written(
    attacker: Connection, key: str, more: str
) -> None:
    common = {"entry_id": generate_entry_id(key, tenant="b"), "tenant_id": "a"}
    common["table_name"] = "default"
    metadata = common | {"path": "type", "value": "s", "updated_at": "2030-01-01"}
    words = common | {"length": 1, "text": "x"}
    messages = {
        insert_refused(attacker, "ltm_entry_metadata", metadata, more),
        insert_refused(attacker, "ltm_entry_search", words, more),
    }
    assert all(message.startswith("new row violates row-level security") for message in messages)


def test_index_rows_of_ones_own_cannot_be_moved_to_another_tenants_entry(
    attacker: Connection,
) -> None:
    theirs = generate_entry_id("k", tenant="b")
    refused(attacker, "UPDATE ltm_entry_metadata SET entry_id = %s", theirs)
    refused(attacker, "UPDATE ltm_entry_search SET entry_id = %s", theirs)


def test_the_numbers_of_documents_can_be_neither_set_nor_taken(attacker: Connection) -> None:
    sequence = "ltm_entry_search_document_id_seq"
    refused(attacker, f"SELECT setval('{sequence}', 1)")
    refused(attacker, f"ALTER SEQUENCE {sequence} RESTART")
    attacker.execute("DELETE FROM ltm_entry_search")
    mine = {"entry_id": generate_entry_id("k", tenant="a"), "tenant_id": "a"}
    mine |= {"table_name": "default", "length": 1, "text": "x"}
    insert_refused(attacker, "ltm_entry_search", mine | {"document_id": 1_000_000})
    refused(attacker, "UPDATE ltm_entry_search SET document_id = 1000000")
    insert(attacker, "ltm_entry_search", mine)


def test_a_payload_of_another_tenant_can_be_neither_named_nor_scheduled(
    attacker: Connection,
) -> None:
    name = f"{generate_entry_id('large', tenant='b')}-{'0' * 16}-{'1' * 16}.json"
    theirs = [
        f"default-x/{HASH_OF['b']}/{name[:2]}/{name}",
        f"DEFAULT-X/{HASH_OF['b'].upper()}/{name[:2].upper()}/{name.upper()}",
        f"default-x/{name[:2]}/{name}",
        f"default-x/{HASH_OF['b']}/{name[:2]}/.{name}.{'0' * 16}.tmp",
        name,
    ]
    for path in theirs:
        entry = ENTRY | {"id": generate_entry_id("new", tenant="a"), "storage_uri": path}
        insert_refused(attacker, "ltm_entries", entry)
        insert_refused(attacker, "ltm_entry_versions", entry | {"end_seq": 9})
        refused(attacker, "UPDATE ltm_entries SET storage_uri = %s WHERE key = 'large'", path)
        deletion = {"storage_uri": path, "tenant_id": "a", "scheduled_at": "2030-01-01"}
        insert_refused(attacker, "ltm_payload_deletions", deletion, "ON CONFLICT DO NOTHING")
    for path in (f"default-x/{HASH_OF['a']}/{name[:2]}/{name}", "own files/report.json"):
        attacker.execute("UPDATE ltm_entries SET storage_uri = %s WHERE key = 'large'", [path])


# Logical tables, which tenants share


def table_row(name: str, **changed: Any) -> dict[str, Any]:
    row = {"name": name, "type": "memory", "storage_prefix": "x", "inline_threshold": 1024}
    return row | {"language": "english", "snapshot_seq": 0, "created_at": "2030-01-01"} | changed


@pytest.mark.parametrize("prefix", ["", "..", "../secrets", f"default-x/{HASH_OF['b']}", "/etc"])
def test_a_tenant_that_makes_a_table_chooses_neither_its_prefix_nor_its_numbers(
    attacker: Connection, prefix: str
) -> None:
    row = table_row("pläne/../x", storage_prefix=prefix, snapshot_seq=2**63 - 1)
    insert(attacker, "ltm_tables", row)
    found = attacker.execute(
        "SELECT storage_prefix ~ '^pl_ne____x-[0-9a-f]{12}$', snapshot_seq FROM ltm_tables "
        "WHERE name = %s",
        [row["name"]],
    ).fetchone()
    assert found == (True, 0)


def test_prefixes_never_repeat(attacker: Connection) -> None:
    attacker.execute(
        "INSERT INTO ltm_tables SELECT 'same', 'memory', 'x', 1, 'english', 0, now() "
        "ON CONFLICT DO NOTHING"
    )
    attacker.execute(
        "INSERT INTO ltm_tables SELECT repeat('t', 100) || number, 'memory', 'x', 1, 'english', 0, "
        "now() FROM generate_series(1, 300) AS number"
    )
    question = "SELECT count(DISTINCT storage_prefix) = count(*) FROM ltm_tables"
    assert value(attacker, question) is True


@pytest.mark.parametrize("language", ["klingon", "", "English"])
def test_a_tenant_cannot_make_a_table_that_fails_for_others(
    attacker: Connection, language: str
) -> None:
    insert_refused(attacker, "ltm_tables", table_row("new", language=language))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ltm_tables SET language = 'german'",
        "UPDATE ltm_tables SET storage_prefix = 'mine'",
        "UPDATE ltm_tables SET name = 'mine'",
        "UPDATE ltm_tables SET inline_threshold = 0",
        "DELETE FROM ltm_tables",
        "UPDATE ltm_alembic_version SET version_num = '9999'",
        "DELETE FROM ltm_alembic_version",
    ],
)
def test_a_table_that_is_there_stays_as_it_is(attacker: Connection, statement: str) -> None:
    assert refused(attacker, statement).startswith("permission denied")


def test_making_a_table_again_changes_nothing_of_it(attacker: Connection) -> None:
    before = attacker.execute("SELECT * FROM ltm_tables").fetchall()
    row = table_row("default", language="german")
    insert(attacker, "ltm_tables", row, "ON CONFLICT DO NOTHING")
    more = "ON CONFLICT (name) DO UPDATE SET language = 'german'"
    insert_refused(attacker, "ltm_tables", row, more)
    assert attacker.execute("SELECT * FROM ltm_tables").fetchall() == before


@pytest.mark.parametrize("number", ["-1", "0", "snapshot_seq - 1", "snapshot_seq + 2", "2 ^ 62"])
def test_the_numbers_of_snapshots_go_up_one_by_one(attacker: Connection, number: str) -> None:
    with pytest.raises(errors.CheckViolation, match="one by one"), attacker.transaction():
        attacker.execute(f"UPDATE ltm_tables SET snapshot_seq = {number}")
    attacker.execute("UPDATE ltm_tables SET snapshot_seq = snapshot_seq + 1")


# Other ways to the rows


def test_a_function_in_a_condition_sees_own_rows_alone(attacker: Connection) -> None:
    # It would run first, and on every row, were there no policies: it costs less than anything.
    attacker.execute("""
        CREATE FUNCTION pg_temp.spy(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
        BEGIN RAISE NOTICE '%', $1; RETURN true; END $$
    """)
    told: list[str] = []
    attacker.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    attacker.execute("SELECT FROM ltm_entries WHERE pg_temp.spy(id)")
    assert sorted(told) == sorted(generate_entry_id(key, tenant="a") for key in ("k", "large"))
    told.clear()
    attacker.execute("SELECT FROM ltm_entry_search WHERE pg_temp.spy(tenant_id)")
    assert set(told) == {"a"}


def test_a_copy_takes_own_rows_along_and_brings_none(attacker: Connection) -> None:
    with attacker.cursor().copy("COPY ltm_entries (tenant_id) TO STDOUT") as copy:
        assert set(copy.rows()) == {("a",)}
    with (
        pytest.raises(errors.FeatureNotSupported),
        attacker.cursor().copy("COPY ltm_entries FROM STDIN"),
    ):
        pass


def test_a_tenants_own_view_shows_its_own_rows(attacker: Connection) -> None:
    attacker.execute("CREATE TEMP VIEW mine AS SELECT tenant_id FROM ltm_entries")
    assert {row for (row,) in attacker.execute("SELECT * FROM mine")} == {"a"}


def test_a_view_shows_what_its_owner_sees_unless_it_asks_as_its_reader(url: str) -> None:
    with psycopg.connect(url) as owner:
        for name, option in [("leaky", ""), ("sound", "WITH (security_invoker)")]:
            owner.execute(f"CREATE VIEW {name} {option} AS SELECT tenant_id FROM ltm_entries")
            owner.execute(f"GRANT SELECT ON {name} TO authenticated")
    with acting(url, claims_of("a")) as connection:
        assert {row for (row,) in connection.execute("SELECT * FROM sound")} == {"a"}
        assert {row for (row,) in connection.execute("SELECT * FROM leaky")} == {"a", "b"}
