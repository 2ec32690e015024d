"""Memory at work on real text: the topics of Python's own help.

Every claim that a step makes is checked where it is made; a false one raises :class:`DemoError`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pydoc_data.topics import topics
from time import perf_counter
from typing import Any

from ltm.backend.base import LTMBackend
from ltm.clock import utc_now
from ltm.errors import LTMError, ValidationError
from ltm.factory import create_ltm_backend
from ltm.hashing import compute_content_hash

_EXAMPLE = "document/with"
"""A topic of every Python: long enough for a payload file."""


class DemoError(LTMError):
    """A claim of the demo turned out false."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that the demo did, as text and as facts."""

    name: str
    title: str
    text: Sequence[str]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    why: str
    query: str
    condition: dict[str, Any] | None = None
    must_match: str = ""
    """A pattern that every answer has."""
    must_not_match: str | None = None
    one_of: tuple[str, ...] = ()
    """Topics of which one must be among the answers."""


_QUESTIONS = (
    _Question(
        why="in plain English",
        query="how do I catch an exception?",
        one_of=("try", "exceptions", "raise", "compound"),
    ),
    _Question(
        why="in plain English",
        query="what is the difference between a list and a tuple",
        one_of=("typesseq", "types", "lists", "typesseq-mutable", "sequence-types", "objects"),
    ),
    _Question(
        why="a quoted phrase must occur",
        query='"context manager"',
        must_match=r"context[\W_]+manager",
        one_of=("with", "context-managers"),
    ),
    _Question(
        why="a word with a minus must not",
        query="defining a function -async",
        must_not_match=r"\basync\b",
        one_of=("function", "lambda", "return", "typesfunctions", "calls"),
    ),
    _Question(
        why="only short notes, by metadata",
        query="leave a loop early",
        condition={"type": "note", "words": {"$lte": 40}},
        one_of=("break", "continue", "for", "while", "else"),
    ),
)


def present(keep: str | None = None) -> Generator[Step, None, None]:
    """Run the demo and yield each step when it is done; a few seconds in all.

    Args:
        keep: A directory, missing or empty, in which the memory stays; None for a temporary one.

    Raises:
        DemoError: Something is not as claimed.
        ValidationError: The directory is not empty.
    """
    with ExitStack() as stack:
        if keep is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ltm-demo-"))
        else:
            directory = _require_empty(keep)
        demo = _Demo(directory)
        stack.callback(demo.close)
        yield demo.remember()
        yield demo.ask()
        yield demo.store_again()
        yield demo.expire()
        yield demo.compare_and_swap()
        yield demo.restart()
        yield demo.look_on_disk(is_kept=keep is not None)


