"""Values too large for their row, in a local directory."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing

from benchmarks.ours import open_sqlite
from benchmarks.peers import open_sqlite_peers
from benchmarks.raw_sqlite import RawRow, RawSQLite
from benchmarks.rounds import Comparison, Contestant, Stopwatch, Target
from benchmarks.topics import Place, Topic
from benchmarks.values import Entry, large_entries


class RawPayloads:
    """Payloads written as files, and their rows after them."""

    def __init__(self, rows: RawSQLite, directory: str, *, syncs_names: bool) -> None:
        self._rows, self._directory, self._syncs_names = rows, directory, syncs_names
        os.makedirs(directory, exist_ok=True)

    def store_each(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Write a temporary file, sync and rename it, sync the directory, then write its row."""
        for entry in given:
            name = secrets.token_hex(16)
            row = RawRow(entry, storage_uri=name)
            target = os.path.join(self._directory, name)
            with open(f"{target}.tmp", "xb") as file:
                file.write(row.text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.rename(f"{target}.tmp", target)
            if self._syncs_names:
                descriptor = os.open(self._directory, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
            self._rows.store(row)
            lap()


def _compare(place: Place) -> Iterator[Comparison]:
    scale, directory = place.scale, place.directory
    with ExitStack() as stack:
        memory = stack.enter_context(closing(open_sqlite(directory, "ours", enable_fts=False)))
        open_sqlite(directory, "raw").close()
        rows = stack.enter_context(closing(RawSQLite(f"{directory}/raw.db")))
        raw = RawPayloads(rows, f"{directory}/raw", syncs_names=True)
        hasty = RawPayloads(rows, f"{directory}/hasty", syncs_names=False)
        peers = stack.enter_context(closing(open_sqlite_peers(directory)))
        place.missing.extend(peers.missing)
        contestants = [
            Contestant(
                "raw files",
                raw.store_each,
                "json, sha256, write, fsync, rename, fsync of the directory, row",
            ),
            memory.contestant("store_each", "more: 256 directories, never overwrites"),
            Contestant(
                "raw files, names not synced",
                hasty.store_each,
                "less: a crash of the machine may lose the name of a file that has a row",
            ),
            *peers.contestants("store_each"),
        ]
        for size, title, share in ((10_000, "10 KB", 4), (1_000_000, "1 MB", 20)):
            yield Comparison(
                title=f"store of {title}",
                inputs=_inputs(max(1, scale.singles // share), size),
                contestants=contestants,
                target=Target(1.25),
                rounds=max(1, scale.rounds // 2),
            )


def _inputs(count: int, size: int) -> Callable[[int], list[Entry]]:
    return lambda number: large_entries(f"{size} {number}", count, size)


PAYLOADS = Topic(
    "payloads",
    "Payloads in a local directory",
    "Each store makes a file and syncs it, then writes a row; search off.",
    _compare,
)
