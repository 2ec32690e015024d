"""What the arguments of a call are in a key: the same on every machine and in every process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID

from ltm.errors import ValidationError
from ltm.hashing import canonical_json

MAX_DEPTH = 100

_TEXTUAL: tuple[type, ...] = datetime, date, time, Decimal, UUID
"""Types whose ``str()`` says all there is to say."""


def describe(value: object, path: str, depth: int = 0) -> Any:
    """Return *value* as JSON that is equal for equal values, and different for others.

    What JSON doesn't have is marked by a name that begins with ``$``: of tuples only the items
    count, of bytes the hash, of an enumeration's member, a dataclass and what ``str()`` says all
    of, the type too.

    Args:
        value: JSON, or what this function knows of.
        path: What errors call it.
        depth: How deep it is nested already.

    Raises:
        ValidationError: It is nothing that is the same in another process.
    """
    if depth > MAX_DEPTH:
        raise ValidationError(f"{path[:80]}...: is nested too deeply for a cache key")
    if isinstance(value, Enum):
        return {"$enum": f"{_type_name(value)}.{value.name}"}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [describe(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return _describe_mapping(value, path, depth)
    if isinstance(value, set | frozenset):
        items = [canonical_json(describe(item, f"{path}{{}}", depth + 1)) for item in value]
        return {"$set": sorted(items)}
    return _describe_other(value, path, depth)


def _describe_mapping(value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
    described = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise ValidationError(f"{path}: key {key!r} is {type(key).__name__}, not a string")
        # So that no mapping looks like what is marked.
        name = f"${key}" if key.startswith("$") else key
        described[name] = describe(item, f"{path}.{key}", depth + 1)
    return described


def _describe_other(value: object, path: str, depth: int) -> Any:
    if isinstance(value, bytes | bytearray):
        return {"$bytes": hashlib.sha256(value).hexdigest()}
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, timedelta):
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, _TEXTUAL):
        return {f"${type(value).__name__}": str(value)}
    if is_dataclass(value) and not isinstance(value, type):
        content = {each.name: getattr(value, each.name) for each in fields(value)}
        return {f"${_type_name(value)}": _describe_mapping(content, path, depth)}
    what = repr(value) if isinstance(value, float) else type(value).__name__
    raise ValidationError(
        f"{path}: {what} can't be part of a cache key, which must be the same in every process; "
        "leave it out with ignore=, or make the key with key="
    )


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
