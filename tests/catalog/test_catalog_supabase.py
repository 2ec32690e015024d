"""A project of Supabase's is reached by each of its ways in, encrypted, and no secret is told."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool, QueuePool

from ltm.catalog.supabase import SupabaseCatalog
from ltm.errors import CatalogUnavailableError, LTMError, ValidationError
from ltm.testing.catalog_fixtures import keys_of, track
from tests.services.fixtures import running
from tests.services.pgbouncer import PgBouncer
from tests.services.postgres import PostgresServer
from tests.services.processes import free_port
from tests.services.tokens import SECRET, make_token

REF = "abcdefghijklmnopqrst"
DIRECT = f"postgresql://postgres:pw@db.{REF}.supabase.co:5432/postgres"
SESSION = f"postgresql://postgres.{REF}:pw@aws-0-eu-central-1.pooler.supabase.com:5432/postgres"
TRANSACTION = SESSION.replace("5432", "6543")
DEDICATED = DIRECT.replace("5432", "6543")
CANARY = "c4nary-p@ss:w/rd"


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ValidationError) as caught:
        call()
    return str(caught.value)


# Ways in


@pytest.mark.parametrize(
    ("url", "options", "is_pooled"),
    [
        (DIRECT, {}, True),
        (SESSION, {}, True),
        (TRANSACTION, {}, False),
        (DEDICATED, {}, False),
        ("postgresql://postgres@127.0.0.1:6543/postgres", {}, False),
        (f"host=db.{REF}.supabase.co port=6543 user=postgres", {}, False),
        (DIRECT, {"pool_mode": "transaction"}, False),
        (TRANSACTION, {"pool_mode": "session"}, True),
    ],
)
def test_connections_are_kept_unless_a_pooler_in_transaction_mode_keeps_them(
    url: str, options: dict[str, Any], *, is_pooled: bool
) -> None:
    catalog = SupabaseCatalog(url, **options)
    assert isinstance(catalog.engine.pool, QueuePool if is_pooled else NullPool)
    catalog.close()


@pytest.mark.parametrize("token", [None, make_token("a")], ids=["login", "tenant"])
@pytest.mark.parametrize("mode", ["transaction", "direct"])
def test_through_a_transaction_pooler_nothing_is_prepared(
    postgres_server: PostgresServer, postgres_url: str, mode: Any, token: str | None
) -> None:
    with running(PgBouncer(postgres_server, default_pool_size=1)) as pooler:
        url = pooler.url(postgres_url.rpartition("/")[2])
        with SupabaseCatalog(url, access_token=token, pool_mode=mode) as catalog:
            for number in range(12):
                track(catalog, "k", f"words {number}", metadata={"n": number})
                assert keys_of(catalog.search("words", {"n": number})) == ["k"]
                assert catalog.get_entry("k") is not None
            with catalog.transaction() as block:
                for _ in range(12):
                    assert block.get_entry("k") is not None
        # The one connection to the server is the one that all of it went through.
        with psycopg.connect(url, prepare_threshold=None) as connection:
            row = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
            assert row is not None
            assert (row[0] > 0) == (mode == "direct")


def test_without_a_connection_string_the_error_says_where_to_find_it() -> None:
    given = {"url": f"https://{REF}.supabase.co", "anon_key": make_token(None, role="anon")}
    for names in (["url", "anon_key"], ["url"], ["anon_key"], []):
        message = refusal(
            lambda names=names: SupabaseCatalog(**{name: given[name] for name in names})
        )  # type: ignore[misc]
        assert message.startswith("connection_string: is missing: ")
        assert "'Connect' in the dashboard of the project" in message
        assert all(name in message for name in names)
        assert not any(value in message for value in given.values())
        assert ("REST API" in message) == bool(names)


def test_url_and_anon_key_may_stand_beside_a_connection_string() -> None:
    SupabaseCatalog(DIRECT, url=f"https://{REF}.supabase.co", anon_key="x").close()


@pytest.mark.parametrize("password", ["[YOUR-PASSWORD]", "%5BYOUR-PASSWORD%5D"])
def test_a_password_that_was_not_put_in_is_noticed(password: str) -> None:
    message = refusal(lambda: SupabaseCatalog(DIRECT.replace(":pw@", f":{password}@")))
    assert message == "connection_string: [YOUR-PASSWORD] stands for the password"


def test_an_engine_of_another_database_is_refused(postgres_url: str) -> None:
    assert "got sqlite" in refusal(lambda: SupabaseCatalog(engine=create_engine("sqlite://")))
    engine = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    with SupabaseCatalog(engine=engine) as catalog:
        track(catalog, "k")
    with engine.connect():
        pass
    engine.dispose()


# Encryption


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
@pytest.mark.parametrize("url", [DIRECT, SESSION, TRANSACTION, f"host=db.{REF}.supabase.co"])
def test_a_mode_that_may_go_unencrypted_is_refused(url: str, mode: str) -> None:
    separator = "?" if "//" in url else " "
    message = refusal(lambda: SupabaseCatalog(f"{url}{separator}sslmode={mode}"))
    assert f"sslmode={mode}" in message
    assert "require, verify-ca, verify-full" in message


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_mode_that_encrypts_is_accepted(mode: str) -> None:
    SupabaseCatalog(f"{DIRECT}?sslmode={mode}").close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///postgres",
        "service=project",
        f"host=localhost hostaddr=203.0.113.7 sslmode=disable user={REF}",
        "host=localhost service=project sslmode=disable",
    ],
)
def test_a_host_that_is_not_known_to_be_local_counts_as_remote(url: str) -> None:
    refusal(lambda: SupabaseCatalog(url))


def test_a_remote_server_without_encryption_is_not_told_who_calls(postgres_url: str) -> None:
    # Not a loopback address by name, but on Linux it leads to one: to a server without TLS.
    remote = postgres_url.replace("127.0.0.1", "0.0.0.0")
    with (
        SupabaseCatalog(remote) as catalog,
        pytest.raises(CatalogUnavailableError, match="server does not support SSL"),
    ):
        catalog.get_entry("k")
    with SupabaseCatalog(postgres_url) as catalog:
        assert catalog.get_entry("k") is None


# Tenants


def test_the_tenant_is_the_tokens_and_another_is_refused(postgres_url: str) -> None:
    token = make_token("a")
    for tenant in ("", "a"):
        with SupabaseCatalog(postgres_url, access_token=token, tenant=tenant) as catalog:
            assert catalog.tenant == "a"
    message = refusal(lambda: SupabaseCatalog(postgres_url, access_token=token, tenant="b"))
    assert message == "tenant: 'b' is not the tenant of access_token"
    with SupabaseCatalog(postgres_url, tenant="b") as catalog:
        assert catalog.tenant == "b"


# Secrets


def test_no_secret_is_told(
    postgres_url: str, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = make_token("a")
    secrets = (CANARY, "c4nary", "w%2Frd", token, token.rpartition(".")[2], SECRET)
    told: list[str] = []

    def tell(url: str, **options: Any) -> None:
        catalog = None
        try:
            catalog = SupabaseCatalog(
                url, **{"access_token": token, "jwt_secret": SECRET} | options
            )
            told.append(repr(catalog) + repr(catalog.engine) + repr(catalog.database.pool))
            track(catalog, "k")
            catalog.transaction().__enter__()
        except LTMError as error:
            told.extend(traceback.format_exception(error))
            chained: BaseException | None = error
            while chained is not None:
                told.append(f"{chained!r} {chained.args!r} {vars(chained)!r}")
                chained = chained.__cause__ or chained.__context__
        else:
            pytest.fail("expected a failure")
        finally:
            if catalog is not None:
                catalog.close()

    quoted = "c4nary-p%40ss%3Aw%2Frd"
    name = postgres_url.rpartition("/")[2]
    port = postgres_server.port
    tell(f"postgresql://app:{quoted}@127.0.0.1:{port}/{name}")
    tell(f"postgresql://app:{CANARY}@127.0.0.1:{port}/{name}")
    tell(f"postgresql://app:{quoted}@127.0.0.1:{free_port()}/{name}")
    tell(f"postgresql://postgres:{quoted}@127.0.0.1:{port}/none")
    tell(f"postgresql://postgres:{quoted}@{REF}.invalid/postgres")
    tell(f"postgresql://postgres:{quoted}@{REF}.supabase.co/postgres?sslmode=disable")
    tell(f"postgresql://postgres:{quoted}@{REF}.supabase.co:{CANARY}/postgres")
    tell(f"host=127.0.0.1 port={port} user=app password={CANARY} dbname={name}")
    tell(f"postgresql://app:s3cret-p%40ss@127.0.0.1:{port}/{name}")
    tell(postgres_url, jwt_secret=f"{SECRET}!")
    tell(postgres_url, access_token=f"{token}!")
    assert len(told) > 20
    assert [text for text in [*told, caplog.text] for secret in secrets if secret in text] == []
