"""Questions on Firestore have the answers that they have on SQLite, to the last bit of a score."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltm.backend.base import LTMBackend
from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.base import Catalog
from ltm.catalog.firestore import FirestoreCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.testing.clock import FakeClock
from ltm.testing.strategies import json_text

relaxed = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
_numbers = itertools.count(1)


class Pair:
    """Memories on Firestore and on SQLite that are given the same to remember."""

    def __init__(self, project: str, directory: Path) -> None:
        self.clock = FakeClock()
        self.directory = directory
        self.project = project
        self.catalogs: list[Catalog] = [
            self.open_firestore(),
            SQLiteCatalog(":memory:", clock=self.clock),
        ]
        self.memories: list[DuckDBLTMBackend] = []
        self.begin()

    def open_firestore(self) -> FirestoreCatalog:
        index = self.directory / "index"
        return FirestoreCatalog(self.project, index_directory=index, clock=self.clock)

    def begin(self, language: str = "english") -> None:
        """Go on with a table that has nothing in it."""
        self.table, self.language = f"table {next(_numbers)}", language
        self.end()
        self.memories = [self.bind(catalog) for catalog in self.catalogs]

    def bind(self, catalog: Catalog) -> DuckDBLTMBackend:
        return DuckDBLTMBackend(
            catalog,
            f"{self.directory}/{type(catalog).__name__}",
            table=self.table,
            language=self.language,
            inline_threshold=100,
            raise_errors=True,
        )

    def reopen(self) -> None:
        """Go on with Firestore as another process does: with what is in the index's file."""
        self.memories[0].close()
        self.catalogs[0].close()
        self.catalogs[0] = self.open_firestore()
        self.memories[0] = self.bind(self.catalogs[0])

    def end(self) -> None:
        for memory in self.memories:
            memory.close()

    def close(self) -> None:
        self.end()
        for catalog in self.catalogs:
            catalog.close()

    def call(self, verb: str, *arguments: Any, **options: Any) -> None:
        for memory in self.memories:
            getattr(memory, verb)(*arguments, **options)

    def ask(self, query: str | None, wanted: Any = None, limit: int = 10) -> list[str]:
        """Return the keys of the hits, which are the same on both, with the same scores."""
        one, other = (
            [
                (each["key"], each["score"], each["value"], each["metadata"])
                for each in memory.search(query, wanted, limit)["results"]
            ]
            for memory in self.memories
        )
        assert one == other
        return [key for key, *_ in one]


