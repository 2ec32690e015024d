"""YAML, or a mapping as agents write it, to one typed and frozen ``Settings``.

A document is whole (``settings: {ltm: {...}}``), ``ltm: {...}``, or the inner mapping itself. Null
for a section means its defaults; null for a single setting is an error, as it may be forgotten.
Strings refer to the environment by ``${NAME}``, or ``${NAME:-default}`` where it may be unset or
empty; ``$${`` is a literal ``${``; the result is not expanded again. A string that is one reference
becomes the int, float or bool that the setting is; in open options it stays a string.

Errors name the place and the type of a value, never the value, which may be a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, get_args, get_origin

from msgspec import convert, structs

from ltm.errors import MissingDependencyError, ValidationError
from ltm.keys import validate_name
from ltm.settings import (
    CATALOGS,
    EXCLUSIVE,
    S3_OPTIONS,
    CatalogSettings,
    FirestoreSettings,
    Name,
    PluginSettings,
    PostgresSettings,
    Section,
    Settings,
    SQLiteSettings,
    StorageSettings,
    SupabaseSettings,
    Text,
    mask_url,
    shorthands,
)

__all__ = [
    "CatalogSettings",
    "FirestoreSettings",
    "PluginSettings",
    "PostgresSettings",
    "SQLiteSettings",
    "Settings",
    "StorageSettings",
    "SupabaseSettings",
    "load_settings",
    "mask_url",
    "parse_settings",
    "parse_yaml",
]

_Open = Mapping[str, Any]
_Environ = Mapping[str, str] | None

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\})?")
_WORD = re.compile(r"[A-Za-z_][\w.-]{0,63}")
_UNQUOTED = re.compile(r"""(?:[^'"]|'\\?.'|'<[a-z ]+>')*""")


def load_settings(source: str | os.PathLike[str] | _Open, *, environ: _Environ = None) -> Settings:
    """Return the settings in the YAML file at *source*, or in *source* if it is a mapping.

    Raises:
        ValidationError: As ``parse_yaml``, or the file can't be read as UTF-8; it is named.
    """
    if not isinstance(source, str | os.PathLike):
        return parse_settings(source, environ=environ)
    name = os.fsdecode(source)
    try:
        with open(name, encoding="utf-8-sig") as file:
            return parse_yaml(file.read(), name=name, environ=environ)
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "is not UTF-8"
    # Raised out here: the codec's error would carry the bytes of the file.
    raise ValidationError(f"{mask_url(name)}: {problem}")


def parse_yaml(text: str, *, name: str = "", environ: _Environ = None) -> Settings:
    """Return the settings in one YAML document, which errors call *name*.

    Raises:
        ValidationError: As ``parse_settings``, or not YAML: then with line and column, from 1.
        MissingDependencyError: PyYAML is not installed.
    """
    try:
        return parse_settings(_load_yaml(text), environ=environ)
    except ValidationError as error:
        raise ValidationError(f"{name}: {error}" if name else str(error)) from error


def parse_settings(document: _Open | None, *, environ: _Environ = None) -> Settings:
    """Return the settings in *document*, in any of the forms that this module describes.

    ``${NAME}`` refers to *environ*, or to ``os.environ`` where that is None.

    Raises:
        ValidationError: The first problem, by its path from the top of *document*: an unknown key,
            a wrong type, settings that exclude one another, a variable that is not set.
    """
    section, path = _locate(document if isinstance(document, Mapping) else _mapping(document, ""))
    return _Reader(environ).settings(section, path)


class _Reader:
    """Reads one document; *path* always names a place from its top."""

    def __init__(self, environ: _Environ) -> None:
        self._environ = os.environ if environ is None else environ
        self._storage_format: str | None = None
        self._nodes = 0

    def settings(self, value: object, path: str) -> Settings:
        section = _mapping(value, path)
        values = self._section(Settings, section, path)
        chosen = values.pop("payload_format", self._storage_format)
        if self._storage_format not in (None, chosen):
            raise ValidationError(f"{_join(path, 'payload_format')}: storage.format differs")
        if chosen is not None:
            storage = values.get("storage", StorageSettings())
            values["storage"] = structs.replace(storage, format=chosen)
        return Settings(**values)

    def _section(self, kind: type[Section], section: _Open, path: str) -> dict[str, Any]:
        """Return what *section* gives for the fields of *kind* and for its shorthands."""
        from difflib import get_close_matches

        types = {each.name: each.type for each in structs.fields(kind)}
        types |= {name: each for name, (each, _) in shorthands(kind).items()}
        readers = {CatalogSettings: self._catalog, StorageSettings: self._storage}
        values: dict[str, Any] = {}
        for key, value in section.items():
            where = _join(path, key)
            if key not in types:
                near = get_close_matches(key[:64], types, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(types)}"
                raise ValidationError(f"{where}: unknown key, {hint}")
            read = readers.get(types[key])
            values[key] = read(value, where) if read else self._scalar(value, types[key], where)
        return values

    def _catalog(self, value: object, path: str) -> CatalogSettings:
        section = {"type": value} if isinstance(value, str) else {**_mapping(value, path)}
        default = None if section else "sqlite"
        name = self._scalar(section.pop("type", default), Text, f"{path}.type")
        if not _WORD.fullmatch(name):
            raise ValidationError(f"{path}.type: expected the name of a catalog, such as 'sqlite'")
        if name not in CATALOGS:
            return PluginSettings(type=name, plugin_options=self._expand(section, path))
        kind = CATALOGS[name]
        values = self._section(kind, section, path)
        for one, other in EXCLUSIVE.items():
            if one in values and other in values:
                raise ValidationError(f"{path}.{one}: {other} is given too")
        if "pool_size" in values:
            values["pool_max"] = values.pop("pool_size")
        if "pool_max" in values and values.get("pool_min", 0) > values["pool_max"]:
            raise ValidationError(f"{path}.pool_min: is above pool_max")
        return kind(**values)

    def _storage(self, value: object, path: str) -> StorageSettings:
        section = {"uri": value} if isinstance(value, str) else {**_mapping(value, path)}
        within = f"{path}.options"
        options = self._expand(_mapping(section.pop("options", None), within), within)
        values = self._section(StorageSettings, section, path)
        self._storage_format = values.get("format")
        for short in [name for name in S3_OPTIONS if name in values]:
            target, name = options, S3_OPTIONS[short]
            if short == "s3_region":
                target = {**_mapping(options.get("client_kwargs"), f"{within}.client_kwargs")}
                options["client_kwargs"] = target
            if name in target:
                raise ValidationError(f"{path}.{short}: the options give {name!r} too")
            target[name] = values.pop(short)
        return StorageSettings(**values, options=options)

    def _scalar(self, value: object, expected: Any, path: str) -> Any:
        """Return *value* as *expected*, without its None: that stands for "not given"."""
        kind = get_args(expected)[0] if type(None) in get_args(expected) else expected
        is_reference = isinstance(value, str) and _REFERENCE.fullmatch(value) is not None
        plain = self._text(value, path) if isinstance(value, str) else value
        try:
            converted = convert(plain, kind, strict=not is_reference)
        except ValueError as error:
            problem = str(error).replace("`", "").replace("Expected", "expected")
            if get_origin(kind) is Literal:  # Here msgspec would quote the value.
                problem = f"expected {' or '.join(map(repr, get_args(kind)))}"
        else:
            return validate_name(converted, path) if kind is Name else converted
        raise ValidationError(f"{path}: {problem}")

    def _expand(self, value: object, path: str, depth: int = 0) -> Any:
        """Return a copy. YAML's aliases make cycles, and short texts that are huge once copied."""
        self._nodes += 1
        if depth > 32 or self._nodes > 100_000:
            raise ValidationError(f"{path}: too deep or too large")
        if isinstance(value, Mapping):
            return {k: self._expand(v, _join(path, k), depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._expand(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value)]
        return self._text(value, path) if isinstance(value, str) else value

    def _text(self, text: str, path: str) -> str:
        def replace(match: re.Match[str]) -> str:
            name, default = match["name"], match["default"]
            if match[0] == "$${":
                return "${"
            if name is None:
                raise ValidationError(f"{path}: expected ${{NAME}} or ${{NAME:-default}} or $${{")
            found = self._environ.get(name, default)
            if found is not None:
                return found or default or ""
            raise ValidationError(f"{path}: environment variable {name} is not set")

        return _REFERENCE.sub(replace, text)


def _locate(whole: _Open) -> tuple[object, str]:
    """Return the section of ``ltm`` and its path from the top of the document."""
    outer = whole.get("settings")
    if isinstance(outer, Mapping) and "ltm" in outer:
        if "ltm" in whole:
            raise ValidationError("ltm: settings.ltm is given too")
        return outer["ltm"], "settings.ltm"
    if "ltm" in whole:
        return whole["ltm"], "ltm"
    if "settings" in whole and _mapping(outer, "settings"):
        raise ValidationError("settings: no key 'ltm'")
    return ({}, "settings.ltm") if "settings" in whole else (whole, "")


def _mapping(value: object, path: str) -> _Open:
    """Return *value* if it is a mapping with string keys, and an empty one for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or any(not isinstance(key, str) for key in value):
        got = type(value).__name__
        raise ValidationError(f"{path or 'document'}: expected mapping with str keys, got {got}")
    return value


def _join(path: str, key: object) -> str:
    # A key that is no name isn't shown: {password:x} lacks a space, so all of it is the key.
    shown = isinstance(key, str) and _WORD.fullmatch(key)
    return f"{path}.{key}".lstrip(".") if shown else f"{path}[...]"


def _load_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError("pyyaml", "yaml") from error

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(None, None, "key given twice", key.start_mark)
                seen.add((key.tag, key.value))
            return node

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            with suppress(ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
                return super().construct_object(node, deep)
            # PyYAML lets these through for 2024-13-45 and ``!!bool maybe``.
            raise yaml.MarkedYAMLError(None, None, "not a value of its type", node.start_mark)

    try:
        return yaml.load(text, Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        index = error.problem_mark.index if error.problem_mark else 0
        # An alias, anchor or tag that PyYAML quotes may be the beginning of a password.
        problem = _UNQUOTED.findall(str(error.problem))[0].rstrip()
    except yaml.reader.ReaderError as error:
        index, problem = error.position, "a character that YAML does not allow"
    except RecursionError:
        index, problem = 0, "nested too deeply"
    line, column = text.count("\n", 0, index), index - text.rfind("\n", 0, index) - 1
    # Raised out here: PyYAML's errors quote the line, and a line may hold a secret.
    raise ValidationError(f"line {line + 1}, column {column + 1}: {problem}")
