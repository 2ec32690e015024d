"""The keys of cached calls."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Mapping
from functools import partial
from types import CodeType
from typing import Any

from ltm.cache.arguments import describe
from ltm.cache.policy import CachePolicy
from ltm.errors import PayloadError, ValidationError
from ltm.hashing import canonical_json
from ltm.keys import MAX_KEY_BYTES, validate_key
from ltm.payload.files import hash_file, names_file


class Action:
    """A function whose calls are remembered: its name and its parameters."""

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        """Look at *function* once, for all its calls; *name* is another one for it."""
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[str, Any] = {}
        while isinstance(function, partial):
            self._args = function.args + self._args
            self._kwargs = {**function.keywords, **self._kwargs}
            function = function.func
        self.name = name or _name_of(function)
        try:
            self._signature: inspect.Signature | None = inspect.signature(function)
        except ValueError:  # of a built-in function that doesn't tell
            self._signature = None

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name, defaults among them.

        Raises:
            TypeError: The function doesn't take them.
        """
        args, kwargs = self._args + args, {**self._kwargs, **kwargs}
        if self._signature is None:
            return {str(index): value for index, value in enumerate(args)} | kwargs
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)


def make_key(
    action: Action, args: tuple[Any, ...], kwargs: Mapping[str, Any], policy: CachePolicy
) -> str:
    """Return the key under which the result of a call of *action* is remembered.

    Raises:
        ValidationError: An argument can't be part of a key, or no file is where one is named.
        PayloadError: A file could not be read.
        TypeError: The action doesn't take these arguments.
    """
    agent = agent_prefix(policy.agent_name)
    if policy.key is not None:
        made = policy.key(*args, **kwargs) if callable(policy.key) else policy.key
        if not isinstance(made, str):
            raise ValidationError(f"key: expected str, got {type(made).__name__}")
        return validate_key(agent + made)
    arguments = action.bind(args, kwargs)
    for name in policy.ignore:
        arguments.pop(name, None)
    begin = f"{agent}{action.name}:"
    if policy.key_strategy == "file_content":
        text = canonical_json(_with_contents(arguments, policy))
    else:
        text = canonical_json({name: describe(arguments[name], name) for name in arguments})
    whole = begin + text
    if policy.key_strategy == "args" and len(whole.encode()) <= MAX_KEY_BYTES:
        return validate_key(whole)
    return validate_key(f"{begin}sha256:{hashlib.sha256(text.encode()).hexdigest()}")


def agent_prefix(agent_name: str | None) -> str:
    """Return what the keys of an agent begin with; nothing for none."""
    return f"{agent_name}:" if agent_name else ""


def _name_of(function: Callable[..., Any]) -> str:
    """Return what stands for *function* in keys: its module and qualified name.

    What a function closes over, and the state of an object whose method it is, doesn't count. A
    lambda has no name of its own: it is known by its code.
    """
    named = function if hasattr(function, "__qualname__") else type(function)
    name = f"{named.__module__}.{named.__qualname__}"
    code = getattr(function, "__code__", None)
    if named.__qualname__.endswith("<lambda>") and code is not None:
        return f"{name}-{hashlib.sha256(_code_text(code).encode()).hexdigest()[:16]}"
    return name


def _with_contents(arguments: Mapping[str, Any], policy: CachePolicy) -> dict[str, Any]:
    """Return *arguments* described, with the hashes of files in place of their names."""
    named = policy.file_args
    found = [name for name in arguments if names_file(arguments[name])] if named is None else named
    described = {}
    files = set(found)
    if not files or not files <= set(arguments):
        missing = ", ".join(sorted(files - set(arguments))) or "none of the arguments"
        raise ValidationError(f"file_content: {missing} names a file; say which with file_args=")
    for name, value in arguments.items():
        if name in files:
            described[name] = _hash(name, value, policy)
        else:
            described[name] = describe(value, name)
    return described


def _hash(name: str, value: Any, policy: CachePolicy) -> Any:
    if isinstance(value, list | tuple):
        return [_hash(f"{name}[{index}]", item, policy) for index, item in enumerate(value)]
    if not isinstance(value, str | os.PathLike):
        raise ValidationError(f"{name}: expected the name of a file, got {type(value).__name__}")
    try:
        content = hash_file(os.fsdecode(value), storage_options=policy.storage_options)
    except FileNotFoundError as error:
        raise ValidationError(f"{name}: {error}") from error
    except PayloadError as error:
        raise PayloadError(f"{name}: {error}") from error
    return {"$file": content}


def _code_text(item: object) -> str:
    """Return a text of byte code and constants that is the same in every process."""
    if isinstance(item, CodeType):
        parts = (item.co_code, item.co_names, item.co_varnames, item.co_consts)
        return f"code({','.join(map(_code_text, parts))})"
    if isinstance(item, tuple):
        return f"({','.join(map(_code_text, item))})"
    if isinstance(item, frozenset):
        return f"{{{','.join(sorted(map(_code_text, item)))}}}"
    return f"{type(item).__name__} {item!r}"
