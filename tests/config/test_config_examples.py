"""Every YAML example of docs/settings.md, word for word, makes a memory on real servers.

The examples name hosts and buckets that are not there. The same words lead to servers of the tests
by what a deployment has, too: variables of the drivers (``PGPORT``, ``AWS_ENDPOINT_URL``,
``STORAGE_EMULATOR_HOST``, ``FIRESTORE_EMULATOR_HOST``), and a database or a bucket of that very
name.
"""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg import sql

from ltm import create_ltm_from_settings
from tests.services.object_server import ObjectServer
from tests.services.postgres import PASSWORDS, PostgresServer
from tests.services.tokens import SECRET, make_token

PAGE = Path(__file__).parents[2] / "docs/settings.md"
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
VALUE = {"text": "Invoices are paid in thirty days. " * 100}


def inner(example: str) -> dict[str, Any]:
    whole = yaml.safe_load(example)
    found: dict[str, Any] = whole.get("settings", whole)["ltm"]
    return found


def catalog_of(example: str) -> dict[str, Any]:
    catalog = inner(example)["catalog"]
    return catalog if isinstance(catalog, dict) else {"type": catalog}


def storage_of(example: str) -> str:
    storage = inner(example).get("storage", "./ltm_data/")
    uri: str = storage["uri"] if isinstance(storage, dict) else storage
    return uri.replace("${LTM_DATA:-./ltm_data/}", "./ltm_data/")


def title(example: str) -> str:
    catalog = catalog_of(example)
    return "-".join([catalog["type"], *sorted({*catalog} - {"type"})])


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    text: str = request.param
    (tmp_path / "agent.yaml").write_text(text, encoding="utf-8")
    return text


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return monkeypatch


@pytest.fixture
def catalog(
    example: str, request: pytest.FixtureRequest, environment: pytest.MonkeyPatch
) -> Iterator[None]:
    """Let the words of the example's catalog lead to a server."""
    section = catalog_of(example)
    match section["type"]:
        case "postgres" if "host" in section:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            name = sql.Identifier(section["database"])
            owner = sql.Identifier(section["user"])
            server.start()
            server.create_database(section["database"])
            server.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner))
            environment.setenv("PGPORT", str(server.port))
            environment.setenv("POSTGRES_PASSWORD", PASSWORDS[section["user"]])
            upgrade()
            yield
            server.drop_database(section["database"])
        case "postgres":
            environment.setenv("POSTGRES_URL", request.getfixturevalue("empty_postgres_url"))
            upgrade()
            yield
        case "supabase":
            # At head already, as a tenant's token has no right to make tables.
            url = request.getfixturevalue("postgres_url")
            environment.setenv("SUPABASE_DB_URL", url.replace("postgres@", "authenticator:secret@"))
            environment.setenv("SUPABASE_ACCESS_TOKEN", make_token("acme"))
            environment.setenv("SUPABASE_JWT_SECRET", SECRET)
            yield
        case "firestore":
            request.getfixturevalue("firestore_project")  # names the emulator to clients
            yield
        case _:
            yield


@pytest.fixture
def storage(
    example: str, request: pytest.FixtureRequest, environment: pytest.MonkeyPatch
) -> Iterator[None]:
    """Let the URI of the example's storage lead to a server with that very bucket."""
    protocol, _, rest = storage_of(example).rpartition("://")
    if not protocol:
        yield
        return
    server: ObjectServer = request.getfixturevalue(
        {"gs": "gcs_server", "s3": "s3_server"}[protocol]
    )
    server.start()
    server.make_bucket(rest.split("/")[0])
    for name, value in server.environment(server.port).items():
        environment.setenv(name, value)
    # Without credentials Google's libraries would ask the machine that they think they are on.
    environment.setenv("NO_GCE_CHECK", "true")
    yield
    server.clear()


def upgrade() -> None:
    command = [sys.executable, "-m", "ltm.cli", "--config", "agent.yaml", "db", "upgrade"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("catalog", "storage")
@pytest.mark.parametrize("example", EXAMPLES, indirect=True, ids=title)
def test_an_example_of_the_page_makes_a_memory_that_remembers(example: str, tmp_path: Path) -> None:
    key = f"doc:{uuid.uuid4()}"
    with create_ltm_from_settings("agent.yaml") as memory:
        stored = memory.store(key, VALUE, {"type": "page"})
        assert stored["success"], stored
        root = storage_of(example).replace("./", f"{tmp_path}/", 1)
        assert stored["storage_uri"].startswith(root)
    with create_ltm_from_settings(tmp_path / "agent.yaml") as memory:
        assert memory.retrieve(key)["value"] == VALUE
        found = memory.search("when are invoices paid?", {"type": "page"})
        assert [each["key"] for each in found["results"]] == [key]
        assert memory.delete(key)["deleted"]
        assert memory.health_check()["healthy"]


@pytest.mark.usefixtures("catalog", "storage")
@pytest.mark.parametrize(
    "example",
    [each for each in EXAMPLES if catalog_of(each)["type"] == "supabase"],
    indirect=True,
    ids=title,
)
def test_the_token_of_a_supabase_example_keeps_its_tenant_apart(
    example: str, environment: pytest.MonkeyPatch
) -> None:
    with create_ltm_from_settings("agent.yaml") as memory:
        assert memory.store("k", 1)["success"]
    environment.setenv("SUPABASE_ACCESS_TOKEN", make_token("another"))
    with create_ltm_from_settings("agent.yaml") as memory:
        answer = memory.retrieve("k")
        assert answer["success"]
        assert not answer["found"]


def test_the_page_shows_every_catalog_and_every_form_of_storage() -> None:
    assert {catalog_of(each)["type"] for each in EXAMPLES} == {
        *("sqlite", "postgres", "supabase", "firestore")
    }
    storages = [inner(each).get("storage") for each in EXAMPLES]
    assert "./ltm_data/" in storages
    keys = {key for each in storages if isinstance(each, dict) for key in each}
    assert {"uri", "format", "s3_region", "options"} <= keys
