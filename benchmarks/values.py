"""What is remembered in all comparisons: notes of an agent, made alike in every run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

TOPICS = 1000
"""How many values the metadata key ``topic`` has."""

_SYLLABLES = [a + b for a in "bdfgklmn" for b in "ao"]
WORDS = [a + b + c for a in _SYLLABLES for b in _SYLLABLES for c in _SYLLABLES[:8]]
"""2,048 of them, that no stemmer shortens much and no list of stop words holds."""

# As in language, the n-th word is about 1/n as frequent as the first one.
_WEIGHTS = [*accumulate(1 / (10 + rank) for rank in range(len(WORDS)))]


class Entry(NamedTuple):
    """What is stored."""

    key: str
    value: dict[str, Any]
    metadata: dict[str, Any]


def entries(prefix: str, count: int) -> list[Entry]:
    """Return *count* entries whose values, of some 200 bytes, belong to *prefix* alone."""
    chance = random.Random(prefix)
    return [
        Entry(
            f"{prefix}:{index}",
            {"note": _sentence(chance, 20), "n": index, "score": chance.random(), "tags": ["a"]},
            {"type": "note", "topic": f"t{index % TOPICS}"},
        )
        for index in range(count)
    ]


def plain_entries(prefix: str, count: int) -> list[Entry]:
    """Return the same without metadata."""
    return [entry._replace(metadata={}) for entry in entries(prefix, count)]


def large_entries(prefix: str, count: int, size: int) -> list[Entry]:
    """Return entries with values of about *size* bytes."""
    return [
        Entry(f"{prefix}:{index}", {"n": index, "text": f"{prefix} {index} {'x' * size}"}, {})
        for index in range(count)
    ]


def batches_of_small_entries(count: int, size: int = 1000) -> Iterator[list[Entry]]:
    """Yield *count* entries that are quickly made, in batches; the n-th key is ``small:n``."""
    for start in range(0, count, size):
        numbers = range(start, min(start + size, count))
        yield [Entry(f"small:{n}", {"n": n, "note": "x" * 100}, {}) for n in numbers]


def questions(count: int, seed: int) -> list[list[str]]:
    """Return questions of three words, of the frequent ones and of the rare ones."""
    chance = random.Random(f"questions {seed}")
    return [chance.choices(WORDS, cum_weights=_WEIGHTS, k=3) for _ in range(count)]


def _sentence(chance: random.Random, length: int) -> str:
    return " ".join(chance.choices(WORDS, cum_weights=_WEIGHTS, k=length))
