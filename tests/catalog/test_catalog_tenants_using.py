"""A tenant's role and claims last as long as its verb and are nobody else's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.supabase import SupabaseCatalog
from ltm.errors import CatalogUnavailableError, ConflictError, ValidationError
from ltm.testing.backend_fixtures import LARGE
from ltm.testing.catalog_fixtures import track
from ltm.testing.clock import FakeClock
from tests.services.fixtures import running
from tests.services.pgbouncer import PgBouncer
from tests.services.postgres import PostgresServer
from tests.services.tokens import SECRET, make_token

IDENTITY = text("SELECT current_user, coalesce(current_setting('request.jwt.claims', true), '')")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """An application's engine with one connection, whose login is an application's role."""
    with psycopg.connect(postgres_url) as connection:
        connection.execute("GRANT authenticated TO app")
        connection.execute("CREATE TABLE application (row text)")
        connection.execute("GRANT ALL ON application TO app")
    url = postgres_url.replace("postgresql://postgres@", "postgresql+psycopg://app:s3cret-p%40ss@")
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=5)
    yield engine
    engine.dispose()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("REVOKE authenticated FROM app")


@pytest.fixture
def memories(engine: Engine, tmp_path: Path, clock: FakeClock) -> Iterator[list[DuckDBLTMBackend]]:
    """The memories of tenants a and b on one engine; the tokens are good for a minute."""
    opened = [
        DuckDBLTMBackend(
            SupabaseCatalog(
                engine=engine,
                access_token=make_token(tenant, exp=clock.now.timestamp() + 60),
                jwt_secret=SECRET,
                clock=clock,
            ),
            f"{tmp_path}/payloads",
            owns_catalog=True,
            raise_errors=True,
        )
        for tenant in "ab"
    ]
    yield opened
    for memory in opened:
        memory.close()


def fail_within(block: Any, verb: Callable[[Any], object]) -> None:
    """Call *verb* in a *block*, and leave that by an error."""

    def leave() -> None:
        with block as given:
            verb(given)
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        leave()


def who(connection: Connection) -> tuple[str, str]:
    user, claims = connection.execute(IDENTITY).one()
    return user, claims


VERBS: dict[str, Callable[[Any], object]] = {
    "retrieve": lambda memory: memory.retrieve("k"),
    "retrieve_batch": lambda memory: memory.retrieve_batch(["k", "none"]),
    "store": lambda memory: memory.store("new", 1, {"type": "x"}),
    "large": lambda memory: memory.store("new", LARGE),
    "store_batch": lambda memory: memory.store_batch([{"key": "x", "value": 1}]),
    "update": lambda memory: memory.update("k", lambda found: [found]),
    "delete": lambda memory: memory.delete("k"),
    "search": lambda memory: memory.search("words", {"type": "x"}),
    "iterate_all": lambda memory: list(memory.iterate_all()),
    "changes": lambda memory: list(memory.changes("s")),
    "create_snapshot": lambda memory: memory.create_snapshot("new"),
    "restore": lambda memory: memory.restore("s"),
    "expire_snapshot": lambda memory: memory.expire_snapshot("s"),
    "cleanup_expired": lambda memory: memory.cleanup_expired(),
    "verify": lambda memory: memory.verify(repair=True),
    "stats": lambda memory: memory.stats(),
    "health_check": lambda memory: memory.health_check(),
}


# On a caller's connection


@pytest.mark.parametrize("verb", VERBS)
def test_after_a_verb_the_caller_is_who_it_was(
    memories: list[DuckDBLTMBackend], engine: Engine, verb: str
) -> None:
    memories[0].store("k", "words", {"type": "x"})
    memories[0].create_snapshot("s")
    with engine.begin() as connection:
        memory = memories[0].using(connection)
        assert who(connection) == ("app", "")
        VERBS[verb](memory)
        assert who(connection) == ("app", "")
        connection.execute(text("INSERT INTO application VALUES ('mine')"))
        connection.execute(
            text("SELECT set_config('request.jwt.claims', '{\"sub\": \"x\"}', true)")
        )
        connection.execute(text("SET LOCAL ROLE authenticated"))
        VERBS[verb](memory) if verb != "expire_snapshot" else None
        assert who(connection) == ("authenticated", '{"sub": "x"}')
    with engine.connect() as connection:
        assert who(connection) == ("app", "")
        assert connection.scalar(text("SELECT count(*) FROM application")) == 1


def test_an_iterator_is_the_tenant_only_while_it_reads(
    memories: list[DuckDBLTMBackend], engine: Engine
) -> None:
    memories[0].store_batch([{"key": f"k{number:04}", "value": number} for number in range(1200)])
    with engine.begin() as connection:
        count = 0
        for _ in memories[0].using(connection).iterate_all():
            count += 1
            if count % 100 == 0:
                assert who(connection) == ("app", "")
        assert count == 1200


def test_a_block_of_verbs_leaves_the_callers_statements_within_to_the_caller(
    memories: list[DuckDBLTMBackend], engine: Engine
) -> None:
    with engine.begin() as connection, memories[0].using(connection).transaction() as block:
        block.store("k", 1)
        assert who(connection) == ("app", "")
        connection.execute(text("INSERT INTO application VALUES ('mine')"))
    assert memories[0].retrieve("k")["value"] == 1


def test_after_an_error_the_caller_is_who_it_was(
    memories: list[DuckDBLTMBackend], engine: Engine, clock: FakeClock
) -> None:
    memories[0].store("k", 1)
    with engine.begin() as connection:
        memory = memories[0].using(connection)
        with pytest.raises(ConflictError):
            memory.store("k", 2, if_absent=True)
        assert who(connection) == ("app", "")
        fail_within(memory.transaction(), lambda block: block.store("undone", 1))
        assert who(connection) == ("app", "")
        clock.advance(60)
        with pytest.raises(ValidationError, match="expired"):
            memory.retrieve("k")
        assert who(connection) == ("app", "")
        connection.execute(text("INSERT INTO application VALUES ('mine')"))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM application")) == 1


def test_within_a_savepoint_of_the_callers_a_failure_leaves_the_caller_who_it_was(
    memories: list[DuckDBLTMBackend], engine: Engine
) -> None:
    memories[0].store("k", 1)
    with engine.begin() as connection:
        memory = memories[0].using(connection)
        # As another tenant: refused by the database within the transaction.
        memory.catalog.tenant = "b"
        with pytest.raises(CatalogUnavailableError, match="row-level"), connection.begin_nested():
            track(memory.catalog, "k", 2)
        assert who(connection) == ("app", "")
        memory.catalog.tenant = "a"
        fail_within(connection.begin_nested(), lambda _: memory.store("undone", 1))
        assert who(connection) == ("app", "")
        assert memory.retrieve("k")["value"] == 1
        connection.execute(text("INSERT INTO application VALUES ('mine')"))
    assert not memories[0].retrieve("undone")["found"]


def test_two_tenants_can_take_turns_in_one_transaction(
    memories: list[DuckDBLTMBackend], engine: Engine
) -> None:
    with engine.begin() as connection:
        a, b = (memory.using(connection) for memory in memories)
        a.store("k", "of a")
        b.store("k", "of b")
        assert (a.retrieve("k")["value"], b.retrieve("k")["value"]) == ("of a", "of b")
    assert [memory.retrieve("k")["value"] for memory in memories] == ["of a", "of b"]


def test_a_connection_that_begins_no_transaction_is_refused(
    memories: list[DuckDBLTMBackend], engine: Engine
) -> None:
    # SET LOCAL would last for its own statement there, and the next one run as the login.
    memories[0].store("k", 1)
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection, pytest.raises(ValidationError, match="AUTOCOMMIT"):
        memories[0].using(connection).retrieve("k")


# Transactions of the library's own


def test_a_transaction_under_a_token_is_the_tenants_and_ends_with_its_block(
    memories: list[DuckDBLTMBackend], engine: Engine
) -> None:
    a, b = memories
    b.store("k", "of b")
    with a.transaction() as block:
        block.store("k", "of a")
        block.store("large", LARGE)
        assert block.retrieve("k")["value"] == "of a"
        assert [key for key, _, _ in block.iterate_all()] == ["k", "large"]
    fail_within(a.transaction(), lambda block: block.delete("k"))
    with engine.connect() as connection:
        assert who(connection) == ("app", "")
    assert [memory.retrieve("k")["value"] for memory in memories] == ["of a", "of b"]


# Connections that are shared


def rounds(memories: list[DuckDBLTMBackend], count: int = 12) -> list[str]:
    """Let tenants take turns, more often than it takes to prepare a statement; return surprises."""
    wrong: list[str] = []
    for number in range(count):
        for name, memory in zip("ab", memories, strict=True):
            memory.store("k", f"{name} {number}", {"by": name})
            found = [
                memory.retrieve("k")["value"],
                *(value for _, value, _ in memory.iterate_all()),
            ]
            found += [
                each["value"] for each in memory.search(metadata_filter={"by": name})["results"]
            ]
            wrong += [each for each in found if each != f"{name} {number}"]
    return wrong


def test_tenants_that_share_one_connection_of_an_engine_never_meet(
    memories: list[DuckDBLTMBackend], engine: Engine
) -> None:
    assert rounds(memories) == []
    with engine.connect() as connection:
        assert who(connection) == ("app", "")


def test_tenants_that_share_one_connection_of_a_pooler_never_meet(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    name = postgres_url.rpartition("/")[2]
    with running(PgBouncer(postgres_server, default_pool_size=1)) as pooler:
        url = pooler.url(name, "authenticator", "secret")
        memories = [
            DuckDBLTMBackend(
                SupabaseCatalog(url, access_token=make_token(tenant), pool_mode="transaction"),
                f"{tmp_path}/payloads",
                owns_catalog=True,
            )
            for tenant in "ab"
        ]
        assert rounds(memories) == []
        with psycopg.connect(url, prepare_threshold=None) as connection:
            assert connection.execute(IDENTITY.text).fetchone() == ("authenticator", "")
            prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
            assert prepared == (0,)
        for memory in memories:
            memory.close()


def test_threads_that_share_a_catalog_are_all_its_tenant(
    memories: list[DuckDBLTMBackend], clock: FakeClock
) -> None:
    failures: list[str] = []

    def work(name: str, memory: DuckDBLTMBackend, number: int) -> None:
        try:
            for turn in range(10):
                memory.store(f"{number}", f"{name} {turn}")
                values = [value for _, value, _ in memory.iterate_all()]
                if not all(str(value).startswith(name) for value in values):
                    failures.append(f"{name} saw {values}")
        except Exception as error:  # noqa: BLE001 -- whatever it was, the test is to tell
            failures.append(repr(error))

    threads = [
        threading.Thread(target=work, args=(name, memory, number))
        for name, memory in zip("ab", memories, strict=True)
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
