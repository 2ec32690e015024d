"""Fixtures of real servers; the first test that asks for one starts it.

Where a service can't be had, its tests are skipped and say why. With ``LTM_REQUIRE_SERVICES=1``
they fail.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol, TypeVar

import pytest
from psycopg import sql

from ltm.sql import migrate
from ltm.sql.engines import open_engine
from tests.services.azure import AzureServer
from tests.services.firestore import FirestoreEmulator
from tests.services.gcs import GCSServer
from tests.services.http_proxy import HTTPProxy
from tests.services.object_server import ObjectPlace, ObjectServer
from tests.services.pgbouncer import PgBouncer
from tests.services.postgres import PASSWORDS, PostgresServer
from tests.services.processes import ServiceUnavailableError
from tests.services.proxy import FaultProxy
from tests.services.s3 import S3Server

MakeProxy = Callable[[str, int], FaultProxy]
MakeHTTPProxy = Callable[[ObjectPlace], HTTPProxy]

_ROLES = (
    "CREATE ROLE anon NOLOGIN",
    "CREATE ROLE authenticated NOLOGIN",
    "CREATE ROLE service_role NOLOGIN BYPASSRLS",
    "CREATE ROLE authenticator LOGIN NOINHERIT PASSWORD {authenticator}",
    "GRANT anon, authenticated, service_role TO authenticator",
    "CREATE ROLE app LOGIN PASSWORD {app}",
)
"""Those that Supabase makes, and an application's role without privileges."""

_numbers = itertools.count(1)


class Service(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


ServiceT = TypeVar("ServiceT", bound=Service)


@contextmanager
def running(service: ServiceT) -> Iterator[ServiceT]:
    """Start *service* and close it at the end; skip or fail the test if it can't be had."""
    try:
        service.start()
    except ServiceUnavailableError as error:
        service.close()
        if os.environ.get("LTM_REQUIRE_SERVICES") == "1":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    try:
        yield service
    finally:
        service.close()


@contextmanager
def database(server: PostgresServer, template: str | None = None) -> Iterator[str]:
    """Make a database, yield its URL, and delete it."""
    name = f"test_{next(_numbers)}"
    server.start()  # a test that took it down may have failed before it brought it back
    server.create_database(name, template)
    try:
        yield server.url(name)
    finally:
        server.start()
        server.drop_database(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's server; a test may take it down and need not bring it back."""
    with running(PostgresServer()) as server:
        secrets = {role: sql.Literal(password) for role, password in PASSWORDS.items()}
        for statement in _ROLES:
            server.execute(sql.SQL(statement).format(**secrets))
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a database at the newest revision, to be copied and not to be used."""
    name = "template_ltm"
    postgres_server.start()
    postgres_server.create_database(name)
    engine = open_engine(postgres_server.url(name))
    with engine.begin() as connection:
        migrate.upgrade(connection)
    engine.dispose()
    return name


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of a database of the test's own at the newest revision."""
    with database(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database of the test's own without any table."""
    with database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def pgbouncer(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """The session's pooler before the session's server, with two connections per database."""
    with running(PgBouncer(postgres_server, default_pool_size=2)) as pooler:
        yield pooler


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[FirestoreEmulator]:
    """The session's emulator; a test may take it down and need not bring it back."""
    with running(FirestoreEmulator()) as emulator:
        yield emulator


@pytest.fixture
def firestore_project(
    firestore_emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The id of a project of the test's own, in which clients find the session's emulator."""
    firestore_emulator.start()  # a test that took it down may have failed before it brought it back
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.address)
    return f"test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The session's server of S3; a test may take it down and need not bring it back."""
    with running(S3Server()) as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GCSServer]:
    """The session's server of GCS; a test may take it down and need not bring it back."""
    with running(GCSServer()) as server:
        yield server


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    """The session's server of Azure; a test may take it down and need not bring it back."""
    with running(AzureServer()) as server:
        yield server


@contextmanager
def object_place(server: ObjectServer) -> Iterator[ObjectPlace]:
    """Make a bucket or container, and let the server forget it."""
    yield server.make_place()
    server.clear()


@pytest.fixture
def s3_place(s3_server: S3Server) -> Iterator[ObjectPlace]:
    """An empty bucket of the test's own."""
    with object_place(s3_server) as place:
        yield place


@pytest.fixture
def gcs_place(gcs_server: GCSServer) -> Iterator[ObjectPlace]:
    """An empty bucket of the test's own."""
    with object_place(gcs_server) as place:
        yield place


@pytest.fixture
def azure_place(azure_server: AzureServer) -> Iterator[ObjectPlace]:
    """An empty container of the test's own."""
    with object_place(azure_server) as place:
        yield place


@pytest.fixture
def make_http_proxy() -> Iterator[MakeHTTPProxy]:
    """Start proxies before the server of a place; they are closed after the test."""
    with ExitStack() as stack:
        yield lambda place: stack.enter_context(HTTPProxy(place.server.host, place.server.port))


@pytest.fixture
def make_proxy() -> Iterator[MakeProxy]:
    """Start proxies before a host and a port; they are closed after the test."""
    with ExitStack() as stack:
        yield lambda host, port: stack.enter_context(FaultProxy(host, port))
