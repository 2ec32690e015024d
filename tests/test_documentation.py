"""Every Python example in the documentation runs, and says what it claims."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

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


# Those of docs/settings.md also run, in tests/config.
@pytest.mark.parametrize("page", [page for page in PAGES if "```yaml" in read(page)])
def test_the_settings_of_a_page_are_accepted_and_valid_by_the_schema(page: str) -> None:
    schema = json.loads((ROOT / "ltm/settings.schema.json").read_text("utf-8"))
    for settings in re.findall(r"^```yaml\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL):
        environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", settings), "set")
        assert parse_yaml(settings, environ=environ).backend == "duckdb"
        Draft202012Validator(schema).validate(yaml.safe_load(settings))


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    here = (ROOT / page).parent
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(page))
    assert [link for link in links if not (here / link).exists()] == []
