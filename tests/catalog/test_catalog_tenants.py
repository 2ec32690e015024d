"""Two tenants with the same keys never meet, whatever verb of the library they use."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import psycopg
import pytest
from sqlalchemy import text
from tenants import HASH_OF, acting, claims_of, everything_of

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.supabase import SupabaseCatalog
from ltm.errors import (
    CatalogUnavailableError,
    SchemaOutOfDateError,
    SnapshotNotFoundError,
    ValidationError,
)
from ltm.sql.migrate import HEAD
from ltm.testing.backend_fixtures import LARGE, payloads_of
from ltm.testing.catalog_fixtures import track
from ltm.testing.clock import FakeClock
from tests.services.tokens import SECRET, make_token

Opener = Callable[..., DuckDBLTMBackend]

IDENTITY = text("SELECT current_user, coalesce(current_setting('request.jwt.claims', true), '')")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def login(postgres_url: str) -> str:
    """The URL of the login that may become any of the roles, and has no rights of its own."""
    return postgres_url.replace("postgres@", "authenticator:secret@")


@pytest.fixture
def opening(login: str, tmp_path: Path, clock: FakeClock) -> Iterator[Opener]:
    """Opens the memory of a tenant; all of them keep their payloads under one root."""
    opened: list[DuckDBLTMBackend] = []

    def open_memory(token: str, **options: Any) -> Any:
        if len(token) == 1:
            token = make_token(token)
        catalog = SupabaseCatalog(
            login, access_token=token, jwt_secret=SECRET, clock=clock, **options
        )
        root = f"{tmp_path}/payloads"
        opened.append(DuckDBLTMBackend(catalog, root, owns_catalog=True, raise_errors=True))
        return opened[-1]

    yield open_memory
    for memory in opened:
        memory.close()


def fill(memory: DuckDBLTMBackend, name: str) -> None:
    memory.store("k", f"words of {name}", {"type": "note", "by": name})
    memory.store("large", LARGE | {"by": name}, {"type": "note"})
    memory.store("short-lived", 1, ttl=10)
    memory.create_snapshot("same name")
    memory.store("k", f"newer words of {name}", {"type": "note", "by": name})


def seen(memory: DuckDBLTMBackend) -> dict[str, Any]:
    """Return what every way of reading answers."""
    return {
        "retrieve": [memory.retrieve(key) for key in ("k", "large", "none")],
        "at snapshot": memory.retrieve("k", snapshot="same name"),
        "batch": memory.retrieve_batch(["k", "large", "none"]),
        "all": list(memory.iterate_all()),
        "prefix": list(memory.iterate_all("k")),
        "words": memory.search("words"),
        "phrase": memory.search('"newer words"'),
        "filter": memory.search(metadata_filter={"type": "note"}),
        "both": memory.search("words", {"type": "note"}),
        "old filter": memory.search(metadata_filter={"type": "note"}, snapshot="same name"),
        "listed": memory.catalog.list_entries(),
        "changes": list(memory.changes("same name")),
        "snapshots": memory.list_snapshots(),
        "stats": memory.stats(),
        "expired": memory.catalog.count_expired(memory.clock()),
        "payloads": payloads_of(memory),
        "verified": memory.verify(),
    }


# Every verb


def test_no_verb_reads_anything_of_another_tenant(opening: Opener) -> None:
    a, b = opening("a"), opening("b")
    fill(a, "alpha")
    alone = seen(a)
    fill(b, "beta")
    b.store("of b alone", "words words words", {"type": "note"})
    assert seen(a) == alone
    assert "beta" not in repr(seen(a))
    assert "alpha" not in repr(seen(b))
    assert b.search("words")["count"] == 2


def test_no_verb_changes_anything_of_another_tenant(
    opening: Opener, postgres_url: str, clock: FakeClock
) -> None:
    a, b = opening("a"), opening("b")
    fill(a, "alpha")
    fill(b, "beta")
    clock.advance(3600)
    theirs, rows = seen(b), everything_of(postgres_url, "b")
    snapshot = b.list_snapshots()["snapshots"][0]["snapshot_id"]
    a.store("k", "overwritten")
    a.store_batch([{"key": "k", "value": 1}, {"key": "large", "value": LARGE}])
    a.update("k", lambda found: [found])
    a.restore("same name")
    a.delete("k")
    a.delete("large")
    with a.transaction() as block:
        block.store("large", 1)
        block.delete("short-lived")
    a.cleanup_expired()
    for verb in (a.restore, a.expire_snapshot, a.retrieve):
        with pytest.raises(SnapshotNotFoundError):
            verb("k", snapshot=snapshot) if verb == a.retrieve else verb(snapshot)
    a.expire_snapshot("same name")
    a.gc(grace=0)
    a.verify(repair=True)
    a.health_check()
    assert (seen(b), everything_of(postgres_url, "b")) == (theirs, rows)


def test_without_the_library_asking_for_it_rows_are_kept_apart_all_the_same(
    opening: Opener,
) -> None:
    a, b = opening("a"), opening("b")
    fill(a, "alpha")
    fill(b, "beta")
    # As if the library asked for another tenant's rows by mistake, with the right token.
    wrong = a.catalog._on(a.catalog.database, tenant="b")
    assert wrong.get_entry("k") is None
    assert wrong.retrieve_batch(["k", "large"]) == {}
    assert wrong.list_entries() == wrong.search("words") == []
    assert wrong.history.snapshots() == []
    assert wrong.statistics(a.clock())[0] == 0
    assert not wrong.delete_entry("k")
    for key in ("k", "new"):
        with pytest.raises(CatalogUnavailableError, match="row-level security"):
            track(wrong, key, "stolen")
    with pytest.raises(CatalogUnavailableError, match="row-level security"):
        wrong.create_snapshot("theirs")


def test_the_service_role_works_for_any_tenant_and_for_none(opening: Opener) -> None:
    key = jwt.encode({"role": "service_role"}, SECRET, algorithm="HS256")
    a, nobody = opening("a"), opening(key)
    fill(a, "alpha")
    assert opening(key, tenant="a").retrieve("k") == a.retrieve("k")
    assert opening(make_token("a", role="service_role")).retrieve("k") == a.retrieve("k")
    fill(nobody, "nobody")
    assert "alpha" not in repr(seen(nobody))
    assert "nobody" not in repr(seen(a))
    assert nobody.gc(grace=0)["unreferenced"] == 0
    assert len(payloads_of(a)) == 1


# Payloads


def test_a_row_that_names_anothers_payload_has_it_deleted_by_no_verb(
    opening: Opener, postgres_url: str
) -> None:
    a, b = opening("a"), opening("b")
    a.store("versioned", LARGE)
    a.create_snapshot("s")
    a.delete("versioned")
    for key in ("replaced", "deleted", "expired"):
        a.store(key, LARGE, ttl=10)
    b.store("large", LARGE)
    (theirs,) = payloads_of(b)
    with psycopg.connect(postgres_url) as connection:
        for table in ("ltm_entries", "ltm_entry_versions", "ltm_payload_deletions"):
            # The policy refuses such rows; the library must not rely on it alone.
            connection.execute(f"ALTER POLICY ltm_tenant ON {table} WITH CHECK (true)")
    with acting(postgres_url, claims_of("a")) as connection:
        for table in ("ltm_entries", "ltm_entry_versions"):
            connection.execute(f"UPDATE {table} SET storage_uri = %s", [theirs])
        connection.execute("INSERT INTO ltm_payload_deletions VALUES (%s, 'a', now())", [theirs])
    a.store("replaced", 1)
    a.delete("deleted")
    a.clock.advance(60)
    assert a.cleanup_expired()["deleted"] == 1
    a.expire_snapshot("s")
    a.gc(grace=0)
    assert b.retrieve("large")["value"] == LARGE


def test_an_upload_that_is_still_to_be_committed_is_nobody_elses_to_delete(
    postgres_url: str, tmp_path: Path
) -> None:
    # Without policies, all rows seen: but none names it yet.
    a, b = (
        DuckDBLTMBackend(
            PostgresCatalog(postgres_url, tenant=tenant), f"{tmp_path}/payloads", owns_catalog=True
        )
        for tenant in "ab"
    )
    (path,) = b.parts.writer.upload([b.parts.writer.prepare("large", LARGE)])
    assert isinstance(path, str)
    a.catalog.track_entry("k", "sha256:0", path, 1, None)
    assert a.delete("k")["success"]
    assert b.payloads.read(path)
    for memory in (a, b):
        memory.close()


def test_the_payload_of_another_tenant_cannot_be_tracked(opening: Opener) -> None:
    a, b = opening("a"), opening("b")
    b.store("large", LARGE)
    (theirs,) = payloads_of(b)
    assert theirs.split("/")[1] == HASH_OF["b"]
    with pytest.raises(CatalogUnavailableError, match="row-level security"):
        a.catalog.track_entry("stolen", "sha256:0", theirs, 1, None)
    a.catalog.track_entry("mine", "sha256:0", "some/file.json", 1, None)


# Tokens


def test_an_expired_token_ends_every_verb_of_an_open_catalog(
    opening: Opener, clock: FakeClock
) -> None:
    memory = opening(make_token("a", exp=clock.now.timestamp() + 60))
    fill(memory, "alpha")
    for number in range(600):
        memory.store(f"n{number:03}", number)
    entries, changes = memory.iterate_all(), memory.changes(None)
    next(entries), next(changes)
    clock.advance(59.999)
    memory.retrieve("k")
    clock.advance(0.001)
    verbs: list[Callable[[], object]] = [
        lambda: memory.retrieve("k"),
        lambda: memory.retrieve_batch(["k"]),
        lambda: memory.search("words"),
        lambda: memory.store("k", 2),
        lambda: memory.delete("k"),
        lambda: memory.create_snapshot("late"),
        lambda: memory.cleanup_expired(),
        lambda: memory.gc(grace=0),
        lambda: memory.stats(),
        lambda: list(memory.iterate_all()),
        lambda: list(memory.changes("same name")),
        lambda: memory.transaction().__enter__(),
        # Not an answer that is merely shorter: what comes next can't be read.
        lambda: list(entries),
        lambda: list(changes),
    ]
    for verb in verbs:
        with pytest.raises(ValidationError, match="access_token: expired at"):
            verb()


def test_a_token_that_is_not_genuine_opens_nothing(login: str, clock: FakeClock) -> None:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    claims = {"role": "service_role", "sub": "b"}
    genuine = make_token("a")
    header, _, signature = genuine.split(".")
    forged = {
        "by another key": make_token("b", secret="x" * 40),
        "unsigned": f"{part({'alg': 'none'})}.{part(claims)}.",
        "altered": f"{header}.{part(claims)}.{signature}",
        "expired": make_token("a", exp=clock.now.timestamp()),
        "not yet valid": make_token("a", nbf=clock.now.timestamp() + 1),
        "above the policies": make_token("a", role="postgres"),
    }
    for token in forged.values():
        with pytest.raises(ValidationError, match=r"^access_token"):
            SupabaseCatalog(login, access_token=token, jwt_secret=SECRET, clock=clock)
    unsigned = forged["unsigned"]
    with pytest.raises(ValidationError, match="not signed"):
        SupabaseCatalog(login, access_token=unsigned, clock=clock)


# The schema under a token


def test_a_schema_that_is_missing_or_old_is_named_under_a_token(
    empty_postgres_url: str, login: str, postgres_url: str
) -> None:
    def refusal(url: str) -> SchemaOutOfDateError:
        with (
            SupabaseCatalog(url, access_token=make_token("a")) as catalog,
            pytest.raises(
                SchemaOutOfDateError, match=f"needed is '{HEAD}'.*ltm db upgrade"
            ) as caught,
        ):
            catalog.get_entry("k")
        return caught.value

    assert refusal(empty_postgres_url.replace("postgres@", "authenticator:secret@")).found is None
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE ltm_alembic_version SET version_num = '0001'")
    assert refusal(login).found == "0001"


def test_a_schema_is_made_with_the_rights_of_the_login_not_of_the_token(
    empty_postgres_url: str,
) -> None:
    login = empty_postgres_url.replace("postgres@", "authenticator:secret@")
    options: dict[str, Any] = {"access_token": make_token("a"), "auto_migrate": True}
    with (
        SupabaseCatalog(login, **options) as catalog,
        pytest.raises(CatalogUnavailableError, match="permission denied for schema"),
    ):
        catalog.get_entry("k")
    with SupabaseCatalog(empty_postgres_url, **options) as catalog:
        track(catalog, "k")
    with SupabaseCatalog(login, access_token=make_token("b")) as catalog:
        assert catalog.get_entry("k") is None
