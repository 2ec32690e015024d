"""``ltm query``: rows for people, documents for machines, failures by their status."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _memory(ltm: Any) -> None:
    ltm("store", "note/1", '{"n": 1, "text": "é"}', "--metadata", '{"type": "note", "score": 4}')
    ltm("store", "note/2", '"plain\\ttext"', "--metadata", '{"type": "note", "score": 2}')
    ltm("snapshot", "create", "then")
    ltm("rm", "note/2")


def test_a_pipe_gets_lines_with_tabs(ltm: Any) -> None:
    result = ltm("query", "SELECT key, value, byte_size, expires_at FROM entries")
    assert result.out == 'note/1\t{"n": 1, "text": "é"}\t26\tnull\n'
    assert (result.status, result.err) == (0, "")


def test_a_terminal_gets_a_table(ltm: Any) -> None:
    lines = ltm("query", "SELECT key, 1 AS one FROM entries", is_terminal=True).out.splitlines()
    assert [line.split() for line in lines] == [["key", "one"], ["note/1", "1"]]


def test_no_rows_are_no_lines(ltm: Any) -> None:
    for is_terminal in (False, True):
        result = ltm("query", "SELECT key FROM entries WHERE false", is_terminal=is_terminal)
        assert (result.status, result.out, result.err) == (0, "", "")


def test_a_machine_gets_a_document_for_each_row(ltm: Any) -> None:
    sql = "SELECT key, value, metadata FROM entries ORDER BY key"
    assert ltm("query", sql, "--json", "--snapshot", "then").documents == [
        {
            "key": "note/1",
            "value": {"n": 1, "text": "é"},
            "metadata": {"score": 4, "type": "note"},
        },
        {"key": "note/2", "value": "plain\ttext", "metadata": {"score": 2, "type": "note"}},
    ]


def test_what_json_does_not_have_is_a_text(ltm: Any) -> None:
    sql = (
        "SELECT DATE '2024-02-29' AS d, 1.50 AS n, 'inf'::DOUBLE AS i, '\\x01'::BLOB AS b,"
        " INTERVAL 1 DAY AS s, MAP {1: DATE '2024-01-01'} AS m, [TIME '12:00'] AS l,"
        " 2.5::DOUBLE AS f, {'a': NULL} AS o, TIMESTAMPTZ '2024-01-01 00:00:00+00' AS t"
    )
    assert ltm("--json", "query", sql).document == {
        "d": "2024-02-29",
        "n": "1.50",
        "i": "inf",
        "b": "01",
        "s": "1 day, 0:00:00",
        "m": {"1": "2024-01-01"},
        "l": ["12:00:00"],
        "f": 2.5,
        "o": {"a": None},
        "t": "2024-01-01T00:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("arguments", "status", "kind"),
    [
        (["SELECT nothing FROM entries"], 2, "validation_error"),
        (["COPY entries TO 'out.csv'"], 2, "validation_error"),
        (["FROM read_text('*')"], 2, "validation_error"),
        (["SELECT 1", "--snapshot", "nowhere"], 1, "snapshot_not_found"),
        ([], 2, "validation_error"),
        (["SELECT", "1"], 2, "validation_error"),
    ],
)
def test_a_failure_has_a_status_by_its_kind(
    ltm: Any, arguments: list[str], status: int, kind: str
) -> None:
    result = ltm("query", *arguments, "--json")
    assert (result.status, result.document["error_type"]) == (status, kind)
    assert result.err.endswith(f"({kind})\n")
    assert len(result.err.splitlines()) == 1


def test_a_catalog_out_of_reach_is_told(ltm: Any) -> None:
    result = ltm("--catalog", "postgresql://nobody@127.0.0.1:1/x", "query", "FROM entries")
    assert result.status == 4
