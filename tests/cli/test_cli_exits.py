"""Exit statuses, and how failures are reported."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import ltm as package
from ltm import errors
from ltm.cli.exits import EXIT_STATUS
from ltm.cli.values import parse_json


def _payload() -> Path:
    (path,) = [path for path in Path("ltm_data").rglob("*.json") if path.is_file()]
    return path


def _lose(ltm):
    ltm("store", "big", "--text", "x" * 2000)
    _payload().unlink()
    return ["get", "big"]


def _corrupt(ltm):
    ltm("store", "big", "--text", "x" * 2000)
    path = _payload()
    path.write_bytes(path.read_bytes().replace(b"xxx", b"xyx", 1))
    return ["get", "big"]


def _block_storage(ltm):
    Path("ltm_data").write_text("a file")
    return ["store", "big", "--text", "x" * 2000]


def _block_catalog(ltm):
    Path("ltm_catalog.db").mkdir()
    return ["get", "k"]


def _lack_yaml(ltm):
    Path("agent.yaml").write_text("ltm: {}")
    return ["--config", "agent.yaml", "ls"]


CASES = [
    (lambda ltm: ["frobnicate"], 2, "validation_error"),
    (lambda ltm: ["get"], 2, "validation_error"),
    (lambda ltm: ["get", "k", "--frobnicate"], 2, "validation_error"),
    (lambda ltm: ["db"], 2, "validation_error"),
    (lambda ltm: ["get", ""], 2, "validation_error"),
    (lambda ltm: ["ls", "--limit", "0"], 2, "validation_error"),
    (lambda ltm: ["store", "k", "1", "--if-match", "sha256:0"], 3, "conflict"),
    (_block_catalog, 4, "catalog_unavailable"),
    (_block_storage, 5, "storage_error"),
    (_lose, 5, "payload_missing"),
    (_corrupt, 6, "integrity_error"),
]


@pytest.mark.parametrize(("prepare", "status", "error_type"), CASES)
def test_a_failure_is_one_line_and_one_document_and_its_own_status(
    ltm, prepare, status, error_type
):
    arguments = prepare(ltm)
    result = ltm(*arguments)
    assert result.status == status
    assert result.out == ""
    assert re.fullmatch(rf"error: [^\n]+ \({error_type}\)\n", result.err)
    answered = ltm("--json", *arguments)
    assert answered.status == status
    assert answered.document["success"] is False
    assert answered.document["error_type"] == error_type
    assert re.fullmatch(rf"error: [^\n]+ \({error_type}\)\n", answered.err)


def test_a_missing_driver_is_exit_status_8_and_names_the_extra(ltm, monkeypatch):
    arguments = _lack_yaml(ltm)
    monkeypatch.setitem(sys.modules, "yaml", None)
    result = ltm(*arguments)
    assert result.status == 8
    assert "pip install 'ltm[yaml]'" in result.err


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_packages_it_says_how_to_install_them(ltm, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    result = ltm("ls")
    assert (result.status, result.out) == (1, "")
    assert result.err == f"{missing} is not installed: pip install 'ltm[cli]'\n"


def test_json_may_stand_before_or_after_the_command(ltm):
    assert ltm("--json", "stats").out == ltm("stats", "--json").out
    assert ltm("--json", "db", "current").out == ltm("db", "current", "--json").out


def test_json_after_two_dashes_is_a_word(ltm):
    assert ltm("store", "--", "--json", "1").out.startswith("stored --json ")


def test_every_error_type_has_a_status_and_help_names_it(ltm):
    types = {
        kind.error_type
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.LTMError)
    }
    assert types - {"error", "closed"} == set(EXIT_STATUS)
    shown = ltm("--help").out
    for error_type in set(EXIT_STATUS) - {"snapshot_not_found"}:
        line = next(line for line in shown.splitlines() if error_type in line)
        assert line.split()[0] == str(EXIT_STATUS[error_type])


def test_without_arguments_it_shows_its_help(ltm):
    result = ltm()
    assert result.status == 0
    assert result.out.startswith("Usage: ltm ")


def test_every_command_has_help(ltm):
    for command in ("store", "get", "rm", "ls", "search", "stats", "cleanup", "health", "demo"):
        assert f"Usage: ltm {command}" in ltm(command, "--help").out
    assert "Usage: ltm migrate sqlite-backend" in ltm("migrate", "sqlite-backend", "-h").out


def test_the_version_is_that_of_the_package(ltm):
    assert ltm("--version").out == f"ltm {package.__version__}\n"


@pytest.mark.parametrize("text", ["", "{", "1 2", "nan", "Infinity", "1" * 5000, "'a'"])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(errors.ValidationError, match="is not JSON"):
        parse_json(text, "value")


@pytest.mark.parametrize(
    "arguments",
    [
        ("db", "upgrade", "URL"),
        ("db", "upgrade", "URL", "URL"),
        ("db", "sql", "--dialect", "URL"),
        ("URL", "ls"),
        ("--catlog=URL", "ls"),
        ("--config", "URL", "ls"),
        ("ls", "--limit", "URL"),
    ],
)
def test_a_url_in_the_wrong_place_keeps_its_password_to_itself(ltm, arguments):
    url = "postgresql://me:hunter2@h/db"
    result = ltm("--json", *(each.replace("URL", url) for each in arguments))
    assert result.status == 2
    assert "hunter2" not in result.out + result.err
