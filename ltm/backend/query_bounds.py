"""What the WHERE of a statement says plainly of keys and metadata.

Read from DuckDB's syntax tree, where a node has a ``class`` and a ``type``. What isn't understood
bounds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import takewhile
from typing import Any

from ltm.errors import ValidationError
from ltm.keys import MAX_KEY_BYTES, require_storable, validate_key
from ltm.search.filters import And, Filter, Or, parse_filter

MAX_KEYS = 10_000
"""More keys than this are not looked up one by one."""

MAX_CHOICES = 100
"""Of so many values at most one can be asked for by the index of metadata."""

MAX_DIGITS = 300

_Node = Mapping[str, Any]

_FLIPPED = {
    "COMPARE_EQUAL": "COMPARE_EQUAL",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
}
_COLUMNS = {"key", "value", "metadata"}
_BEGINS = {"starts_with", "prefix", "^@"}
_EXTRACTS = {"->>", "json_extract_string"}

_MEMBERS = re.compile(r"\$((?:\.\w+)+)", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)


class Operands:
    """The parameters of a statement, by which operands in it are known."""

    def __init__(self, parameters: Sequence[Any] | Mapping[str, Any] | None) -> None:
        if isinstance(parameters, Mapping):
            self._values = {str(name): value for name, value in parameters.items()}
        else:
            # DuckDB counts from one.
            self._values = {str(n): value for n, value in enumerate(parameters or (), 1)}

    def text(self, node: _Node | None) -> str | None:
        """Return the text that *node* stands for, if it is text that a catalog can be asked for."""
        value = self._value(node)
        try:
            return require_storable(value, "operand")
        except ValidationError:
            return None

    def integer(self, node: _Node | None) -> int | None:
        """Return the whole number that *node* stands for, if it is one of 0 or more."""
        value = self._value(node)
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        return value if is_integer and value >= 0 else None

    def _value(self, node: _Node | None) -> Any:
        if node is None:
            return None
        if node.get("class") == "CONSTANT":
            constant = node["value"]
            # Of other types the value is written in other ways.
            is_plain = constant["type"]["id"] in {"VARCHAR", "INTEGER", "BIGINT"}
            return None if constant["is_null"] or not is_plain else constant["value"]
        if node.get("class") == "PARAMETER":
            return self._values.get(node["identifier"])
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Conditions that a row fulfils if a WHERE does; all of them hold."""

    keys: frozenset[str] | None = None
    """The key is one of these; None for any."""
    prefix: str = ""
    after: str = ""
    """The key is above."""
    until: str | None = None
    """The key is this or below; None for any."""
    condition: Filter | None = None
    """Of the metadata."""

    def __and__(self, other: Bounds) -> Bounds:
        keys = [each.keys for each in (self, other) if each.keys is not None]
        ends = [each.until for each in (self, other) if each.until is not None]
        conditions = [each.condition for each in (self, other) if each.condition is not None]
        return Bounds(
            keys=frozenset.intersection(*keys) if keys else None,
            # Of two that fit together one begins with the other; of two that don't either will do.
            prefix=max(self.prefix, other.prefix, key=len),
            after=max(self.after, other.after),
            until=min(ends, default=None),
            condition=And(tuple(conditions)) if len(conditions) > 1 else (*conditions, None)[0],
        )

    def __or__(self, other: Bounds) -> Bounds:
        keys, ends, conditions = (
            tuple(getattr(each, name) for each in (self, other))
            for name in ("keys", "until", "condition")
        )
        return Bounds(
            keys=None if None in keys else keys[0] | keys[1],
            prefix=_common_beginning(self.prefix, other.prefix),
            after=min(self.after, other.after),
            until=None if None in ends else max(ends),
            condition=None if None in conditions else Or(conditions),
        )


ANYTHING = Bounds()


def read_bounds(select: _Node, operands: Operands) -> Bounds:
    """Return what the WHERE of *select*, from ``entries`` alone, says plainly."""
    where = select.get("where_clause")
    if where is None:
        return ANYTHING
    bounds = _Reader(str(select["from_table"].get("alias") or "entries"), operands).read(where)
    if bounds.keys is not None and len(bounds.keys) > MAX_KEYS:
        bounds = replace(bounds, keys=None)
    if bounds.condition is not None and sum(1 for _ in _leaves(bounds.condition)) > MAX_CHOICES:
        bounds = replace(bounds, condition=None)
    return bounds


