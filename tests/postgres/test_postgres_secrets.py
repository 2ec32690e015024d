"""The password of a role is found in no answer, error, traceback, log line or name."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from outcomes import is_outage, succeed
from postgres_place import PostgresPlace
from sqlalchemy import create_engine

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.postgres import PostgresCatalog
from ltm.errors import LTMError
from tests.services.fixtures import MakeProxy
from tests.services.postgres import PASSWORDS, PostgresServer

SECRET = PASSWORDS["app"]
SPELLINGS = (SECRET, quote(SECRET, safe=""), "s3cret", "wr0ng")
WAYS = ["url", "pairs", "parts", "engine", "engine's query"]


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What has been logged, by whomever; it holds no secret at the end."""
    lines: list[str] = []
    caplog.set_level(logging.DEBUG)
    for name in ("sqlalchemy", "sqlalchemy.pool", "sqlalchemy.engine", "psycopg", "alembic", "ltm"):
        caplog.set_level(logging.DEBUG, logger=name)
    yield lines
    expect_no_secret(caplog.text)


def expect_no_secret(text: object) -> None:
    for spelling in SPELLINGS:
        assert spelling not in str(text), text


def expect_nothing_said(memory: DuckDBLTMBackend) -> None:
    """Check what a memory says of itself."""
    catalog: Any = memory.catalog
    pool = catalog.database.pool
    for each in (memory, catalog, pool, pool.where, catalog.engine.pool):
        expect_no_secret(repr(each))
    if "password" not in catalog.engine.url.query:
        # There an application's engine tells its password itself.
        expect_no_secret(repr(catalog.engine))
        expect_no_secret(repr(catalog.engine.url))


def described(error: BaseException | None) -> Iterator[str]:
    """Yield *error* with its traceback, and all that stands behind it, shown or not."""
    while error is not None:
        yield "".join(traceback.format_exception(error))
        yield repr(error)
        yield from described(
            error.__context__ if error.__context__ is not error.__cause__ else None
        )
        error = error.__cause__


def opened(place: PostgresPlace, way: str, port: int, password: str, **options: Any) -> Any:
    """Open a memory as the role ``app``."""
    secret = quote(password, safe="")
    name = place.database
    if way.startswith("engine"):
        url = f"postgresql+psycopg://app:{secret}@127.0.0.1:{port}/{name}?connect_timeout=2"
        if way != "engine":
            url = f"postgresql+psycopg://127.0.0.1:{port}/{name}?user=app&password={secret}"
        return place.memory(place.catalog(engine=create_engine(url)))
    addresses: dict[str, dict[str, Any]] = {
        "url": {"connection_string": f"postgresql://app:{secret}@127.0.0.1:{port}/{name}"},
        "pairs": {
            "connection_string": f"host=127.0.0.1 port={port} dbname={name} user=app "
            f"password='{password}'"
        },
        "parts": {
            "host": "127.0.0.1",
            "port": port,
            "database": name,
            "user": "app",
            "password": password,
        },
    }
    return place.memory(PostgresCatalog(**addresses[way], **options))


@pytest.mark.parametrize("way", WAYS)
def test_the_right_password_opens_and_is_not_told(
    place: PostgresPlace, postgres_server: PostgresServer, way: str
) -> None:
    place.rows("GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
    place.rows("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app")
    with opened(place, way, postgres_server.port, SECRET) as memory:
        succeed(memory.store("k", "x" * 2000))
        expect_nothing_said(memory)
        expect_no_secret(memory.health_check())
        expect_no_secret(memory.stats())
        memory.catalog.engine.dispose()


@pytest.mark.parametrize(
    ("trouble", "way"),
    [
        *((trouble, way) for trouble in ("wrong password", "refuse", "reset") for way in WAYS),
        ("blackhole", "url"),
    ],
)
def test_a_failed_login_does_not_tell_the_password(
    place: PostgresPlace,
    postgres_server: PostgresServer,
    make_proxy: MakeProxy,
    way: str,
    trouble: str,
) -> None:
    port, password = postgres_server.port, SECRET
    if trouble == "wrong password":
        password = "wr0ng'p@ss" if way != "pairs" else "wr0ng p@ss"
    else:
        proxy = make_proxy(postgres_server.host, postgres_server.port)
        port = proxy.port
        getattr(proxy, trouble)()
    with opened(place, way, port, password, connect_timeout=2) as memory:
        answer: Any = memory.health_check()
        assert is_outage(answer), answer
        expect_no_secret(answer)
        with pytest.raises(LTMError) as raised:
            list(memory.iterate_all())
        for text in described(raised.value):
            expect_no_secret(text)
        expect_nothing_said(memory)
        memory.catalog.engine.dispose()


BAD = {
    "host": {"host": "no such host.invalid"},
    "sslmode": {"sslmode": "sometimes"},
    "tls": {"sslmode": "require"},
    "port": {"port": 99999},
    "pool": {"pool_max": 0},
    "certificate": {
        "connection_string": f"postgresql://app:{quote(SECRET)}@127.0.0.1/x?sslrootcert=/none&sslmode=verify-full"
    },
    "option": {"connection_string": f"postgresql://app:{quote(SECRET)}@127.0.0.1/x?passwort=y"},
    "password in the wrong place": {"connection_string": f"postgresql://app:{SECRET}/127.0.0.1"},
    "pairs": {"connection_string": f"host=127.0.0.1 password={SECRET} and more"},
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_address_does_not_tell_the_password(
    place: PostgresPlace, postgres_server: PostgresServer, what: str
) -> None:
    options: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": postgres_server.port,
        "user": "app",
        "password": SECRET,
        "connect_timeout": 2,
    }
    if "connection_string" in BAD[what]:
        options = {"connect_timeout": 2}
    with pytest.raises(LTMError) as raised, PostgresCatalog(**{**options, **BAD[what]}) as catalog:
        catalog.get_entry("k")
    for text in described(raised.value):
        expect_no_secret(text)


def test_an_exhausted_pool_does_not_tell_the_password(
    place: PostgresPlace, postgres_server: PostgresServer
) -> None:
    place.rows("GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
    options = {"pool_max": 1, "pool_timeout": 0.1}
    with opened(place, "url", postgres_server.port, SECRET, **options) as memory:
        pool = memory.catalog.database.pool
        connection = pool.acquire()
        answer = memory.retrieve("k")
        assert is_outage(answer)
        expect_no_secret(answer)
        expect_no_secret(repr(connection))
        pool.release(connection)
        succeed(memory.retrieve("k"))
