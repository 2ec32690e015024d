"""Filters: what is accepted, what it means, and that index rows alone can answer it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ltm.entry import MISSING
from ltm.errors import ValidationError
from ltm.search.filters import (
    And,
    ContainsElement,
    ContainsText,
    Equals,
    Exists,
    Filter,
    In,
    Not,
    Or,
    Range,
    encode_path,
    encode_value,
    index_rows,
    leading_equality,
    matches,
    parse_filter,
    resolve,
)

# A second reading of the semantics, straight from what the caller writes, with no codes in it.


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(first: Any, second: Any) -> bool:
    if is_number(first) and is_number(second):
        return Decimal(repr(first)) == Decimal(repr(second))
    if type(first) is not type(second):
        return False
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    return bool(first == second)


def compare(operator: str, found: Any, operand: Any) -> bool:
    if is_number(found) and is_number(operand):
        found, operand = Decimal(repr(found)), Decimal(repr(operand))
    elif not (isinstance(found, str) and isinstance(operand, str)):
        return False
    return {
        "$gt": found > operand,
        "$gte": found >= operand,
        "$lt": found < operand,
        "$lte": found <= operand,
    }[operator]


def has(found: Any, operand: Any) -> bool:
    if isinstance(found, list):
        return any(equal(item, operand) for item in found)
    return isinstance(found, str) and isinstance(operand, str) and operand in found


def operator_holds(operator: str, operand: Any, found: Any) -> bool:
    match operator:
        case "$eq":
            return equal(found, operand)
        case "$ne":
            return not equal(found, operand)
        case "$in":
            return any(equal(found, item) for item in operand)
        case "$nin":
            return not any(equal(found, item) for item in operand)
        case "$exists":
            return (found is not MISSING) == operand
        case "$contains":
            return has(found, operand)
        case "$not":
            return not all(operator_holds(*pair, found) for pair in operand.items())
    return compare(operator, found, operand)


def reads_as(metadata_filter: Mapping[str, Any], entry: dict[str, Any]) -> bool:
    for key, operand in metadata_filter.items():
        if key == "$not":
            holds = not reads_as(operand, entry)
        elif key == "$and":
            holds = all(reads_as(item, entry) for item in operand)
        elif key == "$or":
            holds = any(reads_as(item, entry) for item in operand)
        elif isinstance(operand, dict) and any(name.startswith("$") for name in operand):
            found = resolve(entry, key)
            holds = all(operator_holds(*pair, found) for pair in operand.items())
        else:
            holds = equal(resolve(entry, key), operand)
        if not holds:
            return False
    return True


# What a catalog does: compile every node to SQL over the side table.


def compile_to_sql(node: Filter, parameters: list[str]) -> str:
    match node:
        case And(children):
            return "(1 " + "".join(f"AND {compile_to_sql(c, parameters)} " for c in children) + ")"
        case Or(children):
            return "(0 " + "".join(f"OR {compile_to_sql(c, parameters)} " for c in children) + ")"
        case Not(child):
            return f"NOT {compile_to_sql(child, parameters)}"
        case Exists(path):
            condition, values = "1", []
        case Equals(path, code) | ContainsElement(path, code):
            condition, values = "value = ?", [code]
        case In(path, codes):
            condition, values = f"value IN ({', '.join('?' * len(codes))})", list(codes)
        case Range(path, low, low_inclusive, high, high_inclusive):
            above, below = ">=" if low_inclusive else ">", "<=" if high_inclusive else "<"
            condition, values = f"value {above} ? AND value {below} ?", [low, high]
        case ContainsText():
            return compile_to_sql(node.candidates, parameters)
    parameters += [path, *values]
    return f"EXISTS (SELECT 1 FROM rows WHERE path = ? AND {condition})"


def answer_from_rows(node: Filter, entry: dict[str, Any]) -> bool:
    parameters: list[str] = []
    statement = f"SELECT {compile_to_sql(node, parameters)}"
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE rows (path TEXT, value TEXT)")
    database.executemany("INSERT INTO rows VALUES (?, ?)", index_rows(entry))
    (answer,) = database.execute(statement, parameters).fetchone()
    database.close()
    return bool(answer)


paths = st.sampled_from(["a", "b", "a.b", "a.b.c", "c", "", "x" * 300])
bounds = st.sampled_from([0, 1, 1.0, -1, 2.5, 10**30, -(10**30), 1e16, "", "a", "ab", "b", "é"])
scalars = bounds | st.none() | st.booleans() | st.sampled_from([2**53 + 1, 2.0**53, "a" * 600])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(paths, inner, max_size=3),
    max_leaves=6,
)
entries = st.dictionaries(paths, values, max_size=4)
operators = st.recursive(
    st.dictionaries(st.sampled_from(["$eq", "$ne", "$contains"]), values, min_size=1, max_size=2)
    | st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), bounds, min_size=1)
    | st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(values, max_size=3), min_size=1)
    | st.fixed_dictionaries({"$exists": st.booleans()}),
    lambda inner: st.fixed_dictionaries({"$not": inner}),
    max_leaves=3,
)
filters = st.recursive(
    st.dictionaries(paths, values | operators, max_size=3),
    lambda inner: (
        st.fixed_dictionaries({"$not": inner})
        | st.dictionaries(st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=4,
)


@given(filters, entries)
@example({"a": {"$gt": 0, "$lt": "b"}}, {"a": 1})
@example({"a": {"$gt": 1, "$gte": 1}}, {"a": 1})
@example({"a": {"$lt": 1, "$lte": 1}}, {"a": 1})
@example({"a": {"$gte": ""}}, {"a": ""})
@example({"a": {"$gt": 0}}, {"a": ""})
@example({"a": {"$lt": 1}}, {"a": False})
@example({"a": {"$lt": "a"}}, {"a": 5})
@example({"a": {"$lte": 1}}, {"a": [1]})
@example({"a": {"$contains": "a"}}, {"a": "bab"})
@example({"a": {"$contains": "a"}}, {"a": {"a": "a"}})
@example({"a": {"$not": {"$contains": "a"}}}, {"a": "b"})
@example({"a": {"$nin": []}}, {})
@example({"$or": [{}, {"a": 1}]}, {})
@example({"$not": {}}, {"a": 1})
@example({"a.b": {"$exists": True}}, {"a": {"b": None}})
@example({"a": {"$ne": 1}}, {})
def test_a_filter_matches_what_it_reads_as(
    metadata_filter: dict[str, Any], entry: dict[str, Any]
) -> None:
    parsed = parse_filter(metadata_filter)
    expected = reads_as(metadata_filter, entry)
    assert matches(parsed, entry) == expected
    if parsed is None:
        assert expected
    elif parsed.is_exact:
        assert answer_from_rows(parsed, entry) == expected


@given(paths, st.sampled_from(["", "a", "ab", "é"]), entries)
@example("a", "", {"a": ""})
def test_rows_give_a_superset_of_the_strings_that_contain_a_text(
    path: str, text: str, entry: dict[str, Any]
) -> None:
    leaf = ContainsText(encode_path(path), text, path)
    assert not leaf.is_exact
    assert answer_from_rows(leaf, entry) or not matches(leaf, entry)


@given(filters, entries)
def test_the_leading_equality_holds_wherever_the_filter_does(
    metadata_filter: dict[str, Any], entry: dict[str, Any]
) -> None:
    parsed = parse_filter(metadata_filter)
    leading = leading_equality(parsed)
    if leading is not None and matches(parsed, entry):
        assert matches(leading, entry)


@pytest.mark.parametrize(
    ("metadata_filter", "expected"),
    [
        (None, None),
        ({}, None),
        ({"$and": [{}, {}]}, None),
        ({"a": {"$nin": []}}, None),
        ({"$or": [{}, {"a": 1}]}, None),
        ({"a": {"$in": []}}, Or(())),
        ({"a": 1}, Equals("a", encode_value(1.0))),
        ({"a": {}}, Equals("a", encode_value({}))),
        ({"a": {"b": 1}}, Equals("a", encode_value({"b": 1}))),
        ({"a": {"b": {"$gt": 1}}}, Equals("a", encode_value({"b": {"$gt": 1}}))),
        ({"a": [1]}, Equals("a", encode_value([1]))),
        ({"a": {"$in": [1]}}, Equals("a", encode_value(1))),
        ({"a": {"$in": [1, 1.0]}}, Equals("a", encode_value(1))),
        ({"a": {"$in": [1, 2]}}, In("a", (encode_value(1), encode_value(2)))),
        ({"a": {"$ne": 1}}, Not(Equals("a", encode_value(1)))),
        ({"a": {"$not": {"$ne": 1}}}, Equals("a", encode_value(1))),
        ({"a": {"$exists": False}}, Not(Exists("a"))),
        ({"$and": [{"$and": [{"a": None}]}]}, Equals("a", encode_value(None))),
        (
            {"a": True, "$and": [{"b": 1}, {"c": 1}]},
            And(
                (
                    Equals("a", encode_value(True)),
                    Equals("b", encode_value(1)),
                    Equals("c", encode_value(1)),
                )
            ),
        ),
        (
            {"a": {"$gt": 1, "$lte": 2}},
            Range("a", encode_value(1), False, encode_value(2), True),
        ),
        (
            {"a": {"$contains": "x"}},
            Or((ContainsElement("a", "e" + encode_value("x")), ContainsText("a", "x", "a"))),
        ),
        ({"a": {"$contains": 7}}, ContainsElement("a", "e" + encode_value(7))),
    ],
)
def test_a_filter_becomes_these_conditions(
    metadata_filter: dict[str, Any] | None, expected: Filter | None
) -> None:
    assert parse_filter(metadata_filter) == expected


def test_any_mapping_is_a_filter() -> None:
    proxy = MappingProxyType({"a": MappingProxyType({"$gt": 1})})
    assert parse_filter(proxy) == parse_filter({"a": {"$gt": 1}})


def test_conditions_carry_long_paths_as_rows_do() -> None:
    path = "x" * 300
    parsed = parse_filter({path: {"$contains": "text"}})
    assert matches(parsed, {path: "some text"})
    assert matches(parsed, {path: ["text"]})
    assert not matches(parsed, {path + "x": "some text"})


@pytest.mark.parametrize(
    ("metadata_filter", "expected"),
    [
        ({"a": 1}, Equals("a", encode_value(1))),
        ({"a": {"$gt": 1}, "b": 2, "c": 3}, Equals("b", encode_value(2))),
        ({"$and": [{"$or": [{"a": 1}, {"b": 2}]}, {"c": 3}]}, Equals("c", encode_value(3))),
        ({"$or": [{"a": 1}, {"b": 2}]}, None),
        ({"$not": {"a": 1}}, None),
        (None, None),
    ],
)
def test_the_leading_equality_is_the_first_that_must_hold(
    metadata_filter: dict[str, Any] | None, expected: Equals | None
) -> None:
    assert leading_equality(parse_filter(metadata_filter)) == expected


def nested(depth: int, innermost: Any = 1) -> Any:
    for _ in range(depth):
        innermost = [innermost]
    return innermost


def negated(depth: int) -> dict[str, Any]:
    innermost: dict[str, Any] = {"a": 1}
    for _ in range(depth):
        innermost = {"$not": innermost}
    return innermost


@pytest.mark.parametrize(
    ("metadata_filter", "message"),
    [
        ({"score": {"$foo": 1}}, r"metadata_filter.score: unknown operator '$foo'"),
        ({"$gt": 1}, r"metadata_filter: unknown operator '$gt'"),
        ({"$or": [{"a": 1}, {"$x": 1}]}, r"metadata_filter.$or[1]: unknown operator '$x'"),
        ({"a": {"$and": [{"b": 1}]}}, r"metadata_filter.a: unknown operator '$and'"),
        ({"a": {"$not": {"$x": 1}}}, r"metadata_filter.a.$not: unknown operator '$x'"),
        ({"a": {"$gt": 1, "b": 2}}, r"metadata_filter.a: mixes operators and keys"),
        ({"a": {"$gt": True}}, r"metadata_filter.a: $gt: expected a number or a string, got bool"),
        ({"a": {"$lt": None}}, r"metadata_filter.a: $lt: expected a number or a string, got Non"),
        ({"a": {"$gte": [1]}}, r"metadata_filter.a: $gte: expected a number or a string, got lis"),
        ({"a": {"$gt": "x" * 512}}, r"metadata_filter.a: $gt: operand is over 512 bytes"),
        ({"a": {"$lte": 10**600 + 1}}, r"metadata_filter.a: $lte: operand is over 512 bytes"),
        ({"a": {"$in": 1}}, r"metadata_filter.a: $in: expected a list, got int"),
        ({"a": {"$nin": (1,)}}, r"metadata_filter.a: $nin: expected a list, got tuple"),
        ({"a": {"$exists": 1}}, r"metadata_filter.a: $exists: expected true or false, got int"),
        ({"a": {"$not": {}}}, r"metadata_filter.a: $not: expected operators, got dict"),
        ({"a": {"$not": {"b": 1}}}, r"metadata_filter.a.$not: unknown operator 'b'"),
        ({"a": {"$not": 1}}, r"metadata_filter.a: $not: expected operators, got int"),
        ({"$and": []}, r"metadata_filter: $and: expected a non-empty list of filters"),
        ({"$or": {"a": 1}}, r"metadata_filter: $or: expected a non-empty list of filters, got di"),
        ({"$and": [1]}, r"metadata_filter.$and[0]: expected an object, got int"),
        ({"$not": [1]}, r"metadata_filter.$not: expected an object, got list"),
        ([("a", 1)], r"metadata_filter: expected an object, got list"),
        ({1: 2}, r"metadata_filter: key 1 is int, not a string"),
        ({"a": {1: 2}}, r"metadata_filter.a: key 1 is int, not a string"),
        ({"a": {"$eq": {"b": {None: 2}}}}, r"metadata_filter.a: $eq.b: key None is NoneType"),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, r"metadata_filter.a: datetime is not JSON"),
        ({"a": {"$eq": float("nan")}}, r"metadata_filter.a: $eq: nan is not JSON"),
        ({"a": {"$gt": float("inf")}}, r"metadata_filter.a: $gt: inf is not JSON"),
        ({"a": {"$in": [1, {2}]}}, r"metadata_filter.a: $in[1]: set is not JSON"),
        ({"a": 10**5000}, r"metadata_filter.a: integer has too many digits"),
        ({"a": "\0"}, r"metadata_filter.a: holds NUL"),
        ({"a": {"$contains": "\ud800"}}, r"metadata_filter.a: $contains: holds a lone surrogate"),
        ({"a": {"b\0": 1}}, r"metadata_filter.a: key 'b\x00': holds NUL"),
        ({"a\0": 1}, r"metadata_filter: key 'a\x00': holds NUL"),
        ({"\udfff": {"$exists": True}}, r"metadata_filter: key '\udfff': holds a lone surrogate"),
        (negated(50), r"nested over 50 deep"),
        ({"a": nested(50)}, r"nested over 50 deep"),
        ({"a": {"$in": [nested(10_000)]}}, r"nested over 50 deep"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(metadata_filter: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_filter(metadata_filter)
    assert message in str(caught.value)


def test_nesting_up_to_50_is_a_filter() -> None:
    assert parse_filter(negated(49)) == Not(Equals("a", encode_value(1)))
    assert matches(parse_filter({"a": nested(49)}), {"a": nested(49)})
