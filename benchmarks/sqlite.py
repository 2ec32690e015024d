"""The embedded default against ``sqlite3`` and against peers on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import NamedTuple

from benchmarks.ours import Memory, open_sqlite
from benchmarks.peers import Peers, open_sqlite_peers
from benchmarks.raw_sqlite import RawSQLite
from benchmarks.rounds import Comparison, Contestant, Target
from benchmarks.scale import Scale
from benchmarks.topics import Place, Topic
from benchmarks.values import entries, plain_entries

_READS_FIRST = "reads the old row and writes in one transaction, as ltm does"
_UNSEEN = "executemany, reads no old rows"
_STEMS = "more: folds, drops stop words, stems"


class _Opened(NamedTuple):
    memory: Memory
    """Without search."""
    searched: Memory
    raw: RawSQLite
    peers: Peers


def _compare(place: Place) -> Iterator[Comparison]:
    directory = place.directory
    with ExitStack() as stack:
        open_sqlite(directory, "raw").close()
        opened = _Opened(
            stack.enter_context(closing(open_sqlite(directory, "plain", enable_fts=False))),
            stack.enter_context(closing(open_sqlite(directory, "searched"))),
            stack.enter_context(closing(RawSQLite(f"{directory}/raw.db"))),
            stack.enter_context(closing(open_sqlite_peers(directory))),
        )
        place.missing.extend(opened.peers.missing)
        yield from _singles(place.scale, opened)
        yield from _searched(place.scale, opened)
        yield from _batches(place.scale, opened)


def _singles(scale: Scale, opened: _Opened) -> Iterator[Comparison]:
    yield Comparison(
        title="store, search off",
        inputs=lambda number: plain_entries(f"single{number}", scale.singles),
        contestants=[
            Contestant("raw sqlite3", opened.raw.store_each, _READS_FIRST),
            opened.memory.contestant("store_each"),
            *opened.peers.contestants("store_each"),
        ],
        target=Target(1.5),
        rounds=scale.rounds,
    )
    kept = plain_entries("single0", scale.singles)
    keys = [entry.key for entry in kept]
    yield Comparison(
        title="get",
        inputs=lambda _: keys,
        contestants=[
            Contestant("raw sqlite3", opened.raw.get_each, "select by key, verify, parse"),
            opened.memory.contestant("get_each"),
            *opened.peers.contestants("get_each"),
        ],
        target=Target(1.35),
        rounds=scale.rounds,
    )
    yield Comparison(
        title="store of an unchanged value",
        inputs=lambda _: kept,
        contestants=[
            Contestant("raw sqlite3", opened.raw.upsert_each, "replaces the row unseen"),
            opened.memory.contestant("store_unchanged", "less: sees that nothing is to be written"),
            *opened.peers.contestants("store_each"),
        ],
        target=Target(0.8),
        rounds=scale.rounds,
    )


def _searched(scale: Scale, opened: _Opened) -> Iterator[Comparison]:
    yield Comparison(
        title="store, search on",
        inputs=lambda number: entries(f"words{number}", scale.singles),
        contestants=[
            Contestant(
                "raw sqlite3",
                opened.raw.index_each,
                f"{_READS_FIRST}; keeps FTS5 and metadata rows; less: words as they are",
            ),
            opened.searched.contestant("store_each", _STEMS),
        ],
        target=Target(1.3),
        rounds=scale.rounds,
    )
    yield Comparison(
        title=f"store_batch of {scale.batch:,}, search on",
        inputs=lambda number: entries(f"both{number}", scale.batch),
        contestants=[
            Contestant("raw sqlite3", opened.raw.index_all, f"{_UNSEEN}; less: words as they are"),
            opened.searched.contestant("store_all", _STEMS),
        ],
        target=Target(1.15),
        rounds=scale.rounds,
    )


def _batches(scale: Scale, opened: _Opened) -> Iterator[Comparison]:
    yield Comparison(
        title=f"store_batch of {scale.batch:,}, search off",
        inputs=lambda number: plain_entries(f"batch{number}", scale.batch),
        contestants=[
            Contestant("raw sqlite3", opened.raw.store_all, _UNSEEN),
            opened.memory.contestant("store_all"),
            *opened.peers.contestants("store_all"),
        ],
        target=Target(1.15),
        rounds=scale.rounds,
    )
    keys = [entry.key for entry in plain_entries("batch0", scale.batch)]
    yield Comparison(
        title=f"retrieve_batch of {scale.batch:,}",
        inputs=lambda _: keys,
        contestants=[
            Contestant("raw sqlite3", opened.raw.get_all, "select in, verify, parse"),
            opened.memory.contestant("get_all"),
            *opened.peers.contestants("get_all"),
        ],
        target=Target(1.15),
        rounds=scale.rounds,
    )


SQLITE = Topic(
    "sqlite",
    "Entries on SQLite",
    "Values of some 200 bytes, inlined, in warm files. WAL and `synchronous=NORMAL` for all. The\n"
    "raw side has `ltm`'s tables and indexes; it writes JSON, hashes and verifies as `ltm` does.",
    _compare,
)