@pytest.fixture
def pair(firestore_project: str, tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(firestore_project, tmp_path)
    yield pair
    pair.close()


def test_questions_over_python_s_manual_have_the_same_answers(pair: Pair) -> None:
    notes = [
        (f"{name}:{number}", {"note": text}, {"topic": name, "index": number})
        for name in sorted(topics)[:40]
        for number, text in enumerate(topics[name].split("\n\n")[:12])
    ]
    assert len(notes) > 200
    pair.call("store_batch", notes)
    questions = sorted(topics)[:40]
    questions += [text[:200] for _, value, _ in notes[::25] for text in value.values()]
    questions += [f'"{" ".join(question.split()[:2])}" -class' for question in questions[40:]]
    for _ in range(2):
        answers = sum(len(pair.ask(question, limit=30)) for question in questions)
        assert answers > 600
        pair.reopen()
    filtered = 0
    for question in questions[40:46]:
        filtered += len(pair.ask(question, {"index": {"$lt": 3}}, 3))
        filtered += len(pair.ask(question, {"topic": {"$in": questions[:5]}}, 100))
        filtered += len(pair.ask(question, {"topic": questions[1]}))
    assert filtered > 20


WORDS = ["red", "Green", "bicycles", "bell", "naïve", "東京都", "ｶﾞ", "x0", "1e5", "007", "o'brien"]
KEYS = [f"key {number}" for number in range(6)]
SECONDS = [None, None, 5, 10.5, 100]

some_words = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
some_text = some_words | some_words | json_text
some_values = (
    some_text
    | st.lists(some_text, max_size=3)
    | st.dictionaries(st.sampled_from(WORDS), some_text, max_size=2)
    # Over the threshold: a payload.
    | st.tuples(some_text, st.sampled_from(["bell " * 30, "都" * 50])).map(list)
)
some_metadata = st.sampled_from([{}, {"even": True}, {"even": False, "n": 1}])
changes = st.one_of(
    st.tuples(
        st.just("store"),
        st.sampled_from(KEYS),
        some_values,
        some_metadata,
        st.sampled_from(SECONDS),
    ),
    st.tuples(st.just("again"), st.sampled_from(KEYS), some_metadata, st.sampled_from(SECONDS)),
    st.tuples(
        st.just("batch"),
        st.lists(st.tuples(st.sampled_from(KEYS), some_values, some_metadata), max_size=4),
    ),
    st.tuples(st.just("delete"), st.sampled_from(KEYS)),
    st.tuples(st.just("transaction"), st.sampled_from(KEYS), some_values, st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([5, 10.5, 3_000_000])),
    st.tuples(st.just("cleanup"), st.integers(1, 3)),
    st.tuples(st.just("restore")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("ask"), some_words),
)
some_parts = st.tuples(
    st.sampled_from(["{}", "{}", '"{}"', "-{}", '-"{}"', '"{}']), some_words | some_text
).map(lambda part: part[0].format(part[1].replace('"', "")))
questions = st.lists(some_parts, min_size=1, max_size=3).map(" ".join)


class _UndoneError(Exception):
    pass


def store_and_search(
    memory: LTMBackend, key: str, value: Any, is_undone: bool
) -> list[tuple[str, float]]:
    """Return what a search in a transaction finds that writes first, and perhaps is undone."""
    found: list[tuple[str, float]] = []
    try:
        with memory.transaction() as inside:
            inside.delete(KEYS[0])
            inside.store(key, value)
            results = inside.search("red bell 東京")["results"]
            found = [(each["key"], each["score"]) for each in results]
            if is_undone:
                raise _UndoneError
    except _UndoneError:
        pass
    return found


def change(pair: Pair, name: str, *arguments: Any) -> None:
    if name == "store":
        key, value, metadata, seconds = arguments
        pair.call("store", key, value, metadata, ttl=seconds)
    elif name == "again":
        key, metadata, seconds = arguments
        for memory in pair.memories:
            found = memory.retrieve(key)
            if found["found"]:
                memory.store(key, found["value"], metadata, ttl=seconds)
    elif name == "batch":
        pair.call("store_batch", arguments[0])
    elif name == "delete":
        pair.call("delete", arguments[0])
    elif name == "transaction":
        one, other = (store_and_search(memory, *arguments) for memory in pair.memories)
        assert one == other
    elif name == "wait":
        pair.clock.advance(arguments[0])
    elif name == "cleanup":
        pair.call("cleanup_expired", arguments[0])
    elif name == "restore":
        for memory in pair.memories:
            if memory.list_snapshots()["snapshots"]:
                memory.restore("s")
            else:
                memory.create_snapshot("s")
    elif name == "reopen":
        pair.reopen()
    else:
        pair.ask(arguments[0])


@given(
    first=st.lists(st.tuples(st.sampled_from(KEYS), some_values, some_metadata), max_size=6),
    history=st.lists(changes, max_size=12),
    asked=st.lists(questions, min_size=1, max_size=6),
)
@relaxed
def test_after_any_history_questions_have_the_same_hits_order_and_scores(
    pair: Pair, first: list[Any], history: list[Any], asked: list[str]
) -> None:
    pair.begin()
    pair.call("store_batch", first)
    for each in history:
        change(pair, *each)
    for question in [*asked, "key red Green bicycles bell naïve 東京都 x0 1e5 007 o'brien"]:
        pair.ask(question)
        pair.ask(question, {"even": True}, 2)
    pair.ask(None)
    for memory in pair.memories:
        assert memory.verify()["problems"] == []


def test_a_new_expiry_of_the_same_value_counts_for_its_words(pair: Pair) -> None:
    pair.call("store", "longer", "red bell", ttl=5)
    pair.call("store", "shorter", "red bell")
    pair.call("store", "other", "red bicycles")
    assert sorted(pair.ask("bell")) == ["longer", "shorter"]
    pair.call("store", "longer", "red bell")
    pair.call("store", "shorter", "red bell", ttl=5)
    pair.clock.advance(5)
    assert pair.ask("bell") == ["longer"]
    assert sorted(pair.ask("red bell")) == ["longer", "other"]
    pair.reopen()
    assert pair.ask("bell") == ["longer"]


TEXTS = {
    "english": ["The cafés of running brothers", "a café", "l'homme runs"],
    "german": ["Die Häuser und das Haus", "Hausaufgaben häufen sich", "schöner wohnen"],
    "french": ["Les chevaux de l'homme", "un cheval généreux", "généreuse hommes"],
    "turkish": ["İstanbul'da evler", "ev", "evlerimiz ISTANBUL"],
    "russian": ["Красивые дома у реки", "красивый дом", "Ёлка и елка"],
}


OTHER_FORMS = {
    "english": "run brother",
    "german": "Hauses",
    "french": "cheval",
    "turkish": "evleri",
    "russian": "красивого",
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_table_of_another_language_has_the_same_answers(pair: Pair, language: str) -> None:
    pair.begin(language)
    texts = [text for each in TEXTS.values() for text in each]
    pair.call("store_batch", [(f"k{number}", text) for number, text in enumerate(texts)])
    for question in texts:
        assert pair.ask(question)
        pair.ask(f'{question} -"{question}"')
    assert pair.ask(OTHER_FORMS[language])


def test_the_language_of_a_table_stays_whatever_is_said_later(pair: Pair) -> None:
    pair.begin("german")
    pair.call("store", "k", "die Häuser")
    pair.language = "english"
    pair.reopen()
    assert pair.ask("Haus") == ["k"]


HAN = "".join(chr(0x4E00 + number) for number in range(3_000))


def test_long_texts_are_found_to_their_end(pair: Pair) -> None:
    long = {
        "late": " ".join(f"w{number}" for number in range(9_000)) + " quick lion",
        "often": "zebra " * 10_000 + "quick lion",
        "han": HAN,
        "cut": "x" * 65_530 + " seen unseen",
    }
    for key, text in long.items():
        pair.call("store", key, text)
    assert pair.ask("lion -zebra") == ["late"]
    assert sorted(pair.ask('"quick lion"')) == ["late", "often"]
    assert pair.ask('"zebra quick"') == ["often"]
    assert pair.ask(HAN[1_000:1_050]) == ["han"]
    assert pair.ask(f'"{HAN[2_900:]}"') == ["han"]
    assert pair.ask("unseen") == []
    assert pair.ask(" ".join(f"w{number}" for number in range(1_000))) == ["late"]


def test_a_question_without_words_finds_nothing_and_no_input_is_an_error(pair: Pair) -> None:
    pair.call("store", "k", "the red bell")
    for question in ("the of and", '"', '"" -', "-bell", "\0", "()*:^", "NEAR(a b)", "\ud800"):
        assert pair.ask(question) == []
    assert pair.ask("  ") == pair.ask(None) == pair.ask("red") == ["k"]
