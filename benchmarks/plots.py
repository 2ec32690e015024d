"""Bars of ratios as SVG, one picture a topic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from xml.sax.saxutils import escape

from benchmarks.rounds import Comparison, Result

_WIDTH, _LABELS, _MARGIN = 860, 330, 60
_BAR, _GAP, _HEAD = 18, 14, 46
_OURS, _PEER, _MISSED = "#2f6fb7", "#b8b8b8", "#c8553d"

_Place = Callable[[float], float]
"""Where a ratio stands on the x axis."""


def draw(measured: Sequence[tuple[Comparison, list[Result]]]) -> str:
    """Return a picture of all ratios, on a logarithmic scale on which raw is 1."""
    ratios = [result.ratio for _, results in measured for result in results]
    ratios += [comparison.target.limit for comparison, _ in measured]
    low = min(0.5, *ratios) / 1.2
    high = max(2.0, *ratios) * 1.2

    def place(ratio: float) -> float:
        part = math.log(ratio / low) / math.log(high / low)
        return _LABELS + part * (_WIDTH - _LABELS - _MARGIN)

    body: list[str] = []
    top = _HEAD
    for comparison, results in measured:
        body.append(_text(10, top + 14, comparison.title, weight="bold"))
        top += _BAR + 2
        for position, result in enumerate(results[1:]):
            body += _bar(comparison, result, top, place, judged=position == 0)
            top += _BAR + 2
        top += _GAP
    return "\n".join([*_frame(top, place), *body, "</svg>", ""])


def _frame(height: int, place: _Place) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12">'
    )
    yield f'<rect width="{_WIDTH}" height="{height}" fill="white"/>'
    yield _text(10, 20, "ratio to raw, logarithmic; the mark is the target", fill="#555")
    yield _line(place(1.0), 28, height, "#555")
    yield _text(place(1.0) - 10, 20, "raw", fill="#555")


def _bar(
    comparison: Comparison, result: Result, top: int, place: _Place, *, judged: bool
) -> Iterator[str]:
    colour = _PEER
    if judged:
        colour = _OURS if comparison.is_met_by(result) else _MISSED
    start, end = sorted((place(1.0), place(result.ratio)))
    yield _text(24, top + 13, result.name)
    yield (
        f'<rect x="{start:.1f}" y="{top}" width="{max(1.0, end - start):.1f}" height="{_BAR - 2}" '
        f'fill="{colour}"/>'
    )
    yield _text(end + 5, top + 13, f"{result.ratio:.2f}")
    if judged:
        yield _line(place(comparison.target.limit), top - 2, top + _BAR, "black")


def _text(x: float, y: float, text: str, *, fill: str = "black", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" fill="{fill}" font-weight="{weight}">{escape(text)}</text>'


def _line(x: float, top: float, bottom: float, colour: str) -> str:
    return f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="{colour}"/>'
