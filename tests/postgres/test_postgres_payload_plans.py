"""What PostgreSQL reads to tell which of 100 objects, of 1,000 payloads each, rows still name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from test_postgres_plans import Crowd, filled_crowd

from tests.services.postgres import PostgresServer

GONE = "default-1/gone.parquet"
OBJECTS = [f"default-1/{number:02}.parquet" for number in range(100)]

FILL = (
    "INSERT INTO ltm_tables VALUES ('default', 'memory', 'default-1', 1024, 'english', 1, now())",
    "INSERT INTO ltm_entries (id, tenant_id, table_name, key, content_hash, storage_uri, byte_size,"
    " inlined_value, metadata, expires_at, begin_seq, created_at, updated_at) "
    "SELECT encode(sha256(('k' || i)::bytea), 'hex'), '', 'default', 'k' || i, 'sha256:' || i,"
    " 'default-1/' || to_char(i % 100, 'FM00') || '.parquet#' || i || '+7', 7, NULL, '{}', NULL, 0,"
    " now(), now() FROM generate_series(1, 100000) i",
    "INSERT INTO ltm_payload_deletions SELECT 'default-1/' || to_char(i % 100, 'FM00') ||"
    " '.parquet#' || 1000000 + i || '+7', '', now() FROM generate_series(1, 10000) i",
    "INSERT INTO ltm_payload_deletions SELECT 'default-1/gone.parquet#' || i || '+7', '', now()"
    " FROM generate_series(1, 500) i",
    "VACUUM ANALYZE",
)


@pytest.fixture(scope="module")
def filled(postgres_server: PostgresServer, postgres_template: str) -> Iterator[Crowd]:
    with filled_crowd(postgres_server, postgres_template, FILL) as crowd:
        yield crowd


@pytest.fixture(params=["force_custom_plan", "force_generic_plan"])
def crowd(filled: Crowd, request: pytest.FixtureRequest) -> Crowd:
    filled.mode = request.param
    return filled


def test_one_row_tells_that_an_object_is_named(crowd: Crowd) -> None:
    absent = [path.replace("parquet", "json") for path in OBJECTS]
    assert crowd.catalog.named_payloads(OBJECTS + absent) == {*OBJECTS}
    (plan,) = crowd.explain(lambda catalog: catalog.named_payloads(OBJECTS + absent))
    assert "ix_ltm_entries_payload" in plan.indexes
    assert not plan.scanned_tables & {"ltm_entries"}
    assert plan.rows_read < 1_000
    assert plan.pages < 2_000


@pytest.mark.parametrize("count", [1, 400])
def test_one_row_tells_that_a_part_is_not_to_be_deleted_yet(crowd: Crowd, count: int) -> None:
    kept = [f"{OBJECTS[i % 100]}#{1_000_000 + i}+7" for i in range(1, count + 1)]
    gone = [f"default-1/gone.parquet#{i}+7" for i in range(1, count + 1)]
    assert crowd.catalog.deletable_payloads(kept + gone) == gone
    (plan,) = crowd.explain(lambda catalog: catalog.deletable_payloads(kept + gone)[:0])[:1]
    assert "ltm_entries" not in plan.scanned_tables
    assert plan.rows_read < 10 * count + 100
    assert plan.pages < 20 * count + 100


def test_all_parts_of_an_object_leave_the_schedule_by_its_index(crowd: Crowd) -> None:
    statement = crowd.catalog.database.statements.forget_deletions
    plan = crowd.examine(statement.text, statement.bind({"uri": GONE, "uri_end": GONE + "$"}))
    assert not plan.scanned_tables
    assert plan.rows_read <= 500
    assert plan.pages < 1_500
