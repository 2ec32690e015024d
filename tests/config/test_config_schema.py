"""The shipped JSON Schema says what the parser accepts, as far as a schema can know."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ltm.config import parse_settings
from ltm.errors import ValidationError
from ltm.settings import (
    CATALOGS,
    EXCLUSIVE,
    Section,
    Settings,
    StorageSettings,
    shorthands,
)
from ltm.settings_schema import settings_schema

SHIPPED = json.loads(files("ltm").joinpath("settings.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SHIPPED)
ENVIRONMENT = {"A": "\ud800", "N": "7", "T": "true", "EMPTY": ""}


def is_accepted(document: Any) -> bool:
    try:
        parse_settings(document, environ=ENVIRONMENT)
    except ValidationError:
        return False
    return True


def test_the_shipped_schema_is_what_is_generated() -> None:
    assert settings_schema() == SHIPPED, "run `make schema`"
    Draft202012Validator.check_schema(SHIPPED)


def test_the_module_prints_the_shipped_file() -> None:
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-m", "ltm.settings_schema"],
        capture_output=True,
        check=True,
    )
    assert printed.stdout == files("ltm").joinpath("settings.schema.json").read_bytes()


def test_every_key_is_explained_and_every_default_shown() -> None:
    sections = [each for each in SHIPPED["$defs"].values() if "properties" in each]
    sections.append(SHIPPED["$defs"]["storage"]["else"])
    for section in sections:
        for name, each in section["properties"].items():
            assert each.get("description"), f"{section['title']}.{name}"
    shown = SHIPPED["$defs"]["settings"]["properties"]
    for name, value in Settings().__rich_repr__():
        if not isinstance(value, Section):
            assert shown[name]["default"] == value


# Values by their declared types, so that a new setting is tried without a word here.

variables = st.sampled_from(
    ["${N}", "${T}", "${A}", "${NONE:-x}", "a${EMPTY}", "$${N}", "${NONE}", "${N}\n"]
)
plain_text = st.text(
    st.characters(codec="utf-8", exclude_characters="$\0"), min_size=1, max_size=20
)
open_values = st.recursive(
    st.none() | st.booleans() | st.integers() | plain_text | st.just("$${N} $"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(plain_text, inner, max_size=2),
    max_leaves=5,
)
wrong = st.sampled_from(
    [
        *(None, True, 0, -1, 1, 257, 65536, 2**63, 0.5, -0.5),
        *("", "x", "7", "full", "json", "x" * 201, "${", "${1A}", "${N-x}", "a${N}${"),
        *([], ["x"], {}, {"x": 1}, {"ltm": {}}, {"region_name": "eu"}),
        *({"client_kwargs": {"region_name": "eu"}}, {"client_kwargs": 1}, {"o": "${"}),
    ]
)


def types_of(kind: type[Section]) -> dict[str, Any]:
    fields = {each.name: each.type for each in msgspec.structs.fields(kind)}
    return fields | {name: each for name, (each, _) in shorthands(kind).items()}


def fitting(expected: Any) -> st.SearchStrategy[Any]:
    """Return values that a field of type *expected* may have, among them variables that fit."""
    match msgspec.inspect.type_info(expected):
        case msgspec.inspect.UnionType(types=types):
            (kept,) = [each for each in types if not isinstance(each, msgspec.inspect.NoneType)]
        case kept:
            pass
    found: st.SearchStrategy[Any]
    match kept:
        case msgspec.inspect.Metadata(type=inner):
            kept = inner
    match kept:
        case msgspec.inspect.BoolType():
            found = st.booleans() | st.sampled_from(["${T}", "${NONE:-false}"])
        case msgspec.inspect.IntType(ge=least, le=most):
            found = st.integers(least, most) | st.sampled_from(["${N}", "${NONE:-7}"])
        case msgspec.inspect.FloatType(le=most):
            found = st.floats(1e-9, most) | st.integers(1, int(most or 1)) | st.just("${N}")
        case msgspec.inspect.LiteralType(values=values):
            found = st.sampled_from(values) | st.just("${NONE:-" + str(values[0]) + "}")
        case msgspec.inspect.StrType():
            found = plain_text | st.sampled_from(["${N}", "a $ ${N}$${N}", "$$${N}"])
        case _:
            found = st.dictionaries(plain_text, open_values, max_size=2)
    return found


@st.composite
def sections(draw: st.DrawFn, kind: type[Section], **more: st.SearchStrategy[Any]) -> Any:
    """Draw a mapping for *kind*, half of them with something wrong in one place."""
    types = {name: each for name, each in types_of(kind).items() if name not in ("type", *more)}
    good = {name: fitting(each) for name, each in types.items()} | more
    names = draw(st.lists(st.sampled_from(sorted(good)), unique=True, max_size=8))
    for one, other in EXCLUSIVE.items():
        if one in names and other in names and draw(st.integers(0, 9)):
            names.remove(one)
    section = {name: draw(good[name]) for name in names}
    if draw(st.booleans()):
        section[draw(st.sampled_from([*sorted(good), "zzz", "a${"]))] = draw(wrong)
    return section


@st.composite
def catalogs(draw: st.DrawFn) -> Any:
    name = draw(st.sampled_from([*CATALOGS, "redis", "my.own", "${NONE:-redis}", "1x", "a b", ""]))
    if name in CATALOGS:
        section = draw(sections(CATALOGS[name]))
    else:
        section = draw(st.dictionaries(plain_text, open_values | wrong, max_size=3))
    form = draw(st.sampled_from([*["whole"] * 6, "short", "untyped", "odd"]))
    forms = {"whole": {**section, "type": name}, "short": name, "untyped": section}
    return forms.get(form, draw(wrong))


storages = sections(StorageSettings) | plain_text | st.none() | wrong


@st.composite
def documents(draw: st.DrawFn) -> Any:
    inner = draw(sections(Settings, catalog=catalogs(), storage=storages) | wrong)
    form = draw(st.sampled_from([*["settings", "ltm", "inner"] * 4, "both", "other", "none"]))
    wholes = {
        "settings": {"settings": {"ltm": inner, "llm": 1}, "agents": []},
        "ltm": {"ltm": inner, "settings": draw(st.sampled_from([None, {}, 1]))},
        "both": {"ltm": inner, "settings": {"ltm": inner}},
        "other": {"settings": {"lmt": inner}},
        "none": {"settings": draw(wrong)},
    }
    return wholes.get(form, inner)


def walk(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from walk(each)


@given(documents())
def test_the_schema_and_the_parser_accept_and_refuse_the_same(document: Any) -> None:
    for each in walk(document):
        # What a schema can't know: pool_min must not be above pool_max, and a variable that is one
        # of two formats must be the same as the other.
        if isinstance(each, dict):
            assume(each.get("pool_min") in (None, 0, 1))
            assume("payload_format" not in each or "${" not in str(each.get("storage")))
            assume("${" not in str(each.get("payload_format")))
    assert VALIDATOR.is_valid(document) == is_accepted(document)


SQLITE = {"type": "sqlite"}


@pytest.mark.parametrize(
    "inner",
    [
        {"zzz": 1},
        {"catalog": {**SQLITE, "pth": "x"}},
        {"catalog": {**SQLITE, "pool_size": 1}},
        {"catalog": {"type": "firestore", "schema": "x"}},
        {"storage": {"url": "x"}},
        {"lazy": "yes"},
        {"inline_threshold": "1024"},
        {"inline_threshold": 0.5},
        {"table": None},
        {"storage": 7},
        {"catalog": [SQLITE]},
        {"catalog": {"path": "x"}},
        {"catalog": {**SQLITE, "durability": "maybe"}},
        {"max_workers": 0},
        {"max_workers": 257},
        {"inline_threshold": -1},
        {"inline_threshold": 2**63},
        {"table": "x" * 201},
        {"catalog": {**SQLITE, "busy_timeout": 0}},
        {"catalog": {"type": "postgres", "port": 65536}},
        {"catalog": {"type": "postgresql", "host": "h", "connection_string": "c"}},
        {"catalog": {"type": "supabase", "pool_size": 1, "pool_max": 1}},
        {"storage": {"s3_region": "a", "options": {"client_kwargs": {"region_name": "a"}}}},
        {"storage": {"s3_region": "a", "options": {"client_kwargs": "b"}}},
        {"storage": {"s3_access_key_id": "a", "options": {"key": "a"}}},
        {"storage": {"format": "json"}, "payload_format": "duckdb"},
        {"storage": "${BUCKET"},
        {"catalog": {"type": "redis", "servers": ["${"]}},
    ],
)
def test_what_is_wrong_is_refused_by_both_wherever_the_document_starts(inner: Any) -> None:
    for document in (inner, {"ltm": inner}, {"settings": {"ltm": inner}}):
        assert not is_accepted(document)
        assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"settings": None},
        {"settings": {}, "agents": []},
        {"settings": {"ltm": None}},
        {"ltm": {"catalog": {}, "storage": {"options": None}}, "settings": 1},
        {"catalog": "postgresql", "storage": "${NONE:-./data/}"},
        {"catalog": "my.own"},
        {"catalog": "${NONE:-redis}"},
        {"catalog": {"type": "${NONE:-redis}", "servers": ["${N}"], "x": {"y": None}}},
        {"table": "${N:-" + "x" * 300 + "}"},
        {"lazy": "${T}", "max_workers": "${N}", "payload_format": "${NONE:-duckdb}"},
        {"storage": {"options": {"client_kwargs": None}, "s3_region": "eu"}},
        {"storage": {"format": "duckdb"}, "payload_format": "duckdb"},
    ],
)
def test_every_form_is_accepted_by_both(document: Any) -> None:
    assert is_accepted(document)
    VALIDATOR.validate(document)


@pytest.mark.parametrize(
    "document",
    [
        {"table": "${NONE}"},
        {"table": "${EMPTY}"},
        {"max_workers": "${NONE:-many}"},
        {"lazy": "${N}"},
        {"catalog": {"type": "${NONE:-sqlite}", "pth": "x"}},
        {"storage": {"format": "${T}"}},
        {"storage": {"format": "${NONE:-json}"}, "payload_format": "duckdb"},
        {"catalog": {"type": "postgres", "pool_min": 3, "pool_max": 2}},
        {"max_workers": 2.0},
        {"table": "a\0b"},
        {"table": "\ud800"},
        {"storage": {"timeout": float("nan")}},
        {"catalog": {"type": "redis", "deep": json.loads("[" * 40 + "]" * 40)}},
    ],
)
def test_what_only_the_parser_knows(document: Any) -> None:
    assert VALIDATOR.is_valid(document)
    assert not is_accepted(document)


names = st.sampled_from(
    sorted(
        {
            name
            for kind in (Settings, StorageSettings, *CATALOGS.values())
            for name in types_of(kind)
        }
    )
)
json_values = st.recursive(
    wrong | variables | st.floats() | st.text(max_size=5) | st.sampled_from(sorted(CATALOGS)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(
    json_values
    | documents()
    | st.builds(
        lambda kind, catalog, storage: {"catalog": {**catalog, "type": kind}, "storage": storage},
        st.sampled_from([*CATALOGS, "redis"]),
        st.dictionaries(names, variables | wrong, max_size=3),
        st.dictionaries(names, variables | wrong, max_size=3),
    )
)
def test_whatever_the_parser_accepts_is_valid(document: Any) -> None:
    if is_accepted(document):
        VALIDATOR.validate(document)
