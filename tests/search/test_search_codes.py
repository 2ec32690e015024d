"""Codes sort and compare as the values they stand for, and rows are what paths resolve to."""

from __future__ import annotations

import copy
import json
import sqlite3
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ltm.entry import MISSING
from ltm.errors import ValidationError
from ltm.search.codes import ELEMENT, encode_path, encode_value, index_rows, is_cut, resolve

finite = st.floats(allow_nan=False, allow_infinity=False)
near_zero = st.integers(-999, 999).map(lambda n: n / 100) | st.integers(-3, 3)
numbers = (
    near_zero
    | finite
    | st.integers()
    | st.integers(-4299, 4299).map(lambda e: 10**e if e > 0 else -(10**-e))
    | st.builds(
        lambda n, e, d: n * 10**e + d, st.integers(-9, 9), st.integers(0, 700), st.integers()
    )
)
characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
# Strings that part ways where long codes are cut.
border_strings = st.builds(
    lambda length, tail: "x" * length + tail,
    st.integers(504, 514),
    st.text(st.sampled_from("ax~é漢\uffff\U00010000\U0010fffd\U0010ffff"), max_size=6),
)
strings = st.text(characters) | border_strings
scalars = st.none() | st.booleans() | numbers | strings
keys = st.sampled_from(["a", "b", "a.b", "a.", "", ".", "b.a", "a.b.a"]) | st.text(
    characters, max_size=3
)
values = st.recursive(
    scalars | st.sampled_from([0, 1, 1.0, True, "1", None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
metadata = st.dictionaries(keys, values, max_size=5)


def decimal(number: float) -> Decimal:
    return Decimal(repr(number))


def plain(value: Any) -> Any:
    """A hashable stand-in that is equal exactly where the JSON values are."""
    if isinstance(value, bool) or value is None:
        return ("literal", str(value))
    if isinstance(value, int | float):
        return ("number", decimal(value))
    if isinstance(value, list):
        return ("array", tuple(map(plain, value)))
    if isinstance(value, dict):
        return ("object", frozenset((key, plain(item)) for key, item in value.items()))
    return ("string", value)


def order(first: Any, second: Any) -> int:
    return (first > second) - (first < second)


def code_order(first: Any, second: Any) -> int:
    return order(encode_value(first).encode(), encode_value(second).encode())


@given(numbers, numbers)
@example(1, 1.0)
@example(1, 1e0)
@example(-0.0, 0)
@example(2**53 + 1, 2.0**53)
@example(10**16, 1e16)
@example(10**23, 1e23)
@example(5e-324, 0)
@example(-5e-324, 0)
@example(2**80, float(2**80))
@example(-12, -1.25)
@example(-1.2, -1.25)
@example(10**4299, 10**4299 + 1)
@example(-(10**4299), -(10**4299) - 1)
def test_numbers_are_ordered_as_the_decimals_that_json_writes(first: float, second: float) -> None:
    if is_cut(encode_value(first)) and is_cut(encode_value(second)):
        assert (code_order(first, second) == 0) == (decimal(first) == decimal(second))
    else:
        assert code_order(first, second) == order(decimal(first), decimal(second))


@given(strings, strings)
@example("x" * 508 + "\U00010000", "x" * 508 + "\uffff")
@example("x" * 509 + "漢", "x" * 509 + "é")
@example("x" * 510 + "é", "x" * 510 + "~")
@example("x" * 511, "x" * 512)
def test_strings_are_ordered_by_code_point_if_one_of_them_is_uncut(first: str, second: str) -> None:
    if is_cut(encode_value(first)) and is_cut(encode_value(second)):
        assert (code_order(first, second) == 0) == (first == second)
    else:
        assert code_order(first, second) == order(first, second)


@given(values, values)
@example(True, 1)
@example(False, 0)
@example(None, "")
@example("1", 1)
@example([], {})
@example([1], 1)
@example([[1], 2], [1, [2]])
@example({"a": 1, "b": [1.0]}, {"b": [1], "a": 1.0})
@example({"a": {"b": 1}}, {"a": {}, "b": 1})
@example(["a", "b"], ["ab", ""])
@example(["a", "b"], ["a4b"])
@example({"a": "b"}, ["a", "b"])
def test_codes_are_equal_exactly_where_values_are(first: Any, second: Any) -> None:
    assert (encode_value(first) == encode_value(second)) == (plain(first) == plain(second))


@given(values)
def test_a_value_read_back_from_json_has_its_code(value: Any) -> None:
    assert encode_value(json.loads(json.dumps(value, sort_keys=True))) == encode_value(value)


@given(
    st.lists(st.sampled_from([None, False, True]) | numbers | strings | st.just([]) | st.just({}))
)
def test_types_are_kept_apart_by_the_first_character(items: list[Any]) -> None:
    tags = {type(item).__name__ + str(item is True): encode_value(item)[0] for item in items}
    numeric = {tags.pop(name) for name in ("intFalse", "floatFalse") if name in tags}
    assert len(numeric) <= 1
    assert len(set(tags.values()) | numeric) == len(tags) + len(numeric)
    assert all(tag < ELEMENT for tag in tags.values())


@given(st.text(characters, min_size=100).map(lambda text: text * 20))
def test_no_code_or_path_is_longer_than_an_index_takes(text: str) -> None:
    assert len(encode_value(text).encode()) <= 580
    assert len(encode_path(text).encode()) <= 324


@given(strings, strings)
@example("x" * 256, "x" * 257)
@example("x" * 300 + "a", "x" * 300 + "b")
def test_different_paths_stay_different(first: str, second: str) -> None:
    assert (encode_path(first) == encode_path(second)) == (first == second)


def test_a_short_path_stays_as_it_is() -> None:
    assert encode_path("user.id") == "user.id"
    assert encode_path("x" * 256) == "x" * 256


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"", (1,), {1}, object()])
def test_what_is_not_json_has_no_code(value: object) -> None:
    with pytest.raises(ValidationError, match="is not JSON"):
        encode_value([value])


def test_a_number_with_too_many_digits_to_be_json_has_no_code() -> None:
    with pytest.raises(ValidationError, match="too many digits"):
        encode_value(10**5000)


@given(st.lists(scalars, max_size=30))
def test_sqlite_sorts_codes_as_python_does(items: list[Any]) -> None:
    codes = sorted({encode_value(item) for item in items})
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE codes (value TEXT)")
    database.executemany("INSERT INTO codes VALUES (?)", [(code,) for code in reversed(codes)])
    found = [code for (code,) in database.execute("SELECT value FROM codes ORDER BY value")]
    database.close()
    assert found == codes


def find(node: dict[str, Any], path: str) -> Any:
    """The rule of resolution, word by word."""
    if path in node:
        return node[path]
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        head, rest = ".".join(parts[:count]), ".".join(parts[count:])
        if isinstance(node.get(head), dict):
            found = find(node[head], rest)
            if found is not MISSING:
                return found
    return MISSING


def all_paths(node: dict[str, Any], prefix: str = "") -> set[str]:
    paths = {prefix + key for key in node}
    for key, child in node.items():
        if isinstance(child, dict):
            paths |= all_paths(child, f"{prefix}{key}.")
    return paths


@given(metadata, keys)
@example({"a": {"b": 1}, "a.b": 2}, "a.b")
@example({"a": {"b.c": 1}, "a.b": {"c": 2}}, "a.b.c")
@example({"a": {"b.c": 1}, "a.b": {"d": 2}}, "a.b.c")
@example({"": {"": 1}, ".": 2}, ".")
def test_a_path_resolves_to_its_longest_keys(entry: dict[str, Any], path: str) -> None:
    for candidate in all_paths(entry) | {path}:
        assert resolve(entry, candidate) is find(entry, candidate)


@given(metadata)
@example({"a": {"b.c": 1}, "a.b": {"c": 2}})
@example({"a": {"b": {"c": 1}}, "a.b": {"d": [2]}})
@example({"a": [1, 1.0, [2], {"b": 3}]})
def test_rows_are_what_paths_resolve_to(entry: dict[str, Any]) -> None:
    expected = set()
    for path in all_paths(entry):
        node = find(entry, path)
        expected.add((encode_path(path), encode_value(node)))
        if isinstance(node, list):
            expected |= {(encode_path(path), ELEMENT + encode_value(item)) for item in node}
    rows = index_rows(entry)
    assert set(rows) == expected
    assert len(rows) == len(expected)


def test_no_metadata_has_no_rows() -> None:
    assert index_rows({}) == []


def test_metadata_of_any_depth_is_indexed() -> None:
    deep: dict[str, Any] = {"a": 1}
    for _ in range(500):
        deep = {"a": deep}
    lists: list[Any] = []
    for _ in range(20_000):
        lists = [lists]
    assert len(index_rows(deep)) == 501
    assert len(index_rows({"a": lists})) == 2
    assert resolve(deep, ".".join("a" * 501)) == 1


def test_indexing_leaves_metadata_alone() -> None:
    entry = {"b": [1, {"x": 1}], "a": {"c": 1}}
    before = copy.deepcopy(entry)
    index_rows(entry)
    assert entry == before
