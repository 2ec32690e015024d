"""What people type, to values: JSON, plain text, filters."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from ltm.entry import JSONValue
from ltm.errors import ValidationError


def parse_json(text: str, name: str) -> JSONValue:
    """Return the value of one JSON document.

    Raises:
        ValidationError: It isn't one; NaN and infinities are not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValidationError(f"{name}: is nested too deeply") from None
    except ValueError as error:
        raise ValidationError(f"{name}: is not JSON: {error}") from error


def parse_object(text: str | None, name: str) -> dict[str, Any] | None:
    """Return a JSON object, None for None.

    Raises:
        ValidationError: Not JSON, or not an object.
    """
    if text is None:
        return None
    value = parse_json(text, name)
    if not isinstance(value, dict):
        raise ValidationError(f"{name}: expected an object, got {type(value).__name__}")
    return value


def read_value(
    argument: str | None,
    *,
    path: str | None,
    as_text: bool,
    read_input: Callable[[], bytes | None],
) -> JSONValue:
    """Return the value from an argument, a file or standard input, as JSON or as plain text.

    Args:
        argument: The value itself; ``-`` and None mean standard input.
        path: A file to read instead.
        as_text: Whether the text is the value, to the letter.
        read_input: Returns what is piped in, or None where somebody sits at a keyboard.

    Raises:
        ValidationError: Two sources or none, an unreadable file, not UTF-8, or not JSON.
    """
    if argument is not None and path is not None:
        raise ValidationError("VALUE and --file: give one, not both")
    if path is not None:
        text = _decode(_read_file(path), f"file {path!r}")
    elif argument is not None and argument != "-":
        text = _require_unicode(argument)
    else:
        piped = read_input()
        if piped is None and argument is None:
            raise ValidationError("VALUE: is missing: give it, pipe it in, or name a --file")
        text = _decode(piped or b"", "standard input")
    if as_text:
        return text
    if not text.strip():
        raise ValidationError("VALUE: is empty; --text takes an empty string")
    try:
        return parse_json(text.removeprefix("\ufeff"), "VALUE")
    except ValidationError as error:
        raise ValidationError(f"{error}; --text takes it as a plain string") from error


def build_filter(text: str | None, conditions: Sequence[str]) -> dict[str, Any] | None:
    """Return the metadata filter of ``--filter`` and all ``--where``, or None for none.

    Args:
        text: A filter in JSON.
        conditions: Each ``KEY=VALUE``; a VALUE that is not JSON is a string.

    Raises:
        ValidationError: Not JSON, or a condition without ``=``.
    """
    parts = [] if text is None else [parse_object(text, "filter") or {}]
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals or not name:
            raise ValidationError(f"where: expected KEY=VALUE, got {condition!r}")
        parts.append({name: _json_or_text(value)})
    if len(parts) > 1:
        return {"$and": parts}
    return parts[0] if parts else None


def _json_or_text(text: str) -> JSONValue:
    try:
        return parse_json(text, "where")
    except ValidationError:
        return _require_unicode(text)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not allowed")


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValidationError(f"file {path!r}: {error.strerror or error}") from error


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValidationError(f"{name}: is not UTF-8 at byte {error.start}") from error


def _require_unicode(argument: str) -> str:
    # Python carries bytes of the command line that are not UTF-8 as lone surrogates.
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(f"argument: is not UTF-8 at character {error.start}") from error
    return argument
