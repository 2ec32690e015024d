"""Calls have the names, the order and the defaults that section 1 of the design gives them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from ltm import DuckDBLTMBackend, LTMBackend, create_ltm_backend

PROMISED = {
    "store": "key, value, metadata=None, *, ttl=None, expires_at=None, if_match=None, "
    "if_absent=False",
    "retrieve": "key, default=None, *, snapshot=None",
    "delete": "key, *, if_match=None",
    "search": "query=None, metadata_filter=None, limit=10",
    "store_batch": "entries, *, atomic=True, batch_size=500",
    "retrieve_batch": "keys",
    "cleanup_expired": "limit=100, *, batch_size=None",
    "update": "key, fn, *, default=None, retries=10",
    "transaction": "",
    "iterate_all": "prefix=None",
    "create_snapshot": "name",
    "list_snapshots": "",
    "restore": "snapshot",
    "expire_snapshot": "snapshot",
    "diff": "a, b",
    "changes": "since",
    "gc": "dry_run=False",
    "verify": "repair=False",
    "health_check": "",
    "stats": "",
    "query": "sql",
    "close": "",
}
BEYOND = {
    "search": {"snapshot"},
    "iterate_all": {"snapshot"},
    "gc": {"grace", "compact"},
    "query": {"parameters", "snapshot", "as_arrow", "timeout"},
}
"""What calls take besides, by keyword only."""

FACTORY = """
    storage_uri="./ltm_data/", storage_options=None, payload_format="json", inline_threshold=1024,
    enable_fts=True, table="default", lazy=True
"""


def parameters(promise: str) -> list[inspect.Parameter]:
    namespace: dict[str, Any] = {}
    exec(f"def promised({promise.strip()}): ...", namespace)
    return list(inspect.signature(namespace["promised"]).parameters.values())


@pytest.mark.parametrize("kind", [LTMBackend, DuckDBLTMBackend])
@pytest.mark.parametrize("name", PROMISED)
def test_a_call_takes_what_the_design_says(kind: type[LTMBackend], name: str) -> None:
    _, *taken = inspect.signature(getattr(kind, name)).parameters.values()
    beyond = BEYOND.get(name, set())
    assert {each.name for each in taken} >= beyond
    kept = [each.replace(annotation=each.empty) for each in taken if each.name not in beyond]
    assert kept == parameters(PROMISED[name])
    for each in taken:
        if each.name in beyond:
            assert each.kind is each.KEYWORD_ONLY
            assert each.default is not each.empty


def test_the_factory_takes_what_the_design_says() -> None:
    promised = {each.name: each.default for each in parameters(FACTORY)}
    taken = inspect.signature(DuckDBLTMBackend).parameters
    # By default the table is the one that the catalog is bound to, which is "default".
    assert {name: taken[name].default for name in promised} == {**promised, "table": None}
    first, *others = inspect.signature(create_ltm_backend).parameters.values()
    assert (first.name, first.default) == ("backend", "duckdb")
    assert {"catalog", "catalog_config"} <= {each.name for each in others}
