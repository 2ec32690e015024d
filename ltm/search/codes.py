"""Codes: JSON values as strings whose bytewise order is the order of the values.

The index rows of an entry's metadata are pairs of path and code. A catalog keeps them in a side
table, and a filter then asks of them nothing but equality and order of text.

A code begins with the tag of its JSON type, so no two types meet. Long codes and paths are cut to
what an index holds and end in a hash of the whole, by which they still are equal or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite

from ltm.entry import MISSING, JSONValue, Missing
from ltm.errors import ValidationError
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

MAX_CODE_BYTES = 512
MAX_PATH_BYTES = 256

NULL, FALSE, TRUE, NUMBER, STRING, OBJECT, ARRAY = "0123456"
ELEMENT = "e"
"""Stands before the code of an array's element, above all tags."""

# In UTF-8 this takes four bytes and is above all characters of fewer. A cut code ends at most
# three bytes below the limit, so what an uncut code can have where this stands is less, as it is
# less than the character that was cut off: a cut code is above every uncut beginning of it.
_CUT = "\U0010fffd"

_CONTAINERS = (dict, list)  # a union would be made anew at every call
_EXPONENT_OFFSET = 500_000
_COMPLEMENT = str.maketrans("0123456789", "9876543210")


def encode_value(value: JSONValue) -> str:
    """Return the code of a JSON value, at most 580 bytes in UTF-8.

    Equal values have equal codes and others have others: numbers by the decimal number that their
    JSON text writes (``1`` and ``1.0`` are equal, ``true`` is no number), strings by code point,
    objects whatever the order of their keys. Codes of two numbers, or of two strings, are ordered
    as these are, provided that one of them is no longer than 512 bytes.

    Raises:
        ValidationError: The value is of no JSON type, or a number of over 499,999 digits.
    """
    if isinstance(value, _CONTAINERS):
        return _container_codes([value])[id(value)]
    return _cut(_encode_scalar(value), MAX_CODE_BYTES)


def encode_path(path: str) -> str:
    """Return *path* as it stands in index rows: itself up to 256 bytes, else cut and hashed."""
    return _cut(path, MAX_PATH_BYTES)


def is_cut(code: str) -> bool:
    """Say whether *code* is of a value too long for it, and so of no use as a bound."""
    return len(code) > MAX_CODE_BYTES // 4 and len(_to_bytes(code)) > MAX_CODE_BYTES


def resolve(metadata: Mapping[str, Any], path: str) -> JSONValue | Missing:
    """Return what *path* names in *metadata*, or MISSING.

    A dot reaches into an object, never into an array. Where keys hold dots themselves, the longest
    key from which the rest can be reached wins, so an exact key wins over all.
    """
    pending: list[tuple[Mapping[str, Any], str]] = [(metadata, path)]
    while pending:
        node, rest = pending.pop()
        if rest in node:
            return node[rest]
        # Shortest first, because the last in is the first out.
        for end, character in enumerate(rest):
            if character == ".":
                child = node.get(rest[:end])
                if isinstance(child, dict):
                    pending.append((child, rest[end + 1 :]))
    return MISSING


