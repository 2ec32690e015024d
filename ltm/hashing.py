"""The canonical text of a JSON value, and its content hash.

A value is serialised once. The same bytes are hashed, inlined in the catalog or uploaded, and
checked again when they are read.
"""

from __future__ import annotations

import hashlib
import json
import json.encoder
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import isfinite

from ltm.errors import IntegrityError, SerializationError
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

MAX_DEPTH = 500
"""How deep a value may be nested: half of the interpreter's recursion limit is left to callers."""

_CONTAINERS = frozenset((dict, list))
_PLAIN_TYPES = _CONTAINERS | {str, int, float, bool, type(None)}

_SHORT = 2 * MAX_DEPTH
"""Characters of a text that is read back sooner than its value is looked at.

In fewer, nothing can be nested too deeply: each level takes two.
"""

_TOO_DEEP = "is nested too deeply"


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


# The standard library reads NaN and infinities, which JSON does not have.
_raw_decode = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode


def _make_encode() -> Callable[[object], str]:
    """Return what writes JSON text by the standard library's encoder in C, made once.

    ``JSONEncoder`` makes one for each text, which takes as long as to write a short one.
    """
    encoder = json.JSONEncoder(sort_keys=True, allow_nan=False)
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without it
        return encoder.encode
    # Without the dict in which to look for a value that contains itself: what an error leaves in
    # it would be found by later texts. Such a value ends in a RecursionError.
    chunks = make(
        *(None, encoder.default, json.encoder.encode_basestring_ascii, None),
        *(encoder.key_separator, encoder.item_separator, True, False, False),
    )
    return lambda value: "".join(chunks(value, 0))


write_json = _make_encode()
"""Returns the canonical JSON of a value that is known to be JSON."""


def canonical_json(value: object) -> str:
    """Return *value* as JSON text: keys sorted, ASCII only, the standard library's separators.

    Raises:
        SerializationError: The value would not come back as it is: a type that JSON does not have,
            NaN or an infinity, a key that is not a string, an integer past the interpreter's digit
            limit, or nesting deeper than 500. The message names the path.
    """
    try:
        text = write_json(value)
        # A look at a long value, in which there may be nothing that is lost, is the shorter way.
        if len(text) >= _SHORT and _is_plain(value, text):
            return text
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(value) from error
    _read_back(text, value)
    return text


def copy_json(value: object) -> tuple[Any, str]:
    """Return a copy of *value*, which shares nothing with it, and its canonical JSON.

    Raises:
        SerializationError: See :func:`canonical_json`.
    """
    try:
        text = write_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(value) from error
    return _read_back(text, value), text


def _read_back(text: str, value: object) -> Any:
    """Return what canonical JSON *text* says, if it is *value*.

    The encoder writes tuples as lists and numbers as keys without a word, and a pair of surrogates
    as the character it would encode: this finds them all.
    """
    try:
        found, _ = _raw_decode(text)
        if found == value and (len(text) < _SHORT or not _is_too_deep(text, value)):
            return found
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(value) from error
    raise _refusal(value)


def _refusal(value: object) -> SerializationError:
    """Return what is wrong with *value*."""
    return SerializationError(*_find_fault(value))


