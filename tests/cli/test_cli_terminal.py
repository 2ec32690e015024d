"""What a person sees: tables that nothing stored can break."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from ltm.cli.text import (
    excerpt,
    many_lines,
    one_line,
    readable_json,
    readable_size,
    relative_time,
)

NASTY = "a\x1b[31mred\x07\r\n\tb\x9b2J\u202eright\u200b"


def test_control_characters_are_escaped_in_tables_and_plain_in_json(ltm):
    ltm("store", NASTY, "--text", NASTY, "--metadata", json.dumps({"m": NASTY}))
    for is_terminal in (False, True):
        shown = ltm("ls", is_terminal=is_terminal).out + ltm("search", "red").out
        assert not set("\x1b\x07\r\x9b\u202e\u200b") & set(shown)
        assert "\\x1b[31mred" in shown
    assert ltm("--json", "ls").documents[0]["key"] == NASTY
    assert ltm("--json", "get", NASTY).document["value"] == NASTY
    assert ltm("rm", "\x1b").err == "not found: \\x1b\n"


def test_get_escapes_control_characters_and_stays_json(ltm):
    ltm("store", "k", "--text", NASTY)
    shown = ltm("get", "k").out
    assert not set("\x1b\x07\r\x9b\u202e\u200b") & set(shown)
    assert json.loads(shown) == NASTY


def test_raw_is_exact_in_a_pipe_and_escaped_on_a_terminal(ltm):
    ltm("store", "k", "--text", NASTY)
    assert ltm("get", "k", "--raw").out == NASTY
    shown = ltm("get", "k", "--raw", is_terminal=True).out
    assert "\x1b" not in shown
    assert shown.endswith("\\u200b\n")


def test_square_brackets_are_no_markup(ltm):
    ltm("store", "[bold]k[/bold] :smile:", "--text", "[red]text")
    assert "[bold]k[/bold] :smile:" in ltm("ls", is_terminal=True).out
    assert "[red]text" in ltm("search", "text", is_terminal=True).out


def test_a_table_on_a_terminal_has_titles_and_fits_its_width(ltm):
    ltm("store", "日本語のキー" * 20, "--text", "値", "--metadata", json.dumps({"m": "x" * 300}))
    ltm("store", "k", "1", "--ttl", "90")
    lines = ltm("ls", is_terminal=True).out.splitlines()
    assert lines[0].split() == ["key", "size", "updated", "expires", "metadata"]
    assert all(len(line) <= 100 for line in lines)
    assert "in 1 min" in "\n".join(lines)
    # Folded, not cut: a key can be copied whole.
    assert "".join(line[:30].rstrip() for line in lines).count("日本語") > 1


def test_a_value_of_any_script_is_readable(ltm):
    ltm("store", "k", "--text", "naïve 日本 👩‍💻")
    assert ltm("get", "k").out == '"naïve 日本 👩‍💻"\n'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本 👩‍💻", "plain é 日本 👩‍💻"),
        ("\x00\x1b\x7f\x9b", "\\x00\\x1b\\x7f\\x9b"),
        ("\n\t\r", "\\n\\t\\r"),
        ("\u2028\u202e\ufeff\ud800", "\\u2028\\u202e\\ufeff\\ud800"),
    ],
)
def test_one_line_escapes_what_commands_a_terminal(text, shown):
    assert one_line(text) == shown


def test_many_lines_keeps_line_ends_and_tabs():
    assert many_lines("a\n\tb\r\x1b") == "a\n\tb\\r\\x1b"


@pytest.mark.parametrize("value", [NASTY, "\ud800", "\U000e0001", {NASTY: [NASTY]}, "\x7f"])
def test_readable_json_is_json(value):
    shown = readable_json(value, indent=2)
    assert json.loads(shown) == value
    assert one_line(shown.replace("\n", "")) == shown.replace("\n", "")


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 kB"), (5 << 30, "5.0 GB")]
)
def test_sizes_are_readable(size, shown):
    assert readable_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s ago"),
        (-59, "59 s ago"),
        (-61, "1 min ago"),
        (7200, "in 2 h"),
        (86400 * 400, "in 1 y"),
    ],
)
def test_instants_are_shown_by_their_distance(seconds, shown):
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert relative_time(now + timedelta(seconds=seconds), now) == shown


def test_an_excerpt_of_anything_but_text_is_its_json():
    assert excerpt([1, None], "one") == "[1, null]"
    assert excerpt({"a": "some", "b": ["text"]}, "") == "some text"
