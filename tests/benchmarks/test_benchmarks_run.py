"""The benchmarks run as anyone would run them, and their page is whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 280

TITLES = {
    "New processes": ["import ltm", "cold start on SQLite", "cold start on PostgreSQL"],
    "Entries on SQLite": [
        *("store, search off", "get", "store of an unchanged value", "store, search on"),
        *("store_batch of 10, search on", "store_batch of 10, search off", "retrieve_batch of 10"),
    ],
    "Entries on PostgreSQL": [
        *("store, search off", "get", "store, search on"),
        *("store_batch of 10, search off", "store_batch of 10, search on", "retrieve_batch of 10"),
    ],
    "Payloads in a local directory": ["store of 10 KB", "store of 1 MB"],
    "Payloads in an object store": ["store_batch of 4 x 10 KB on S3"],
    "Searching": [
        "metadata equality over 100 entries",
        "question over 50 entries, SQLite",
        "question over 50 entries, PostgreSQL",
    ],
    "Growth": ["get at 20 entries"],
    "Memory": [
        *(f"{verb}, 20 entries" for verb in ("iterate_all", "verify", "gc", "copy")),
        *(f"export {each}, 20 entries" for each in ("bundle", "parquet", "duckdb", "ducklake")),
    ],
    "Many writers": [
        *("2 threads writing, SQLite", "2 processes writing, SQLite"),
        "2 threads writing, SQLite, durability full",
        *("2 threads writing, PostgreSQL", "2 processes writing, PostgreSQL"),
    ],
}
"""Of all comparisons, by section."""

PEERS = {
    "Entries on SQLite": {"LangGraph store", "diskcache", "py-key-value"},
    "Entries on PostgreSQL": {"LangGraph store", "py-key-value"},
}

AMOUNT = re.compile(r"\d+(\.\d+)? (µs|ms|s|MB)")
RATIO = re.compile(r"\d+\.\d\d")
TARGET = re.compile(r"[≤≥] \d+(\.\d+)?")


class Section(NamedTuple):
    """A section of the page, taken apart."""

    rows: list[list[str]]
    """The cells of its table."""
    missing: list[str]
    picture: str


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("page")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--smoke", "--output", str(directory)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.fixture(scope="module")
def sections(output: Path) -> dict[str, Section]:
    page = (output / "benchmarks.md").read_text(encoding="utf-8")
    found = {}
    for part in page.split("\n## ")[1:]:
        lines = part.splitlines()
        rows = [line[2:-2].split(" | ") for line in lines if line.startswith("| ")]
        missing = [line for line in lines if line.startswith("Not measured: ")]
        picture = "".join(re.findall(r"^!\[.*\]\((.+)\)$", part, re.MULTILINE))
        found[lines[0]] = Section(rows[2:], missing, picture)
    return found


pytestmark = pytest.mark.timeout(SECONDS + 20)


def test_the_page_has_a_section_for_each_topic(sections: dict[str, Section]) -> None:
    assert list(sections) == list(TITLES)


@pytest.mark.parametrize("title", TITLES)
def test_the_table_of_a_topic_is_whole(sections: dict[str, Section], title: str) -> None:
    section = sections[title]
    without = [reason for reason in section.missing if "needs" in reason or "neither" in reason]
    if without and os.environ.get("LTM_REQUIRE_SERVICES") != "1":
        pytest.skip("; ".join(without))
    assert [row[0] for row in section.rows if row[0]] == TITLES[title]
    position = 0
    for what, contestant, median, p99, ratio, typical, target, met in section.rows:
        position = 0 if what else position + 1
        assert contestant
        assert AMOUNT.fullmatch(median)
        assert AMOUNT.fullmatch(p99)
        assert RATIO.fullmatch(ratio)
        assert RATIO.fullmatch(typical)
        if position == 1:
            assert contestant.startswith("ltm")
            assert TARGET.fullmatch(target)
            assert met in {"yes", "**missed**"}
        else:
            assert (target, met) == ("", "")


@pytest.mark.parametrize("title", PEERS)
def test_a_peer_is_measured_or_said_to_be_missing(sections: dict[str, Section], title: str) -> None:
    section = sections[title]
    for peer in PEERS[title]:
        measured = peer in {row[1] for row in section.rows}
        assert measured != any(f" {peer}: " in reason for reason in section.missing)


def test_every_section_has_a_picture_with_a_bar_for_each_ratio(
    output: Path, sections: dict[str, Section]
) -> None:
    for section in sections.values():
        if section.rows:
            tree = ElementTree.parse(output / section.picture)
            bars = tree.findall("{http://www.w3.org/2000/svg}rect")[1:]
            assert len(bars) == len([row for row in section.rows if not row[0]])


def test_nobody_fails_to_write_in_a_crowd(sections: dict[str, Section]) -> None:
    observed = [row[1] for row in sections["Many writers"].rows]
    assert observed
    assert [each for each in observed if "0 errors" not in each] == []
