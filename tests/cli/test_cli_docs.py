"""Every example in docs/cli.md runs, and answers what the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def _examples(block: str) -> list[tuple[str, str]]:
    """Return the commands of a block, each with the output below it."""
    parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n", block, flags=re.MULTILINE)
    assert parts[0] == "", f"a block begins with a command: {block!r}"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _plain_words(command: str) -> list[str] | None:
    """Return the words of a bare ``ltm`` command, which needs no shell and no process."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    is_plain = command.startswith("ltm ") and not any(set(word) <= set("|;<>&") for word in lexer)
    return shlex.split(command) if is_plain else None


def _matches(shown: str, actual: str) -> bool:
    """Return whether *actual* is what is *shown*, where ``...`` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in shown.split("..."))
    return re.fullmatch(pattern, actual, re.DOTALL) is not None


def test_the_page_has_examples():
    assert len(BLOCKS) >= 8
    assert sum(len(_examples(block)) for block in BLOCKS) >= 20


def test_every_example_answers_what_the_page_shows(ltm, shell, tmp_path):
    """In the order of the page, in one directory, as a reader would type them."""
    for block in BLOCKS:
        for command, shown in _examples(block):
            words = _plain_words(command)
            result = ltm(*words[1:]) if words else shell(f"({command}) 2>&1")
            actual = result.out + result.err
            assert _matches(shown, actual), f"$ {command}\nshown:\n{shown}\nactual:\n{actual}"
            if "error: " not in shown and "not found" not in shown:
                assert result.status == 0, command


@pytest.mark.parametrize(("shown", "actual"), [("a...c\n", "abc\n"), ("...", ""), ("a\n", "a\n")])
def test_dots_stand_for_anything(shown, actual):
    assert _matches(shown, actual)


@pytest.mark.parametrize(("shown", "actual"), [("a\n", "ab\n"), ("a...\n", "b\n"), ("", "a\n")])
def test_an_example_that_differs_is_noticed(shown, actual):
    assert not _matches(shown, actual)
