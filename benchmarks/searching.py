"""Entries found by their metadata and by their words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

import psycopg

from benchmarks.ours import Memory, open_postgres, open_sqlite
from benchmarks.peers import NAMESPACE, LangGraph, open_sqlite_peers
from benchmarks.postgres import make_database, running_postgres
from benchmarks.raw_sqlite import connect, read_entry
from benchmarks.rounds import Comparison, Contestant, Stopwatch, Target
from benchmarks.topics import Place, Topic, UnavailableError
from benchmarks.values import TOPICS, Entry, entries, questions

LIMIT = 10
_FIELDS = "key, hash, value, metadata, expires_at"
_IS_LIVE = "(expires_at IS NULL OR expires_at > {})"
_NOTES = (
    "CREATE TABLE raw_notes (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, topic TEXT, "
    "hash TEXT, value TEXT, metadata TEXT, expires_at {instant}, updated_at {instant}"
)
_BY_TOPIC = (
    f"SELECT {_FIELDS} FROM raw_notes WHERE topic = ? AND {_IS_LIVE.format('?')} "
    f"ORDER BY updated_at DESC LIMIT {LIMIT}"
)
_BY_WORDS = (
    f"SELECT {_FIELDS} FROM raw_words JOIN raw_notes ON raw_notes.id = raw_words.rowid "
    f"WHERE raw_words MATCH ? AND {_IS_LIVE.format('?')} ORDER BY bm25(raw_words) LIMIT {LIMIT}"
)
_BY_VECTOR = (
    f"SELECT {_FIELDS} FROM raw_notes, to_tsquery('english', %s) AS question "
    f"WHERE words @@ question AND {_IS_LIVE.format('%s')} "
    f"ORDER BY ts_rank(words, question) DESC LIMIT {LIMIT}"
)


class RawNotes:
    """A table of one's own on SQLite, made for the questions that are asked of it."""

    def __init__(self, path: str, given: Sequence[Entry]) -> None:
        self.connection = connect(path)
        self.connection.execute(f"{_NOTES.format(instant='TEXT')})")
        self.connection.execute("CREATE INDEX raw_notes_topic ON raw_notes (topic, updated_at)")
        self.connection.execute(
            "CREATE VIRTUAL TABLE raw_words USING fts5(text, content='', tokenize='porter')"
        )
        words = [(row[0], entry.value["note"]) for row, entry in zip(_rows(given), given)]  # noqa: B905
        self.connection.execute("BEGIN IMMEDIATE")
        marks = ", ".join("?" * 8)
        self.connection.executemany(f"INSERT INTO raw_notes VALUES ({marks})", _rows(given))
        self.connection.executemany("INSERT INTO raw_words (rowid, text) VALUES (?, ?)", words)
        self.connection.execute("COMMIT")

    def filter(self, topics: Sequence[str], lap: Stopwatch) -> None:
        """Read the newest entries of a topic."""
        for topic in topics:
            now = datetime.now(UTC).isoformat()
            rows = self.connection.execute(_BY_TOPIC, (topic, now)).fetchall()
            assert _read_notes(rows)
            lap()

    def ask(self, asked: Sequence[list[str]], lap: Stopwatch) -> None:
        """Read the entries that fit a question best."""
        for words in asked:
            question = " OR ".join(f'"{word}"' for word in words)
            now = datetime.now(UTC).isoformat()
            rows = self.connection.execute(_BY_WORDS, (question, now)).fetchall()
            assert len(_read_notes(rows)) <= LIMIT
            lap()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class RawVectors:
    """A table of one's own on PostgreSQL with a GIN index."""

    def __init__(self, url: str, given: Sequence[Entry]) -> None:
        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self.connection.execute(
            f"{_NOTES.format(instant='timestamptz')}, words tsvector GENERATED ALWAYS AS "
            "(to_tsvector('english', value::json ->> 'note')) STORED)"
        )
        self.connection.execute("CREATE INDEX raw_notes_words ON raw_notes USING gin (words)")
        with self.connection.transaction(), self.connection.cursor() as cursor:
            marks = ", ".join(["%s"] * 8)
            cursor.executemany(f"INSERT INTO raw_notes VALUES ({marks})", _rows(given))
        self.connection.execute("VACUUM ANALYZE raw_notes")

    def ask(self, asked: Sequence[list[str]], lap: Stopwatch) -> None:
        """Read the entries that fit a question best."""
        for words in asked:
            bound = " | ".join(words), datetime.now(UTC)
            rows = self.connection.execute(_BY_VECTOR, bound).fetchall()
            assert len(_read_notes(rows)) <= LIMIT
            lap()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def _rows(given: Sequence[Entry]) -> Iterator[tuple[Any, ...]]:
    for number, entry in enumerate(given):
        text = json.dumps(entry.value, sort_keys=True)
        content_hash = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        metadata, now = json.dumps(entry.metadata), datetime.now(UTC).isoformat()
        topic = entry.metadata["topic"]
        yield number, entry.key, topic, content_hash, text, metadata, None, now


