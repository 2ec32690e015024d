"""Interleaved rounds: each contestant runs once per round, so that noise hits all alike."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Target(NamedTuple):
    """What the ratio of the second contestant to the first is to be."""

    limit: float
    is_floor: bool = False
    """Whether ratios are of throughput, of which more is better, rather than of time."""

    def is_met(self, *ratios: float) -> bool:
        """Return whether all *ratios*, unrounded, are on the right side of the limit or on it."""
        return min(ratios) >= self.limit if self.is_floor else max(ratios) <= self.limit

    def compare(self, mine: Sequence[float], raw: Sequence[float]) -> float:
        """Return the median of the ratios of two contestants' seconds, round by round."""
        pairs = zip(mine, raw, strict=True)
        return statistics.median(b / a if self.is_floor else a / b for a, b in pairs)

    def __str__(self) -> str:
        return f"{'≥' if self.is_floor else '≤'} {self.limit:g}"


class Stopwatch:
    """Notes a lap after each operation; what passes between two laps is what the latter took."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        """Per operation, one for each lap."""
        self._spent = 0.0
        self._operations = 0
        self._last = time.perf_counter()

    def __call__(self, operations: int = 1) -> None:
        """End a lap in which so many operations were done."""
        self.note(time.perf_counter() - self._last, operations)
        self._last = time.perf_counter()

    def note(self, seconds: float, operations: int) -> None:
        """Take a lap that somebody else has timed."""
        self.seconds.append(seconds / operations)
        self._spent += seconds
        self._operations += operations

    @property
    def mean(self) -> float:
        """Seconds per operation over all laps."""
        return self._spent / self._operations


class Observed(NamedTuple):
    """What there is to say of a contestant besides its times."""

    text: str = ""
    is_fine: bool = True
    """Whether it is as asked for."""


class Contestant(NamedTuple):
    """One way to do the work."""

    name: str
    run: Callable[[Any, Stopwatch], None]
    """Does the work on the inputs of a round, with a lap after each operation."""
    remark: str = ""
    """What it does less or more than the others."""
    observe: Callable[[], Observed] = Observed
    """Is called when all rounds are over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several ways to do the same work."""

    title: str
    contestants: Sequence[Contestant]
    """The raw one, then the one that has to meet the target, then peers."""
    target: Target
    rounds: int
    inputs: Callable[[int], Any] = lambda number: number
    """Makes what all contestants of a round are given; its time does not count."""
    remark: str = ""
    unit: Literal["seconds", "bytes"] = "seconds"
    """Of what the laps are noted in."""

    def is_met_by(self, result: Result) -> bool:
        """Return whether *result* is what was asked for."""
        return self.target.is_met(result.ratio, result.typical) and result.observed.is_fine


class Result(NamedTuple):
    """What was measured of one contestant; seconds or bytes per operation."""

    name: str
    median: float
    p99: float
    ratio: float
    """To the first contestant: the median of the ratios of whole rounds, with all that is slow."""
    typical: float
    """The same of the median operations of the rounds."""
    laps: int
    remark: str
    observed: Observed


def measure(comparison: Comparison) -> list[Result]:
    """Run all contestants for a number of rounds, after one to warm up, and sum up."""
    contestants = comparison.contestants
    laps: list[list[float]] = [[] for _ in contestants]
    means: list[list[float]] = [[] for _ in contestants]
    medians: list[list[float]] = [[] for _ in contestants]
    for number in range(-1, comparison.rounds):
        inputs = comparison.inputs(number)
        # Each comes first in turn: the first may find caches cold that it leaves warm.
        for position in range(len(contestants)):
            index = (position + number) % len(contestants)
            gc.collect()
            stopwatch = Stopwatch()
            contestants[index].run(inputs, stopwatch)
            if number >= 0:
                laps[index] += stopwatch.seconds
                means[index].append(stopwatch.mean)
                medians[index].append(statistics.median(stopwatch.seconds))
    return [
        Result(
            contestant.name,
            statistics.median(own),
            percentile(own, 0.99),
            comparison.target.compare(means[index], means[0]),
            comparison.target.compare(medians[index], medians[0]),
            len(own),
            contestant.remark,
            contestant.observe(),
        )
        for index, (contestant, own) in enumerate(zip(contestants, laps, strict=True))
    ]


def percentile(values: Sequence[float], part: float) -> float:
    """Return the least of *values* that *part* of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * part) - 1)]
