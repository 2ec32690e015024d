"""Queries over documents, as a database is asked and as a transaction asks its own writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ltm.catalog.documents import Fields, Scalar, Scope
from ltm.keys import MAX_KEY_BYTES, prefix_upper_bound


class Found(NamedTuple):
    """A document that is there."""

    path: str
    """Collection and id, joined by a slash."""
    fields: Fields
    stamp: str
    """Which state of the document this is; no two states have one stamp."""

    @property
    def id(self) -> str:
        """The last segment of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Documents of one collection, in the order of one field and then of their ids.

    Documents without the field that gives the order, or with null there, are in no result that has
    a bound of that type.
    """

    collection: str
    equal: Mapping[str, Scalar] = field(default_factory=dict)
    within: tuple[str, list[Any]] | None = None
    """A field and up to 30 values of which it must have one."""
    contains: tuple[str, list[str]] | None = None
    """A field that holds a list, and up to 30 strings of which one must be in it."""
    order: str = ""
    """The field; empty for the ids alone."""
    descending: bool = False
    above: Scalar = None
    """Exclusive bounds of the field in ``order``."""
    below: Scalar = None
    at_least: Scalar = None
    """Inclusive bounds of it."""
    at_most: Scalar = None
    after: tuple[Any, str] | None = None
    """The field's value and the id of the document after which the result begins."""
    limit: int | None = None

    def selects(self, path: str, fields: Fields) -> bool:
        """Return whether a document is in the result, whatever the limit."""
        if path.rpartition("/")[0] != self.collection:
            return False
        if any(fields.get(name) != value for name, value in self.equal.items()):
            return False
        if self.within is not None and fields.get(self.within[0]) not in self.within[1]:
            return False
        if self.contains is not None:
            held: Any = fields.get(self.contains[0]) or ()
            if not set(self.contains[1]).intersection(held):
                return False
        return self._is_between(fields) and self._is_after(path, fields)

    def sort_key(self, found: Found) -> Any:
        """Return what orders documents, ascending, whatever ``descending`` says."""
        return (found.fields[self.order] if self.order else "", found.id)

    def position(self, found: Found) -> tuple[Any, str]:
        """Return the ``after`` of the page that follows *found*."""
        return found.fields[self.order] if self.order else None, found.id

    def _is_between(self, fields: Fields) -> bool:
        if not self.order:
            return True
        # Text compares by code point here and by its UTF-8 bytes there, which is the same.
        value: Any = fields.get(self.order)
        bounds: list[tuple[Any, Callable[[Any], bool]]] = [
            (self.above, lambda bound: value > bound),
            (self.below, lambda bound: value < bound),
            (self.at_least, lambda bound: value >= bound),
            (self.at_most, lambda bound: value <= bound),
        ]
        given = [(bound, holds) for bound, holds in bounds if bound is not None]
        return not given or (value is not None and all(holds(bound) for bound, holds in given))

    def _is_after(self, path: str, fields: Fields) -> bool:
        if self.after is None:
            return True
        mark = (self.after[0] if self.order else "", self.after[1])
        own = self.sort_key(Found(path, fields, ""))
        return bool(own < mark if self.descending else own > mark)


def keys_between(collection: str, scope: Scope, prefix: str, after: str) -> Query:
    """Return the query for the documents whose key begins with *prefix* and is above *after*.

    In the order of the keys, which have at most 1,024 bytes; *prefix* and *after* may have more,
    while a bound may not have many more.
    """
    above: str | None = after if prefix <= after != "" else None
    at_least: str | None = (prefix or None) if above is None else None
    below = prefix_upper_bound(prefix)
    beginning = _as_long_as_a_key(prefix)
    if beginning != prefix:
        # Longer than any key: nothing lies above a text and below the same.
        above = below = beginning
        at_least = None
    elif above is not None and (beginning := _as_long_as_a_key(above)) != above:
        # A key with this beginning could only go on with fewer bytes, and so be below.
        above, at_least = None, prefix_upper_bound(beginning)
        if at_least is None:
            above = below = beginning
    return Query(
        collection=collection,
        equal=scope,
        order="key",
        above=above,
        at_least=at_least,
        below=below,
    )


def _as_long_as_a_key(text: str) -> str:
    return text.encode()[:MAX_KEY_BYTES].decode(errors="ignore")
