"""Conditions on an entry's metadata: what a filter means, and what a catalog compiles.

A catalog translates these to its query language and needs to know nothing of JSON: every leaf but
one asks whether the entry has an index row of this path whose code is equal to, or lies between,
given strings. Strings compare bytewise, that is by code point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ltm.search.codes import OBJECT, STRING, index_rows, resolve


@dataclass(frozen=True, slots=True)
class And:
    """All children hold; without children, everything matches."""

    children: tuple[Filter, ...]

    @property
    def is_exact(self) -> bool:
        """Whether index rows alone decide."""
        return all(child.is_exact for child in self.children)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one child holds; without children, nothing matches."""

    children: tuple[Filter, ...]

    @property
    def is_exact(self) -> bool:
        """Whether index rows alone decide."""
        return all(child.is_exact for child in self.children)


@dataclass(frozen=True, slots=True)
class Not:
    """The child does not hold. Of an inexact child, index rows decide nothing here."""

    child: Filter

    @property
    def is_exact(self) -> bool:
        """Whether index rows alone decide."""
        return self.child.is_exact


@dataclass(frozen=True, slots=True)
class Equals:
    """There is a row with this code."""

    path: str
    code: str
    is_exact: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class In:
    """There is a row with one of these codes, which are two or more."""

    path: str
    codes: tuple[str, ...]
    is_exact: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Exists:
    """There is a row."""

    path: str
    is_exact: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Range:
    """There is a row whose code lies between two bounds; rows of other types lie outside."""

    path: str
    low: str
    low_inclusive: bool
    high: str
    high_inclusive: bool
    is_exact: ClassVar[bool] = True

    def holds(self, code: str) -> bool:
        """Say whether *code* lies between the bounds."""
        return (self.low < code or (self.low_inclusive and self.low == code)) and (
            code < self.high or (self.high_inclusive and code == self.high)
        )


@dataclass(frozen=True, slots=True)
class ContainsElement:
    """There is a row with this code, which is that of an array's element, ``e`` included."""

    path: str
    code: str
    is_exact: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ContainsText:
    """The metadata has a string with *text* in it, case and all.

    Codes of long strings are cut, so the rows of ``candidates`` give a superset, and ``matches``
    decides.
    """

    path: str
    text: str
    original_path: str
    """The path as it was written, for ``resolve``."""
    is_exact: ClassVar[bool] = False

    @property
    def candidates(self) -> Range:
        """The strings at the path."""
        return Range(self.path, STRING, True, OBJECT, False)


Filter = And | Or | Not | Equals | In | Exists | Range | ContainsElement | ContainsText


def matches(metadata_filter: Filter | None, metadata: Mapping[str, Any]) -> bool:
    """Say whether *metadata* is what the filter asks for; None asks for nothing."""
    if metadata_filter is None:
        return True
    codes: dict[str, set[str]] = {}
    for path, code in index_rows(metadata):
        codes.setdefault(path, set()).add(code)
    return _holds(metadata_filter, codes, metadata)


def leading_equality(metadata_filter: Filter | None) -> Equals | None:
    """Return the first equality without which the filter can't hold, to drive a query by."""
    if isinstance(metadata_filter, Equals):
        return metadata_filter
    if isinstance(metadata_filter, And):
        for child in metadata_filter.children:
            found = leading_equality(child)
            if found is not None:
                return found
    return None


def _holds(node: Filter, codes: Mapping[str, set[str]], metadata: Mapping[str, Any]) -> bool:
    match node:
        case And(children):
            return all(_holds(child, codes, metadata) for child in children)
        case Or(children):
            return any(_holds(child, codes, metadata) for child in children)
        case Not(child):
            return not _holds(child, codes, metadata)
        case ContainsText():
            found = resolve(metadata, node.original_path)
            return isinstance(found, str) and node.text in found
        case Exists(path):
            return path in codes
        case In(path, wanted):
            return not codes.get(path, set()).isdisjoint(wanted)
        case Range(path):
            return any(map(node.holds, codes.get(path, ())))
        case Equals(path, code) | ContainsElement(path, code):
            return code in codes.get(path, ())