def hash_text(text: str) -> str:
    """Return ``sha256:`` and the hexadecimal SHA-256 of canonical JSON *text*."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def compute_content_hash(value: object) -> str:
    """Return the content hash of a JSON value.

    Raises:
        SerializationError: The value is not JSON.
    """
    return hash_text(canonical_json(value))


def parse_verified(text: str, content_hash: str, *, where: str) -> Any:
    """Return the value that canonical JSON *text* holds, after checking its hash.

    Raises:
        IntegrityError: The hash differs, or the text is not JSON; *where* names what was read.
    """
    try:
        actual = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise IntegrityError(f"{where}: holds characters that were never written") from error
    if actual != content_hash:
        raise IntegrityError(f"{where}: expected {content_hash}, read {actual}")
    return parse(text, where=where)


def parse(text: str, *, where: str) -> Any:
    """Return the value that JSON *text* holds.

    Raises:
        IntegrityError: The text is not JSON; *where* names what was read.
    """
    try:
        value, end = _raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{where}: is not JSON: {error}") from error
    if end != len(text):
        raise IntegrityError(f"{where}: is not JSON: there is more after {end} characters")
    return value


def _is_plain(value: object, text: str) -> bool:
    """Return whether *value*, whose JSON is *text*, surely comes back from it as it is.

    That is so if all its types are JSON's own, its strings hold no surrogates, its keys are ASCII,
    and it is not nested too deeply. It is looked at level by level, whole levels at once.

    Raises:
        TypeError: A key is not a string.
    """
    is_ascii = "\\" not in text  # or has what is escaped in ASCII, too, which does no harm
    level = [value]
    for _ in range(MAX_DEPTH):
        types = {*map(type, level)}
        if not types <= _PLAIN_TYPES:
            return False
        if not (is_ascii or _are_encodable([each for each in level if type(each) is str])):
            return False
        if types.isdisjoint(_CONTAINERS):
            return True
        below: list[object] = []
        for each in level:
            if type(each) is dict:
                if not all(map(str.isascii, each)):
                    return False
                below += each.values()
            elif type(each) is list:
                below += each
        level = below
    return False


def _are_encodable(texts: list[str]) -> bool:
    """Return whether *texts* can be UTF-8, as those that hold surrogates can't."""
    try:
        for text in texts:
            if not text.isascii():
                text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_too_deep(text: str, value: object) -> bool:
    """Return whether *value* is nested deeper than a reader with little stack left could follow."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    return any(reason == _TOO_DEEP for _, reason in _faults(value))


def _find_fault(value: object) -> tuple[str, str]:
    for path, fault in _faults(value):
        return path, fault
    return "$", "does not come back as it is from JSON"


def _faults(value: object) -> Iterator[tuple[str, str]]:
    """Yield path and reason of what is not JSON, in document order, without recursion."""
    pending: list[tuple[str, object, frozenset[int]]] = [("$", value, frozenset())]
    while pending:
        path, item, ancestors = pending.pop()
        if isinstance(item, list | dict):
            if id(item) in ancestors:
                yield path, "contains itself"
            elif len(ancestors) >= MAX_DEPTH:
                yield f"{path[:60]}...", _TOO_DEEP
            else:
                pending.extend(_children(path, item, ancestors | {id(item)}))
                for key in item if isinstance(item, dict) else ():
                    if not isinstance(key, str):
                        yield path, f"key {key!r} is {type(key).__name__}, not a string"
                    elif _holds_surrogate_pair(key):
                        yield path, f"key {key!r} holds a surrogate pair"
        else:
            reason = _scalar_fault(item)
            if reason is not None:
                yield path, reason


def _children(
    path: str, item: list[object] | dict[object, object], ancestors: frozenset[int]
) -> list[tuple[str, object, frozenset[int]]]:
    if isinstance(item, dict):
        members = [(f"{path}{_member(key)}", child, ancestors) for key, child in item.items()]
    else:
        members = [(f"{path}[{index}]", child, ancestors) for index, child in enumerate(item)]
    return members[::-1]


def _member(key: object) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"


def _scalar_fault(item: object) -> str | None:
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, str):
        return "holds a surrogate pair" if _holds_surrogate_pair(item) else None
    if isinstance(item, int):
        try:
            int.__repr__(item)
        except ValueError:
            return "integer has too many digits"
        return None
    if isinstance(item, float):
        return None if isfinite(item) else f"{float.__repr__(item)} is not JSON"
    return f"{type(item).__name__} is not JSON"


def _holds_surrogate_pair(text: str) -> bool:
    return any(
        "\ud800" <= first <= "\udbff" and "\udc00" <= second <= "\udfff"
        for first, second in pairwise(text)
    )
