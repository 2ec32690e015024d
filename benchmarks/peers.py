"""Other stores of agents' memories and caches, as they come from the package index."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from benchmarks.raw_sqlite import connect
from benchmarks.rounds import Contestant, Stopwatch
from benchmarks.values import Entry

NAMESPACE = ("benchmark",)


class Peer(Protocol):
    """The work that every peer can be asked to do."""

    name: str
    remark: str

    def store_each(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Store entries one by one."""

    def get_each(self, keys: Sequence[str], lap: Stopwatch) -> None:
        """Read values one by one; all of them are there."""

    def store_all(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Store entries in one call."""

    def get_all(self, keys: Sequence[str], lap: Stopwatch) -> None:
        """Read values in one call."""

    def close(self) -> None:
        """Close what was opened."""


class LangGraph:
    """LangGraph's store, on SQLite or PostgreSQL."""

    name = "LangGraph store"
    remark = (
        "less: no hash, no metadata beside the value, no words, no old row read before a write; "
        "a filter reads every value; a value of any size is in its row, where nothing syncs it"
    )

    def __init__(self, store: Any, connection: Any) -> None:
        from langgraph.store.base import GetOp, PutOp

        self._get, self._put = GetOp, PutOp
        self.store, self._connection = store, connection
        store.setup()

    def store_each(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        for entry in given:
            self.store.put(NAMESPACE, entry.key, entry.value)
            lap()

    def get_each(self, keys: Sequence[str], lap: Stopwatch) -> None:
        for key in keys:
            assert self.store.get(NAMESPACE, key).value
            lap()

    def store_all(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        self.store.batch([self._put(NAMESPACE, entry.key, entry.value) for entry in given])
        lap()

    def get_all(self, keys: Sequence[str], lap: Stopwatch) -> None:
        assert all(self.store.batch([self._get(NAMESPACE, key) for key in keys]))
        lap()

    def close(self) -> None:
        self._connection.close()


class DiskCache:
    """A cache on SQLite, of whatever can be pickled."""

    name = "diskcache"
    remark = (
        "less: pickle instead of JSON, no hash, no metadata, no words; above 32 KB a file that is "
        "not synced; more: reads its settings and maps 64 MB of the file into memory"
    )

    def __init__(self, directory: str) -> None:
        from diskcache import Cache

        # Its pragmas are WAL and NORMAL as they come.
        self._cache = Cache(directory, eviction_policy="none", timeout=30)

    def store_each(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        for entry in given:
            self._cache.set(entry.key, entry.value)
            lap()

    def get_each(self, keys: Sequence[str], lap: Stopwatch) -> None:
        for key in keys:
            assert self._cache.get(key)
            lap()

    def store_all(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        with self._cache.transact():
            for entry in given:
                self._cache.set(entry.key, entry.value)
        lap()

    def get_all(self, keys: Sequence[str], lap: Stopwatch) -> None:
        with self._cache.transact():
            assert all(self._cache.get(key) for key in keys)
        lap()

    def close(self) -> None:
        self._cache.close()


class KeyValue:
    """py-key-value's store, which is asynchronous; a round is one coroutine on one loop."""

    name = "py-key-value"

    def __init__(self, open_store: Callable[[], Any], remark: str) -> None:
        self.remark = f"less: no hash, no metadata, no words; {remark}"
        self._loop = asyncio.new_event_loop()
        self._store = open_store()
        self._loop.run_until_complete(self._store.__aenter__())

    def store_each(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        async def run() -> None:
            for entry in given:
                await self._store.put(entry.key, entry.value)
                lap()

        self._loop.run_until_complete(run())

    def get_each(self, keys: Sequence[str], lap: Stopwatch) -> None:
        async def run() -> None:
            for key in keys:
                assert await self._store.get(key)
                lap()

        self._loop.run_until_complete(run())

    def store_all(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        keys, values = [entry.key for entry in given], [entry.value for entry in given]
        self._loop.run_until_complete(self._store.put_many(keys, values))
        lap()

    def get_all(self, keys: Sequence[str], lap: Stopwatch) -> None:
        assert all(self._loop.run_until_complete(self._store.get_many(list(keys))))
        lap()

    def close(self) -> None:
        self._loop.run_until_complete(self._store.__aexit__(None, None, None))
        self._loop.close()


class Peers:
    """Those peers that are installed; ``missing`` says which are not."""

    def __init__(self, opening: dict[str, Callable[[], Peer]]) -> None:
        self.present: list[Peer] = []
        self.missing: list[str] = []
        for name, open_peer in opening.items():
            try:
                self.present.append(open_peer())
            except ImportError as error:
                self.missing.append(f"{name}: {error}")

    def contestants(self, verb: str) -> list[Contestant]:
        """Return the peers doing *verb*, a method of :class:`Peer`."""
        return [Contestant(each.name, getattr(each, verb), each.remark) for each in self.present]

    def close(self) -> None:
        """Close them all."""
        for peer in self.present:
            peer.close()


def open_sqlite_peers(directory: str) -> Peers:
    """Return the peers that keep values in SQLite files, each in a directory of its own."""

    def langgraph() -> Peer:
        from langgraph.store.sqlite import SqliteStore

        connection = connect(os.path.join(directory, "langgraph.db"))
        return LangGraph(SqliteStore(connection), connection)

    def key_value() -> Peer:
        from diskcache import Cache
        from key_value.aio.stores.disk import DiskStore

        cache = Cache(os.path.join(directory, "key_value"), eviction_policy="none", timeout=30)
        return KeyValue(lambda: DiskStore(disk_cache=cache), "a diskcache below, batches in a loop")

    return Peers(
        {
            LangGraph.name: langgraph,
            DiskCache.name: lambda: DiskCache(os.path.join(directory, "diskcache")),
            KeyValue.name: key_value,
        }
    )


def open_postgres_peers(url: str) -> Peers:
    """Return the peers that keep values in PostgreSQL, in the database at *url*."""

    def langgraph() -> Peer:
        import psycopg
        from langgraph.store.postgres import PostgresStore
        from psycopg.rows import dict_row

        connection = psycopg.connect(
            url, autocommit=True, prepare_threshold=0, row_factory=dict_row
        )
        return LangGraph(PostgresStore(connection), connection)

    def key_value() -> Peer:
        from key_value.aio.stores.postgresql import PostgreSQLStore

        return KeyValue(lambda: PostgreSQLStore(url=url), "asyncpg instead of psycopg")

    return Peers({LangGraph.name: langgraph, KeyValue.name: key_value})
