"""The embedded default against sqlite3 with the same schema, statements and pragmas.

The raw side gets its parameters ready made: it neither serialises, hashes nor analyses text. So a
ratio is the whole price of going through ``ltm``.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from benchmarks.rounds import Contestant
from ltm import DuckDBLTMBackend, SQLiteCatalog
from ltm.hashing import canonical_json, hash_text
from ltm.keys import generate_entry_id
from ltm.search.analysis import get_analyzer
from ltm.search.codes import index_rows

BATCH = 1000
SINGLES = 200
INSTANT = "2030-01-01T00:00:00.000000+00:00"


def value_of(index: int) -> dict[str, Any]:
    """Return a small value such as an agent remembers."""
    return {"note": f"The user asked about topic {index} and prefers short answers.", "n": index}


def metadata_of(index: int) -> dict[str, Any]:
    """Return its metadata."""
    return {"type": "note", "topic": f"t{index % 50}"}


class RawRows:
    """The parameters of the statements that one entry needs."""

    def __init__(self, key: str, index: int) -> None:
        text = canonical_json(value_of(index))
        identity, metadata = generate_entry_id(key), metadata_of(index)
        document = get_analyzer().analyze_document(key, value_of(index))
        self.entry = (
            *(identity, "", "default", key, hash_text(text), None, len(text), text),
            *(canonical_json(metadata), None, 0, INSTANT, INSTANT),
        )
        self.words = (identity, "", "default", document.length, document.text)
        self.metadata = [
            (identity, path, code, "", "default", INSTANT) for path, code in index_rows(metadata)
        ]


class Embedded:
    """One catalog file for ``ltm`` and one for the raw driver, each with the same schema."""

    def __init__(self, directory: str, rounds: int) -> None:
        self.rounds = rounds
        self.memory = self._open(directory, "ltm")
        shadow = self._open(directory, "raw")
        shadow.store("warm", 1)
        statements = self.memory.catalog.database.statements
        self.entry, self.words = statements.upsert_entry.text, statements.upsert_search.text
        self.metadata, self.get = statements.insert_metadata.text, statements.select_entry.text
        shadow.close()
        path = os.path.join(directory, "raw.db")
        self.raw = sqlite3.connect(path, isolation_level=None, cached_statements=512)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            self.raw.execute(f"PRAGMA {pragma}")
        self.memory.store("warm", 1)

    def _open(self, directory: str, name: str) -> DuckDBLTMBackend:
        catalog = SQLiteCatalog(os.path.join(directory, f"{name}.db"))
        return DuckDBLTMBackend(catalog, os.path.join(directory, name), owns_catalog=True)

    def batches(self) -> list[Contestant]:
        """Write a batch of new entries."""
        prepared = self._prepare("b", BATCH)

        def raw(number: int) -> None:
            rows = prepared[number]
            self.raw.execute("BEGIN IMMEDIATE")
            self.raw.executemany(self.entry, [row.entry for row in rows])
            self.raw.executemany(self.words, [row.words for row in rows])
            self.raw.executemany(self.metadata, [each for row in rows for each in row.metadata])
            self.raw.execute("COMMIT")

        def ours(number: int) -> None:
            answer = self.memory.store_batch(
                [(f"b{number}:{i}", value_of(i), metadata_of(i)) for i in range(BATCH)]
            )
            assert answer["stored"] == BATCH

        return [
            Contestant("raw executemany", raw, BATCH),
            Contestant("ltm store_batch", ours, BATCH),
        ]

    def _prepare(self, prefix: str, count: int) -> dict[int, list[RawRows]]:
        return {
            number: [RawRows(f"{prefix}{number}:{index}", index) for index in range(count)]
            for number in range(-1, self.rounds)
        }

    def stores(self) -> list[Contestant]:
        """Write new entries one by one, each in a transaction of its own."""
        prepared = self._prepare("s", SINGLES)

        def raw(number: int) -> None:
            for row in prepared[number]:
                self.raw.execute("BEGIN IMMEDIATE")
                self.raw.execute(self.entry, row.entry)
                self.raw.execute(self.words, row.words)
                self.raw.executemany(self.metadata, row.metadata)
                self.raw.execute("COMMIT")

        def ours(number: int) -> None:
            for index in range(SINGLES):
                answer = self.memory.store(
                    f"s{number}:{index}", value_of(index), metadata_of(index)
                )
                assert answer["stored"]

        return [Contestant("raw execute", raw, SINGLES), Contestant("ltm store", ours, SINGLES)]

    def gets(self) -> list[Contestant]:
        """Read inlined entries one by one."""
        keys = [f"s0:{index}" for index in range(SINGLES)]
        ids = [generate_entry_id(key) for key in keys]

        def raw(_number: int) -> None:
            for identity in ids:
                assert self.raw.execute(self.get, (identity,)).fetchone()

        def ours(_number: int) -> None:
            for key in keys:
                assert self.memory.retrieve(key)["found"]

        return [Contestant("raw execute", raw, SINGLES), Contestant("ltm retrieve", ours, SINGLES)]

    def close(self) -> None:
        """Close both."""
        self.memory.close()
        self.raw.close()