def _read_notes(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return key, value and metadata of *rows*, verified."""
    return [(key, *read_entry(fields)) for key, *fields in rows]


def _filter(memory: Memory, remark: str) -> Contestant:
    def run(topics: Sequence[str], lap: Stopwatch) -> None:
        for topic in topics:
            assert memory.backend.search(None, {"topic": topic}, LIMIT)["count"]
            lap()

    return Contestant("ltm", run, remark)


def _ask(memory: Memory, remark: str) -> Contestant:
    def run(asked: Sequence[list[str]], lap: Stopwatch) -> None:
        for words in asked:
            assert memory.backend.search(" ".join(words), limit=LIMIT)["count"] <= LIMIT
            lap()

    return Contestant("ltm", run, remark)


def _filter_langgraph(peer: Any, given: Sequence[Entry]) -> Contestant:
    merged = [entry._replace(value=entry.value | entry.metadata) for entry in given]
    for first in range(0, len(merged), 1000):
        peer.store_all(merged[first : first + 1000], Stopwatch())

    def run(topics: Sequence[str], lap: Stopwatch) -> None:
        for topic in topics:
            assert peer.store.search(NAMESPACE, filter={"topic": topic}, limit=LIMIT)
            lap()

    return Contestant(peer.name, run, peer.remark)


def _by_metadata(place: Place) -> Iterator[Comparison]:
    count, directory = place.scale.filtered, place.directory
    asked = max(1, place.scale.singles // 10)
    given = entries("filtered", count)

    def draw(number: int) -> list[str]:
        place.warm()
        return [f"t{(number * 37 + each * 7) % min(TOPICS, count)}" for each in range(asked)]

    with ExitStack() as stack:
        memory = stack.enter_context(closing(open_sqlite(directory, "filtered", enable_fts=False)))
        memory.fill(given)
        raw = stack.enter_context(closing(RawNotes(f"{directory}/notes.db", given)))
        peers = stack.enter_context(closing(open_sqlite_peers(directory)))
        langgraph = [each for each in peers.present if isinstance(each, LangGraph)]
        yield Comparison(
            title=f"metadata equality over {count:,} entries",
            inputs=draw,
            contestants=[
                Contestant("raw sqlite3", raw.filter, "an index for this one key and order"),
                _filter(memory, "more: any key, declared nowhere; newest first by time"),
                *(_filter_langgraph(each, given) for each in langgraph),
            ],
            target=Target(2),
            rounds=place.scale.rounds,
        )


def _by_words(place: Place) -> Iterator[Comparison]:
    scale, directory = place.scale, place.directory
    given = entries("searched", scale.searched)
    remark = "more: finds its own idf and lengths over live entries, the same on every catalog"
    asked = max(1, scale.singles // 10)
    with ExitStack() as stack:
        memory = stack.enter_context(closing(open_sqlite(directory, "searched")))
        memory.fill(given)
        raw = stack.enter_context(closing(RawNotes(f"{directory}/words.db", given)))
        yield Comparison(
            title=f"question over {scale.searched:,} entries, SQLite",
            inputs=lambda number: questions(asked, number),
            contestants=[Contestant("raw FTS5, bm25()", raw.ask), _ask(memory, remark)],
            target=Target(2),
            rounds=scale.rounds,
        )
        server = stack.enter_context(running_postgres())
        url = make_database(server)
        shared = stack.enter_context(closing(open_postgres(url, directory)))
        shared.fill(given)
        server.execute("VACUUM ANALYZE", url.rpartition("/")[2])  # as on the raw side
        vectors = stack.enter_context(closing(RawVectors(make_database(server), given)))
        yield Comparison(
            title=f"question over {scale.searched:,} entries, PostgreSQL",
            inputs=lambda number: questions(asked, number),
            contestants=[
                Contestant("raw GIN, ts_rank()", vectors.ask, "less: ts_rank knows no idf"),
                _ask(shared, remark),
            ],
            target=Target(2),
            rounds=scale.rounds,
        )


def _compare(place: Place) -> Iterator[Comparison]:
    yield from _by_metadata(place)
    try:
        yield from _by_words(place)
    except UnavailableError as error:
        place.missing.append(f"questions on PostgreSQL: {error}")


SEARCHING = Topic(
    "searching",
    "Searching",
    "Ten entries a question, values verified and parsed, files warm. The raw side has tables of\n"
    "its own, made for what is asked. Questions are three words of a Zipf-like distribution.",
    _compare,
)
