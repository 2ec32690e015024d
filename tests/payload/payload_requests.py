"""How many requests the verbs of a store and of a backend cost, counted on the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.payload.base import PayloadStore
from ltm.payload.store import open_payload_store
from tests.services.fixtures import MakeHTTPProxy
from tests.services.http_proxy import HTTPProxy
from tests.services.object_server import ObjectPlace

KEYS = [f"k{number:03}" for number in range(100)]


class RequestSuite:
    """One request for each verb and object: no look before, no directory marker after."""

    upload: ClassVar[str] = "PUT"
    """The method that creates an object."""
    of_listing: ClassVar[int] = 1
    """The requests of a listing of one directory."""
    of_absence: ClassVar[int] = 0
    """The requests that tell an object that is missing from a bucket that is."""

    @pytest.fixture
    def place(self) -> ObjectPlace:
        """An empty bucket or container."""
        raise NotImplementedError

    @pytest.fixture
    def proxy(self, place: ObjectPlace, make_http_proxy: MakeHTTPProxy) -> HTTPProxy:
        return make_http_proxy(place)

    @pytest.fixture
    def store(self, place: ObjectPlace, proxy: HTTPProxy) -> Iterator[PayloadStore]:
        there = place.through(proxy)
        with closing(open_payload_store(there.uri, storage_options=there.options)) as store:
            yield store

    @pytest.fixture
    def memory(
        self, tmp_path: Path, place: ObjectPlace, proxy: HTTPProxy
    ) -> Iterator[DuckDBLTMBackend]:
        there = place.through(proxy)
        with DuckDBLTMBackend(
            SQLiteCatalog(tmp_path / "catalog.db"),
            there.uri,
            storage_options=there.options,
            raise_errors=True,
            owns_catalog=True,
        ) as memory:
            yield memory

    def test_each_verb_of_a_store_is_one_request(
        self, store: PayloadStore, proxy: HTTPProxy
    ) -> None:
        store.write("a/b/c/one", b"1")
        assert taken(proxy) == {self.upload: 1}
        assert store.read("a/b/c/one") == b"1"
        assert taken(proxy) == {"GET": 1}
        store.delete("a/b/c/one")
        assert taken(proxy) == {"DELETE": 1}
        store.delete("a/b/c/one")
        absence = {"GET": self.of_absence} if self.of_absence else {}
        assert taken(proxy) == {"DELETE": 1, **absence}

    def test_a_megabyte_is_read_and_written_in_one_request(
        self, store: PayloadStore, proxy: HTTPProxy
    ) -> None:
        store.write("a/one", bytes(1_000_000))
        assert taken(proxy) == {self.upload: 1}
        assert len(store.read("a/one")) == 1_000_000
        assert taken(proxy) == {"GET": 1}

    def test_a_listing_costs_no_request_for_each_object(
        self, store: PayloadStore, proxy: HTTPProxy
    ) -> None:
        store.write_many([(f"a/{number}", b"") for number in range(20)])
        proxy.forget()
        assert len([*store.list("a")]) == 20
        assert taken(proxy) == {"GET": self.of_listing}

    def test_a_batch_costs_one_request_for_each_value(
        self, memory: DuckDBLTMBackend, proxy: HTTPProxy
    ) -> None:
        values = {key: [key, "x" * 10_000] for key in KEYS}
        memory.store_batch([{"key": key, "value": value} for key, value in values.items()])
        assert taken(proxy) == {self.upload: 100}
        answer = memory.retrieve_batch(KEYS)
        assert {key: entry["value"] for key, entry in answer["entries"].items()} == values
        assert taken(proxy) == {"GET": 100}
        # Nothing lies there but the values.
        prefix = memory.catalog.table().storage_prefix
        assert len([*memory.payloads.list(prefix)]) == 100

    @pytest.mark.parametrize("payload_format", ["parquet", "duckdb"])
    def test_a_batch_in_a_shared_object_costs_one_request(
        self,
        tmp_path: Path,
        store: PayloadStore,
        proxy: HTTPProxy,
        payload_format: str,
    ) -> None:
        catalog = SQLiteCatalog(tmp_path / "catalog.db")
        memory = DuckDBLTMBackend(
            catalog, store=store, payload_format=payload_format, raise_errors=True
        )
        values = {key: [key, "x" * 10_000] for key in KEYS}
        memory.store_batch(list(values.items()))
        assert taken(proxy) == {self.upload: 1}
        assert memory.retrieve_batch(KEYS)["results"] == values
        assert taken(proxy) == {"GET": 1}
        assert memory.retrieve("k042")["value"] == values["k042"]
        assert taken(proxy) == {"GET": 1}
        for key in KEYS[1:]:
            memory.delete(key)
        assert taken(proxy) == {}
        memory.delete("k000")
        assert taken(proxy) == {"DELETE": 1}
        catalog.close()

    def test_an_entry_costs_one_request_for_each_verb(
        self, memory: DuckDBLTMBackend, proxy: HTTPProxy
    ) -> None:
        memory.store("k", ["old", "x" * 10_000])
        assert taken(proxy) == {self.upload: 1}
        memory.store("k", ["new", "x" * 10_000])
        assert taken(proxy) == {self.upload: 1, "DELETE": 1}
        memory.store("k", ["new", "x" * 10_000], {"type": "same"})
        assert self.upload not in taken(proxy)
        assert memory.retrieve("k")["value"] == ["new", "x" * 10_000]
        assert taken(proxy) == {"GET": 1}
        memory.retrieve("absent")
        assert taken(proxy) == {}
        memory.delete("k")
        assert taken(proxy) == {"DELETE": 1}


def taken(proxy: HTTPProxy) -> dict[str, int]:
    """Return how often each method was asked for since the last count."""
    counts = Counter(request.method for request in proxy.requests)
    for request in proxy.requests:
        print(request.method, request.target)  # shown with a failure
    proxy.forget()
    return dict(counts)
