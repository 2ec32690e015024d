"""Every Python example in the documentation runs, and says what it claims."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ltm.config import parse_yaml

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def examples(page: str) -> list[str]:
    return EXAMPLE.findall(read(page))


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)])
def test_the_examples_of_a_page_run_in_order(page: str, tmp_path: Path) -> None:
    # One process a page: an example may go on from the one before, as a reader does.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(examples(page))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if "```yaml" in read(page)])
def test_the_settings_of_a_page_are_accepted(page: str) -> None:
    for settings in re.findall(r"^```yaml\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL):
        assert parse_yaml(settings, environ={}).backend == "duckdb"


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    here = (ROOT / page).parent
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(page))
    assert [link for link in links if not (here / link).exists()] == []
