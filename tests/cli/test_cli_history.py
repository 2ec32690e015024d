"""``snapshot``, ``changes``, ``diff``, ``restore``, and reads as of a snapshot."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys

import pytest


@pytest.fixture
def first(ltm):
    """Take a snapshot of two entries, then change one, remove one and add one."""
    ltm("store", "a", "1", "--metadata", '{"n": 1}')
    ltm("store", "b", "--text", "x" * 2000)
    answer = ltm("--json", "snapshot", "create", "first").document
    ltm("store", "a", "2")
    ltm("rm", "b")
    ltm("store", "c", "3")
    return answer


def test_a_snapshot_says_its_id_and_what_it_holds(ltm, first):
    assert (first["name"], first["entry_count"], first["total_bytes"]) == ("first", 2, 2003)
    line = ltm("snapshot", "create", "second").out
    assert line.startswith("snapshot second ")
    assert line.endswith(": 2 entries, 2 B\n")


def test_snapshots_are_listed_in_the_order_in_which_they_were_taken(ltm, first):
    ltm("snapshot", "create", "a second")
    rows = [line.split("\t") for line in ltm("snapshot", "ls").out.splitlines()]
    assert [row[0] for row in rows] == ["first", "a second"]
    assert rows[0][1] == first["snapshot_id"]
    assert rows[0][3:] == ["2", "2.0 kB"]
    answer = ltm("--json", "snapshot", "ls").document
    assert [each["name"] for each in answer["snapshots"]] == ["first", "a second"]
    assert first["snapshot_id"] in ltm("snapshot", "ls", is_terminal=True).out


def test_a_snapshot_shows_its_entries_by_id_and_by_name(ltm, first):
    for reference in ("first", first["snapshot_id"]):
        shown = ltm("snapshot", "show", reference).out
        assert [line.split("\t")[0] for line in shown.splitlines()] == ["a", "b"]
        assert shown == ltm("ls", "--snapshot", reference).out
    documents = ltm("--json", "snapshot", "show", "first", "b").documents
    assert [(each["key"], each["byte_size"]) for each in documents] == [("b", 2002)]


def test_ls_as_of_a_snapshot_takes_all_its_options(ltm, first):
    def listed(*options: str) -> str:
        return ltm("ls", "--snapshot", "first", *options).out.replace("\t", " ")

    assert listed("--where", "n=1").startswith("a 1 B ")
    assert listed("--where", "n=2") == ""
    assert listed("--limit", "1").startswith("a ")
    assert len(listed("--limit", "1").splitlines()) == 1
    assert listed("--after", "a").startswith("b ")


def test_get_reads_as_of_a_snapshot(ltm, first):
    assert ltm("get", "a").out == "2\n"
    assert ltm("get", "a", "--snapshot", "first").out == "1\n"
    assert ltm("get", "b", "--raw", "--snapshot", "first").out == "x" * 2000
    assert ltm("get", "c", "--snapshot", "first").status == 1


def test_changes_say_what_was_added_modified_and_deleted(ltm, first):
    rows = [line.split("\t") for line in ltm("changes", "first").out.splitlines()]
    assert [row[:2] for row in rows] == [["modified", "a"], ["deleted", "b"], ["added", "c"]]
    assert all(row[2].startswith("sha256:") for row in rows)
    documents = ltm("--json", "changes", "first").documents
    assert [(each["op"], each["key"]) for each in documents] == [
        ("modified", "a"),
        ("deleted", "b"),
        ("added", "c"),
    ]
    assert [each["op"] for each in ltm("--json", "changes").documents] == ["added", "added"]


def test_a_difference_of_snapshots_goes_both_ways(ltm, first):
    ltm("snapshot", "create", "second")
    forth = [line.split("\t")[:2] for line in ltm("diff", "first", "second").out.splitlines()]
    assert forth == [["modified", "a"], ["deleted", "b"], ["added", "c"]]
    back = [line.split("\t")[:2] for line in ltm("diff", "second", "first").out.splitlines()]
    assert back == [["modified", "a"], ["added", "b"], ["deleted", "c"]]
    assert ltm("diff", "first", "first").out == ""


def test_restoring_makes_the_present_equal_to_the_snapshot(ltm, first):
    result = ltm("restore", "first")
    assert result.status == 0
    assert result.out.startswith("restored snapshot first of ")
    assert result.out.endswith(": 2 entries as they were then, 1 removed\n")
    assert ltm("changes", "first").out == ""
    answer = ltm("--json", "restore", first["snapshot_id"]).document
    assert (answer["restored"], answer["deleted"]) == (0, 0)


def on_terminal(typed: bytes, *arguments: str) -> tuple[int, str]:
    """Run ``ltm`` with a terminal of its own, type, and return status and what it showed."""
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "ltm.cli", *arguments]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        has_typed = False
        while select.select([master], [], [], 60)[0]:
            try:
                shown += os.read(master, 4096)
            except OSError:
                break
            if b"[y/N] " in shown and not has_typed:
                os.write(master, typed)
                has_typed = True
        status = process.wait(timeout=60)
    os.close(master)
    return status, shown.decode()


@pytest.mark.parametrize("typed", [b"n\n", b"\n", b"\x04"])
def test_restore_asks_on_a_terminal_and_does_nothing_without_a_yes(ltm, first, typed):
    status, shown = on_terminal(typed, "restore", "first")
    assert status == 1
    assert "make the present equal to snapshot first of " in shown
    assert "nothing was done" in shown
    assert ltm("get", "a").out == "2\n"


def test_restore_goes_on_after_a_yes(ltm, first):
    status, shown = on_terminal(b"y\n", "restore", "first")
    assert (status, "restored snapshot first" in shown) == (0, True)
    assert ltm("get", "a").out == "1\n"


def test_restore_with_yes_asks_nobody(ltm, first):
    status, shown = on_terminal(b"", "restore", "first", "--yes")
    assert (status, "[y/N]" in shown) == (0, False)


def test_an_expired_snapshot_is_gone(ltm, first):
    assert ltm("snapshot", "expire", "first").out == f"expired {first['snapshot_id']}\n"
    assert ltm("snapshot", "ls").out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["snapshot", "show", "nowhere"],
        ["snapshot", "expire", "nowhere"],
        ["changes", "nowhere"],
        ["diff", "nowhere", "nowhere"],
        ["restore", "nowhere"],
        ["get", "k", "--snapshot", "nowhere"],
        ["ls", "--snapshot", "nowhere"],
        ["export", "-", "--snapshot", "nowhere"],
    ],
)
def test_a_snapshot_that_is_not_there_is_exit_status_1(ltm, arguments):
    result = ltm(*arguments)
    assert result.status == 1
    assert result.err == "error: no snapshot has the id or name 'nowhere' (snapshot_not_found)\n"


def test_names_that_would_command_a_terminal_are_escaped(ltm):
    ltm("snapshot", "create", "a\x1b[31m")
    assert "\x1b" not in ltm("snapshot", "ls").out + ltm("restore", "a\x1b[31m").out