def index_rows(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the distinct index rows of an entry: pairs of encoded path and code.

    A row stands for everything that ``resolve`` can find, objects and arrays included. For each
    element of an array there is a further one, with ``e`` before the code of the element.

    Raises:
        ValidationError: The metadata holds what is not JSON.
    """
    flat: list[tuple[str, str]] = []
    for path, value in metadata.items():
        if isinstance(value, _CONTAINERS):
            return _nested_rows(metadata)
        code = STRING + value if type(value) is str else _encode_scalar(value)
        if len(code) > MAX_CODE_BYTES // 4:
            code = _cut(code, MAX_CODE_BYTES)
        flat.append((path if len(path) <= MAX_PATH_BYTES // 4 else encode_path(path), code))
    return flat


def _nested_rows(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    codes = _container_codes(metadata.values())
    rows: dict[tuple[str, str], None] = {}
    for path, node in _nodes(metadata):
        encoded = encode_path(path)
        rows[encoded, _code_of(node, codes)] = None
        if isinstance(node, list):
            for element in node:
                rows[encoded, ELEMENT + _code_of(element, codes)] = None
    return list(rows)


def _nodes(metadata: Mapping[str, Any]) -> Iterator[tuple[str, JSONValue]]:
    """Yield dotted path and node of everything that ``resolve`` can find.

    Two nodes of one path part ways at two keys of one object, and ``resolve`` prefers the longer.
    Visited by falling length of key, the node that it finds comes first.
    """
    seen: set[str] = set()
    # Ascending, because the last in is the first out.
    pending = [(key, metadata[key]) for key in sorted(metadata, key=len)]
    while pending:
        path, node = pending.pop()
        if path not in seen:
            seen.add(path)
            yield path, node
        if isinstance(node, dict):
            pending += [(f"{path}.{key}", node[key]) for key in sorted(node, key=len)]


def _code_of(node: JSONValue, codes: Mapping[int, str]) -> str:
    if isinstance(node, _CONTAINERS):
        return codes[id(node)]
    return _cut(_encode_scalar(node), MAX_CODE_BYTES)


def _container_codes(roots: Iterable[JSONValue]) -> dict[int, str]:
    """Return the codes of all objects and arrays in *roots*, themselves included, by identity.

    A container's code is a hash over the codes of its members, so each is read once, at any depth.
    """
    found: list[Any] = []
    pending: list[Any] = [root for root in roots if isinstance(root, _CONTAINERS)]
    while pending:
        node = pending.pop()
        found.append(node)
        members = node if isinstance(node, list) else node.values()
        pending += [member for member in members if isinstance(member, _CONTAINERS)]
    codes: dict[int, str] = {}
    # Members were found after what holds them.
    for node in reversed(found):
        if isinstance(node, list):
            parts = [_code_of(member, codes) for member in node]
            tag = ARRAY
        else:
            parts = [part for key in sorted(node) for part in (key, _code_of(node[key], codes))]
            tag = OBJECT
        # With its length before it, a part can't pass for two.
        text = "".join(f"{len(part)}:{part}" for part in parts)
        codes[id(node)] = tag + hashlib.sha256(_to_bytes(text)).hexdigest()
    return codes


def _encode_scalar(value: JSONValue) -> str:
    if isinstance(value, str):
        return STRING + value
    if value is None:
        return NULL
    if isinstance(value, bool):
        return TRUE if value else FALSE
    if isinstance(value, int):
        try:
            return NUMBER + _encode_number(int.__repr__(value))
        except ValueError as error:
            raise ValidationError("integer has too many digits") from error
    if isinstance(value, float) and isfinite(value):
        return NUMBER + _encode_number(float.__repr__(value))
    name = float.__repr__(value) if isinstance(value, float) else type(value).__name__
    raise ValidationError(f"{name} is not JSON")


def _encode_number(text: str) -> str:
    """Return sign, exponent and digits of a JSON number so that text sorts as numbers do.

    The number is 0.digits * 10 ** exponent. In a negative one all digits are complemented, and a
    tilde, above all digits, ends them: of -1.2 and -1.25 the one with more digits is less.
    """
    negative = text[0] == "-"
    mantissa, _, power = text.removeprefix("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    written = whole + fraction
    digits = written.lstrip("0")
    if not digits:
        return "1"
    exponent = len(whole) - (len(written) - len(digits)) + int(power or "0") + _EXPONENT_OFFSET
    if not 0 <= exponent < 2 * _EXPONENT_OFFSET:
        raise ValueError(f"{len(digits)} digits")
    magnitude = f"{exponent:06d}" + digits.rstrip("0")
    return "0" + magnitude.translate(_COMPLEMENT) + "~" if negative else "2" + magnitude


def _cut(text: str, limit: int) -> str:
    if len(text) * 4 <= limit or (len(text) <= limit and len(_to_bytes(text)) <= limit):
        return text
    encoded = _to_bytes(text)
    end = limit
    while encoded[end] & 0xC0 == 0x80:  # inside a character
        end -= 1
    kept = encoded[:end].decode("utf-8", "surrogatepass")
    return kept + _CUT + hashlib.sha256(encoded).hexdigest()


def _to_bytes(text: str) -> bytes:
    # Metadata holds no surrogates; a value that does still gets a code.
    return text.encode("utf-8", "surrogatepass")
