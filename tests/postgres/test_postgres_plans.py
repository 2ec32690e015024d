"""What PostgreSQL reads to answer the verbs at 100,000 entries, by its own account.

Every statement is planned twice: for its parameters, and in the generic plan that PostgreSQL may go
over to once a statement is prepared, where it knows nothing of them.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg
import pytest

from ltm.catalog.database import Database
from ltm.catalog.history import Snapshot
from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.sql import SQLCatalog
from ltm.search.filters import encode_value
from ltm.testing.clock import FakeClock
from tests.postgres.test_postgres_roundtrips import PostgresConnection, PostgresCountingPool
from tests.services.fixtures import database
from tests.services.postgres import PostgresServer

NOW = datetime(2030, 6, 1, tzinfo=UTC)
EXPIRED = 100
WRITTEN_SINCE = 100
LENGTHS = "ix_ltm_entry_search_length"
SNAPSHOT = Snapshot("s" * 32, "s", 0, 0, 0, datetime(2028, 1, 1, tzinfo=UTC))

FILL = (
    "INSERT INTO ltm_tables VALUES ('default', 'memory', 'default-1', 1024, 'english', 1, now())",
    "INSERT INTO ltm_entries (id, tenant_id, table_name, key, content_hash, storage_uri, byte_size,"
    " inlined_value, metadata, expires_at, begin_seq, created_at, updated_at) "
    "SELECT encode(sha256(('k' || i)::bytea), 'hex'), '', 'default', 'k' || i, 'sha256:' || i,"
    " NULL, 1, '1', jsonb_build_object('type', 'note', 'n', i, 'odd', i % 2),"
    " CASE WHEN i % 1000 = 0 THEN timestamptz '2029-01-01' END,"
    " CASE WHEN i % 1000 = 1 THEN 1 ELSE 0 END, t, t "
    "FROM (SELECT i, timestamptz '2030-01-01' + i * interval '1 s' AS t"
    " FROM generate_series(1, 100000) i) numbered",
    "INSERT INTO ltm_entry_metadata (entry_id, path, value, tenant_id, table_name, updated_at) "
    "SELECT id, row.path, row.value, '', 'default', updated_at FROM ltm_entries, LATERAL (VALUES"
    " ('type', '{note}'), ('odd', CASE metadata->>'odd' WHEN '0' THEN '{even}' ELSE '{odd}' END),"
    " ('n', '32' || 500000 + length(metadata->>'n') || rtrim(metadata->>'n', '0'))"
    ") AS row(path, value)",
    "INSERT INTO ltm_entry_search (entry_id, tenant_id, table_name, length, text) "
    "SELECT id, '', 'default', 8, key || ' common red bicycl g' || n % 100 ||"
    " CASE WHEN n % 10000 = 7 THEN ' rare bird' ELSE ' bell rust' END "
    "FROM (SELECT id, key, (metadata->'n')::int AS n FROM ltm_entries) numbered",
    "INSERT INTO ltm_entry_versions (id, tenant_id, table_name, key, content_hash, storage_uri,"
    " byte_size, inlined_value, metadata, expires_at, begin_seq, end_seq, created_at, updated_at) "
    "SELECT id, tenant_id, table_name, key, content_hash, storage_uri, byte_size, inlined_value,"
    " metadata, expires_at, 0, 1, created_at, updated_at FROM ltm_entries WHERE begin_seq = 1",
    "INSERT INTO ltm_payload_deletions "
    "SELECT 'default-1/' || i, '', now() FROM generate_series(1, 10000) i",
    "VACUUM ANALYZE",
)

UNSURE_TABLES = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relallvisible < relpages"
    " AND relnamespace = 'public'::regnamespace"
)


class Plan(NamedTuple):
    """What one statement did."""

    text: str
    scans: list[dict[str, Any]]
    pages: int
    """Read, be it from memory or from disk."""
    rows: int
    """Answered."""

    @property
    def rows_read(self) -> int:
        """Rows that were looked at; those of a bitmap count once, in the table."""
        removed = "Rows Removed by Filter", "Rows Removed by Index Recheck"
        return int(
            sum(
                scan["Actual Loops"] * sum(scan.get(name, 0) for name in ("Actual Rows", *removed))
                for scan in self.scans
                if scan["Node Type"] != "Bitmap Index Scan"
            )
        )

    @property
    def indexes(self) -> set[str]:
        return {scan["Index Name"] for scan in self.scans if "Index Name" in scan}

    @property
    def scanned_tables(self) -> set[str]:
        """Those of which all rows were read."""
        return {scan["Relation Name"] for scan in self.scans if scan["Node Type"] == "Seq Scan"}


class RecordingConnection(PostgresConnection):
    def __init__(self, connection: Any, sent: list[Any]) -> None:
        super().__init__(connection, [])
        self._sent = sent

    def execute(self, sql: str, *arguments: Any, **options: Any) -> Any:
        self._sent.append((sql, *arguments))
        return super().execute(sql, *arguments, **options)


class RecordingPool(PostgresCountingPool):
    sent: list[Any]

    def acquire(self) -> RecordingConnection:
        return RecordingConnection(self._pool.acquire(), self.sent)


class Crowd:
    """A catalog of 100,000 entries with three metadata rows each."""

    def __init__(self, url: str) -> None:
        self.pool = RecordingPool(PostgresCatalog(url).database.pool)
        self.pool.sent = []
        self.url = url
        self.catalog = SQLCatalog(Database(self.pool, "postgresql"), clock=FakeClock(NOW))
        self.catalog.table()
        self.mode = "auto"

    def explain(self, call: Callable[[SQLCatalog], Any]) -> list[Plan]:
        """Return the plans of the queries that *call* sends, in their order."""
        self.pool.sent.clear()
        call(self.catalog)
        queries = [sent for sent in self.pool.sent if sent[0].startswith(("SELECT", "WITH", "("))]
        assert queries
        return [self.examine(text, arguments) for text, arguments in queries]

    def examine(self, text: str, arguments: Any) -> Plan:
        """Run a statement and return what it did; nothing of it stays."""
        numbers = itertools.count(1)
        head, *parts = re.split("%[sb]", text)
        numbered = head + "".join(f"${next(numbers)}{part}" for part in parts)
        given = f"({', '.join(['%s'] * len(arguments))})" if arguments else ""
        with psycopg.connect(self.url, cursor_factory=psycopg.ClientCursor) as connection:
            connection.execute(f"SET plan_cache_mode = {self.mode}")
            # A plan that compares all rows with all others would take minutes.
            connection.execute("SET statement_timeout = '20s'")
            connection.execute(f"PREPARE examined AS {numbered}")
            how = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE examined"
            row = connection.execute(how + given, arguments).fetchone()
            connection.rollback()
        assert row is not None
        plan = row[0][0]["Plan"]
        scans = [node for node in _nodes(plan) if "Scan" in node["Node Type"]]
        pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        return Plan(text, scans, pages, int(plan["Actual Rows"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _make_visible(connection: psycopg.Connection[Any]) -> None:
    """Vacuum until an index tells of every row that it is visible."""
    # Not so for as long as another session, autovacuum's for one, has a view of older data.
    deadline = time.monotonic() + 60
    while connection.execute(UNSURE_TABLES).fetchall():
        assert time.monotonic() < deadline
        time.sleep(0.1)
        connection.execute("VACUUM")


@contextmanager
def filled_crowd(
    server: PostgresServer, template: str, statements: Iterable[str]
) -> Iterator[Crowd]:
    """Give a crowd in a database of its own that *statements* have filled."""
    with database(server, template) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            # Else VACUUM finds commits that are not on disk yet, and marks no page as visible.
            connection.execute("SET synchronous_commit = on")
            for statement in statements:
                connection.execute(statement.encode())
            _make_visible(connection)
        crowd = Crowd(url)
        yield crowd
        crowd.catalog.close()


@pytest.fixture(scope="module")
def filled(postgres_server: PostgresServer, postgres_template: str) -> Iterator[Crowd]:
    codes = {"note": encode_value("note"), "even": encode_value(0), "odd": encode_value(1)}
    statements = [statement.format(**codes) for statement in FILL]
    with filled_crowd(postgres_server, postgres_template, statements) as crowd:
        yield crowd


@pytest.fixture(params=["force_custom_plan", "force_generic_plan"])
def crowd(filled: Crowd, request: pytest.FixtureRequest) -> Crowd:
    filled.mode = request.param
    return filled


FILTERS: list[tuple[dict[str, Any], int]] = [
    ({"type": "note"}, 10),
    ({"odd": 1}, 10),
    ({"n": 777}, 1),
    ({"type": "nothing like it"}, 0),
    ({"never.declared": "x"}, 0),
    ({"odd": 1, "type": "note"}, 10),
    ({"type": "note", "n": 777}, 1),
    ({"type": "note", "odd": 7}, 0),
    ({"n": {"$gt": 5}}, 10),
    ({"n": {"$gt": 99_990}}, 9),
    ({"n": {"$lt": 10}}, 9),
    ({"n": {"$gt": 1_000_000}}, 0),
    ({"type": "note", "n": {"$lt": 10}}, 9),
    ({"type": "note", "odd": {"$gte": 0}}, 10),
    ({"n": {"$in": [5, 6, 7]}}, 3),
    ({"$or": [{"n": 5}, {"n": 6}]}, 2),
    ({"nowhere": {"$exists": True}}, 0),
    ({"type": {"$exists": True}}, 10),
    ({"type": {"$contains": "ot"}}, 10),
    ({"type": {"$ne": "fact"}}, 10),
    ({"odd": 1, "n": {"$nin": [1, 3]}}, 10),
    ({"$not": {"n": {"$gt": 10**6}}}, 10),
]


@pytest.mark.parametrize(("wanted", "answers"), FILTERS, ids=str)
def test_a_filter_reads_little_be_its_matches_many_few_or_none(
    crowd: Crowd, wanted: dict[str, Any], answers: int
) -> None:
    assert len(crowd.catalog.search(None, wanted)) == answers
    assert len(crowd.catalog.list_entries(None, wanted, 10)) == answers
    plans = crowd.explain(lambda catalog: catalog.search(None, wanted))
    plans += crowd.explain(lambda catalog: catalog.list_entries(None, wanted, 10))
    for plan in plans:
        assert not plan.scanned_tables
        assert plan.rows_read < 3_000
        assert plan.pages < 300


def test_the_newest_entries_are_read_along_their_index(crowd: Crowd) -> None:
    (plan,) = crowd.explain(lambda catalog: catalog.search(limit=10))
    assert plan.indexes == {"ix_ltm_entries_newest"}
    assert plan.rows_read < 15
    assert plan.pages < 20


@pytest.mark.parametrize("prefix", ["", "k", "k500", "k99", "zzz"])
@pytest.mark.parametrize("after", ["", "k4", "k500", "k98"])
def test_listing_walks_the_unique_index_from_where_a_page_begins(
    crowd: Crowd, prefix: str, after: str
) -> None:
    (plan,) = crowd.explain(lambda catalog: catalog.list_entries(prefix, None, 100, after))
    assert plan.indexes == {"uq_ltm_entries_tenant_id_table_name_key"}
    assert plan.rows_read < 110
    assert plan.pages < 120


def test_an_id_is_looked_up_by_the_primary_key(crowd: Crowd) -> None:
    (one,) = crowd.explain(lambda catalog: catalog.get_entry("k77"))
    assert (one.indexes, one.rows_read, one.pages < 8) == ({"pk_ltm_entries"}, 1, True)
    keys = [f"k{i}" for i in range(1, 500)]
    (many,) = crowd.explain(lambda catalog: catalog.retrieve_batch(keys))
    assert (many.indexes, many.rows_read, many.pages < 2_500) == ({"pk_ltm_entries"}, 499, True)


def test_a_write_looks_its_rows_up_by_the_primary_key(crowd: Crowd) -> None:
    catalog = crowd.catalog
    ids = [catalog.entry_id(f"k{i}") for i in range(1, 501)]
    statement = catalog.database.statements.select_current
    bound = {"tenant": "", "table": "default", "ids": ids}
    plan = crowd.examine(statement.text, statement.bind(bound))
    assert "pk_ltm_entries" in plan.indexes
    assert "ltm_entries" not in plan.scanned_tables
    assert plan.rows_read < 2_000


def test_what_has_expired_is_found_along_its_index(crowd: Crowd) -> None:
    (counting,) = crowd.explain(lambda catalog: catalog.count_expired(NOW))
    statement = crowd.catalog.database.statements.select_expired
    bound = {"tenant": "", "table": "default", "now": NOW, "limit": 10}
    removing = crowd.examine(statement.text, statement.bind(bound))
    assert counting.indexes == removing.indexes == {"ix_ltm_entries_expiry"}
    assert (removing.rows, removing.rows_read) == (10, 10)
    assert counting.rows_read == EXPIRED


@pytest.mark.parametrize(
    ("question", "wanted", "answers"),
    [
        ("rare", None, 10),
        ("absent", None, 0),
        ("rare -rust", None, 10),
        ('rare -"rare bird"', None, 0),
        ('"rare bird"', None, 10),
        ('"bird rare"', None, 0),
        ("rare", {"type": "note"}, 10),
        ("rare", {"n": 7}, 1),
        ("rare", {"type": {"$ne": "note"}}, 0),
    ],
    ids=str,
)
def test_a_search_reads_only_what_holds_its_words(
    crowd: Crowd, question: str, wanted: dict[str, Any] | None, answers: int
) -> None:
    assert len(crowd.catalog.search(question, wanted)) == answers
    first, expired, *plans = crowd.explain(lambda catalog: catalog.search(question, wanted))
    assert {"ix_ltm_entries_expiry", "ix_ltm_entry_search_words"} <= first.indexes
    assert "ix_ltm_entries_expiry" in expired.indexes
    # The lengths of all documents, from an index that has nothing else.
    lengths = [each for each in first.scans if each.get("Index Name") == LENGTHS]
    assert {scan["Heap Fetches"] for scan in lengths} == {0}
    others = [scan for scan in first.scans if scan not in lengths]
    for plan in (first._replace(scans=others), expired, *plans):
        assert not plan.scanned_tables
        assert plan.rows_read < 3_000
        assert plan.pages < 750


@pytest.mark.parametrize("question", ["common", "common red bicycle g7 bell rust rare absent"])
def test_a_search_for_what_most_entries_hold_looks_few_of_them_up(
    crowd: Crowd, question: str
) -> None:
    assert len(crowd.catalog.search(question)) == 10
    first, _, looked_up, *_, rows = crowd.explain(lambda catalog: catalog.search(question))
    assert "ix_ltm_entry_search_words" in first.indexes
    assert looked_up.indexes == {"pk_ltm_entry_search"}
    assert (looked_up.rows <= 200, rows.rows) == (True, 10)


def test_a_rare_filter_spares_a_search_the_metadata_of_a_common_word(crowd: Crowd) -> None:
    plans = crowd.explain(lambda catalog: catalog.search("common", {"n": 7}))
    allowed = next(plan for plan in plans if plan.text.startswith("WITH"))
    assert (allowed.rows, allowed.rows_read < 20, allowed.pages < 50) == (1, True, True)


@pytest.mark.parametrize(("prefix", "after"), [("", ""), ("", "k7"), ("k5", "k55")])
@pytest.mark.parametrize("superseded", [False, True])
def test_reading_a_snapshot_reads_no_more_than_the_page(
    crowd: Crowd, prefix: str, after: str, superseded: bool
) -> None:
    plans = crowd.explain(
        lambda catalog: catalog.history.rows_as_of(
            SNAPSHOT, prefix, after, 100, superseded=superseded
        )
    )
    # Where to end, and the rows.
    assert len(plans) == (1 if superseded else 2)
    for plan in plans:
        assert "ltm_entries" not in plan.scanned_tables
        assert plan.rows_read < 100 + 2 * WRITTEN_SINCE + 10
        assert plan.pages < 150


def test_keys_are_looked_up_in_a_snapshot_by_primary_keys(crowd: Crowd) -> None:
    keys = [f"k{i}" for i in range(1, 500)]
    (plan,) = crowd.explain(lambda catalog: catalog.history.read_as_of(SNAPSHOT, keys))
    assert "pk_ltm_entries" in plan.indexes
    assert "ltm_entries" not in plan.scanned_tables
    assert plan.rows_read < 2 * 500 + WRITTEN_SINCE


def test_what_changed_is_found_along_its_indexes(crowd: Crowd) -> None:
    (plan,) = crowd.explain(lambda catalog: catalog.history.keys_changed(SNAPSHOT, "", 500, NOW))
    assert {"ix_ltm_entries_begin", "ix_ltm_entries_expiry"} <= plan.indexes
    assert plan.rows_read <= 4 * WRITTEN_SINCE + EXPIRED
    assert plan.pages < 400


def test_payload_deletions_are_looked_up_and_listed_by_index(crowd: Crowd) -> None:
    (page,) = crowd.explain(lambda catalog: catalog.scheduled_deletions("default-1/5", 100))
    assert page.indexes == {"pk_ltm_payload_deletions"}
    assert page.rows_read < 110
    uris = [f"default-1/{i}" for i in range(1, 101)]
    for verb in (crowd.catalog.deletable_payloads, crowd.catalog.named_payloads):
        (plan,) = crowd.explain(lambda catalog, verb=verb: verb(uris))
        assert "ix_ltm_entries_payload" in plan.indexes
        assert "ltm_entries" not in plan.scanned_tables
        assert plan.pages < 1_500


def test_people_s_own_sql_finds_metadata_by_its_index(filled: Crowd) -> None:
    filled.mode = "force_custom_plan"
    text = "SELECT key FROM ltm_entries WHERE metadata @> %s::jsonb"
    plan = filled.examine(text, ['{"type": "note", "n": 777}'])
    assert plan.indexes == {"ix_ltm_entries_metadata"}
    assert (plan.rows, plan.rows_read < 10) == (1, True)
