"""Shared by the tests on a real PostgreSQL: places there, on a server that may be killed or not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "faults"))
sys.path.append(str(Path(__file__).parents[1] / "history"))

from postgres_place import PostgresPlace

from ltm.sql import migrate
from ltm.sql.engines import open_engine
from tests.services.fixtures import database, running
from tests.services.postgres import PostgresServer


@pytest.fixture
def place(postgres_url: str, tmp_path: Path) -> PostgresPlace:
    return PostgresPlace(postgres_url, tmp_path / "payloads")


@pytest.fixture(scope="session")
def durable_server() -> Iterator[PostgresServer]:
    """A server of these tests' own that has on disk what it acknowledges."""
    with running(PostgresServer(durable=True)) as server:
        server.create_database("template_ltm")
        engine = open_engine(server.url("template_ltm"))
        with engine.begin() as connection:
            migrate.upgrade(connection)
        engine.dispose()
        yield server


@pytest.fixture
def durable_place(durable_server: PostgresServer, tmp_path: Path) -> Iterator[PostgresPlace]:
    """A place on the durable server, which a test may kill and need not bring back."""
    with database(durable_server, "template_ltm") as url:
        yield PostgresPlace(url, tmp_path / "payloads")
