"""The page that tells what was measured, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.rounds import Comparison, Result
from benchmarks.topics import Topic

_HEAD = """\
# Benchmarks

What `ltm` costs over the raw driver doing the same work, and beside other stores from the package
index. This page is written by `make bench`, which anyone can run:

```
make bench                                          # ten minutes; writes this page
.venv-bench/bin/python -m benchmarks --quick        # under two minutes, with less of everything
.venv-bench/bin/python -m benchmarks --only sqlite  # one topic, printed and not written
```

Only ratios within one run mean anything. The contestants of a comparison take turns in each of its
rounds, every time another one first, after a round to warm up. Median and p99 are of single
operations, or of single calls where a call is a batch; p99 of fewer than a hundred is the worst. A
ratio to raw is the median of the ratios round by round: *ratio* is that of whole rounds, with
checkpoints and all else that is slow, *typical* that of the rounds' median operations. A target is
met if both meet it, and what stands in brackets is as the section asks for.

All contestants are given the same values, pragmas and durability. What one of them does less or
more than the others stands below each table.
"""

_COLUMNS = ("what", "contestant", "median", "p99", "ratio", "typical", "target", "met")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What came of one topic."""

    topic: Topic
    measured: list[tuple[Comparison, list[Result]]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What could not be measured, and why."""


def render(
    sections: Sequence[Section], machine: Mapping[str, str], plots: Mapping[str, str]
) -> str:
    """Return the page.

    Args:
        sections: In the order of the page.
        machine: What it was measured on.
        plots: Links to pictures by the topic's name.
    """
    facts = [f"* {name}: {fact}" for name, fact in machine.items()]
    parts = [_HEAD, "\n".join(facts) + "\n", "\n".join(_summary(sections)) + "\n"]
    for section in sections:
        parts.append(f"## {section.topic.title}\n\n{section.topic.remark}\n")
        if section.measured:
            if section.topic.name in plots:
                title = f"{section.topic.title}: ratios"
                parts.append(f"![{title}]({plots[section.topic.name]})\n")
            parts.append("\n".join(table(section)) + "\n")
            parts.append("\n".join(_remarks(section)) + "\n")
        parts += [f"Not measured: {reason}\n" for reason in dict.fromkeys(section.missing)]
    return "\n".join(parts)


def table(section: Section) -> list[str]:
    """Return the lines of a section's table: a row for each contestant of each comparison."""
    lines = [_row(_COLUMNS), _row(["---"] * 2 + ["---:"] * 5 + ["---"])]
    for comparison, results in section.measured:
        show = duration if comparison.unit == "seconds" else megabytes
        for position, result in enumerate(results):
            observed = f" ({result.observed.text})" if result.observed.text else ""
            judged = position == 1
            lines.append(
                _row(
                    [
                        "" if position else comparison.title,
                        result.name + observed,
                        show(result.median),
                        show(result.p99),
                        f"{result.ratio:.2f}",
                        f"{result.typical:.2f}",
                        str(comparison.target) if judged else "",
                        _verdict(comparison, result) if judged else "",
                    ]
                )
            )
    return lines


def duration(seconds: float) -> str:
    """Return *seconds* in the unit that suits them, with three digits."""
    for limit, unit, factor in ((1e-3, "µs", 1e6), (1, "ms", 1e3)):
        if seconds < limit:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{_three_digits(seconds)} s"


def megabytes(count: float) -> str:
    """Return *count* bytes in millions, with three digits."""
    return f"{_three_digits(count / 1e6)} MB"


def _three_digits(number: float) -> str:
    return f"{number:.2f}" if number < 10 else f"{number:.1f}" if number < 100 else f"{number:.0f}"


def _verdict(comparison: Comparison, result: Result) -> str:
    return "yes" if comparison.is_met_by(result) else "**missed**"


def _summary(sections: Sequence[Section]) -> Iterator[str]:
    judged = [
        (section.topic, comparison, results[1])
        for section in sections
        for comparison, results in section.measured
    ]
    met = sum(comparison.is_met_by(ours) for _, comparison, ours in judged)
    yield f"{met} of {len(judged)} targets are met in this run.\n"
    yield _row(("topic", "what", "ratio", "typical", "target", "met"))
    yield _row(("---", "---", "---:", "---:", "---:", "---"))
    for topic, comparison, ours in judged:
        ratios = f"{ours.ratio:.2f}", f"{ours.typical:.2f}"
        target, met = str(comparison.target), _verdict(comparison, ours)
        yield _row((topic.title, comparison.title, *ratios, target, met))


def _remarks(section: Section) -> Iterator[str]:
    """Yield what contestants do less or more; titles only where it isn't so in all comparisons."""
    titles: dict[tuple[str, str], list[str]] = {}
    taking_part: dict[str, int] = {}
    for comparison, results in section.measured:
        for result in results:
            taking_part[result.name] = taking_part.get(result.name, 0) + 1
            if result.remark:
                titles.setdefault((result.name, result.remark), []).append(comparison.title)
    for (name, remark), where in titles.items():
        of = "" if len(where) == taking_part[name] else f" ({'; '.join(where)})"
        yield f"* **{name}**{of}. {remark[0].upper()}{remark[1:]}."


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
