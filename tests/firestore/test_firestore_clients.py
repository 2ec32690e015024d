"""Google's client is made late, shared by a process, closed by its last user, or handed in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from firestore_place import FirestorePlace
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore import Client
from outcomes import in_threads, succeed, wait_until

from ltm.catalog.firestore import FirestoreCatalog
from ltm.errors import CatalogUnavailableError, ClosedError, ValidationError
from tests.services.firestore import FirestoreEmulator
from tests.services.fixtures import MakeProxy

ESTABLISHED = "01"


def connections_to(port: int) -> int:
    """Return how many connections of this machine lead to *port*."""
    tables = [Path(f"/proc/net/{name}").read_text(encoding="ascii") for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == ESTABLISHED for row in rows)


def test_a_client_that_is_handed_in_is_used_and_stays_open(place: FirestorePlace) -> None:
    client = Client(place.project, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    with place.memory(FirestoreCatalog(client=client)) as memory:
        succeed(memory.store("k", "tea"))
        assert succeed(memory.search("tea"))["count"] == 1
        assert memory.retrieve("k")["value"] == "tea"
    assert len(list(client.collection("ltm_entries").stream())) == 1
    with place.open() as memory:
        assert memory.retrieve("k")["value"] == "tea"
    client.close()


def test_a_process_has_one_client_of_a_database_until_the_last_catalog_closes(
    place: FirestorePlace,
    firestore_emulator: FirestoreEmulator,
    make_proxy: MakeProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = make_proxy(firestore_emulator.host, firestore_emulator.port)
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"{proxy.host}:{proxy.port}")
    for _ in range(3):
        catalogs = [place.catalog(table=f"t{number % 2}") for number in range(4)]
        assert connections_to(proxy.port) == 0
        # Two threads of each begin at once.
        in_threads(lambda thread, made=catalogs: made[thread % 4].get_entry("k"), 8)
        assert connections_to(proxy.port) == 1
        for catalog in catalogs[1:]:
            catalog.close()
            catalog.close()
        assert catalogs[0].get_entry("k") is None
        assert connections_to(proxy.port) == 1
        catalogs[0].close()
        wait_until(lambda: connections_to(proxy.port) == 0, "a connection stays")
        with pytest.raises(ClosedError):
            catalogs[0].get_entry("k")


def test_a_catalog_closed_amid_calls_fails_them_and_no_other(place: FirestorePlace) -> None:
    closing, other = place.open(), place.open()
    succeed(other.store("k", 1))

    def call(thread: int) -> None:
        if thread == 0:
            closing.close()
            return
        for _ in range(20):
            answer = closing.retrieve("k")
            assert answer["success"] or answer["error_type"] in ("closed", "catalog_unavailable")
            succeed(other.retrieve("k"))

    in_threads(call, 4)
    assert closing.retrieve("k")["error_type"] == "closed"
    succeed(other.retrieve("k"))
    other.close()


def run(script: str, **environment: str) -> Any:
    """Return what *script* prints as JSON in a process that finds neither emulator nor account."""
    kept = ("FIRESTORE", "GOOGLE", "GCLOUD", "CLOUDSDK", "DATASTORE")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
    # Nothing is to be asked for in the network.
    settings = inherited | {"NO_GCE_CHECK": "true"} | environment
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_nothing_of_googles_is_imported_before_the_first_use() -> None:
    script = """
import json, sys, ltm
catalog = ltm.FirestoreCatalog("p", credentials="/nowhere.json")
memory = ltm.DuckDBLTMBackend(catalog, "memory://nothing")
repr(memory), catalog.explain("k", {"n": 1})
memory.close(), catalog.close()
print(json.dumps([name for name in sys.modules if name.split(".")[0] in ("google", "grpc")]))
"""
    assert run(script) == []


def test_a_missing_library_is_named_with_the_extra_that_brings_it() -> None:
    script = """
import json, sys, ltm

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("google", "grpc"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
memory = ltm.DuckDBLTMBackend(ltm.FirestoreCatalog("p"), "memory://nothing")
print(json.dumps([memory.retrieve("k"), memory.store("k", 1), memory.health_check()]))
"""
    for answer in run(script):
        assert answer["success"] is False
        assert answer["error_type"] == "dependency_missing"
        assert "google-cloud-firestore" in answer["error"]
        assert "ltm[firestore]" in answer["error"] or "'firestore'" in answer["error"]


@pytest.mark.parametrize(
    "content",
    [
        "not JSON: SECRET",
        '{"type": "service_account", "private_key": "SECRET"}',
        '{"type": "service_account", "client_email": "a@b", "token_uri": "https://c",'
        ' "private_key": "-----BEGIN PRIVATE KEY-----SECRET"}',
        '["SECRET"]',
    ],
)
def test_a_bad_file_of_credentials_is_named_and_not_quoted(
    tmp_path: Path, place: FirestorePlace, content: str
) -> None:
    path = tmp_path / "account.json"
    path.write_text(content, encoding="utf-8")
    with place.catalog(credentials=str(path)) as catalog:
        with pytest.raises(ValidationError, match=r"account\.json") as raised:
            catalog.get_entry("k")
        error: BaseException | None = raised.value
        while error is not None:
            assert "SECRET" not in repr(error)
            error = error.__cause__
        assert "SECRET" not in repr(catalog)


def test_a_missing_file_of_credentials_is_named(place: FirestorePlace) -> None:
    with (
        place.catalog(credentials="/nowhere/account.json") as catalog,
        pytest.raises(ValidationError, match=r"/nowhere/account\.json"),
    ):
        catalog.get_entry("k")


def test_an_environment_without_account_or_project_is_told_plainly(tmp_path: Path) -> None:
    script = """
import json, ltm
from google.auth.credentials import AnonymousCredentials
answers = []
for options in ({}, {"project": "p"}, {"credentials": AnonymousCredentials()}):
    catalog = ltm.FirestoreCatalog(**options)
    memory = ltm.DuckDBLTMBackend(catalog, "memory://nothing", owns_catalog=True)
    answers.append(memory.retrieve("k", "a default"))
    memory.close()
print(json.dumps(answers))
"""
    answers = run(script, HOME=str(tmp_path), CLOUDSDK_CONFIG=str(tmp_path))
    assert [answer["success"] for answer in answers] == [False] * 3
    for answer in answers[:2]:
        assert answer["error_type"] == "catalog_unavailable"
        assert "default credentials" in answer["error"]
    assert answers[2]["error_type"] in ("validation_error", "catalog_unavailable")
    assert "roject" in answers[2]["error"] or "default credentials" in answers[2]["error"]


def test_an_emulator_that_is_not_there_is_an_outage(
    place: FirestorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:9")
    with place.catalog(timeout=2) as catalog, pytest.raises(CatalogUnavailableError):
        catalog.get_entry("k")
