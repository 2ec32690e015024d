"""What is wrong in a document is told by its path, and by nothing but ``ValidationError``."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.config import (
    PostgresSettings,
    Settings,
    SQLiteSettings,
    StorageSettings,
    SupabaseSettings,
    load_settings,
    parse_settings,
    parse_yaml,
)
from ltm.errors import MissingDependencyError, ValidationError


def error_of(text: str, **environ: str) -> str:
    with pytest.raises(ValidationError) as caught:
        parse_yaml(text, environ=environ)
    return str(caught.value)


SSLMODES = "'disable' or 'allow' or 'prefer' or 'require' or 'verify-ca' or 'verify-full'"


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ("catalog: {type: sqlite, pth: x}", "catalog.pth: unknown key, did you mean 'path'?"),
        (
            "catalog: {type: sqlite, zzz: x}",
            "catalog.zzz: unknown key, known are type, path, durability, busy_timeout",
        ),
        ("inline_treshold: 1", "inline_treshold: unknown key, did you mean 'inline_threshold'?"),
        ("payload_fmt: json", "payload_fmt: unknown key, did you mean 'payload_format'?"),
        ("storage: {url: s3://b}", "storage.url: unknown key, did you mean 'uri'?"),
        ("storage: {s3_regoin: x}", "storage.s3_regoin: unknown key, did you mean 's3_region'?"),
        ("catalog: {type: postgres, pool_sze: 1}", "catalog.pool_sze: unknown key, did you mean"),
        ("catalog: {type: sqlite, pool_size: 1}", "catalog.pool_size: unknown key, known are"),
        ("catalog: {type: postgres, pool_size: x}", "catalog.pool_size: expected int, got str"),
        ("catalog: {type: postgres, pool_size: '3'}", "catalog.pool_size: expected int, got str"),
        ("catalog: {type: postgres, pool_size: 1.0}", "catalog.pool_size: expected int, got float"),
        ("catalog: {type: postgres, pool_size: yes}", "catalog.pool_size: expected int, got bool"),
        ("catalog: {type: postgres, pool_size: 0}", "catalog.pool_size: expected int >= 1"),
        ("catalog: {type: postgres, pool_min: -1}", "catalog.pool_min: expected int >= 0"),
        ("catalog: {type: postgres, port: 65536}", "catalog.port: expected int <= 65535"),
        ("catalog: {type: postgres, password: 0123}", "catalog.password: expected str, got int"),
        ("catalog: {type: postgres, host: ''}", "catalog.host: expected str of length >= 1"),
        ("catalog: {type: postgres, host:}", "catalog.host: expected str, got null"),
        ("catalog: {type: postgres, auto_migrate: 1}", "catalog.auto_migrate: expected bool, got"),
        ("catalog: {type: postgres, sslmode: x}", f"catalog.sslmode: expected {SSLMODES}"),
        ("catalog: {type: postgres, sslmode: off}", f"catalog.sslmode: expected {SSLMODES}"),
        (
            "catalog: {type: postgres, pool_size: 1, pool_max: 1}",
            "catalog.pool_size: pool_max is given too",
        ),
        (
            "catalog: {type: postgres, pool_min: 3, pool_max: 2}",
            "catalog.pool_min: is above pool_max",
        ),
        (
            "catalog: {type: postgres, connection_string: c, password: p}",
            "catalog.password: connection_string is given too",
        ),
        (
            "catalog: {type: supabase, access_token: ''}",
            "catalog.access_token: expected str of length >= 1",
        ),
        (
            "catalog: {type: supabase, access_token: }",
            "catalog.access_token: expected str, got null",
        ),
        ("catalog: {type: supabase, tenant: 2024-01-02}", "catalog.tenant: expected str, got date"),
        ("catalog: {type: firestore, credentials: {a: b}}", "catalog.credentials: expected str"),
        ("catalog: {type: firestore, timeout: fast}", "catalog.timeout: expected float"),
        ("catalog: {type: firestore, timeout: 0}", "catalog.timeout: expected float > 0"),
        ("catalog: {type: firestore, index_directory: 1}", "catalog.index_directory: expected str"),
        (
            "catalog: {type: firestore, index_directory: ''}",
            "catalog.index_directory: expected str",
        ),
        ("catalog: {type: sqlite, path: [a]}", "catalog.path: expected str, got array"),
        ("catalog: {type: sqlite, busy_timeout: 0}", "catalog.busy_timeout: expected float > 0"),
        ("catalog: {type: sqlite, busy_timeout: .inf}", "catalog.busy_timeout: expected float <="),
        ("catalog: {type: sqlite, busy_timeout: .nan}", "catalog.busy_timeout: expected float"),
        ("catalog: {type: sqlite, durability: on}", "catalog.durability: expected 'normal' or 'f"),
        ("catalog: {path: x}", "catalog.type: expected str, got null"),
        ("catalog: {type: [a]}", "catalog.type: expected str, got array"),
        ("catalog: ''", "catalog.type: expected str of length >= 1"),
        ("catalog: [sqlite]", "catalog: expected mapping with str keys, got list"),
        ("catalog: {type: x, 1: 2}", "catalog: expected mapping with str keys, got dict"),
        ("storage: 7", "storage: expected mapping with str keys, got int"),
        ("storage: ''", "storage.uri: expected str of length >= 1"),
        ("storage: {format: xml}", "storage.format: expected 'json' or 'parquet' or 'duckdb'"),
        ("storage: {options: [a]}", "storage.options: expected mapping with str keys, got list"),
        (
            "storage: {s3_region: a, options: {client_kwargs: {region_name: a}}}",
            "storage.s3_region: the options give 'region_name' too",
        ),
        (
            "storage: {s3_region: a, options: {client_kwargs: b}}",
            "storage.options.client_kwargs: expected mapping with str keys, got str",
        ),
        (
            "storage: {s3_secret_access_key: a, options: {secret: a}}",
            "storage.s3_secret_access_key: the options give 'secret' too",
        ),
        ("{payload_format: json, storage: {format: duckdb}}", "payload_format: storage.format dif"),
        ("payload_format: xml", "payload_format: expected 'json' or 'parquet' or 'duckdb'"),
        ("backend: 1", "backend: expected str, got int"),
        ("inline_threshold: -1", "inline_threshold: expected int >= 0"),
        ("inline_threshold: 99999999999999999999", "inline_threshold: expected int <= "),
        ("inline_threshold: null", "inline_threshold: expected int, got null"),
        ("enable_fts: 'yes'", "enable_fts: expected bool, got str"),
        ("max_workers: 0", "max_workers: expected int >= 1"),
        ("max_workers: 257", "max_workers: expected int <= 256"),
        ("table: ''", "table: expected "),
        (f"table: {'x' * 201}", "table: expected "),
        ('table: "a\\0b"', "table: 'a\\x00b' holds NUL"),
        ("language: [en]", "language: expected str, got array"),
    ],
)
def test_a_problem_is_named_by_its_path_wherever_the_document_starts(inner, message):
    assert error_of(f"{{settings: {{ltm: {as_flow(inner)}}}}}").startswith(
        f"settings.ltm.{message}"
    )
    assert error_of(f"ltm: {as_flow(inner)}").startswith(f"ltm.{message}")
    assert error_of(inner).startswith(message)


def as_flow(inner: str) -> str:
    return inner if inner.startswith("{") else f"{{{inner}}}"


def test_the_first_of_several_problems_is_told():
    assert error_of("{lazy: 1, table: 2, zzz: 3}").startswith("lazy: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]", "document: expected mapping with str keys, got list"),
        ("text", "document: expected mapping with str keys, got str"),
        ("ltm: [a]", "ltm: expected mapping with str keys, got list"),
        ("settings: {ltm: x}", "settings.ltm: expected mapping with str keys, got str"),
        ("settings: [a]", "settings: expected mapping with str keys, got list"),
        ("settings: {lmt: {}}", "settings: no key 'ltm'"),
        ("{settings: {ltm: {}}, ltm: {}}", "ltm: settings.ltm is given too"),
        ("agents: {}", "agents: unknown key, known are backend"),
        ("{1: a}", "document: expected mapping with str keys, got dict"),
    ],
)
def test_a_document_of_another_shape_is_refused(text, message):
    assert error_of(text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ltm:\n  table: [a\n", "line 3, column 1: expected ',' or ']', but got '<stream end>'"),
        ("ltm:\n\ttable: a\n", "line 2, column 1: found character '\\t' that cannot start any t"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        ("ltm:\n  table: a\n  table: b\n", "line 3, column 3: key given twice"),
        ("ltm: {table: a, 'table': b}", "line 1, column 17: key given twice"),
        ("ltm:\n  table: *gone", "line 2, column 10: found undefined alias"),
        ("ltm:\n  table: !gone x", "line 2, column 10: could not determine a constructor for the"),
        ("ltm: {table: 2024-13-45}", "line 1, column 14: not a value of its type"),
        ("ltm: {lazy: !!bool maybe}", "line 1, column 13: not a value of its type"),
        ("ltm:\n  a: \x00", "line 2, column 6: a character that YAML does not allow"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: but found another document"),
        ("[" * 5000, "line 1, column 1: nested too deeply"),
        ("? {a: b}\n: c", "line 1, column 3: found unhashable key"),
    ],
)
def test_what_is_not_yaml_is_named_by_line_and_column(text, message):
    assert error_of(text).startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "ltm: &a {catalog: {type: x, o: *a}}",
        "ltm: {storage: {options: &a {b: [*a, *a]}}}",
        "ltm: {storage: {options: " + "{a: " * 40 + "1" + "}" * 42,
        "l0: &l0 [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"l{n + 1}: &l{n + 1} [{','.join([f'*l{n}'] * 10)}]\n" for n in range(8))
        + "ltm: {storage: {options: {o: *l8}}}",
    ],
)
def test_cycles_and_bombs_of_aliases_are_refused(text):
    assert error_of(text).endswith(": too deep or too large")


def test_an_error_in_a_file_names_the_file(tmp_path: Path):
    path = tmp_path / "agent.yaml"
    for text, message in [
        ("settings: {ltm: {catalog: {type: sqlite, pth: x}}}", "settings.ltm.catalog.pth: unknown"),
        ("a: [", "line 1, column 5: "),
        ("[]", "document: expected mapping"),
    ]:
        path.write_text(text)
        with pytest.raises(ValidationError) as caught:
            load_settings(path)
        assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path):
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"table: \xff\xfe")
    for path, reason in [
        (tmp_path / "missing.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (binary, "is not UTF-8"),
    ]:
        with pytest.raises(ValidationError) as caught:
            load_settings(path)
        assert str(caught.value) == f"{path}: {reason}"


def test_a_source_that_is_neither_path_nor_mapping_is_refused():
    with pytest.raises(ValidationError, match="document: expected mapping"):
        load_settings(7)  # type: ignore[arg-type]


def test_without_pyyaml_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r"ltm\[yaml\]"):
        parse_yaml("ltm: {}")
    assert parse_settings({"ltm": {}}) == Settings()


def test_a_number_too_long_to_print_is_an_error_like_any_other():
    for document in ({"inline_threshold": 10**5000}, {"catalog": {"type": 10**5000}}):
        with pytest.raises(ValidationError):
            parse_settings(document)
    assert repr(parse_settings({"storage": {"options": {"n": 10**5000}}}))


words = st.sampled_from(
    [
        *(
            "settings",
            "ltm",
            "payload_format",
            "pool_size",
            "s3_region",
            "client_kwargs",
            "default",
        ),
        *Settings.__struct_fields__,
        *StorageSettings.__struct_fields__,
        *SQLiteSettings.__struct_fields__,
        *PostgresSettings.__struct_fields__,
        *SupabaseSettings.__struct_fields__,
        *("sqlite", "postgres", "supabase", "firestore", "redis", "json", "full"),
        *("${A}", "${A:-1}", "$${A}", "${", "${N}", "${T}"),
    ]
)
texts = words | st.text(st.characters(codec=None), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(2**70)
    | st.floats()
    | texts
    | st.binary(max_size=4)
    | st.just(date(2020, 1, 1))
    | st.just(object())
)
keys = texts | st.integers() | st.none()
garbage = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(words, inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=12,
)
environment = {"A": "\ud800", "N": "7", "T": "true"}


@given(st.dictionaries(texts, garbage, max_size=5) | garbage)
def test_no_garbage_raises_anything_but_a_validation_error(document):
    with suppress(ValidationError):
        settings = parse_settings(document, environ=environment)
        assert repr(settings)
        assert isinstance(settings.catalog.options(), dict)


@given(
    st.sampled_from(["sqlite", "postgres", "supabase", "firestore", "redis"]),
    st.dictionaries(words, scalars, max_size=5),
    st.dictionaries(words, garbage, max_size=5),
)
def test_no_garbage_in_a_section_raises_anything_but_a_validation_error(kind, catalog, storage):
    document = {"catalog": {**catalog, "type": kind}, "storage": storage}
    with suppress(ValidationError):
        assert repr(parse_settings(document, environ=environment))


@given(st.text("ab12:{}[],&*!<>|'\"%@`#-?. \n\t~=", max_size=40) | st.text(max_size=30))
def test_no_text_raises_anything_but_a_validation_error(text):
    with suppress(ValidationError):
        assert parse_yaml(text, environ={}) is not None
