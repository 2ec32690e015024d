"""References to the environment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.config import parse_settings, parse_yaml
from ltm.errors import ValidationError

ENVIRONMENT = {"HOST": "db.example", "USER": "me", "EMPTY": "", "N": "2048", "NESTED": "${HOST}"}


def uri(text: str) -> str:
    return parse_settings({"storage": text}, environ=ENVIRONMENT).storage.uri


@pytest.mark.parametrize(
    ("written", "expanded"),
    [
        ("${HOST}", "db.example"),
        ("s3://${HOST}/${USER}/x", "s3://db.example/me/x"),
        ("${HOST}${USER}", "db.exampleme"),
        ("${NONE:-fallback}", "fallback"),
        ("${HOST:-fallback}", "db.example"),
        ("${EMPTY:-fallback}", "fallback"),
        ("a${EMPTY}b", "ab"),
        ("a${NONE:-}b", "ab"),
        ("${NONE:-a:-b $x {}", "a:-b $x {"),
        ("$${HOST}", "${HOST}"),
        ("$${HOST:-x}/${USER}", "${HOST:-x}/me"),
        ("$$${HOST}", "$${HOST}"),
        ("$HOST $$ $", "$HOST $$ $"),
        ("${NESTED}", "${HOST}"),
        ("${NONE:-$HOST}", "$HOST"),
    ],
)
def test_references_are_expanded_once(written, expanded):
    assert uri(written) == expanded


def test_references_are_expanded_in_options_at_any_depth():
    document = {
        "catalog": {"type": "redis", "servers": ["${HOST}", {"user": "${USER}", "n": "${N}"}]},
        "storage": {"options": {"client_kwargs": {"endpoint_url": "http://${HOST}"}}},
    }
    settings = parse_settings(document, environ=ENVIRONMENT)
    servers = settings.catalog.options()["servers"]
    assert servers == ["db.example", {"user": "me", "n": "2048"}]
    assert type(servers[1]["n"]) is str
    assert settings.storage.options == {"client_kwargs": {"endpoint_url": "http://db.example"}}


def test_a_whole_reference_becomes_the_type_of_its_setting():
    text = """
inline_threshold: ${N:-1}
max_workers: ${NONE:-8}
lazy: ${FLAG}
enable_fts: ${NONE:-false}
table: ${N}
storage: {format: "${FORMAT}"}
catalog: {type: sqlite, busy_timeout: "${SECONDS}", durability: "${NONE:-full}"}
"""
    environ = {"N": "2048", "FLAG": "TRUE", "SECONDS": "1.5", "FORMAT": "parquet"}
    settings = parse_yaml(text, environ=environ)
    assert (settings.inline_threshold, settings.max_workers) == (2048, 8)
    assert (settings.lazy, settings.enable_fts) == (True, False)
    assert settings.table == "2048"
    assert settings.storage.format == "parquet"
    assert settings.catalog.options()["busy_timeout"] == 1.5
    assert settings.catalog.options()["durability"] == "full"


@pytest.mark.parametrize(
    "value", ["2048", "${N}${EMPTY}", "${EMPTY}", "${HOST}", "$${N}", "${NONE:-null}"]
)
def test_other_strings_do_not_become_numbers(value):
    with pytest.raises(ValidationError, match=r"^inline_threshold: expected int, got str$"):
        parse_settings({"inline_threshold": value}, environ=ENVIRONMENT)


def test_what_a_reference_becomes_is_checked_like_any_value():
    with pytest.raises(ValidationError, match=r"^max_workers: expected int <= 256$"):
        parse_settings({"max_workers": "${N}"}, environ=ENVIRONMENT)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"table": "x${NONE}"}, "table"),
        ({"ltm": {"catalog": {"type": "postgres", "user": "${NONE}"}}}, "ltm.catalog.user"),
        ({"ltm": {"storage": {"options": {"a": ["b", "${NONE}"]}}}}, "ltm.storage.options.a[1]"),
        ({"catalog": "${NONE}"}, "catalog.type"),
        ({"storage": "${NONE}"}, "storage.uri"),
    ],
)
def test_a_variable_that_is_not_set_is_named_with_its_path(document, path):
    with pytest.raises(ValidationError) as caught:
        parse_settings(document, environ=ENVIRONMENT)
    assert str(caught.value) == f"{path}: environment variable NONE is not set"


@pytest.mark.parametrize("text", ["${", "${}", "${HOST", "${1A}", "${HOST:x}", "a ${HOST-x} b"])
def test_a_malformed_reference_is_an_error_and_not_a_literal(text):
    with pytest.raises(ValidationError) as caught:
        uri(text)
    assert str(caught.value) == "storage.uri: expected ${NAME} or ${NAME:-default} or $${"


def test_the_sections_of_others_are_not_expanded():
    document = {"settings": {"ltm": {}, "llm": "${NONE}"}, "agents": ["${"]}
    assert parse_settings(document, environ={}).table == "default"


def test_the_environment_is_that_of_the_process_by_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LTM_TEST_TABLE", "from_process")
    assert parse_yaml("table: ${LTM_TEST_TABLE}").table == "from_process"


@given(st.text())
def test_text_from_the_environment_arrives_as_it_is(text):
    settings = parse_settings({"catalog": {"type": "x", "o": "<${V}>"}}, environ={"V": text})
    assert settings.catalog.options() == {"o": f"<{text}>"}


@given(st.text())
def test_escaped_text_arrives_as_it_was(text):
    written = text.replace("${", "$${")
    settings = parse_settings({"catalog": {"type": "x", "o": written}}, environ={})
    assert settings.catalog.options() == {"o": text}
