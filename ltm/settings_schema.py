"""The JSON Schema of the settings, made of their declarations, for editors and other checkers.

``python -m ltm.settings_schema`` prints it; ``settings.schema.json`` in this package is what it
printed. All that :func:`~ltm.config.parse_settings` accepts is valid by it. A document that is
valid may still be refused: for a variable that is not set or does not fit, ``pool_min`` above
``pool_max``, ``1.0`` for an integer, a name with NUL or a lone surrogate, or options that are too
deep or too large.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from itertools import pairwise
from typing import Any, get_args

import msgspec

from ltm.settings import (
    CATALOGS,
    EXCLUSIVE,
    S3_OPTIONS,
    CatalogSettings,
    PayloadFormat,
    Section,
    Settings,
    StorageSettings,
    shorthands,
)

Schema = dict[str, Any]

_NAMED = r"\$\{[A-Za-z_]\w*(?::-[^}]*)?\}"
_PARTS = rf"(?:[^$]|\$(?!\$?\{{)|\$\$\{{|{_NAMED})*"
_END = r"$(?!\n)"  # Python's $ lets a newline follow, that of ECMA-262 does not
_TEXT = f"^{_PARTS}{_END}"
_TEXT_WITH_VARIABLE = rf"^(?=[\s\S]*\$\{{){_PARTS}{_END}"
_CATALOG_WORD = rf"^[A-Za-z_][\w.-]{{0,63}}{_END}"


def settings_schema() -> Schema:
    """Return the schema of a document with settings, by draft 2020-12 of JSON Schema."""
    section = _ref("settings")
    within = {"settings": {"properties": {"ltm": section}}, "ltm": False}
    no_section = {"settings": {"type": ["object", "null"], "maxProperties": 0}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of ltm",
        "description": "settings: {ltm: ...}, ltm: ..., or the settings themselves.",
        "type": ["object", "null"],
        **_choose(
            {
                "type": "object",
                "required": ["settings"],
                "properties": {"settings": {"type": "object", "required": ["ltm"]}},
            },
            {"properties": within},
            _choose(
                {"required": ["ltm"]},
                {"properties": {"ltm": section}},
                _choose({"required": ["settings"]}, {"properties": no_section}, section),
            ),
        ),
        "$defs": {
            "variable": {
                "title": "An environment variable",
                "description": "${NAME}, or ${NAME:-default} where it may be unset or empty.",
                "type": "string",
                "pattern": f"^{_NAMED}{_END}",
            },
            "text_with_variable": {
                "title": "Text with environment variables",
                "type": "string",
                "pattern": _TEXT_WITH_VARIABLE,
            },
            "option": {
                "pattern": _TEXT,
                "items": _ref("option"),
                "additionalProperties": _ref("option"),
            },
            "catalog_type": _catalog_type(),
            "catalog": _catalog(),
            **{_section_name(kind): _section(kind) for kind in CATALOGS.values()},
            "storage": _storage(),
            "settings": _settings(),
        },
    }


def _settings() -> Schema:
    agreeing = [
        _choose(
            {"required": ["payload_format"], "properties": {"payload_format": {"const": each}}},
            {"properties": {"storage": {"properties": {"format": _or_text({"const": each})}}}},
        )
        for each in get_args(PayloadFormat)
    ]
    return {**_section(Settings), "type": ["object", "null"], "allOf": agreeing}


def _storage() -> Schema:
    whole = _section(StorageSettings)
    del whole["type"]
    whole["dependentSchemas"] = {short: _without(short) for short in S3_OPTIONS}
    return {
        "type": ["object", "string", "null"],
        **_choose({"type": "string"}, whole["properties"]["uri"], whole),
    }


def _without(short: str) -> Schema:
    """Return what excludes the option that *short* stands for."""
    option: Schema = {S3_OPTIONS[short]: False}
    if short == "s3_region":
        option = {"client_kwargs": {"type": ["object", "null"], "properties": option}}
    return {"properties": {"options": {"properties": option}}}


def _catalog_type() -> Schema:
    named = {"enum": list(CATALOGS)}
    others = {"title": "A catalog that a package registers", "pattern": _CATALOG_WORD}
    return _or_text(named, {"type": "string", **others})


def _catalog() -> Schema:
    sections = [
        _choose(
            {"required": ["type"], "properties": {"type": {"enum": _names(kind)}}},
            _ref(_section_name(kind)),
        )
        for kind in dict.fromkeys(CATALOGS.values())
    ]
    unknown = {"required": ["type"], "properties": {"type": {"not": {"enum": list(CATALOGS)}}}}
    meaning = _docstrings(CatalogSettings)["type"]
    of_mapping = {
        "properties": {"type": {"description": meaning, **_ref("catalog_type")}},
        "allOf": [
            _choose({"minProperties": 1}, {"required": ["type"]}),
            *sections,
            _choose(unknown, {"additionalProperties": _ref("option")}),
        ],
    }
    return {
        "type": ["object", "string", "null"],
        **_choose(
            {"type": "string"}, _ref("catalog_type"), _choose({"type": "object"}, of_mapping)
        ),
    }


def _section(kind: type[Section]) -> Schema:
    """Return the schema of a mapping with the fields of *kind* and their shorthands."""
    meanings = _docstrings(kind)
    properties: dict[str, Schema] = {}
    for each in msgspec.structs.fields(kind):
        properties[each.name] = {"description": meanings[each.name], **_value(each.type)}
        if isinstance(each.default, str | int | float):
            properties[each.name]["default"] = each.default
    for name, (expected, meaning) in shorthands(kind).items():
        properties[name] = {"description": meaning, **_value(expected)}
    if issubclass(kind, CatalogSettings):
        properties["type"] |= {"enum": _names(kind)}
    excluding = {
        one: {"properties": {other: False}}
        for one, other in EXCLUSIVE.items()
        if one in properties and other in properties
    }
    return {
        "title": kind.__name__,
        "description": inspect.getdoc(kind),
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"dependentSchemas": excluding} if excluding else {}),
    }


def _value(expected: Any) -> Schema:
    """Return the schema of a value for a field of type *expected*, as it may be written."""
    kind = get_args(expected)[0] if type(None) in get_args(expected) else expected
    if isinstance(kind, type) and issubclass(kind, Section):
        return _ref("catalog" if kind is CatalogSettings else "storage")
    plain = msgspec.json.schema(kind)
    plain.pop("$schema", None)
    if plain.get("type") == "object":
        return {"type": ["object", "null"], **_ref("option")}
    if "maxLength" in plain:
        return _or_text({**plain, "pattern": _TEXT})
    if plain.get("type") == "string":
        return {**plain, "pattern": _TEXT}
    return _or_text(plain) if "enum" in plain else {"anyOf": [plain, _ref("variable")]}


def _docstrings(kind: type[Section]) -> dict[str, str]:
    """Return the docstrings that stand under the fields of *kind*, which Python does not keep."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[: kind.__mro__.index(Section)]):
        statements = list(ast.walk(ast.parse(inspect.getsource(base))))
        for field, text in pairwise(statements):
            match field, text:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str() as meaning)),
                ):
                    found[name] = inspect.cleandoc(meaning)
    return found


def _names(kind: type[CatalogSettings]) -> list[str]:
    return [name for name, each in CATALOGS.items() if each is kind]


def _section_name(kind: type[CatalogSettings]) -> str:
    return f"catalog_{_names(kind)[0]}"


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _or_text(*schemas: Schema) -> Schema:
    return {"anyOf": [*schemas, _ref("text_with_variable")]}


def _choose(condition: Schema, then: Schema, otherwise: Schema | None = None) -> Schema:
    chosen = {"if": condition, "then": then}
    return chosen if otherwise is None else {**chosen, "else": otherwise}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(settings_schema(), indent=2) + "\n")
