"""Interleaved rounds: each contestant runs once per round, so that noise hits all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Contestant(NamedTuple):
    """One way to do the work; *run* does it *operations* times for the given round."""

    name: str
    run: Callable[[int], None]
    operations: int


class Result(NamedTuple):
    """Times of one contestant, in microseconds per operation."""

    name: str
    median: float
    p99: float
    ratio: float
    """Median of the ratios to the first contestant, round by round."""


def compare(contestants: Sequence[Contestant], rounds: int) -> list[Result]:
    """Run all *contestants* for a number of *rounds* after one to warm up; the first is raw."""
    times: list[list[float]] = [[] for _ in contestants]
    for number in range(-1, rounds):
        for index, contestant in enumerate(contestants):
            gc.collect()
            begin = time.perf_counter()
            contestant.run(number)
            seconds = time.perf_counter() - begin
            if number >= 0:
                times[index].append(seconds / contestant.operations * 1e6)
    return [
        Result(
            contestant.name,
            statistics.median(own),
            sorted(own)[max(0, round(len(own) * 0.99) - 1)],
            statistics.median(mine / raw for mine, raw in zip(own, times[0], strict=True)),
        )
        for contestant, own in zip(contestants, times, strict=True)
    ]