class _Reader:
    """Reads conditions on the columns of one table."""

    def __init__(self, table: str, operands: Operands) -> None:
        # A qualifier that is the name of a column, too, may mean a member of that column.
        self._table = None if table.lower() in _COLUMNS else table.lower()
        self._operands = operands

    def read(self, node: _Node) -> Bounds:
        """Return the bounds that *node* sets if it is true."""
        match node.get("class"), node.get("type"):
            case "CONJUNCTION", "CONJUNCTION_AND":
                return reduce(Bounds.__and__, map(self.read, node["children"]))
            case "CONJUNCTION", "CONJUNCTION_OR":
                return reduce(Bounds.__or__, map(self.read, node["children"]))
            case "COMPARISON", comparison if comparison in _FLIPPED:
                left, right = node["left"], node["right"]
                return self._compare(comparison, left, right) & self._compare(
                    _FLIPPED[comparison], right, left
                )
            case "BETWEEN", _:
                low, high = "COMPARE_GREATERTHANOREQUALTO", "COMPARE_LESSTHANOREQUALTO"
                return self._compare(low, node["input"], node["lower"]) & self._compare(
                    high, node["input"], node["upper"]
                )
            case "OPERATOR", "COMPARE_IN":
                found, *choices = node["children"]
                return self._equal(found, choices)
            case "OPERATOR", "OPERATOR_IS_NOT_NULL":
                path = self._metadata_path(node["children"][0])
                return ANYTHING if path is None else _having(path)
            case "FUNCTION", _ if len(node.get("children", ())) == 2:
                return self._match(str(node["function_name"]), *node["children"])
        return ANYTHING

    def _compare(self, comparison: str, left: _Node, right: _Node) -> Bounds:
        if comparison == "COMPARE_EQUAL":
            return self._equal(left, [right])
        text = self._operands.text(right)
        if text is None or not self._is_column(left, "key"):
            return ANYTHING
        if comparison == "COMPARE_GREATERTHAN":
            return Bounds(after=text)
        if comparison == "COMPARE_GREATERTHANOREQUALTO":
            return Bounds(after=_below(text))
        return Bounds(until=text)

    def _equal(self, found: _Node, choices: Sequence[_Node]) -> Bounds:
        """Return the bounds of *found* being equal to one of *choices*."""
        texts = [self._operands.text(choice) for choice in choices]
        known = [text for text in texts if text is not None]
        if len(known) < len(texts):
            return ANYTHING
        if self._is_column(found, "key"):
            return Bounds(keys=frozenset(filter(_can_be_key, known)))
        path = self._metadata_path(found)
        if path is None:
            return ANYTHING
        if len(path) > 1:
            return _having(path)
        wanted: list[Any] = []
        for text in known:
            values = _values_written(text)
            if values is None:
                return ANYTHING
            wanted += values
        return _filtered({path[0]: {"$in": wanted}}) if len(wanted) <= MAX_CHOICES else ANYTHING

    def _match(self, function: str, left: _Node, right: _Node) -> Bounds:
        text = self._operands.text(right)
        if text is None or not self._is_column(left, "key"):
            return ANYTHING
        if function == "~~":  # LIKE
            text = re.split(r"[%_\\]", text, maxsplit=1)[0]
        elif function not in _BEGINS:
            return ANYTHING
        return Bounds(prefix=text) if len(text.encode()) <= MAX_KEY_BYTES else ANYTHING

    def _is_column(self, node: _Node, name: str) -> bool:
        if node.get("class") != "COLUMN_REF":
            return False
        *qualifier, column = (str(part).lower() for part in node["column_names"])
        return column == name and qualifier in ([], [self._table])

    def _metadata_path(self, node: _Node) -> tuple[str, ...] | None:
        """Return the keys by which *node* gets a text out of the metadata; None if it doesn't."""
        if node.get("class") != "FUNCTION" or node.get("function_name") not in _EXTRACTS:
            return None
        found, *where = node["children"]
        if len(where) != 1 or not self._is_column(found, "metadata"):
            return None
        text = self._operands.text(where[0])
        if not text:
            return None
        members = _MEMBERS.fullmatch(text)
        if members is not None:
            return tuple(members[1][1:].split("."))
        # Without a sign of JSONPath or of a JSON pointer it is one key, dots and all.
        return None if text[0] in "$/" or re.search(r'["\\]', text) else (text,)


def _filtered(metadata_filter: Mapping[str, Any]) -> Bounds:
    try:
        return Bounds(condition=parse_filter(metadata_filter))
    except ValidationError:
        return ANYTHING


def _having(path: Sequence[str]) -> Bounds:
    """Return the bounds of there being something at *path*.

    Of a path into an object not even an equality says more: where a key has dots, the index holds
    the value of that key under the same path.
    """
    return _filtered({".".join(path): {"$exists": True}})


def _values_written(text: str) -> list[Any] | None:
    """Return the JSON values of which ``->>`` makes *text*, or values equal to them.

    None where they can't be told: an object, an array, a number without end.
    """
    if text[:1] in {"{", "["}:
        return None
    if _NUMBER.fullmatch(text):
        if len(text) > MAX_DIGITS:
            return None
        # DuckDB writes a float as the shortest text of it, and an integer as it stands.
        return [text, int(text) if text.lstrip("-").isdigit() else float(text)]
    return [text, text == "true"] if text in {"true", "false"} else [text]


def _can_be_key(text: str) -> bool:
    try:
        validate_key(text)
    except ValidationError:
        return False
    return True


def _below(key: str) -> str:
    """Return a text that is below *key*, with few keys between the two."""
    if not key or ord(key[-1]) <= 1:
        return key[:-1]
    code = ord(key[-1]) - 1
    # The code points between are surrogates, which no key holds.
    return key[:-1] + chr(0xD7FF if code == 0xDFFF else code) + "\U0010ffff"


def _common_beginning(one: str, other: str) -> str:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(character for character, _ in pairs)


def _leaves(condition: Filter) -> Iterator[Filter]:
    pending: list[Filter] = [condition]
    while pending:
        node = pending.pop()
        if isinstance(node, And | Or):
            pending += node.children
        else:
            yield node
