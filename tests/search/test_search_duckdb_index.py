"""The local index answers like every other."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from duckdb_words import START, TEA, Model, at, gone, ids, reference, words
from hypothesis import given, settings
from hypothesis import strategies as st

from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import ClosedError
from ltm.hashing import compute_content_hash
from ltm.search.analysis import get_analyzer
from ltm.search.duckdb_index import DuckDBIndex, IndexedWords, IndexState
from ltm.search.questions import Question
from ltm.testing.clock import FakeClock

duckdb = pytest.importorskip("duckdb")
pytest.importorskip("duckdb_extension_fts")


# Tokens as the analyzer makes them: words, numbers, escapes, 64 characters and more.
tokens = st.sampled_from(["tea", "milk", "12", "x0e9", "x0e900e9", "x11st", "w" * 64, "x0" * 65])
texts = st.lists(tokens, max_size=8).map(" ".join)
entry_ids = st.sampled_from("abcd") | st.sampled_from(["", "it's \"\\", "\0", "ü\n,"])
entries = st.builds(
    words,
    entry_ids,
    texts,
    minutes=st.none() | st.integers(0, 2),
    stamp=st.text("xy'\0", max_size=2),
) | st.builds(gone, entry_ids)
sequences = st.lists(st.lists(tokens, min_size=1, max_size=3).map(tuple), max_size=2).map(tuple)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    phrases = draw(sequences)
    terms = [*draw(st.lists(tokens, max_size=3)), *(word for phrase in phrases for word in phrase)]
    return Question(tuple(dict.fromkeys(terms)), phrases, draw(sequences))


changes = st.tuples(st.just("apply"), st.lists(entries, max_size=4), st.integers(0, 1))
steps = changes | changes | changes | st.tuples(st.just("reopen")) | st.tuples(st.just("reset"))
asked = st.tuples(questions(), st.integers(0, 2), st.lists(entries, max_size=2))


@given(
    st.lists(entries, min_size=6, max_size=12),
    st.lists(steps, max_size=8),
    st.lists(asked, min_size=2, max_size=4),
    st.integers(0, 4),
    st.booleans(),
)
@settings(max_examples=25)
def test_whatever_has_happened_the_answer_is_that_of_reading_every_document(
    first: list[IndexedWords],
    taken: list[Any],
    questions: list[tuple[Question, int, list[IndexedWords]]],
    rebuild_after: int,
    in_memory: bool,
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = None if in_memory else Path(directory, "a directory", "it's.duckdb")
        index = DuckDBIndex(path, rebuild_after=rebuild_after)
        model: Model = {}
        position = -1
        for name, *arguments in [("apply", first, 1), *taken, ("reopen",)]:
            if name == "apply":
                applied, further = arguments
                position = max(position, 0) + further
                index.apply(iter(applied), position=position, at=at(position))
                assert index.state == IndexState(position, at(position))
                model.update((change.entry_id, change) for change in applied)
            elif name == "reset":
                index.reset()
                model, position = {}, -1
                assert index.state == IndexState(-1, None)
            elif not in_memory:
                index.close()
                index = DuckDBIndex(path, rebuild_after=rebuild_after)
                # Where no change was left to publish, it is the position of the last that was.
                assert index.state.position <= position
                position = index.state.position
            for question, minutes, others in [*questions, (TEA, 1, [])]:
                overlay = {change.entry_id: change for change in others}
                for seen, over in ((model | overlay, overlay), (model, {})):
                    hits = index.find(question, at(minutes), overlay=over)
                    assert hits == reference(seen, question, at(minutes))
            kept = {key: entry for key, entry in model.items() if entry.document is not None}
            assert index.stamps(model) == {key: entry.stamp for key, entry in kept.items()}
            assert index.documents(list(model)) == {
                key: entry.document for key, entry in kept.items()
            }
        index.close()
        names = [name for _, _, found in os.walk(directory) for name in found]
        assert names in ([], ["it's.duckdb"])


def test_keys_order_and_scores_are_those_of_sqlite() -> None:
    clock = FakeClock(START)
    catalog = SQLiteCatalog(":memory:", clock=clock)
    index = DuckDBIndex(None, rebuild_after=100)
    analyzer = get_analyzer()
    chosen = random.Random(8)
    vocabulary = ["green", "black", "tea", "leaves", "milk", "o'brien", "café", "東京", "1e5"]
    vocabulary += ["users'", "user", "drank", "12", "x0e9"]
    keys: dict[str, str] = {}
    for number in range(400):
        key = f"key {number % 250}"
        keys[catalog.entry_id(key)] = key
        if number % 9 == 0:
            catalog.delete_entry(key)
            change = gone(catalog.entry_id(key))
        else:
            value = " ".join(chosen.choices(vocabulary, k=chosen.randint(0, 12)))
            expires_at = at(number % 10 + 1) if number % 4 == 0 else None
            catalog.track_entry(
                key, compute_content_hash(value), None, len(value), {}, value, expires_at
            )
            document = analyzer.analyze_document(key, value)
            change = IndexedWords(catalog.entry_id(key), document, expires_at)
        index.apply([change], position=number, at=START)
    queries = [
        "tea",
        "black tea with milk",
        '"black tea"',
        'drank "green tea" -milk',
        'tea -"black tea" -"green tea"',
        '"東京" user',
        "東 O'Brien's cafe -1e5",
        "12 x0e9 1e5",
        '"tea leaves" "milk"',
        '"nowhere to be found" tea',
        "nothing of this kind",
    ]
    answers = 0
    for minutes in (0, 1, 5, 20):
        clock.now = at(minutes)
        for query in queries:
            expected = [(hit["key"], hit["score"]) for hit in catalog.search(query, limit=1000)]
            hits = index.find(analyzer.parse_query(query), at(minutes))
            assert [(keys[hit.entry_id], hit.score) for hit in hits] == expected
            answers += len(hits)
    assert answers > 1000


def test_a_state_is_kept_with_the_documents(tmp_path: Path) -> None:
    now = START + timedelta(microseconds=1)
    index = DuckDBIndex(tmp_path / "index")
    assert index.state == IndexState(-1, None)
    index.apply([words("a", "tea", stamp="s")], position=7, at=now)
    index.close()
    index.close()
    reopened = DuckDBIndex(tmp_path / "index")
    assert reopened.state == IndexState(7, now)
    assert reopened.state.refreshed_at is not None
    assert reopened.state.refreshed_at.utcoffset() == timedelta(0)
    assert reopened.stamps(["a", "b"]) == {"a": "s"}


def test_an_entry_is_live_up_to_the_microsecond_of_its_expiry(tmp_path: Path) -> None:
    index = DuckDBIndex(tmp_path / "index", rebuild_after=0)
    for change in (words("stored", "tea", minutes=1), words("kept", "tea", minutes=1)):
        index.apply([change], position=0, at=START)
    for entry in ({}, {"over": words("over", "tea", minutes=1)}):
        before = index.find(TEA, at(1) - timedelta(microseconds=1), overlay=entry)
        assert len(before) == 2 + len(entry)
        assert index.find(TEA, at(1), overlay=entry) == []


def test_changes_below_the_position_are_known_and_at_it_are_added(tmp_path: Path) -> None:
    index = DuckDBIndex(tmp_path / "index")
    index.apply([words("a", "tea", stamp="new")], position=5, at=at(5))
    index.apply([words("a", "milk", stamp="old")], position=4, at=at(6))
    assert index.state == IndexState(5, at(5))
    index.apply([words("b", "tea")], position=5, at=at(7))
    assert index.state == IndexState(5, at(7))
    assert ids(index.find(TEA, START)) == ["a", "b"]


def test_a_closed_index_raises(tmp_path: Path) -> None:
    for index in (DuckDBIndex(tmp_path / "index"), DuckDBIndex(None)):
        index.close()
        for call in (
            lambda index=index: index.state,
            lambda index=index: index.stamps(["a"]),
            lambda index=index: index.documents(["a"]),
            lambda index=index: index.apply([], position=0, at=START),
            lambda index=index: index.reset(),
            lambda index=index: index.find(TEA, START),
        ):
            with pytest.raises(ClosedError):
                call()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_opened_or_made_before_the_first_use(tmp_path: Path) -> None:
    code = (
        "import sys; from ltm.search.duckdb_index import DuckDBIndex;"
        "index = DuckDBIndex(sys.argv[1]); index.close(); print('duckdb' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "made" / "index")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"False\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_further_on_is_taken_instead_of_made(tmp_path: Path) -> None:
    path = tmp_path / "index"
    slow = DuckDBIndex(path, rebuild_after=2)
    slow.apply([words("a", "tea"), words("b", "tea")], position=1, at=at(1))
    fast = DuckDBIndex(path, rebuild_after=0)
    changes = [gone("a"), words("b", "milk"), words("c", "tea"), words("d", "tea")]
    fast.apply([words("a", "tea"), words("b", "tea")], position=1, at=at(1))
    fast.apply(changes, position=9, at=at(9))
    before = path.stat()
    slow.apply([words("c", "tea")], position=2, at=at(2))
    # Two of its changes are hidden in the newer file by later ones.
    assert slow.state == IndexState(9, at(9))
    assert ids(slow.find(TEA, START)) == ["c", "d"]
    slow.close()
    fast.close()
    assert path.stat().st_ino == before.st_ino


def test_closing_leaves_alone_a_file_that_is_further_on(tmp_path: Path) -> None:
    path = tmp_path / "index"
    slow, fast = DuckDBIndex(path), DuckDBIndex(path)
    slow.apply([words("a", "tea")], position=1, at=at(1))
    fast.apply([words("a", "tea"), words("b", "tea")], position=2, at=at(2))
    fast.close()
    slow.close()
    assert DuckDBIndex(path).state == IndexState(2, at(2))


def test_a_file_that_is_behind_is_replaced_and_disturbs_nobody(tmp_path: Path) -> None:
    path = tmp_path / "index"
    first = DuckDBIndex(path, rebuild_after=0)
    first.apply([words("a", "tea")], position=1, at=START)
    second = DuckDBIndex(path, rebuild_after=0)
    assert ids(second.find(TEA, START)) == ["a"]
    first.apply([words("b", "tea")], position=2, at=START)
    assert ids(first.find(TEA, START)) == ["a", "b"]
    assert ids(second.find(TEA, START)) == ["a"]
    assert ids(DuckDBIndex(path).find(TEA, START)) == ["a", "b"]


def test_words_come_through_as_they_are(tmp_path: Path) -> None:
    # Stop words of English are words in other languages; what looks like an ending is none.
    found = ["the", "running", "ponies", "123", "1e5", "0x1", "x0abc", "z" * 300]
    found += [f"x0{number:08x}" for number in range(60_000)]
    index = DuckDBIndex(tmp_path / "index", rebuild_after=0)
    index.apply([words("a", " ".join(found)), words("b", "")], position=0, at=START)
    for word in [*found[:8], found[-1]]:
        assert ids(index.find(Question((word,), (), ()), START)) == ["a"]
    for word in ("run", "poni", "x0ab", "z" * 299, "1"):
        assert index.find(Question((word,), (), ()), START) == []


def test_a_few_changes_stay_in_memory(tmp_path: Path) -> None:
    index = DuckDBIndex(tmp_path / "index")
    index.apply([words(str(number), "tea") for number in range(1000)], position=1, at=START)
    assert list(tmp_path.iterdir()) == []
    index.apply([words("1000", "tea")], position=2, at=START)
    (file,) = tmp_path.iterdir()
    before = file.stat()
    index.apply([words("1000", "milk")], position=3, at=START)
    assert len(index.find(TEA, START)) == 1000
    assert file.stat() == before or file.stat().st_mtime_ns == before.st_mtime_ns
    index.close()
    assert len(DuckDBIndex(file).find(TEA, START)) == 1000
