"""How rounds are taken turns in, and what is made of their times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.report import duration
from benchmarks.rounds import (
    Comparison,
    Contestant,
    Observed,
    Stopwatch,
    Target,
    measure,
    percentile,
)

Work = Callable[[object, Stopwatch], None]


def takes(*seconds: float) -> Work:
    """Return work whose rounds take so long, the first one to warm up."""
    left = list(seconds)
    return lambda _, lap: lap.note(left.pop(0), 1)


def compare(raw: Work, ours: Work, target: Target, rounds: int = 3) -> Comparison:
    contestants = [Contestant("raw", raw), Contestant("ltm", ours)]
    return Comparison(title="work", contestants=contestants, target=target, rounds=rounds)


def test_a_ratio_is_the_median_of_those_of_the_rounds_without_the_first() -> None:
    comparison = compare(takes(1, 2, 4, 5), takes(900, 6, 2, 10), Target(2))
    raw, ours = measure(comparison)
    assert (raw.ratio, ours.ratio) == (1, 2)
    assert (ours.median, ours.p99, ours.laps) == (6, 10, 3)


def test_a_ratio_of_throughput_is_the_other_way_round() -> None:
    _, ours = measure(compare(takes(1, 4, 4, 4), takes(1, 2, 2, 2), Target(2, is_floor=True)))
    assert ours.ratio == 2


def test_each_contestant_comes_first_in_turn_and_all_get_the_same_inputs() -> None:
    seen: list[tuple[str, object]] = []

    def named(name: str) -> Work:
        def run(inputs: object, lap: Stopwatch) -> None:
            seen.append((name, inputs))
            lap()

        return run

    measure(compare(named("raw"), named("ltm"), Target(1), rounds=2))
    warm_up, rounds = seen[:2], seen[2:]
    assert {number for _, number in warm_up} == {-1}
    assert rounds == [("raw", 0), ("ltm", 0), ("ltm", 1), ("raw", 1)]


def test_one_slow_operation_counts_in_the_ratio_but_is_not_typical() -> None:
    def ours(_: object, lap: Stopwatch) -> None:
        for seconds in (2, 2, 95):
            lap.note(seconds, 1)

    def raw(_: object, lap: Stopwatch) -> None:
        for _ in range(3):
            lap.note(1, 1)

    comparison = compare(raw, ours, Target(2))
    result = measure(comparison)[1]
    assert (result.ratio, result.typical) == (33, 2)
    assert not comparison.is_met_by(result)


@pytest.mark.parametrize("is_fine", [True, False])
def test_what_is_observed_besides_times_counts_as_well(is_fine: bool) -> None:
    comparison = compare(takes(1, 2), takes(1, 2), Target(2), rounds=1)
    raw, ours = comparison.contestants
    observing = ours._replace(observe=lambda: Observed("waited", is_fine=is_fine))
    comparison = replace(comparison, contestants=[raw, observing])
    result = measure(comparison)[1]
    assert result.observed.text == "waited"
    assert comparison.is_met_by(result) == is_fine


def test_laps_of_many_operations_count_by_operation() -> None:
    stopwatch = Stopwatch()
    stopwatch.note(4, 4)
    stopwatch.note(6, 1)
    assert stopwatch.seconds == [1, 6]
    assert stopwatch.mean == 2


@pytest.mark.parametrize(
    ("target", "met", "missed"),
    [(Target(1.5), 1.5, 1.501), (Target(0.8, is_floor=True), 0.8, 0.799)],
)
def test_a_limit_itself_meets_the_target(target: Target, met: float, missed: float) -> None:
    assert target.is_met(met)
    assert not target.is_met(missed)


def test_the_99th_percentile_is_exceeded_by_one_in_a_hundred() -> None:
    assert percentile(range(1, 201), 0.99) == 198
    assert percentile([7], 0.99) == 7


def test_durations_have_three_digits() -> None:
    given = [0.00000456, 0.0000456, 0.000456, 0.0123, 4.56]
    assert [*map(duration, given)] == ["4.56 µs", "45.6 µs", "456 µs", "12.3 ms", "4.56 s"]
