"""Codecs give back the text that they were given."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ltm.errors import IntegrityError, ValidationError
from ltm.hashing import canonical_json, compute_content_hash, parse_verified, write_json
from ltm.locations import locate
from ltm.payload.codecs import Codec, Encoded, Record
from ltm.payload.formats import codec_for_path, get_codec

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children) | st.dictionaries(st.text("aé\n"), children),
    max_leaves=8,
)


ALL = ["json", "parquet", "duckdb"]


def record(value: object, key: str = "k", **metadata: object) -> Record:
    return Record(key, canonical_json(value), metadata, compute_content_hash(value))


def read(encoded: Encoded, part: str, codec: Codec) -> str:
    """Read a value as its location says: a range of the bytes, a row, or all."""
    location = locate(f"object{part}")
    content, row = encoded.content, location.start
    if location.length is not None and location.start is not None:
        content, row = content[location.start : location.start + location.length], None
    (text,) = codec.decode(content, [row], where="here")
    return text


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25, deadline=None)
@given(value=values)
def test_a_value_comes_back_with_its_hash(name: str, value: object) -> None:
    codec = get_codec(name)
    encoded = codec.encode([record(value)])
    text = read(encoded, encoded.parts[0], codec)
    assert parse_verified(text, compute_content_hash(value), where="here") == value


@pytest.mark.parametrize("name", ["parquet", "duckdb"])
def test_many_values_share_an_object(name: str) -> None:
    codec = get_codec(name)
    records = [
        record("x" * size, f"k{size}", n=size) for size in (0, 1, 127, 128, 70_000, 2_000_000)
    ]
    records += [record({"same": 1}, "a", t="é"), record("\ud800\0", "b \U0001f600")]
    encoded = codec.encode(records)
    assert len(set(encoded.parts)) == len(records)
    for each, part in zip(records, encoded.parts, strict=True):
        assert read(encoded, part, codec) == each.text


@pytest.mark.parametrize("name", ALL)
def test_no_object_is_larger_than_is_said(name: str) -> None:
    codec = get_codec(name)
    count = codec.max_records
    records = [record([n, "é" * 40], "k" * 40 + str(n), note="n" * n) for n in range(count)]
    said = codec.object_overhead + sum(
        codec.record_overhead + len(each.key) + len(each.text) + len(write_json(each.metadata))
        for each in records
    )
    assert len(codec.encode(records).content) <= said


def test_a_json_payload_is_the_canonical_text() -> None:
    assert get_codec("json").encode([record({"a": "é"})]) == (b'{"a": "\\u00e9"}', [""])


def test_parquet_is_read_by_others_as_it_is(tmp_path: Path) -> None:
    encoded = get_codec("parquet").encode([record({"n": n}, f"k{n}", t=n % 2) for n in range(3)])
    path = tmp_path / "x.parquet"
    path.write_bytes(encoded.content)
    table = parquet.read_table(path)
    assert table.schema.names == ["key", "value", "metadata", "content_hash"]
    assert all(field.type == "string" and not field.nullable for field in table.schema)
    assert parquet.ParquetFile(path).num_row_groups == 3
    with duckdb.connect(":memory:") as connection:
        rows = connection.execute(
            "SELECT key, (value::JSON->>'n')::INT, metadata, content_hash FROM read_parquet($1)"
            " ORDER BY key",
            [str(path)],
        ).fetchall()
    assert rows == [
        (f"k{n}", n, f'{{"t": {n % 2}}}', compute_content_hash({"n": n})) for n in range(3)
    ]


def test_a_database_file_is_attached_by_others_as_it_is(tmp_path: Path) -> None:
    encoded = get_codec("duckdb").encode([record({"n": n}, f"k{n}", t=n) for n in range(3)])
    path = tmp_path / "x.duckdb"
    path.write_bytes(encoded.content)
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH '{path}' AS base (READ_ONLY)")
        rows = connection.execute("SELECT row, key, value, metadata FROM base.entries").fetchall()
    assert rows == [(n, f"k{n}", f'{{"n": {n}}}', f'{{"t": {n}}}') for n in range(3)]


@pytest.mark.parametrize("name", ["json", "parquet"])
def test_bytes_that_are_not_the_format_fail_the_check(name: str) -> None:
    with pytest.raises(IntegrityError, match=r"^here: "):
        get_codec(name).decode(b"\xff\xfe", [None], where="here")


@pytest.mark.parametrize(
    "content", [b"", b"no database", b"x" * 70_000], ids=["empty", "short", "long"]
)
def test_what_is_no_database_fails_the_check(content: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"^here: "):
        get_codec("duckdb").decode(content, [0], where="here")


def test_a_row_that_is_not_there_fails_the_check() -> None:
    codec = get_codec("duckdb")
    content = codec.encode([record("x" * 5_000)]).content
    with pytest.raises(IntegrityError, match=r"^here: has no row 1$"):
        codec.decode(content, [0, 1], where="here")


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(ValidationError, match=r"'json'.*got 'yaml'"):
        get_codec("yaml")


def test_the_extension_of_an_object_tells_its_codec() -> None:
    assert codec_for_path("p/ab/abc.json") is get_codec("json")


@pytest.mark.parametrize("path", ["p/ab/abc.xml", "p/ab/json", "p/ab/abc.json.tmp", ""])
def test_an_object_of_no_known_format_fails_the_check(path: str) -> None:
    with pytest.raises(IntegrityError, match="no codec"):
        codec_for_path(path)
