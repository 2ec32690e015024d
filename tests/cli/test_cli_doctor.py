"""``ltm doctor``: findings, remedies, and the exit status of the first problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltm.finding import Finding
from tests.services.postgres import PASSWORDS
from tests.services.processes import free_port
from tests.services.tokens import SECRET, make_token

ABSENT = "postgresql://agent:hidden@127.0.0.1:1/x"


def findings(result):
    """Return the findings of a run with ``--json``, by their checks."""
    return {each["check"]: Finding(**each) for each in result.document["findings"]}


def test_a_healthy_memory_is_exit_status_0(ltm):
    ltm("store", "k", "1")
    result = ltm("doctor")
    assert (result.status, result.err) == (0, "")
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert all(state == "ok" for _, state, _ in rows)
    assert [row[0] for row in rows].count("round_trip") == 2
    document = ltm("doctor", "--json").document
    assert document["success"] is True
    assert set(document["findings"][0]) == {"check", "state", "message", "remedy", "error_type"}


def test_nothing_lasting_is_made_but_the_directory_of_the_storage(ltm):
    assert ltm("doctor").status == 0
    assert [path.name for path in Path().iterdir()] == ["ltm_data"]
    assert [path for path in Path("ltm_data").rglob("*") if path.is_file()] == []


def test_remedies_stand_below_the_findings(ltm, postgres_url):
    Path("agent.yaml").write_text(
        f"{{catalog: {{type: postgres, connection_string: '{postgres_url}', "
        "pool_mode: transaction}, storage: data}"
    )
    result = ltm("--config", "agent.yaml", "doctor")
    assert result.status == 0  # a warning alone
    assert result.out.splitlines()[-1].startswith("pooler: set pool_mode: direct")


@pytest.mark.parametrize(
    ("arguments", "status", "error_type", "check"),
    [
        (["--storage", "blocked"], 5, "storage_error", "storage"),
        (["--catalog", "blocked/x.db"], 4, "catalog_unavailable", "writable"),
        (["--catalog", "mysql://root:hidden@db/ltm"], 2, "validation_error", "settings"),
        (["--config", "agent.yaml"], 2, "validation_error", "settings"),
        (["--catalog", ABSENT], 4, "catalog_unavailable", "catalog"),
    ],
)
def test_the_exit_status_is_that_of_the_first_problem(ltm, arguments, status, error_type, check):
    Path("blocked").write_text("a file")
    Path("agent.yaml").write_text("ltm: {catalog: {type: postgres, password: '${NOT_SET_HERE}'}}")
    result = ltm(*arguments, "doctor")
    assert result.status == status
    assert result.err.startswith("error: 1 problem: ")
    assert result.err.endswith(f" ({error_type})\n")
    answered = ltm("--json", *arguments, "doctor")
    assert answered.document["success"] is False
    assert answered.document["error_type"] == error_type
    assert findings(answered)[check].state == "problem"
    assert "hidden" not in result.out + result.err + answered.out


def test_a_variable_that_is_not_set_is_named(ltm):
    Path("agent.yaml").write_text("ltm: {catalog: {type: postgres, password: '${NOT_SET_HERE}'}}")
    message = findings(ltm("--config", "agent.yaml", "doctor", "--json"))["settings"].message
    assert "ltm.catalog.password: environment variable NOT_SET_HERE is not set" in message


def test_variables_and_flags_name_the_memory_as_for_other_commands(ltm, monkeypatch):
    monkeypatch.setenv("LTM_CATALOG_URL", f"postgresql://127.0.0.1:{free_port()}/x")
    monkeypatch.setenv("LTM_STORAGE_URI", "elsewhere")
    result = ltm("doctor", "--json")
    assert findings(result)["catalog"].state == "problem"
    assert findings(result)["storage"].message.startswith(str(Path("elsewhere").absolute()))
    assert ltm("--catalog", "here.db", "doctor").status == 0


def test_no_secret_is_told_of_a_tenant(ltm, postgres_server, postgres_url):
    name = postgres_url.rpartition("/")[2]
    login = postgres_server.url(name, "authenticator", PASSWORDS["authenticator"])
    token = make_token("tenant-1")
    Path("agent.yaml").write_text(
        f"ltm: {{catalog: {{type: supabase, connection_string: '{login}', "
        f"access_token: {token}, jwt_secret: {SECRET}}}, storage: data}}"
    )
    for arguments in (["doctor"], ["doctor", "--json"]):
        result = ltm("--config", "agent.yaml", *arguments)
        assert result.status == 0, result.out
        told = result.out + result.err
        assert token not in told
        assert SECRET not in told
        assert ":secret@" not in told


def test_on_a_terminal_it_is_a_table(ltm):
    result = ltm("doctor", is_terminal=True)
    assert result.status == 0
    assert "finding" in result.out.splitlines()[0]