class _MovableClock:
    """The time of day, moved by hand."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.offset


class _Demo:
    def __init__(self, directory: str) -> None:
        self._catalog_path = os.path.join(directory, "catalog.db")
        self._storage_path = os.path.join(directory, "payloads")
        self._clock = _MovableClock()
        self._memory: LTMBackend = create_ltm_backend(
            catalog_config={"type": "sqlite", "path": self._catalog_path},
            storage_uri=self._storage_path,
            clock=self._clock,
            raise_errors=True,
        )
        self._topics: dict[str, str] = topics

    def close(self) -> None:
        self._memory.close()

    def remember(self) -> Step:
        started = perf_counter()
        answer = self._memory.store_batch([*_documents(self._topics), *_notes(self._topics)])
        seconds = perf_counter() - started
        stats = self._memory.stats()
        file_count = len(self._payload_files())
        _claim(answer["stored"] == 2 * len(self._topics), "every topic and its note are stored")
        _claim(stats["entries"] == answer["stored"], "the catalog counts what was stored")
        _claim(stats["payloads"] == file_count > 0, "each large value is one payload file")
        inline = (f"{stats['inlined']:,}", "in their rows", f"{stats['inlined_bytes']:,} bytes")
        files = (f"{stats['payloads']:,}", "in payload files", f"{stats['payload_bytes']:,} bytes")
        return Step(
            name="remember",
            title="1. Remember: every topic of Python's help, and a note on each",
            text=[
                f"{answer['stored']:,} entries in one transaction, {seconds:.2f} s",
                *_aligned([inline, files]),
            ],
            facts={"seconds": round(seconds, 3), "stats": stats},
        )

    def ask(self) -> Step:
        text: list[str] = []
        facts = []
        for question in _QUESTIONS:
            started = perf_counter()
            results = self._memory.search(question.query, question.condition, limit=3)["results"]
            milliseconds = 1000 * (perf_counter() - started)
            _check_answers(question, results)
            text += [f"{question.query}   ({question.why}; {milliseconds:.1f} ms)"]
            rows = [
                (f"{found['score']:.2f}", found["key"], _passage(found["value"], question.query))
                for found in results
            ]
            text += [f"  {line}" for line in _aligned(rows)]
            facts.append({"query": question.query, "keys": [found["key"] for found in results]})
        title = "2. Ask, best answer first"
        return Step(name="ask", title=title, text=text, facts={"questions": facts})

    def store_again(self) -> Step:
        before = self._payload_files()
        found = self._memory.retrieve(_EXAMPLE)
        answer = self._memory.store(_EXAMPLE, found["value"], found["metadata"])
        _claim(not answer["stored"], "nothing is written for what is remembered already")
        _claim(answer["deduplicated"], "the answer says that it was a duplicate")
        _claim(self._payload_files() == before, "no payload file was added or changed")
        return Step(
            name="deduplicate",
            title="3. Store the same again: nothing is written",
            text=[
                f"{_EXAMPLE}  {answer['content_hash'][:23]}...",
                f"stored: {answer['stored']}, deduplicated: {answer['deduplicated']}, "
                f"payload files: still {len(before)}",
            ],
            facts={"stored": answer["stored"], "deduplicated": answer["deduplicated"]},
        )

    def expire(self) -> Step:
        key, word = "draft/zeppelin", "zeppelin"
        before = self._payload_files()
        stored = self._memory.store(key, f"{word} " * 300, {"type": "draft"}, ttl=3600)
        _claim(not stored["inlined"], "the draft has a payload file")
        seen = self._sightings(key, word)
        _claim(all(seen.values()), "every kind of read sees the draft")
        self._clock.offset += timedelta(seconds=3601)
        still = self._sightings(key, word)
        _claim(not any(still.values()), "after its hour no kind of read sees the draft")
        waiting = self._memory.stats()["expired"]
        removed = self._memory.cleanup_expired()["deleted"]
        _claim(waiting == removed == 1, "cleanup removes the draft and nothing else")
        _claim(self._payload_files() == before, "cleanup deletes its payload file too")
        return Step(
            name="expire",
            title="4. Forget in time: an entry that lives for one hour",
            text=[
                f"before: seen by {', '.join(seen)}",
                "the clock is moved by 3,601 seconds",
                f"after: seen by none of them; cleanup removed {removed}, with its payload file",
            ],
            facts={"seen_by": list(seen), "removed": removed},
        )

    def compare_and_swap(self) -> Step:
        key = "plan/next"
        first = self._memory.store(key, {"step": 1})["content_hash"]
        mine = self._memory.store(key, {"step": 2}, if_match=first)
        try:
            self._memory.store(key, {"step": 99}, if_match=first)
        except LTMError as error:
            lost = error.error_type
        else:
            lost = "none"
        _claim(mine["stored"], "the first writer wins")
        _claim(lost == "conflict", "the second writer, who read the same, gets a conflict")
        self._memory.update(key, lambda plan: {"step": plan["step"] + 1})
        value = self._memory.retrieve(key)["value"]
        _claim(value == {"step": 3}, "an update works on the value that is there")
        return Step(
            name="compare_and_swap",
            title="5. Two writers, one entry: no change is lost",
            text=[
                "both read step 1; the first writes step 2 and wins",
                f"the second would overwrite it, and is answered: {lost}",
                f"update() reads, adds one and writes under the same rule: {value}",
            ],
            facts={"lost": lost, "value": value},
        )

    def restart(self) -> Step:
        expected = {
            key: compute_content_hash(value) for key, value, _ in self._memory.iterate_all()
        }
        self.close()
        started = perf_counter()
        listed = [json.loads(line) for line in self._run("ls").splitlines()]
        found = json.loads(self._run("get", _EXAMPLE))
        answer = json.loads(self._run("search", _QUESTIONS[0].query, "--limit", "1"))
        seconds = perf_counter() - started
        hashes = {entry["key"]: entry["content_hash"] for entry in listed}
        actual = compute_content_hash(found["value"])
        _claim(hashes == expected, "another process finds every entry, hash for hash")
        _claim(actual == expected[_EXAMPLE], "the value it reads has the hash that was written")
        _claim(answer["count"] == 1, "another process finds by words")
        return Step(
            name="restart",
            title="6. Restart: new processes, the same memory",
            text=[
                f"ltm ls      {len(listed):,} entries, every content hash as it was",
                f"ltm get     {_EXAMPLE}: {actual[:23]}... recomputed and equal",
                f"ltm search  {answer['results'][0]['key']}",
                f"{seconds:.2f} s for the three of them",
            ],
            facts={"entries": len(listed), "content_hash": actual},
        )

    def look_on_disk(self, *, is_kept: bool) -> Step:
        files = self._payload_files()
        catalog_bytes = os.path.getsize(self._catalog_path)
        total = sum(size for _, size in files)
        rows = [(f"{size:,}", path) for path, size in files[:3]]
        text = [
            f"catalog   {self._catalog_path}  ({catalog_bytes:,} bytes)",
            f"payloads  {self._storage_path}  ({len(files)} files, {total:,} bytes), for example",
            *(f"  {line}" for line in _aligned(rows)),
        ]
        if is_kept:
            text += [f"try: ltm --catalog {self._catalog_path} --storage {self._storage_path} ls"]
        else:
            text += ["both are deleted now; --keep DIR leaves them"]
        facts = {"catalog": self._catalog_path, "storage": self._storage_path}
        return Step(name="disk", title="7. Where things lie", text=text, facts=facts)

    def _sightings(self, key: str, word: str) -> dict[str, bool]:
        memory = self._memory
        found = memory.search(word)["results"]
        return {
            "retrieve": memory.retrieve(key)["found"],
            "retrieve_batch": key in memory.retrieve_batch([key])["results"],
            "search": any(each["key"] == key for each in found),
            "iterate_all": any(each == key for each, _, _ in memory.iterate_all("draft/")),
        }

    def _payload_files(self) -> list[tuple[str, int]]:
        """Return path below the storage root and size of each payload, in order."""
        return sorted(
            (os.path.relpath(path, self._storage_path), os.path.getsize(path))
            for directory, _, names in os.walk(self._storage_path)
            for path in (os.path.join(directory, name) for name in names)
        )

    def _run(self, *arguments: str) -> str:
        target = ("--catalog", self._catalog_path, "--storage", self._storage_path, "--json")
        finished = subprocess.run(  # noqa: S603 -- this interpreter, our own arguments
            [sys.executable, "-m", "ltm.cli", *target, *arguments],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        _claim(finished.returncode == 0, f"ltm {arguments[0]} succeeds: {finished.stderr.strip()}")
        return finished.stdout


def _documents(topics: dict[str, str]) -> Iterator[dict[str, Any]]:
    for name, text in topics.items():
        metadata = {"type": "document", "topic": name, "words": len(text.split())}
        yield {"key": f"document/{name}", "value": text, "metadata": metadata}


def _notes(topics: dict[str, str]) -> Iterator[dict[str, Any]]:
    for name, text in topics.items():
        sentence = _first_sentence(text)
        metadata = {"type": "note", "topic": name, "words": len(sentence.split())}
        yield {"key": f"note/{name}", "value": sentence, "metadata": metadata}


def _first_sentence(text: str) -> str:
    """Return the first sentence of prose, past headings and grammar."""
    for paragraph in re.split(r"\n\s*\n", text):
        prose = " ".join(paragraph.split())
        if not paragraph.startswith(" ") and re.search(r"\w\W*[.:]$", prose):
            return re.split(r"(?<=[a-z)\"*][.:])\s", prose)[0]
    return " ".join(text.split())[:200]


def _check_answers(question: _Question, results: Sequence[Any]) -> None:
    asked = f"{question.query!r}"
    _claim(len(results) > 0, f"there is an answer to {asked}")
    scores = [found["score"] for found in results]
    _claim(scores == sorted(scores, reverse=True), f"answers to {asked} come best first")
    topics = {found["metadata"]["topic"] for found in results}
    _claim(bool(topics & set(question.one_of)), f"{asked} finds one of {question.one_of}")
    for found in results:
        text = found["value"]
        where = f"{found['key']} as an answer to {asked}"
        _claim(
            re.search(question.must_match, text, re.IGNORECASE) is not None,
            f"the phrase is in {where}",
        )
        if question.must_not_match is not None:
            is_in = re.search(question.must_not_match, text, re.IGNORECASE) is not None
            _claim(not is_in, f"the excluded word is not in {where}")
        if question.condition is not None:
            is_short_note = found["metadata"]["type"] == "note" and found["metadata"]["words"] <= 40
            _claim(is_short_note, f"the filter holds for {where}")


def _claim(is_true: bool, sentence: str) -> None:
    if not is_true:
        raise DemoError(f"not as claimed: {sentence}")


def _passage(text: str, query: str, width: int = 72) -> str:
    """Return the piece of *text* in which most words of *query* begin, the first such."""
    flat = " ".join(re.sub(r"[*=~^-]{4,}", "", text).split())
    words = re.findall(r"[a-z]{4,}", query.lower())
    found = re.finditer("|".join(rf"\b{word[:5]}" for word in words), flat, re.IGNORECASE)
    starts = [match.start() for match in found] or [0]
    near = [len({flat[s : s + 4].lower() for s in starts if 0 <= s - b < width}) for b in starts]
    begin = flat.rfind(" ", 0, starts[near.index(max(near))]) + 1
    return f"...{flat[begin : begin + width]}..."


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return *rows* as lines; the first column is of numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].rjust(widths[0]), *map(str.ljust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def _require_empty(directory: str) -> str:
    try:
        os.makedirs(directory, exist_ok=True)
        if os.listdir(directory):
            raise ValidationError(f"directory {directory!r}: is not empty")
    except OSError as error:
        raise ValidationError(f"directory {directory!r}: {error.strerror or error}") from error
    return os.path.abspath(directory)
