"""The shared default against ``psycopg`` and against peers on PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

from benchmarks.ours import Memory, open_postgres
from benchmarks.peers import Peers, open_postgres_peers
from benchmarks.raw_postgres import RawPostgres
from benchmarks.rounds import Comparison, Contestant, Target
from benchmarks.scale import Scale
from benchmarks.topics import Place, Topic, UnavailableError
from benchmarks.values import entries, plain_entries
from tests.services.postgres import PostgresServer
from tests.services.processes import ServiceUnavailableError

_numbers = itertools.count(1)
_ALL = "executemany, reads no old rows"
_ONE = "one prepared statement in one round trip, reads no old row"


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Give a server on which a commit is on disk when it is acknowledged.

    Raises:
        UnavailableError: There is none to be had.
    """
    try:
        with PostgresServer(durable=True) as server:
            yield server
    except ServiceUnavailableError as error:
        raise UnavailableError(str(error)) from error


def make_database(server: PostgresServer) -> str:
    """Make an empty database and return its URL."""
    name = f"benchmark_{next(_numbers)}"
    server.create_database(name)
    return server.url(name)


class _Opened(NamedTuple):
    memory: Memory
    """Without search."""
    searched: Memory
    raw: RawPostgres
    peers: Peers


def _compare(place: Place) -> Iterator[Comparison]:
    directory = place.directory
    with ExitStack() as stack:
        server = stack.enter_context(running_postgres())
        plain_url, searched_url, raw_url, peer_url = (make_database(server) for _ in range(4))
        open_postgres(raw_url, directory).close()
        opened = _Opened(
            stack.enter_context(closing(open_postgres(plain_url, directory, enable_fts=False))),
            stack.enter_context(closing(open_postgres(searched_url, directory))),
            stack.enter_context(closing(RawPostgres(raw_url))),
            stack.enter_context(closing(open_postgres_peers(peer_url))),
        )
        place.missing.extend(opened.peers.missing)
        yield from _singles(place.scale, opened)
        yield from _batches(place.scale, opened)


def _singles(scale: Scale, opened: _Opened) -> Iterator[Comparison]:
    yield Comparison(
        title="store, search off",
        inputs=lambda number: plain_entries(f"single{number}", scale.singles // 2),
        contestants=[
            Contestant("raw psycopg", opened.raw.store_each, _ONE, opened.raw.describe),
            opened.memory.contestant("store_each", "more: reads the old row, holds a lock"),
            *opened.peers.contestants("store_each"),
        ],
        target=Target(1.3),
        rounds=scale.rounds,
    )
    keys = [entry.key for entry in plain_entries("single0", scale.singles // 2)]
    yield Comparison(
        title="get",
        inputs=lambda _: keys,
        contestants=[
            Contestant("raw psycopg", opened.raw.get_each, "select by key, verify, parse"),
            opened.memory.contestant("get_each"),
            *opened.peers.contestants("get_each"),
        ],
        target=Target(1.3),
        rounds=scale.rounds,
    )
    yield Comparison(
        title="store, search on",
        inputs=lambda number: entries(f"words{number}", scale.singles // 2),
        contestants=[
            Contestant("raw psycopg", opened.raw.index_each, f"{_ONE}; less: words as they are"),
            opened.searched.contestant(
                "store_each", "more: reads the old row, holds a lock, stems"
            ),
        ],
        target=Target(1.3),
        rounds=scale.rounds,
    )


def _batches(scale: Scale, opened: _Opened) -> Iterator[Comparison]:
    yield Comparison(
        title=f"store_batch of {scale.batch:,}, search off",
        inputs=lambda number: plain_entries(f"all{number}", scale.batch),
        contestants=[
            Contestant("raw psycopg", opened.raw.store_all, _ALL),
            opened.memory.contestant("store_all", "more: reads the old rows"),
            *opened.peers.contestants("store_all"),
        ],
        target=Target(0.9),
        rounds=max(1, scale.rounds // 4),
    )
    yield Comparison(
        title=f"store_batch of {scale.batch:,}, search on",
        inputs=lambda number: entries(f"batch{number}", scale.batch),
        contestants=[
            Contestant("raw psycopg", opened.raw.index_all, f"{_ALL}; less: words as they are"),
            opened.searched.contestant("store_all", "more: reads the old rows, stems"),
        ],
        target=Target(0.9),
        rounds=max(1, scale.rounds // 4),
    )
    keys = [entry.key for entry in plain_entries("all0", scale.batch)]
    yield Comparison(
        title=f"retrieve_batch of {scale.batch:,}",
        inputs=lambda _: keys,
        contestants=[
            Contestant("raw psycopg", opened.raw.get_all, "one statement, verify, parse"),
            opened.memory.contestant("get_all"),
            *opened.peers.contestants("get_all"),
        ],
        target=Target(1.3),
        rounds=scale.rounds,
    )


POSTGRES = Topic(
    "postgres",
    "Entries on PostgreSQL",
    "A server of the run's own on loopback, with `fsync` and `synchronous_commit` on. The raw\n"
    "side has `ltm`'s tables and indexes; it writes JSON, hashes and verifies as `ltm` does.",
    _compare,
)
