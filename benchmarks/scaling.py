"""Whether a get stays what it is while the memory grows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing

from benchmarks.ours import Memory, open_sqlite
from benchmarks.raw_sqlite import RawSQLite
from benchmarks.rounds import Comparison, Contestant, Stopwatch, Target
from benchmarks.topics import Place, Topic
from benchmarks.values import batches_of_small_entries


def _keys(parts: Sequence[float], count: int) -> list[str]:
    return [f"small:{min(int(part * count), count - 1)}" for part in parts]


def _compare(place: Place) -> Iterator[Comparison]:
    scale = place.scale

    def make(name: str, count: int) -> Memory:
        with closing(open_sqlite(place.directory, name, enable_fts=False)) as memory:
            for batch in batches_of_small_entries(count):
                memory.backend.store_batch(batch)
        # As a process finds it that comes later: with nothing left in the log.
        return open_sqlite(place.directory, name, enable_fts=False)

    def draw(number: int) -> list[float]:
        # That leaves nothing else in the processor's caches, so more than a few have to follow.
        place.warm()
        chance = random.Random(number)
        return [chance.random() for _ in range(10 * scale.singles)]

    with ExitStack() as stack:
        few = stack.enter_context(closing(make("few", scale.few)))
        many = stack.enter_context(closing(make("many", scale.many)))
        raw = stack.enter_context(closing(RawSQLite(f"{place.directory}/many.db")))

        def get(reader: Memory | RawSQLite, count: int) -> Contestant:
            def run(parts: Sequence[float], lap: Stopwatch) -> None:
                # Of one file: whoever reads a page second finds it in a processor's cache.
                others = [1 - part for part in parts] if reader is raw else parts
                reader.get_each(_keys(others, count), lap)

            name = "raw sqlite3" if reader is raw else "ltm"
            return Contestant(f"{name}, {count:,} entries", run)

        yield Comparison(
            title=f"get at {scale.many:,} entries",
            inputs=draw,
            contestants=[get(few, scale.few), get(many, scale.many), get(raw, scale.many)],
            target=Target(1.6),
            rounds=scale.rounds,
        )


SCALING = Topic(
    "scaling",
    "Growth",
    "Random keys on SQLite in warm files, other ones in every round; here ratios are to the small\n"
    "memory. A million entries in a full run, 50,000 in a quick one.",
    _compare,
)
