"""Metadata filters: from what a caller writes to conditions on index rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltm.errors import ValidationError
from ltm.search.codes import (
    ELEMENT,
    NUMBER,
    OBJECT,
    STRING,
    encode_path,
    encode_value,
    index_rows,
    is_cut,
    resolve,
)
from ltm.search.conditions import (
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
    leading_equality,
    matches,
)

# A catalog needs no other module than this.
__all__ = [
    "And",
    "ContainsElement",
    "ContainsText",
    "Equals",
    "Exists",
    "Filter",
    "In",
    "Not",
    "Or",
    "Range",
    "encode_path",
    "encode_value",
    "index_rows",
    "leading_equality",
    "matches",
    "parse_filter",
    "resolve",
]

MAX_NESTING = 50

_EVERYTHING = And(())
_NOTHING = Or(())


def parse_filter(metadata_filter: Mapping[str, Any] | None) -> Filter | None:
    """Return what *metadata_filter* asks for, or None where it asks for nothing.

    Raises:
        ValidationError: An unknown operator, an operand that its operator does not take, a key that
            is not a string, what is not JSON, or nesting over 50. The message says where.
    """
    if metadata_filter is None:
        return None
    parsed = _parse_filter(metadata_filter, "metadata_filter", 1)
    return None if parsed == _EVERYTHING else parsed


def _parse_filter(metadata_filter: object, where: str, depth: int) -> Filter:
    _require_depth(depth, where)
    if not isinstance(metadata_filter, Mapping):
        raise _expected("an object", metadata_filter, where)
    children = []
    for key, operand in metadata_filter.items():
        if not isinstance(key, str):
            raise ValidationError(f"{where}: key {key!r} is {type(key).__name__}, not a string")
        if key == "$not":
            children.append(_negate(_parse_filter(operand, f"{where}.$not", depth + 1)))
        elif key in {"$and", "$or"}:
            if not isinstance(operand, list) or not operand:
                raise _expected("a non-empty list of filters", operand, f"{where}: {key}")
            parsed = [
                _parse_filter(item, f"{where}.{key}[{index}]", depth + 1)
                for index, item in enumerate(operand)
            ]
            children.append(_all(parsed) if key == "$and" else _any(parsed))
        elif key.startswith("$"):
            raise ValidationError(f"{where}: unknown operator {key!r}")
        else:
            children.append(_parse_condition(key, operand, where, depth))
    return _all(children)


def _parse_condition(path: str, operand: object, where: str, depth: int) -> Filter:
    _require_storable(path, f"{where}: key {path!r}")
    where = f"{where}.{path}"
    if isinstance(operand, Mapping):
        operators = sum(isinstance(key, str) and key.startswith("$") for key in operand)
        if operators:
            if operators < len(operand):
                raise ValidationError(f"{where}: mixes operators and keys")
            return _parse_operators(path, operand, where, depth + 1)
    return Equals(encode_path(path), _encode(operand, where, depth))


def _parse_operators(path: str, operators: Mapping[str, object], where: str, depth: int) -> Filter:
    _require_depth(depth, where)
    encoded = encode_path(path)
    children: list[Filter] = []
    bounds: list[tuple[str, str]] = []
    for operator, operand in operators.items():
        at = f"{where}: {operator}"
        match operator:
            case "$eq":
                children.append(Equals(encoded, _encode(operand, at, depth)))
            case "$ne":
                children.append(Not(Equals(encoded, _encode(operand, at, depth))))
            case "$in":
                children.append(_parse_in(encoded, operand, at, depth))
            case "$nin":
                children.append(_negate(_parse_in(encoded, operand, at, depth)))
            case "$gt" | "$gte" | "$lt" | "$lte":
                bounds.append((operator, _encode_bound(operand, at, depth)))
            case "$exists":
                if not isinstance(operand, bool):
                    raise _expected("true or false", operand, at)
                children.append(Exists(encoded) if operand else Not(Exists(encoded)))
            case "$contains":
                element = ContainsElement(encoded, ELEMENT + _encode(operand, at, depth))
                if isinstance(operand, str):
                    children.append(Or((element, ContainsText(encoded, operand, path))))
                else:
                    children.append(element)
            case "$not":
                if not isinstance(operand, Mapping) or not operand:
                    raise _expected("operators", operand, at)
                children.append(
                    _negate(_parse_operators(path, operand, f"{where}.$not", depth + 1))
                )
            case _:
                raise ValidationError(f"{where}: unknown operator {operator!r}")
    return _all(children + _ranges(encoded, bounds))


def _parse_in(path: str, operand: object, where: str, depth: int) -> Filter:
    if not isinstance(operand, list):
        raise _expected("a list", operand, where)
    # A dict, because an equal code twice is one code.
    codes = tuple(
        dict.fromkeys(
            _encode(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(operand)
        )
    )
    if not codes:
        return _NOTHING
    return Equals(path, codes[0]) if len(codes) == 1 else In(path, codes)


def _ranges(path: str, bounds: list[tuple[str, str]]) -> list[Filter]:
    """Return one range for the bounds of each type: a path has one value, which has one type."""
    ranges: list[Filter] = []
    for tag, next_tag in ((NUMBER, STRING), (STRING, OBJECT)):
        typed = [(operator, code) for operator, code in bounds if code[0] == tag]
        if typed:
            # Of two bounds with one code, the exclusive one is the narrower.
            low, low_exclusive = max(
                [(tag, False)]
                + [(code, operator == "$gt") for operator, code in typed if operator[1] == "g"]
            )
            high, high_inclusive = min(
                [(next_tag, False)]
                + [(code, operator == "$lte") for operator, code in typed if operator[1] == "l"]
            )
            ranges.append(Range(path, low, not low_exclusive, high, high_inclusive))
    return ranges


def _encode_bound(operand: object, where: str, depth: int) -> str:
    if isinstance(operand, bool) or not isinstance(operand, int | float | str):
        raise _expected("a number or a string", operand, where)
    code = _encode(operand, where, depth)
    # With uncut bounds every comparison is exact, for a cut code lies on the same side of an uncut
    # one as the whole code does; of two cut ones, only equality is known.
    if is_cut(code):
        raise ValidationError(f"{where}: operand is over 512 bytes")
    return code


def _encode(operand: object, where: str, depth: int) -> str:
    _require_json(operand, where, depth)
    try:
        return encode_value(operand)
    except ValidationError as error:
        raise ValidationError(f"{where}: {error}") from error


def _require_json(operand: object, where: str, depth: int) -> None:
    """Check what ``encode_value`` takes on trust: nesting, keys and characters."""
    _require_depth(depth, where)
    if isinstance(operand, str):
        _require_storable(operand, where)
    elif isinstance(operand, list):
        for index, item in enumerate(operand):
            _require_json(item, f"{where}[{index}]", depth + 1)
    elif isinstance(operand, dict):
        for key, item in operand.items():
            if not isinstance(key, str):
                raise ValidationError(f"{where}: key {key!r} is {type(key).__name__}, not a string")
            _require_storable(key, f"{where}: key {key!r}")
            _require_json(item, f"{where}.{key}", depth + 1)


def _require_depth(depth: int, where: str) -> None:
    if depth > MAX_NESTING:
        place = where if len(where) <= 80 else f"{where[:80]}..."
        raise ValidationError(f"{place}: nested over {MAX_NESTING} deep")


def _require_storable(text: str, where: str) -> None:
    if "\0" in text:
        raise ValidationError(f"{where}: holds NUL")
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        raise ValidationError(f"{where}: holds a lone surrogate")


def _expected(wanted: str, found: object, where: str) -> ValidationError:
    return ValidationError(f"{where}: expected {wanted}, got {type(found).__name__}")


def _all(children: list[Filter]) -> Filter:
    flat = [part for child in children for part in _parts(child, And)]
    if _NOTHING in flat:
        return _NOTHING
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def _any(children: list[Filter]) -> Filter:
    flat = [part for child in children for part in _parts(child, Or)]
    if _EVERYTHING in flat:
        return _EVERYTHING
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def _parts(node: Filter, kind: type[And] | type[Or]) -> tuple[Filter, ...]:
    return node.children if isinstance(node, kind) else (node,)


def _negate(node: Filter) -> Filter:
    if isinstance(node, Not):
        return node.child
    if node == _EVERYTHING:
        return _NOTHING
    return _EVERYTHING if node == _NOTHING else Not(node)
