"""``python -m benchmarks [--quick] [--only TOPIC ...]``: measure ratios and write the page."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.crowds import CROWDS
from benchmarks.machine import describe_machine
from benchmarks.memory import MEMORY
from benchmarks.objects import OBJECTS_IN_S3
from benchmarks.payloads import PAYLOADS
from benchmarks.plots import draw
from benchmarks.postgres import POSTGRES
from benchmarks.report import Section, render, table
from benchmarks.rounds import measure
from benchmarks.scale import SCALES, Scale
from benchmarks.scaling import SCALING
from benchmarks.searching import SEARCHING
from benchmarks.sqlite import SQLITE
from benchmarks.starting import STARTING
from benchmarks.topics import Place, Topic, UnavailableError

TOPICS = (
    *(STARTING, SQLITE, POSTGRES, PAYLOADS, OBJECTS_IN_S3),
    *(SEARCHING, SCALING, MEMORY, CROWDS),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all topics, or some, and tell what came of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", dest="scale", action="store_const", const="quick")
    parser.add_argument(
        "--smoke",
        dest="scale",
        action="store_const",
        const="smoke",
        help="do each thing once, on a handful of entries: the numbers mean nothing",
    )
    names = [topic.name for topic in TOPICS]
    parser.add_argument(
        "--only", nargs="+", choices=names, help="print these topics; no page is written"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs")
    given = parser.parse_args(arguments)
    scale = SCALES[given.scale or "full"]
    topics = [topic for topic in TOPICS if not given.only or topic.name in given.only]
    machine = describe_machine() | {"run": scale.name}
    sections = [_measure(topic, scale) for topic in topics]
    if not given.only:
        _write(sections, machine, given.output)


def _measure(topic: Topic, scale: Scale) -> Section:
    section = Section(topic=topic)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ltm-benchmarks-") as directory:
        try:
            for comparison in topic.comparisons(Place(scale, directory, section.missing)):
                section.measured.append((comparison, measure(comparison)))
        except UnavailableError as error:
            section.missing.append(str(error))
    print(f"{topic.title} ({topic.name}), {time.perf_counter() - begin:.0f} s")
    print("\n".join(table(section)))
    print("\n".join(f"Not measured: {reason}" for reason in section.missing), flush=True)
    return section


def _write(sections: Sequence[Section], machine: Mapping[str, str], output: Path) -> None:
    pictures = output / "benchmarks"
    os.makedirs(pictures, exist_ok=True)
    plots = {}
    for section in sections:
        if section.measured:
            picture = pictures / f"{section.topic.name}.svg"
            picture.write_text(draw(section.measured), encoding="utf-8")
            plots[section.topic.name] = picture.relative_to(output).as_posix()
    page = render(sections, machine, plots)
    (output / "benchmarks.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
